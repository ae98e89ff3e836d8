//! Whole rollouts, one line a pass: the time, the phase, the canary's weight and pods, what the primary runs, what is
//! waited for, what is told, of what share of the requests the canary gets copies (`~100`), and which hooks were asked
//! (`?rollout`).

mod bad;
mod capacity;
mod changes;
pub(super) mod cluster;
mod configs;
mod gates;
mod good;
mod leaving;
mod orders;
mod promotion;
mod route;
mod strategies;
