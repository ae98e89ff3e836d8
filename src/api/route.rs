//! The part of a Canary that describes its route, in the words of the Gateway API and of Flagger.

use super::sentences;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A Gateway, or one of its listeners.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group. Default: `gateway.networking.k8s.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind. Default: `Gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace. Default: the Canary's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// One listener of the Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The listeners on this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Requests that the route takes: all conditions must hold.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// Its name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The path. Default: every path. A `prefix` is one of whole segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (
        "(!has(self.exact) || self.exact.startsWith('/')) && (!has(self.prefix) || self.prefix.startsWith('/'))",
        sentences::PATH,
    ))]
    pub uri: Option<StringMatch>,
    /// The method, as a whole, for example `{exact: GET}`. Default: every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (
        "!has(self.prefix) && !has(self.suffix) && !has(self.regex) && (!has(self.exact) || self.exact in ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'])",
        sentences::METHOD,
    ))]
    pub method: Option<StringMatch>,
    /// Headers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub headers: BTreeMap<String, StringMatch>,
    /// Parameters of the query, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub query_params: BTreeMap<String, StringMatch>,

    /// Refused: an HTTPRoute does not look at the scheme. Write `gatewayRefs[].sectionName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::any_object")]
    #[x_kube(validation = ("false", sentences::SCHEME))]
    pub scheme: Option<Value>,
    /// Refused: an HTTPRoute has its host names in one place. Write `hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::any_object")]
    #[x_kube(validation = ("false", sentences::AUTHORITY))]
    pub authority: Option<Value>,
    /// Refused: an HTTPRoute does not look at the port. Write `gatewayRefs[].port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == 0", sentences::MATCH_PORT))]
    pub port: Option<i32>,
    /// Refused: an HTTPRoute has its gateways in one place. Write `gatewayRefs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = ("self.size() == 0", sentences::MATCH_GATEWAYS))]
    pub gateways: Vec<String>,
    /// Refused: an HTTPRoute compares letters as they are. Write a `regex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("!self", sentences::IGNORE_URI_CASE))]
    pub ignore_uri_case: Option<bool>,
    /// Refused: an HTTPRoute cannot ask that a header be absent. Write a route of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::any_object")]
    #[x_kube(validation = ("false", sentences::WITHOUT_HEADERS))]
    pub without_headers: Option<Value>,
    /// Refused: a gateway does not see the pod that asks. Write `headers` or `queryParams`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = ("self.size() == 0", sentences::SOURCE_LABELS))]
    pub source_labels: BTreeMap<String, String>,
    /// Refused: a gateway does not see the pod that asks. Write `headers` or `queryParams`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == ''", sentences::SOURCE_NAMESPACE))]
    pub source_namespace: Option<String>,
}

/// How a text is compared: exactly one of the four.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[x_kube(validation = (
    "[has(self.exact), has(self.prefix), has(self.suffix), has(self.regex)].filter(x, x).size() == 1",
    sentences::STRING_MATCH,
))]
pub struct StringMatch {
    /// The whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub exact: Option<String>,
    /// Its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub prefix: Option<String>,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub suffix: Option<String>,
    /// A regular expression for the whole text, in the gateway's dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub regex: Option<String>,
}

/// How path and host name of a request are changed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[x_kube(
    validation = ("has(self.uri) || has(self.authority)", sentences::REWRITE),
    validation = ("!has(self.type) || has(self.uri)", sentences::REWRITE_TYPE)
)]
pub struct Rewrite {
    /// The new path, or the new prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = ("self.startsWith('/')", sentences::REWRITE_URI))]
    pub uri: Option<String>,
    /// The new host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub authority: Option<String>,
    /// What `uri` replaces. Default: `ReplaceFullPath`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<RewriteType>,
}

/// What a rewritten path replaces.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum RewriteType {
    /// The whole path.
    ReplaceFullPath,
    /// The prefix by which the request was matched.
    ReplacePrefixMatch,
}

/// Which headers are changed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct Headers {
    /// Those of requests, on the way to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<HeaderOperations>,
    /// Those of answers, on the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<HeaderOperations>,
}

/// How headers are changed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct HeaderOperations {
    /// Headers that get one value more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub add: BTreeMap<String, String>,
    /// Headers that get this value in place of theirs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub set: BTreeMap<String, String>,
    /// Headers that are taken off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

/// Who gets a copy of every request.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorTo {
    /// The Service that gets it.
    pub backend_ref: BackendReference,
}

/// A Service, or whatever else a gateway can send to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[x_kube(validation = (
    "has(self.port) || (has(self.kind) && self.kind != 'Service') || (has(self.group) && self.group != '')",
    sentences::MIRROR_PORT,
))]
pub struct BackendReference {
    /// API group. Default: that of Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub group: Option<String>,
    /// Kind. Default: `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: Option<String>,
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace. Default: the Canary's. Another one needs a ReferenceGrant there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Which pages of other origins may use the app from a browser.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CorsPolicy {
    /// The origins, for example `{exact: https://shop.example.com}`, `{exact: https://*.example.com}` or `{exact: "*"}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = (
        "self.all(origin, has(origin.exact) && (origin.exact == '*' || origin.exact.contains('://')))",
        sentences::ALLOW_ORIGINS,
    ))]
    pub allow_origins: Vec<StringMatch>,
    /// The methods that they may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub allow_methods: Vec<String>,
    /// The headers that they may send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow_headers: Vec<String>,
    /// The headers that they may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub expose_headers: Vec<String>,
    /// How long a browser may remember this, for example `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub max_age: Option<String>,
    /// Whether they may send cookies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,

    /// Refused: the old name. Write `allowOrigins`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(validation = ("self.size() == 0", sentences::ALLOW_ORIGIN))]
    pub allow_origin: Vec<String>,
}
