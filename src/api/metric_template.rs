//! `MetricTemplate`: a query that many Canaries can share.

use super::sentences;
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
#[x_kube(validation = ("self.type != 'prometheus' || has(self.address)", sentences::TEMPLATE_ADDRESS))]
pub struct MetricProvider {
    /// The kind of system: `prometheus`, which is also whatever has its query API.
    #[serde(rename = "type")]
    #[x_kube(validation = ("self == 'prometheus'", sentences::TEMPLATE_TYPE))]
    pub kind: String,
    /// Its URL, for example `http://prometheus.monitoring:9090`.
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "write the URL with its scheme, for example http://prometheus.monitoring:9090"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Headers that are sent with the query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Vec<String>>,
    /// A Secret in the template's namespace with `username` and `password`, or `token` for a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Accept any certificate. Only for tests.
    #[serde(default)]
    pub insecure_skip_verify: bool,

    /// Refused: CloudWatch's. Leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == ''", sentences::TEMPLATE_REGION))]
    pub region: Option<String>,
}

impl MetricProvider {
    /// Where the query is asked.
    ///
    /// # Errors
    /// Says what to write instead, as the CRD's rules do at apply time.
    pub fn asked(&self) -> Result<&str, &'static str> {
        match &self.address {
            _ if self.kind != "prometheus" => Err(sentences::TEMPLATE_TYPE),
            _ if self.region.as_ref().is_some_and(|region| !region.is_empty()) => Err(sentences::TEMPLATE_REGION),
            Some(address) => Ok(address),
            None => Err(sentences::TEMPLATE_ADDRESS),
        }
    }
}

/// An object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct LocalRef {
    /// Its name.
    pub name: String,
}
