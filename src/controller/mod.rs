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
mod error;
pub mod lease;
mod observe;
mod reconcile;
mod rollout;
mod scaling;
mod scoped;
mod settings;
mod tell;
mod tenancy;
mod watch;

pub use alerts::{AlertSettings, Deliveries, Outbox};
pub use cache::{Cache, Key, slim};
pub use clock::Clock;
pub use configs::slim_config;
pub use context::Context;
pub use error::Error;
pub use observe::send;
pub use reconcile::reconcile;
pub use scaling::slim_scaler;
pub use scoped::Scoped;
pub use settings::Settings;
pub use tenancy::{Forbidden, Scope, Tenancy};
pub use watch::run;
