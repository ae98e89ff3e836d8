//! What the user wrote, and what is written back: the wire format of `serin.dev/v1beta1`.
//!
//! Invariant: wire types end here. The core gets a [`crate::domain::Plan`] and a [`crate::domain::State`], or the
//! user gets a sentence.

#![allow(unreachable_pub, reason = "the derive of KubeSchema writes a second, private struct for each")]

mod alert;
mod analysis;
mod canary;
mod conditions;
mod convert;
mod metric_template;
mod route;
mod schema;
mod sentences;
mod service;
mod status;
mod webhook;

pub use alert::{Alert, AlertProvider, AlertProviderSpec, AlertProviderType, AlertSeverity};
pub use analysis::{Analysis, Metric, OnInconclusive, RequestMatch, SameSite, SessionAffinity, ThresholdRange};
pub use canary::{AutoscalerRef, Canary, CanarySpec, NamespacedRef, PrimaryScalerReplicas, Provider, TargetRef};
pub use conditions::{Summary, set_conditions};
pub use convert::{
    Defaults, InvalidSpec, InvalidStatus, duration, farewell, plan, provider, record, refused, state, target_kind,
};
pub use metric_template::{LocalRef, MetricProvider, MetricTemplate, MetricTemplateSpec};
pub use route::{
    BackendReference, CorsPolicy, HeaderOperations, Headers, HttpMatch, MirrorTo, ParentReference, Rewrite,
    RewriteType, StringMatch,
};
pub use service::{Metadata, Service, TrafficDistribution, UnmanagedMetadata};
pub use status::{CanaryStatus, CheckStatus, HistoryEntry, RevisionStatus, TargetStatus, WaitingStatus};
pub use webhook::{Webhook, WebhookType};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The label that marks every object that Serin makes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "serin");

/// The definitions of all kinds, as they are applied to a cluster.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Canary::crd(), MetricTemplate::crd(), AlertProvider::crd()]
}
