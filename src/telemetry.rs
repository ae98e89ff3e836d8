//! Logs and metrics of the operator itself.
//!
//! Invariant: nothing here can fail a pass. Recording takes plain values, never waits and never returns an error, so
//! this module knows no other module of ours and every other one may call it.

mod api_requests;
mod chain;
mod logging;
mod registry;
mod request_kind;

pub use api_requests::{ApiRequests, CountedRequests};
pub use chain::chain;
pub use logging::{LogFormat, LoggingError, init_logging};
pub use registry::{CONTENT_TYPE, Metrics};
