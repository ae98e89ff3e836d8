//! Serin: progressive delivery for Kubernetes. `ARCHITECTURE.md` is the map.

pub mod api;
pub mod cli;
pub mod controller;
pub mod domain;
pub mod mesh;
pub mod metrics;
pub mod notify;
pub mod object;
pub mod server;
pub mod telemetry;
pub mod workload;
