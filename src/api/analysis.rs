//! `spec.analysis`: how a new version is judged.

use super::alert::Alert;
use super::canary::NamespacedRef;
use super::route::StringMatch;
use super::sentences;
use super::webhook::Webhook;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a new version is judged.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "[has(self.stepWeight), has(self.stepWeights), has(self.iterations)].filter(x, x).size() <= 1",
        sentences::STRATEGIES,
    ),
    validation = ("!has(self.maxWeight) || !(has(self.stepWeights) || has(self.iterations))", sentences::MAX_WEIGHT),
    validation = ("!has(self.stepWeights) || (self.stepWeights.isSorted() && self.stepWeights.all(i, self.stepWeights.filter(j, j == i).size() == 1))", "stepWeights must rise: write each weight once, in ascending order"),
    validation = ("!has(self.match) || self.match.size() == 0 || has(self.iterations)", sentences::MATCH),
    validation = (
        "!has(self.match) || self.match.size() == 0 || !has(self.mirror) || !self.mirror",
        sentences::MIRROR_MATCH,
    ),
    validation = ("!has(self.mirrorWeight) || (has(self.mirror) && self.mirror)", sentences::MIRROR_WEIGHT),
    validation = ("!has(self.sessionAffinity) || !has(self.iterations)", sentences::AFFINITY)
)]
pub struct Analysis {
    /// How long each step lasts, and the time between two checks; at least `1s`.
    #[schemars(regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[x_kube(validation = ("duration(self) >= duration('1s')", "interval must be at least 1s"))]
    pub interval: String,
    /// Failed checks after which the version is taken back. Default: 1, which is also what 0 means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub threshold: Option<i32>,
    /// How many checks a new version must pass, for blue/green and, with `match`, for an A/B test. In place of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub iterations: Option<i32>,
    /// The requests of an A/B test: those of which one entry holds get the new version, all others the old one.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub matches: Vec<RequestMatch>,
    /// Send the canary a copy of requests before it gets requests of its own. Its answers are dropped.
    #[serde(default)]
    pub mirror: bool,
    /// Percent of the requests that are copied. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub mirror_weight: Option<i32>,
    /// Keep every client on the version that it was given, for as long as the new one is analysed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// With provider `kubernetes`: send the app's Service to the canary during the iterations, and back at once when a
    /// check fails too often. Without it only webhooks send requests to the canary.
    #[serde(default)]
    pub switch_traffic: bool,
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
    /// By how many percent the traffic goes back to the primary at each interval of the promotion. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub step_weight_promotion: Option<i32>,
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
    /// Who is asked and told by HTTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = ("self.all(one, self.exists_one(other, other.name == one.name))", sentences::WEBHOOK_NAMES))]
    pub webhooks: Vec<Webhook>,
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

/// Requests of an A/B test: all conditions must hold.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "(has(self.headers) && self.headers.size() > 0) || (has(self.queryParams) && self.queryParams.size() > 0)",
    sentences::MATCH_EMPTY,
))]
pub struct RequestMatch {
    /// Headers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub headers: BTreeMap<String, StringMatch>,
    /// Parameters of the query, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub query_params: BTreeMap<String, StringMatch>,

    /// Refused: a gateway does not see the pod that asks. Write `headers` or `queryParams`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = ("self.size() == 0", sentences::SOURCE_LABELS))]
    pub source_labels: BTreeMap<String, String>,
}

/// How every client is kept on the version that it was given: by cookies.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.primaryCookieName) || self.primaryCookieName != self.cookieName", sentences::COOKIES),
    validation = (
        "(has(self.secure) && self.secure) || !((has(self.partitioned) && self.partitioned) || (has(self.sameSite) && self.sameSite == 'None'))",
        sentences::COOKIE_SECURE,
    )
)]
pub struct SessionAffinity {
    /// The cookie of clients that got the canary.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = (r#"self.matches("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")"#, sentences::COOKIE_NAME))]
    pub cookie_name: String,
    /// The cookie of clients that got the primary. Without it they are given a version anew with every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = (r#"self.matches("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")"#, sentences::COOKIE_NAME))]
    pub primary_cookie_name: Option<String>,
    /// The host that gets the cookies. Default: the one that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("!self.contains(';') && !self.contains(' ')", sentences::COOKIE_TEXT))]
    pub domain: Option<String>,
    /// The path below which they are sent. Default: that of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = ("!self.contains(';') && !self.contains(' ')", sentences::COOKIE_TEXT))]
    pub path: Option<String>,
    /// Hide the cookies from scripts.
    #[serde(default)]
    pub http_only: bool,
    /// Send them over HTTPS only.
    #[serde(default)]
    pub secure: bool,
    /// Whether they go along with requests from other sites. Default: what the browser does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
    /// Keep them apart for each site that embeds the app.
    #[serde(default)]
    pub partitioned: bool,
    /// Seconds after which the canary's cookie is forgotten.
    #[serde(default = "one_day")]
    #[schemars(range(min = 1))]
    pub max_age: i32,
}

/// As long as Flagger's.
fn one_day() -> i32 {
    86_400
}

/// Whether cookies go along with requests from other sites.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum SameSite {
    /// Never.
    Strict,
    /// With links only.
    Lax,
    /// Always.
    None,
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
