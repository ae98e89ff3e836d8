//! `MetricTemplate`: a query that many Canaries can share.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A query that Canaries refer to, and where to ask it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "serin.dev",
    version = "v1beta1",
    kind = "MetricTemplate",
    doc = "A query that Canaries refer to, and where to ask it.",
    plural = "metrictemplates",
    category = "all",
    namespaced,
    printcolumn = r#"{"name":"Provider","type":"string","jsonPath":".spec.provider.type"}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.provider.address"}"#
)]
pub struct MetricTemplateSpec {
    /// Where the query is asked.
    pub provider: MetricProvider,
    /// The query, with `{{ namespace }}`, `{{ name }}`, `{{ target }}`, `{{ service }}`, `{{ ingress }}`,
    /// `{{ route }}`, `{{ interval }}` and `{{ variables.… }}`. It must return one number.
    #[schemars(length(min = 1, max = 65536))]
    pub query: String,
}

/// Where a query is asked.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricProvider {
    /// The kind of system.
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// Its URL, for example `http://prometheus.monitoring:9090`.
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "write the URL with its scheme, for example http://prometheus.monitoring:9090"))]
    pub address: String,
    /// Headers that are sent with the query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Vec<String>>,
    /// A Secret in the template's namespace with `username` and `password`, or `token` for a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Accept any certificate. Only for tests.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// The kinds of systems that can be asked.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderType {
    /// Prometheus, or anything with its query API.
    Prometheus,
}

/// An object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct LocalRef {
    /// Its name.
    pub name: String,
}
