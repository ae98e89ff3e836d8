//! Spec → Plan, and State ⇄ status: parse, do not validate.

mod plan;
mod record;
mod state;

pub use plan::{Defaults, InvalidSpec, duration, farewell, plan};
pub use record::{record, refused};
pub use state::{InvalidStatus, state};
