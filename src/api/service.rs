//! `spec.service`: how the app is reached.

use super::route::{CorsPolicy, Headers, HttpMatch, MirrorTo, ParentReference, Rewrite};
use super::schema::{any_object, int_or_string};
use super::sentences;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// How the app is reached: Services `<name>`, `<name>-primary` and `<name>-canary`, and a route.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "!has(self.timeout) || !has(self.backendTimeout) || duration(self.timeout) == duration('0s') || duration(self.backendTimeout) <= duration(self.timeout)",
        sentences::BACKEND_TIMEOUT,
    ),
    validation = (
        "!has(self.rewrite) || !has(self.rewrite.type) || self.rewrite.type != 'ReplacePrefixMatch' || !has(self.match) || self.match.size() == 0 || (self.match.size() == 1 && has(self.match[0].uri) && has(self.match[0].uri.prefix))",
        sentences::REWRITE_PREFIX,
    )
)]
pub struct Service {
    /// Name of the Service that the app's clients use, and of the route. Default: the target's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 55))]
    pub name: Option<String>,
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The port's name. Default: `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_name: Option<String>,
    /// The pods' port, by number or name. Default: the Service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub target_port: Option<IntOrString>,
    /// The port's application protocol, for example `kubernetes.io/h2c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Which pods of a Service its clients are sent to: the nearest, if this is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Give the Services all other ports of the target's containers too, except those of the sidecars `istio-proxy` and
    /// `envoy`.
    #[serde(default)]
    pub port_discovery: bool,
    /// Make Services without an address of their own, whose names lead to the pods. Only for Services that are made new:
    /// the address of one that exists cannot change.
    #[serde(default)]
    pub headless: bool,
    /// The Gateways that the route belongs to. Needed when there is no HTTPRoute of this name yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub gateway_refs: Vec<ParentReference>,
    /// The host names that the route answers to. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = ("self.all(host, host != '*')", sentences::HOSTS))]
    pub hosts: Vec<String>,
    /// How long a request may take, with all that the gateway does for it, for example `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub timeout: Option<String>,
    /// How long one attempt to get the answer from a pod may take, for example `5s`; not longer than `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub backend_timeout: Option<String>,
    /// The requests that the route takes: those of which one entry holds. Default: every path.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub matches: Vec<HttpMatch>,
    /// How path and host name of a request are changed on the way to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Which headers of requests and answers are changed on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// Who else gets a copy of every request, always. Its answers are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub mirror: Vec<MirrorTo>,
    /// Which pages of other origins may use the app from a browser. Needs a gateway that knows the filter `CORS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors_policy: Option<CorsPolicy>,
    /// Labels and annotations of the Service that the app's clients use, and of the route that Serin makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apex: Option<Metadata>,
    /// Labels and annotations of the primary's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Metadata>,
    /// Labels and annotations of the canary's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Metadata>,
    /// Labels and annotations of the Services that belong to somebody else: Serin neither sets nor removes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_metadata: Option<UnmanagedMetadata>,

    /// Refused: Istio's gateways. Write `gatewayRefs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = ("self.size() == 0", sentences::GATEWAYS))]
    pub gateways: Vec<String>,
    /// Refused: a part of an Istio VirtualService. Write `gatewayRefs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("!self", sentences::DELEGATION))]
    pub delegation: Option<bool>,
    /// Refused: a part of an Istio DestinationRule. Write one of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    #[x_kube(validation = ("false", sentences::TRAFFIC_POLICY))]
    pub traffic_policy: Option<Value>,
    /// Refused: experimental in the Gateway API. Write a policy of your gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    #[x_kube(validation = ("false", sentences::RETRIES))]
    pub retries: Option<Value>,
    /// Refused: App Mesh's. Write `gatewayRefs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == ''", sentences::MESH_NAME))]
    pub mesh_name: Option<String>,
    /// Refused: App Mesh's. Write `gatewayRefs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = ("self.size() == 0", sentences::BACKENDS))]
    pub backends: Vec<String>,
}

/// Which pods of a Service its clients are sent to: those in the same zone or on the same node before others.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum TrafficDistribution {
    /// In the same zone first; the older name of `PreferSameZone`.
    PreferClose,
    /// In the same zone first.
    PreferSameZone,
    /// On the same node first.
    PreferSameNode,
}

impl TrafficDistribution {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PreferClose => "PreferClose",
            Self::PreferSameZone => "PreferSameZone",
            Self::PreferSameNode => "PreferSameNode",
        }
    }
}

/// Labels and annotations.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct Metadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Keys of labels and annotations.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct UnmanagedMetadata {
    /// Keys of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub labels: Vec<String>,
    /// Keys of annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub annotations: Vec<String>,
}
