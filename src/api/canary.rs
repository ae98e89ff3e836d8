//! `Canary`: one app whose new versions are rolled out step by step.

use super::alert::Alert;
use super::route::{HttpMatch, ParentReference};
use super::status::CanaryStatus;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rolls out every new version of one app step by step, and takes it back when its metrics are bad.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "serin.dev",
    version = "v1beta1",
    kind = "Canary",
    doc = "Rolls out every new version of one app step by step, and takes it back when its metrics are bad.",
    plural = "canaries",
    shortname = "cn",
    category = "all",
    namespaced,
    status = "CanaryStatus",
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.phase","description":"Where the rollout is."}"#,
    printcolumn = r#"{"name":"Weight","type":"integer","jsonPath":".status.canaryWeight","description":"Percent of the traffic on the canary."}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.progress","description":"Steps reached, of all."}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether the newest version is rolled out."}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","description":"Why."}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.failedChecks","description":"Checks that failed in this rollout.","priority":1}"#,
    printcolumn = r#"{"name":"Promoted","type":"string","jsonPath":".status.promoted.revision","description":"The version that serves.","priority":1}"#,
    printcolumn = r#"{"name":"Candidate","type":"string","jsonPath":".status.candidate.revision","description":"The version under analysis, or the last one that failed.","priority":1}"#,
    printcolumn = r#"{"name":"Since","type":"date","jsonPath":".status.lastTransitionTime","description":"When phase or weight changed last."}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    /// What splits the traffic. Default: the operator's `--mesh-provider`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,

    /// URL of the Prometheus that the built-in metrics and inline queries are asked of. Default: the operator's
    /// `--metrics-server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "write the URL with its scheme, for example http://prometheus.monitoring:9090"))]
    pub metrics_server: Option<String>,

    /// The workload whose new versions are rolled out.
    pub target_ref: TargetRef,

    /// Seconds that pods or route may take to become as asked before the version is taken back. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: Option<i32>,

    /// How the app is reached.
    pub service: Service,

    /// How a new version is judged. Without it a new version is promoted as soon as its pods are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,

    /// Promote a new version as soon as its pods are ready, without traffic or checks before.
    #[serde(default)]
    pub skip_analysis: bool,

    /// Hold everything as it is; weights that somebody else changes are still put right.
    #[serde(default)]
    pub suspend: bool,

    /// When the Canary is deleted, put everything back as it was found, and delete the Service and the route if
    /// Serin made them. Without it they stay, and lead to the target. Either way the app serves throughout.
    #[serde(default)]
    pub revert_on_deletion: bool,
}

/// What splits the traffic.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Provider {
    /// An HTTPRoute of the Gateway API.
    #[serde(rename = "gatewayapi:v1")]
    GatewayApiV1,
}

/// A workload in the Canary's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// `apps/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `Deployment` or `DaemonSet`.
    #[x_kube(
        validation = ("self != 'StatefulSet'", "a StatefulSet's pods have names and volumes of their own, which a second version beside them cannot share; write Deployment or DaemonSet"),
        validation = ("self in ['Deployment', 'DaemonSet', 'StatefulSet']", "this kind cannot be rolled out; write Deployment or DaemonSet")
    )]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 245))]
    pub name: String,
}

/// How the app is reached: Services `<name>`, `<name>-primary` and `<name>-canary`, and a route.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
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
    /// The Gateways that the route belongs to. Needed when there is no HTTPRoute of this name yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub gateway_refs: Vec<ParentReference>,
    /// The host names that the route answers to. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// How long a request may take, for example `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub timeout: Option<String>,
    /// The requests that the route takes. Default: every path.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub matches: Vec<HttpMatch>,
    /// Labels and annotations of the Service that the app's clients use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apex: Option<Metadata>,
    /// Labels and annotations of the primary's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Metadata>,
    /// Labels and annotations of the canary's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Metadata>,
}

/// Without the alternatives that `IntOrString` brings along: API servers before 1.22 cannot explain them.
fn int_or_string(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-int-or-string": true})
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

/// How a new version is judged.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.stepWeight) != has(self.stepWeights)", "write either stepWeight (for example 10) or stepWeights (for example [10, 30, 60])"),
    validation = ("!has(self.stepWeights) || !has(self.maxWeight)", "maxWeight goes with stepWeight; with stepWeights the last element is the maximum, so leave maxWeight out"),
    validation = ("!has(self.stepWeights) || (self.stepWeights.isSorted() && self.stepWeights.all(i, self.stepWeights.filter(j, j == i).size() == 1))", "stepWeights must rise: write each weight once, in ascending order")
)]
pub struct Analysis {
    /// How long each step lasts, and the time between two checks; at least `1s`.
    #[schemars(regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[x_kube(validation = ("duration(self) >= duration('1s')", "interval must be at least 1s"))]
    pub interval: String,
    /// Failed checks after which the version is taken back. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub threshold: Option<i32>,
    /// The highest weight, in percent. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_weight: Option<i32>,
    /// By how many percent the weight rises at each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub step_weight: Option<i32>,
    /// The weights to go through, in percent, in ascending order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), inner(range(min = 1, max = 100)))]
    pub step_weights: Option<Vec<i32>>,
    /// Percent of the primary's pods that must be available. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub primary_ready_threshold: Option<i32>,
    /// Percent of the canary's pods that must be available. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub canary_ready_threshold: Option<i32>,
    /// What is measured; every metric must be within its range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub metrics: Vec<Metric>,
    /// Who is told what happens. Without any, the operator's default alerts are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub alerts: Vec<Alert>,
    /// Checks in a row without a usable answer after which `onInconclusive` decides. Default: as many as `threshold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub inconclusive_limit: Option<i32>,
    /// What happens when the metrics say nothing for too long. Default: Rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_inconclusive: Option<OnInconclusive>,
}

/// What happens when the metrics say nothing for too long.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum OnInconclusive {
    /// What cannot be seen is not trusted: take the version back.
    Rollback,
    /// Keep the weight and go on asking.
    Hold,
}

/// One measurement and the range it must stay in.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.templateRef) || has(self.query) || self.name in ['request-success-rate', 'request-duration']", "a metric needs a templateRef or a query, or one of the built-in names request-success-rate and request-duration"),
    validation = ("!(has(self.templateRef) && has(self.query))", "write either templateRef or query, not both"),
    validation = ("has(self.thresholdRange) || has(self.threshold)", "a metric needs a thresholdRange, for example {min: 99}")
)]
pub struct Metric {
    /// Its name; `request-success-rate` (percent) and `request-duration` (p99 in milliseconds) are built in.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The window that the query looks back on. Default: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub interval: Option<String>,
    /// Deprecated: write `thresholdRange`. For `request-success-rate` the minimum, else the maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The range of good values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_range: Option<ThresholdRange>,
    /// The MetricTemplate that holds the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<NamespacedRef>,
    /// Values for `{{ variables.… }}` in the template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template_variables: BTreeMap<String, String>,
    /// A query of its own, asked of `metricsServer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// The range of good values; both ends belong to it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, KubeSchema)]
#[x_kube(
    validation = ("has(self.min) || has(self.max)", "thresholdRange needs min, max or both"),
    validation = ("!has(self.min) || !has(self.max) || self.min <= self.max", "thresholdRange.min must not be above thresholdRange.max")
)]
pub struct ThresholdRange {
    /// The lowest good value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The highest good value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// An object by name.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct NamespacedRef {
    /// Its name.
    pub name: String,
    /// Its namespace. Default: the Canary's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
