//! What the versions are made of: hashes, records, the primary's objects, pods and their number.
//!
//! Invariant: no I/O. Every object begins from what was found; what a user owns keeps every field that is not named here.

pub mod autoscaler;
pub mod configs;
mod daemonset;
mod deployment;
mod labelling;
#[cfg(test)]
mod laws;
mod primary;
mod record;
mod rename;
mod service;
mod services;

pub use labelling::Labelling;
pub use record::{
    CANARY, Recorded, configs as recorded_configs, label, name as record_name, record, template as recorded_template,
};

use crate::domain::{Pods, Revision, Routing, Scale, Traffic};
use crate::object;
use kube::core::ApiResource;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The annotation on a primary that names the version it was given.
pub const REVISION: &str = "serin.dev/revision";

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
    /// What else the three Services are to be.
    pub shape: ServiceShape,
    /// Labels and annotations of the three Services.
    pub metadata: ServiceMetadata,
    /// No route splits the traffic: the app's Service itself leads to one version or the other.
    pub switches: bool,
    /// Which labels tell the versions apart, and which follow the target.
    pub labelling: Labelling,
    /// The owner of what Serin makes, as an owner reference.
    pub owner: Value,
}

/// What the three Services are to be besides their ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceShape {
    /// Without an address of their own, if they are made new.
    pub headless: bool,
    /// With all other ports of the target's containers too.
    pub port_discovery: bool,
    /// Which pods clients are sent to first, as a Service says it.
    pub traffic_distribution: Option<&'static str>,
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
    /// Keys of labels that belong to somebody else, on all three.
    pub unmanaged_labels: Vec<String>,
    /// Keys of annotations that belong to somebody else, on all three.
    pub unmanaged_annotations: Vec<String>,
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
        "{kind} {name}: spec.selector.matchLabels has none of the labels {labels}; one of them is needed to tell primary \
         and canary apart; name one that it has with --selector-labels"
    )]
    Selector {
        /// The target's kind.
        kind: String,
        /// The target's name.
        name: String,
        /// The labels that were looked for.
        labels: String,
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
    /// A promotion would never reach the primary's pods.
    #[error(
        "DaemonSet {name}: with spec.updateStrategy.type OnDelete a new version starts only where somebody deletes a \
         pod; write RollingUpdate"
    )]
    OnDelete {
        /// The target's name.
        name: String,
    },
    /// The two versions could not run on one node.
    #[error(
        "DaemonSet {name}: its pods take port {port} of their node (hostPort), which primary and canary cannot both \
         have; remove hostPort, and let clients use the Service"
    )]
    HostPort {
        /// The target's name.
        name: String,
        /// The port.
        port: u64,
    },
    /// A Service without pods of its own, or one whose pods nobody counts.
    #[error("Service {name}: it has no spec.selector, so it has no pods that could be rolled out; write one")]
    NoSelector {
        /// The target's name.
        name: String,
    },
    /// The route would lead to a port that is not there.
    #[error("Service {name} has no port {port}; write one of its own in service.port: {ports}")]
    NoPort {
        /// The target's name.
        name: String,
        /// The Canary's port.
        port: String,
        /// The ports that there are.
        ports: String,
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
    pub replicas: Replicas,
}

/// How many pods the primary is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// So many.
    Exactly(u32),
    /// As many as its autoscaler says.
    Autoscaled {
        /// When it is made.
        first: u32,
        /// So many at least; 0 for none.
        floor: u32,
    },
}

impl Replicas {
    /// How many, for a primary that has `found`.
    fn of(self, found: Option<u32>) -> u32 {
        match self {
            Self::Exactly(replicas) => replicas,
            Self::Autoscaled { first, floor } => found.unwrap_or(first).max(floor),
        }
    }
}

/// A kind of workload. Pure, hence testable without a cluster.
pub trait Workload: Send + Sync {
    /// Its kind.
    fn resource(&self) -> ApiResource;

    /// Whether an object of this kind with a primary's name is one.
    fn is_primary(&self, _object: &Value) -> bool {
        true
    }

    /// The label that tells its pods from the primary's.
    ///
    /// # Errors
    /// When it has none that can be renamed.
    fn selector(&self, app: &App, target: &Value) -> Result<Selector, Error> {
        Selector::find(&app.labelling.selectors, &self.resource().kind, target)
    }

    /// Whether it can be rolled out without an outage.
    ///
    /// # Errors
    /// Says what to write instead.
    fn supported(&self, target: &Value) -> Result<(), Error>;

