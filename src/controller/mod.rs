//! Make it so: watch, look, decide, record, act, tell.
//!
//! Invariant: the only layer that waits. It decides nothing; it carries values between the layers that do.

mod alerts;
mod apply;
mod cache;
mod claims;
mod clock;
mod commit;
mod configs;
mod contest;
mod context;
mod discovery;
mod egress;
mod error;
pub mod lease;
mod news;
mod observe;
mod orders;
mod reconcile;
mod rollout;
mod routing;
mod scaling;
mod scoped;
mod secrets;
mod settings;
mod tell;
mod tenancy;
mod watch;
mod webhooks;

pub use alerts::{AlertSettings, Deliveries, Outbox};
pub use cache::{Cache, Key, slim, slim_canary};
pub use claims::Guarded;
pub use clock::Clock;
pub use configs::slim_config;
pub use context::Context;
pub use egress::{AllowedHosts, Egress, Refused, Response};
pub use error::Error;
pub use news::News;
pub use observe::{Network, send};
pub use reconcile::reconcile;
pub use scaling::slim_scaler;
pub use scoped::Scoped;
pub use settings::Settings;
pub use tenancy::{Forbidden, Scope, Tenancy};
pub use watch::{retry, run, timed};
pub use webhooks::{Caller, Unsent, WayOut};
