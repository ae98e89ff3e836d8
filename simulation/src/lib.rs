//! Rollouts with everything going wrong, in virtual time and from one seed: `docs/simulation.md`.
//!
//! Invariant: the same seed is the same run, request by request. Nothing in here reads a real clock, opens a socket or
//! draws a number from anywhere but the seed.

mod agenda;
mod app;
mod checks;
mod dice;
mod door;
mod end;
mod kubelet;
mod operator;
mod report;
mod scenario;
mod trace;
mod world;

pub use report::{Report, Total};

/// Plays one seed from its beginning to its end.
///
/// # Panics
/// When there is no memory for a runtime.
#[must_use]
pub fn play(seed: u64) -> Report {
    run(seed, false)
}

/// The same, and says what happened.
///
/// # Panics
/// When there is no memory for a runtime.
#[must_use]
pub fn replay(seed: u64) -> Report {
    run(seed, true)
}

fn run(seed: u64, told: bool) -> Report {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime needs no more than memory");
    runtime.block_on(world::World::run(seed, told))
}