    /// What its pods are made of, however many there are.
    fn template<'a>(&self, target: &'a Value) -> Cow<'a, Value>;

    /// What the pods of a primary are made of, as the target would say it.
    fn original(&self, primary: &Value, selector: &Selector) -> Value {
        rename::original(&self.template(primary), selector, metadata_text(primary, "namespace"))
    }

    /// Whether the pods of a primary are made of this template of the target's.
    fn is_made_of(&self, primary: &Value, template: &Value, selector: &Selector) -> bool {
        let wanted = rename::renamed(template, selector, metadata_text(primary, "namespace"));
        object::covers(&self.template(primary), &wanted)
    }

    /// Its pods, as it counts them itself.
    fn pods(&self, object: &Value) -> Pods;

    /// The kind that counts the pods when it does not itself; the objects are named like the Services of the two versions.
    fn counted_by(&self) -> Option<ApiResource> {
        None
    }

    /// Its pods, with what the object of that kind says.
    fn counted(&self, object: &Value, _count: Option<&Value>) -> Pods {
        self.pods(object)
    }

    /// A number that is the same as long as the template is: the fence of versions.
    fn generation(&self, object: &Value) -> i64 {
        object::get(object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default()
    }

    /// The Services `<name>-primary` and `<name>-canary`, each beginning from what was found; nothing for one that is made
    /// elsewhere.
    fn services(
        &self,
        app: &App,
        selector: &Selector,
        target: &Value,
        found: [Option<&Value>; 2],
    ) -> [Option<Value>; 2] {
        services::versions(app, selector, target, found).map(Some)
    }

    /// The Service that the app's clients use, leading where `traffic` says; nothing when it is not Serin's to lead.
    fn apex(
        &self,
        app: &App,
        selector: &Selector,
        target: &Value,
        traffic: Traffic,
        found: Option<&Value>,
    ) -> Option<Value> {
        Some(services::apex(app, selector, target, traffic, found))
    }

    /// Whether that Service leads to the primary.
    fn apex_on_primary(&self, selector: &Selector, apex: Option<&Value>, _routing: &Routing) -> bool {
        services::on_primary(selector, apex)
    }

    /// How many pods it asks for.
    fn replicas(&self, object: &Value) -> u32;

    /// Whether all pods of the primary may be gone for a while when its template changes.
    fn pauses(&self, _primary: &Value) -> bool {
        false
    }

    /// The primary as it has to be.
    ///
    /// # Errors
    /// When there is neither a record nor a primary.
    fn primary(&self, app: &App, target: &Value, found: Option<&Value>, wanted: Wanted<'_>) -> Result<Value, Error>;

    /// The target with its number of pods.
    fn scaled(&self, target: &Value, scale: Scale) -> Value;
}

/// The registry: the one line to add for a new kind.
const WORKLOADS: &[(&str, &dyn Workload)] =
    &[("Deployment", &deployment::Deployment), ("DaemonSet", &daemonset::DaemonSet), ("Service", &service::Service)];

/// The workload of a kind.
#[must_use]
pub fn by_kind(kind: &str) -> Option<&'static dyn Workload> {
    WORKLOADS.iter().find(|(name, _)| *name == kind).map(|(_, workload)| *workload)
}

/// All workloads, by their kind.
pub fn all() -> impl Iterator<Item = (&'static str, &'static dyn Workload)> {
    WORKLOADS.iter().copied()
}

impl App {
    /// Whether Serin made an object for this Canary.
    fn owns(&self, object: &Value) -> bool {
        self.owner["uid"].as_str().is_some_and(|uid| object::owned_by(object, uid))
    }
}

/// The name of the copy that serves.
#[must_use]
pub fn primary_name(target: &str) -> String {
    format!("{target}-primary")
}

impl Selector {
    fn primary(&self) -> String {
        format!("{}-primary", self.value)
    }

    fn find(labels: &[String], kind: &str, target: &Value) -> Result<Self, Error> {
        let found = object::get(target, &["spec", "selector", "matchLabels"]);
        let label = |key: &String| {
            let value = found?.get(key)?.as_str()?;
            Some(Self { key: key.clone(), value: value.to_owned() })
        };
        labels.iter().find_map(label).ok_or_else(|| Error::Selector {
            kind: kind.to_owned(),
            name: metadata_name(target).to_owned(),
            labels: labels.join(", "),
        })
    }
}

fn metadata_name(object: &Value) -> &str {
    metadata_text(object, "name")
}

fn metadata_text<'a>(object: &'a Value, field: &str) -> &'a str {
    object::get(object, &["metadata", field]).and_then(Value::as_str).unwrap_or_default()
}

fn as_count(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

/// Whether the status is about the newest spec.
fn is_observed(object: &Value) -> bool {
    let generation = |path: &[&str]| object::get(object, path).and_then(Value::as_i64).unwrap_or_default();
    generation(&["status", "observedGeneration"]) >= generation(&["metadata", "generation"])
}
