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
mod inquiries;
mod lanes;
mod lead;
pub mod lease;
mod news;
mod observe;
mod orders;
mod queue;
mod reconcile;
mod rollout;
mod routing;
mod scaling;
mod scoped;
mod secrets;
mod settings;
mod slim;
mod slots;
mod store;
mod tell;
mod tenancy;
mod verify;
mod watch;
mod webhooks;

pub use alerts::{AlertSettings, Deliveries, Outbox};
pub use cache::{Cache, Key};
pub use claims::NamespacedName;
pub use clock::Clock;
pub use context::{CALL_LIMIT, Context};
pub use egress::{AllowedHosts, Egress, Refused, Response};
pub use error::Error;
pub use lanes::Lane;
pub use lead::{Ended, lead};
pub use news::News;
pub use observe::{Network, send};
pub use reconcile::reconcile;
pub use scoped::Scoped;
pub use settings::Settings;
pub use store::{Change, Store};
pub use tenancy::{Forbidden, Scope, Tenancy};
pub use watch::{retry, run, timed};
pub use webhooks::{Caller, Unsent, WayOut};
