//! What should be: the rollout's rules, as values and pure functions.
//!
//! Invariant: nothing here knows about Kubernetes, HTTP, serialisation or a clock. Time is an
//! argument, so every decision can be replayed.

mod analysis;
mod command;
mod decide;
mod hooks;
mod plan;
mod questions;
mod state;
mod vocabulary;
mod world;

pub use analysis::{Answer, Check, Limits, Outcome, Unknown, Verdict};
pub use command::{Command, Order};
pub use decide::{Decision, Note, Reason, Waiting, decide};
pub use hooks::{Answers, Hook, Questions, Reply};
pub use plan::{InvalidPlan, OnInconclusive, Plan, Steps};
pub use questions::questions;
pub use state::{Analysis, CanaryPods, Ending, Farewell, Gate, Phase, Promotion, Scale, Split, State, Target, Traffic};
pub use vocabulary::{Configs, OutOfRange, Percent, Revision, Weight};
pub use world::{Acceptance, Led, Pods, Primary, Routing, TargetSeen, World};
