//! An in-process Kubernetes API server to put under a real `kube::Client`.
//!
//! Invariant: the same calls in the same order give the same answers, revisions, uids and
//! timestamps; nothing here reads a real clock, draws a random number or opens a socket.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let server = serin_testing::ApiServer::new();
//! let client = kube::Client::new(server.clone(), "default");
//! # drop(client);
//! # }
//! ```
//!
//! What it leaves out on purpose: schemas and admission, namespaces as objects, field ownership
//! (server-side apply is a deep merge in which lists are replaced whole), strategic merge patches,
//! dry runs, paging, propagation policies, and conversion between versions. Of discovery it answers which resources
//! a version of a group has.
//! It speaks JSON only. Every absent field and every null is the same thing to it.

mod answer;
mod call;
mod checks;
mod direct;
mod fields;
mod garbage;
mod handler;
mod log;
mod patch;
mod path;
mod refusal;
mod registry;
mod rules;
mod selector;
mod server;
mod service;
mod state;
mod store;
mod view;
mod watch;
pub mod workloads;

pub use answer::ReplyBody;
pub use fields::at;
pub use log::{Request, Verb};
pub use refusal::Refusal;
pub use registry::{
    ALERT_PROVIDERS, AUTOSCALERS, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, CORE_EVENTS, DAEMON_SETS, DEPLOYMENTS,
    ENDPOINTS, EVENTS, Generation, GroupVersionResource, HTTP_ROUTES, LEASES, METRIC_TEMPLATES, OLD_AUTOSCALERS,
    Resource, SCALED_OBJECTS, SECRETS, SERVICES,
};
pub use server::ApiServer;
pub use service::{Fault, refuse};
pub use store::Change;
