//! A cluster in a process, with one app in it: what the tests of the controller share.
//!
//! Invariant: nothing here knows how a rollout goes. It plays the user, the cluster and Prometheus; everything else is
//! the real thing.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod app;
pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod daemon_set;
pub(crate) mod inbox;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod rogue;
pub(crate) mod scalers;
pub(crate) mod service;
pub(crate) mod story;
