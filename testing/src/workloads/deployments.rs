//! A Deployment controller whose pods are ready at once or never.
//!
//! Invariant: the status it writes is one the real controller could have written, seen at a moment
//! when nothing moves.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::conditions;
use crate::{ApiServer, DEPLOYMENTS, fields, state::format_time};

type Predicate = Box<dyn Fn(&Value) -> bool + Send + Sync>;

/// Settles Deployments, with what a test says about their pods.
#[derive(Default)]
pub struct DeploymentController {
    never_ready: Vec<Predicate>,
}

impl DeploymentController {
    /// A controller whose pods all become ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that pods of the templates a function picks never become ready.
    #[must_use]
    pub fn never_ready(mut self, picks: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        self.never_ready.push(Box::new(picks));
        self
    }

    /// Writes the status that each Deployment has once its pods have done what they will.
    ///
    /// Where new pods never become ready, the pods available before keep serving, as with a
    /// rolling update that may make none unavailable.
    pub fn settle(&self, server: &ApiServer) {
        let now = server.now();
        for deployment in server.list(DEPLOYMENTS, None) {
            let text = |pointer| fields::text(&deployment, pointer).unwrap_or_default();
            let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
            // It may be gone by now, in which case there is nothing to settle.
            let _ = server.update(DEPLOYMENTS, namespace, name, |deployment| {
                deployment["status"] = self.status(deployment, now);
            });
        }
    }

    fn status(&self, deployment: &Value, now: Timestamp) -> Value {
        let template = &deployment["spec"]["template"];
        let stuck = self.never_ready.iter().any(|picks| picks(template));
        let pods = Pods::settled(deployment, stuck);
        let mut status = pods.counts();
        status.insert("observedGeneration".to_owned(), json!(fields::generation(deployment)));
        let conditions = [availability(deployment, &pods, now), progress(deployment, &pods, now)];
        status.insert("conditions".to_owned(), json!(conditions));
        Value::Object(status)
    }
}

/// The pods of a Deployment: old ones, all available, and those of the current template.
struct Pods {
    desired: i64,
    old: i64,
    updated: i64,
    updated_available: i64,
}

impl Pods {
    fn settled(deployment: &Value, stuck: bool) -> Self {
        let desired = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
        if !stuck || desired == 0 {
            return Self { desired, old: 0, updated: desired, updated_available: desired };
        }
        // A template is ready or it never is, so whatever is available is of an earlier one.
        let available = deployment["status"]["availableReplicas"].as_i64();
        let old = available.unwrap_or(0).min(desired);
        let surge = i64::from(old > 0);
        Self { desired, old, updated: desired - old + surge, updated_available: 0 }
    }

    fn available(&self) -> i64 {
        self.old + self.updated_available
    }

    fn is_complete(&self) -> bool {
        self.old == 0 && self.updated_available == self.desired
    }

    /// The counters of a status, which leaves zeros out as the real one does.
    fn counts(&self) -> Map<String, Value> {
        [
            ("replicas", self.old + self.updated),
            ("updatedReplicas", self.updated),
            ("readyReplicas", self.available()),
            ("availableReplicas", self.available()),
            ("unavailableReplicas", self.updated - self.updated_available),
        ]
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect()
    }
}

fn availability(deployment: &Value, pods: &Pods, now: Timestamp) -> Value {
    let earlier = fields::list(deployment, "/status/conditions");
    let holds = pods.available() >= pods.desired;
    let (reason, message) = if holds {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    let now = format_time(now);
    let condition = conditions::next(earlier, "Available", holds, reason, message, &now);
    with_update_time(earlier, condition, &now)
}

fn progress(deployment: &Value, pods: &Pods, now: Timestamp) -> Value {
    let earlier = fields::list(deployment, "/status/conditions");
    let (holds, reason, message) = if pods.is_complete() {
        (true, "NewReplicaSetAvailable", "ReplicaSet has successfully progressed.")
    } else if is_overdue(deployment, now) {
        (false, "ProgressDeadlineExceeded", "ReplicaSet has timed out progressing.")
    } else {
        (true, "ReplicaSetUpdated", "ReplicaSet is progressing.")
    };
    let now = format_time(now);
    let condition = conditions::next(earlier, "Progressing", holds, reason, message, &now);
    // A new generation starts the deadline over, so its first condition counts as updated.
    let earlier = if is_observed(deployment) { earlier } else { &[] };
    with_update_time(earlier, condition, &now)
}

/// Whether this generation has been without progress for longer than it may.
fn is_overdue(deployment: &Value, now: Timestamp) -> bool {
    let conditions = fields::list(deployment, "/status/conditions");
    let Some(earlier) = conditions::find(conditions, "Progressing") else {
        return false;
    };
    if !is_observed(deployment) || earlier["reason"] == "NewReplicaSetAvailable" {
        return false;
    }
    let seconds = deployment["spec"]["progressDeadlineSeconds"].as_i64();
    let deadline = SignedDuration::from_secs(seconds.unwrap_or(600));
    let updated = fields::text(earlier, "/lastUpdateTime").and_then(|time| time.parse().ok());
    earlier["status"] == "False" || updated.is_some_and(|updated: Timestamp| now.duration_since(updated) >= deadline)
}

fn is_observed(deployment: &Value) -> bool {
    deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
}

/// Adds `lastUpdateTime`, which moves whenever anything else in the condition does.
fn with_update_time(earlier: &[Value], mut condition: Value, now: &str) -> Value {
    let updated = condition["type"]
        .as_str()
        .and_then(|kind| conditions::find(earlier, kind))
        .filter(|earlier| earlier["reason"] == condition["reason"])
        .map_or_else(|| json!(now), |earlier| earlier["lastUpdateTime"].clone());
    condition["lastUpdateTime"] = updated;
    condition
}
