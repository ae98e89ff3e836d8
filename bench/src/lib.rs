//! Serin, or another operator, under load on a bare API server.
//!
//! Everything but etcd, the API server and the operator is played here, in one process: the Deployment controller, the
//! gateway, Prometheus and webhooks. What is measured is what they see.

pub mod audit;
pub mod board;
pub mod cluster;
pub mod distribution;
pub mod load;
pub mod manifests;
pub mod operator;
pub mod played;
pub mod process;
pub mod proxy;
pub mod report;
pub mod retreat;
pub mod soak;
pub mod stage;
