//! Whole rollouts, one line a pass: the time, the phase, the canary's weight and pods, what the primary runs, what is
//! waited for, and what is told.

mod bad;
mod capacity;
mod changes;
pub(super) mod cluster;
mod configs;
mod good;
mod leaving;
mod promotion;
mod route;
