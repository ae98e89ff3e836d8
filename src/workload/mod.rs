//! What the versions are made of: hashes, records, the primary's objects, pods and their number.
//!
//! Invariant: no I/O. Every object begins from what was found; what a user owns keeps every field that is not named here.

mod deployment;
mod record;
mod services;

pub use record::{label, name as record_name, record, template as recorded_template};
pub use services::{apex, on_primary, versions};

use crate::domain::{Pods, Revision, Scale};
use kube::core::ApiResource;
use serde_json::Value;
use std::collections::BTreeMap;

/// The annotation on a primary that names the version it was given.
pub const REVISION: &str = "serin.dev/revision";

/// The selector labels that can be renamed for the primary, in the order in which they are looked for.
const SELECTOR_LABELS: [&str; 3] = ["app", "name", "app.kubernetes.io/name"];

/// The app, as its workloads and Services need to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Namespace of everything.
    pub namespace: String,
    /// The Canary's name.
    pub canary: String,
    /// The target's name.
    pub target: String,
    /// Name of the Service that the app's clients use.
    pub service: String,
    /// The Services' port, as a ServicePort.
    pub port: Value,
    /// Labels and annotations of the three Services.
    pub metadata: ServiceMetadata,
    /// The owner of what Serin makes, as an owner reference.
    pub owner: Value,
}

/// Labels and annotations, by Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceMetadata {
    /// Of the one that the app's clients use.
    pub apex: Labels,
    /// Of the primary's.
    pub primary: Labels,
    /// Of the canary's.
    pub canary: Labels,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Why a target cannot be rolled out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No label to tell the two versions apart by.
    #[error(
        "{kind} {name}: spec.selector.matchLabels has none of the labels app, name and app.kubernetes.io/name; one of \
         them is needed to tell primary and canary apart"
    )]
    Selector {
        /// The target's kind.
        kind: &'static str,
        /// The target's name.
        name: String,
    },
    /// A promotion would leave the primary without pods for a while.
    #[error(
        "{kind} {name}: with spec.strategy.type Recreate a promotion would stop all pods that serve; write RollingUpdate"
    )]
    Recreate {
        /// The target's kind.
        kind: &'static str,
        /// The target's name.
        name: String,
    },
    /// Somebody else's object stands where Serin's has to be.
    #[error(
        "{kind} {name} exists and is not Serin's; delete or rename it, or hand it over to Serin with: kubectl annotate \
         {kind} {name} serin.dev/adopt=true"
    )]
    Taken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Nothing to make the primary of.
    #[error(
        "the record of revision {0} is missing, and there is no primary yet; change the target's pod template to record a new one"
    )]
    Record(String),
}

/// A label that only one version's pods have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The label.
    pub key: String,
    /// Its value on the target's pods.
    pub value: String,
}

/// What the primary is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The version's name.
    pub revision: &'a Revision,
    /// The recorded pod template; `None` when the record is gone.
    pub template: Option<&'a Value>,
    /// How many pods.
    pub replicas: u32,
}

/// A kind of workload. Pure, hence testable without a cluster.
pub trait Workload: Send + Sync {
    /// Its kind.
    fn resource(&self) -> ApiResource;

    /// The label that tells its pods from the primary's.
    ///
    /// # Errors
    /// When it has none that can be renamed.
    fn selector(&self, target: &Value) -> Result<Selector, Error>;

    /// Whether it can be rolled out without an outage.
    ///
    /// # Errors
    /// Says what to write instead.
    fn supported(&self, target: &Value) -> Result<(), Error>;

    /// What its pods are made of.
    fn template<'a>(&self, target: &'a Value) -> &'a Value;

    /// What the pods of a primary are made of, as the target would say it.
    fn original(&self, primary: &Value, selector: &Selector) -> Value;

    /// Its pods.
    fn pods(&self, object: &Value) -> Pods;

    /// How many pods it asks for.
    fn replicas(&self, object: &Value) -> u32;

    /// The primary as it has to be.
    ///
    /// # Errors
    /// When there is neither a record nor a primary.
    fn primary(&self, app: &App, target: &Value, found: Option<&Value>, wanted: Wanted<'_>) -> Result<Value, Error>;

    /// The target with its number of pods.
    fn scaled(&self, target: &Value, scale: Scale) -> Value;
}

/// The registry: the one line to add for a new kind.
const WORKLOADS: &[(&str, &dyn Workload)] = &[("Deployment", &deployment::Deployment)];

/// The workload of a kind.
#[must_use]
pub fn by_kind(kind: &str) -> Option<&'static dyn Workload> {
    WORKLOADS.iter().find(|(name, _)| *name == kind).map(|(_, workload)| *workload)
}

/// All kinds of workloads.
pub fn all() -> impl Iterator<Item = &'static dyn Workload> {
    WORKLOADS.iter().map(|(_, workload)| *workload)
}

/// The name of the copy that serves.
#[must_use]
pub fn primary_name(app: &App) -> String {
    format!("{}-primary", app.target)
}

impl Selector {
    fn primary(&self) -> String {
        format!("{}-primary", self.value)
    }

    fn find(kind: &'static str, name: &str, labels: Option<&Value>) -> Result<Self, Error> {
        let label = |key: &str| {
            let value = labels?.get(key)?.as_str()?;
            Some(Self { key: key.to_owned(), value: value.to_owned() })
        };
        SELECTOR_LABELS.into_iter().find_map(label).ok_or_else(|| Error::Selector { kind, name: name.to_owned() })
    }
}
