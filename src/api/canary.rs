//! `Canary`: one app whose new versions are rolled out step by step.

use super::analysis::Analysis;
use super::schema::any_object;
use super::sentences;
use super::service::Service;
use super::status::CanaryStatus;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
#[x_kube(
    validation = (
        "!has(self.analysis) || (has(self.skipAnalysis) && self.skipAnalysis) || has(self.analysis.iterations) || has(self.analysis.stepWeight) || has(self.analysis.stepWeights)",
        sentences::STRATEGY,
    ),
    validation = (
        "!has(self.provider) || self.provider != 'kubernetes' || !has(self.analysis) || !(has(self.analysis.stepWeight) || has(self.analysis.stepWeights))",
        sentences::KUBERNETES_WEIGHTS,
    ),
    validation = (
        "!has(self.provider) || self.provider != 'kubernetes' || !has(self.analysis) || !(has(self.analysis.match) || (has(self.analysis.mirror) && self.analysis.mirror) || has(self.analysis.sessionAffinity) || has(self.analysis.stepWeightPromotion))",
        sentences::KUBERNETES_ANALYSIS,
    ),
    validation = (
        "!has(self.provider) || self.provider != 'kubernetes' || !(has(self.service.gatewayRefs) || has(self.service.hosts) || has(self.service.match) || has(self.service.timeout) || has(self.service.backendTimeout) || has(self.service.rewrite) || has(self.service.headers) || has(self.service.mirror) || has(self.service.corsPolicy))",
        sentences::KUBERNETES_SERVICE,
    ),
    validation = (
        "!has(self.provider) || self.provider == 'kubernetes' || !has(self.analysis) || !has(self.analysis.switchTraffic) || !self.analysis.switchTraffic",
        sentences::SWITCH_TRAFFIC,
    ),
    validation = (
        "!has(self.provider) || self.provider != 'kubernetes' || self.targetRef.kind != 'Service'",
        sentences::TARGET_SERVICE,
    ),
    validation = (
        "self.targetRef.kind != 'Service' || !has(self.service.name) || self.service.name == self.targetRef.name",
        sentences::SERVICE_NAME,
    ),
    validation = ("!has(self.autoscalerRef) || self.targetRef.kind == 'Deployment'", sentences::SCALER_TARGET)
)]
pub struct CanarySpec {
    /// What moves the traffic: `gatewayapi:v1` or `gatewayapi:v1beta1` an HTTPRoute, `kubernetes` the Services alone
    /// (blue/green). Default: the operator's `--mesh-provider`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self in ['gatewayapi:v1', 'gatewayapi:v1beta1', 'kubernetes']", sentences::PROVIDER))]
    pub provider: Option<String>,

    /// URL of the Prometheus that the built-in metrics and inline queries are asked of. Default: the operator's
    /// `--metrics-server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "write the URL with its scheme, for example http://prometheus.monitoring:9090"))]
    pub metrics_server: Option<String>,

    /// The workload whose new versions are rolled out.
    pub target_ref: TargetRef,

    /// What scales the target; the primary gets one like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler_ref: Option<AutoscalerRef>,

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

    /// Refused: Serin splits no Ingress. Write `service.gatewayRefs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    #[x_kube(validation = ("false", sentences::INGRESS_REF))]
    pub ingress_ref: Option<Value>,

    /// Refused: Serin splits no ApisixRoute. Write `service.gatewayRefs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    #[x_kube(validation = ("false", sentences::ROUTE_REF))]
    pub route_ref: Option<Value>,

    /// Refused: Serin makes no Gloo Upstreams. Write `service.gatewayRefs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    #[x_kube(validation = ("false", sentences::UPSTREAM_REF))]
    pub upstream_ref: Option<Value>,

    /// Refused: the old name. Write `analysis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    #[x_kube(validation = ("false", sentences::CANARY_ANALYSIS))]
    pub canary_analysis: Option<Value>,
}

/// What moves the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// An HTTPRoute of the Gateway API.
    GatewayApiV1,
    /// An HTTPRoute of the Gateway API, on a cluster that has not its version v1.
    GatewayApiV1Beta1,
    /// Services alone.
    Kubernetes,
}

impl Provider {
    /// All that Serin knows.
    pub const ALL: [Self; 3] = [Self::GatewayApiV1, Self::GatewayApiV1Beta1, Self::Kubernetes];

    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GatewayApiV1 => "gatewayapi:v1",
            Self::GatewayApiV1Beta1 => "gatewayapi:v1beta1",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// The provider of a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }
}

/// A workload in the Canary's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.apiVersion) || self.apiVersion == (self.kind == 'Service' ? 'v1' : 'apps/v1')",
    sentences::TARGET_VERSION,
))]
pub struct TargetRef {
    /// `apps/v1`, or `v1` for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `Deployment`, `DaemonSet` or `Service`.
    #[x_kube(
        validation = ("self != 'StatefulSet'", "a StatefulSet's pods have names and volumes of their own, which a second version beside them cannot share; write Deployment, DaemonSet or Service"),
        validation = ("self in ['Deployment', 'DaemonSet', 'Service', 'StatefulSet']", "this kind cannot be rolled out; write Deployment, DaemonSet or Service")
    )]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 245))]
    pub name: String,
}

/// What scales the target.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "self.kind != 'HorizontalPodAutoscaler' || !has(self.primaryScalerQueries) || self.primaryScalerQueries.size() == 0",
    sentences::SCALER_QUERIES,
))]
pub struct AutoscalerRef {
    /// `autoscaling/v2` or `keda.sh/v1alpha1`. It is read and written in the best version that the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `HorizontalPodAutoscaler` or `ScaledObject`.
    #[x_kube(validation = ("self in ['HorizontalPodAutoscaler', 'ScaledObject']", sentences::SCALER_KIND))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 245))]
    pub name: String,
    /// For a ScaledObject: the primary's queries, by the name of the trigger. Default: the target's, with its name
    /// replaced by the primary's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub primary_scaler_queries: BTreeMap<String, String>,
    /// How many pods the primary may have. Default: as many as the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_scaler_replicas: Option<PrimaryScalerReplicas>,
}

/// How many pods the primary may have.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
    sentences::SCALER_REPLICAS,
))]
pub struct PrimaryScalerReplicas {
    /// The least. Default: the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_replicas: Option<i32>,
    /// The most. Default: the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replicas: Option<i32>,
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
