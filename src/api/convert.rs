//! Spec → Plan, and State ⇄ status: parse, do not validate.

mod plan;
mod record;
mod refusals;
mod state;

pub use plan::{Defaults, InvalidSpec, duration, farewell, plan, target_kind};
pub use record::{record, refused};
pub use refusals::provider;
pub use state::{InvalidStatus, state};
