//! The server as its users see it: through `kube::Api` and through the crate's own methods.
//!
//! Invariant: no test waits for real time to pass.

mod deletion;
mod faults;
mod objects;
mod patches;
mod rules;
mod served;
mod support;
mod watches;
mod workloads;
