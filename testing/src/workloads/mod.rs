//! The controllers a cluster has beside the one under test, reduced to their outcome.
//!
//! Invariant: each works through the server's direct access and writes nothing when nothing
//! changed, so calling one again is harmless.

mod conditions;
mod daemon_sets;
mod deployments;
mod endpoints;
mod routes;

pub use daemon_sets::DaemonSetController;
pub use deployments::DeploymentController;
pub use endpoints::settle_endpoints;
pub use routes::{Verdict, accept_routes, judge_routes};
