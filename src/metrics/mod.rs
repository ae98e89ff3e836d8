//! How a number is asked for: from a metric's name to the text of a query, from a query to a request, and from
//! what came back to an answer.
//!
//! Invariant: nothing here sends, waits or looks at a clock. The controller does, and hands over what it got; so
//! every outcome can be tested without a server. No secret, and no body of an answer, reaches a message.

mod address;
pub mod builtin;
mod credentials;
mod duration;
pub mod prometheus;
mod query;
mod template;

pub use address::{InvalidAddress, validate_address};
pub use credentials::{Credentials, InvalidSecret};
pub use duration::prometheus_duration;
pub use query::Query;
pub use template::{InvalidTemplate, MAX_QUERY_BYTES, Variables, render};
