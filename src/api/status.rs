//! `Canary.status`: the plan of record, and the answer to "what is going on?".

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the rollout is, why, and how it came there.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct CanaryStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Initializing, Initialized, Waiting, Progressing, WaitingPromotion, Promoting, Finalising, Succeeded, Failed or
    /// Terminating.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Since when the phase, or the step in it, lasts; the interval counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// When the weight was set; the gateway's grace period counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub weight_since: Option<Timestamp>,
    /// When phase or weight changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_transition_time: Option<Timestamp>,
    /// Percent of the traffic that goes to the canary.
    pub canary_weight: i32,
    /// Steps reached; 0 is none.
    pub step: i32,
    /// Steps reached, of all, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Checks that passed at this weight, of those that must: iterations, in strategies that have them.
    pub iterations: i32,
    /// Checks that failed in this rollout.
    pub failed_checks: i32,
    /// Checks in a row without a usable answer.
    pub inconclusive_checks: i32,
    /// Since when pods or route are not as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub blocked_since: Option<Timestamp>,
    /// The next check does not wait for the interval.
    #[serde(skip_serializing_if = "is_false")]
    pub check_due: bool,
    /// The pre-rollout webhooks said yes.
    #[serde(skip_serializing_if = "is_false")]
    pub prepared: bool,
    /// `TrafficIncrease` or `Promotion`: the gate that holds the weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Somebody opened that gate by an order.
    #[serde(skip_serializing_if = "is_false")]
    pub gate_approved: bool,
    /// Somebody ordered to hold the weight.
    #[serde(skip_serializing_if = "is_false")]
    pub paused: bool,
    /// Somebody ordered to promote the version without the rest of its analysis.
    #[serde(skip_serializing_if = "is_false")]
    pub analysis_skipped: bool,
    /// When the webhooks of this phase were last asked; the interval to the next time counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub asked_at: Option<Timestamp>,
    /// When the primary's share rose last, while it takes over in steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub shifted_at: Option<Timestamp>,
    /// The weight is of the requests that match `analysis.match`, and not of all.
    #[serde(skip_serializing_if = "is_false")]
    pub selective: bool,
    /// The end of a rollout that the post-rollout webhooks have not been told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<EndingStatus>,
    /// The order that was taken last, while its annotation is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Why the version was taken back, or the primary is being put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How far the handing back of a deleted Canary's app has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// What is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingStatus>,
    /// The target as it was last acted upon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// The version that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoted: Option<RevisionStatus>,
    /// The version under analysis, or the last one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<RevisionStatus>,
    /// Up, Stale, Draining or Down: the target's pods, as far as they may be needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_pods: Option<String>,
    /// Since when the target's pods have no traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub draining_since: Option<Timestamp>,
    /// How many pods the app is meant to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Checksums of the ConfigMaps and Secrets that the version uses, as `configmap/<name>` and `secret/<name>`; `absent`
    /// for an optional one that is not there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tracked_configs: BTreeMap<String, String>,
    /// The last value, range and verdict of every metric.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckStatus>,
    /// The last decisions, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// Ready, Reconciling, Stalled and Promoted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How long a sentence can be, in bytes. What somebody wrote is in some of them, and an object must fit into etcd, which
/// takes a megabyte and a half.
const LONGEST_SENTENCE: usize = 2048;

/// The sentence, with its end left out if it is too long.
pub(super) fn short(sentence: &str) -> String {
    if sentence.len() <= LONGEST_SENTENCE {
        return sentence.to_owned();
    }
    let end = (0..LONGEST_SENTENCE).rev().find(|end| sentence.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &sentence[..end])
}

/// What is waited for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct WaitingStatus {
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

/// The target as it was last acted upon.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct TargetStatus {
    /// The version's name.
    pub revision: String,
    /// Its hash, as it is computed now.
    pub hash: String,
    /// The target's generation at which it was seen.
    pub generation: i64,
    /// The target's UID.
    #[serde(default)]
    pub uid: String,
}

/// One version.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct RevisionStatus {
    /// Its name; the ControllerRevision `<canary>-<revision>` holds its pod template.
    pub revision: String,
}

/// How a rollout ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct EndingStatus {
    /// The version that it was about.
    pub revision: String,
    /// Whether it is promoted.
    pub succeeded: bool,
}

/// One metric in the last round of checks.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct CheckStatus {
    /// Its name.
    pub metric: String,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The lowest good value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The highest good value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Pass, Fail or Inconclusive.
    pub verdict: String,
    /// In a sentence.
    pub message: String,
    /// When it was asked.
    #[schemars(with = "String")]
    pub time: Timestamp,
}

/// One decision.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct HistoryEntry {
    /// When.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// What, in one word.
    pub reason: String,
    /// Why, in a sentence with the values.
    pub message: String,
    /// The version that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Percent of the traffic on the canary, from then on.
    pub weight: i32,
    /// Steps reached, from then on.
    pub step: i32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
