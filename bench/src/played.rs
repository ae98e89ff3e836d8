//! Those whom the operator works with, played: each acts on what a watch shows, and writes what the real one would.

pub mod deployments;
pub mod gateway;
pub mod http;
