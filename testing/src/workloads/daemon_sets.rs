//! A DaemonSet controller for nodes without labels, whose pods are ready at once or never.
//!
//! Invariant: the status it writes is one the real controller could have written, seen at a moment
//! when nothing moves. A template with a node selector runs nowhere.

use serde_json::{Value, json};

use crate::{ApiServer, DAEMON_SETS, fields};

type Predicate = Box<dyn Fn(&Value) -> bool + Send + Sync>;

/// Settles DaemonSets, with what a test says about nodes and pods.
pub struct DaemonSetController {
    nodes: i64,
    never_ready: Vec<Predicate>,
}

impl DaemonSetController {
    /// A controller with so many nodes, whose pods all become ready.
    #[must_use]
    pub fn new(nodes: u32) -> Self {
        Self { nodes: nodes.into(), never_ready: Vec::new() }
    }

    /// Says that pods of the templates a function picks never become ready.
    #[must_use]
    pub fn never_ready(mut self, picks: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        self.never_ready.push(Box::new(picks));
        self
    }

    /// Writes the status that each DaemonSet has once its pods have done what they will.
    pub fn settle(&self, server: &ApiServer) {
        for daemon_set in server.list(DAEMON_SETS, None) {
            let text = |pointer| fields::text(&daemon_set, pointer).unwrap_or_default();
            let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
            // It may be gone by now, in which case there is nothing to settle.
            let _ = server.update(DAEMON_SETS, namespace, name, |daemon_set| {
                daemon_set["status"] = self.status(daemon_set);
            });
        }
    }

    /// Some of the counters are left out when they are zero, as the real ones are.
    fn status(&self, daemon_set: &Value) -> Value {
        let (desired, updated, available) = self.counts(daemon_set);
        let non_zero = |count: i64| (count != 0).then_some(count);
        json!({
            "observedGeneration": fields::generation(daemon_set),
            "desiredNumberScheduled": desired,
            "currentNumberScheduled": desired,
            "numberMisscheduled": 0,
            "numberReady": available,
            "updatedNumberScheduled": non_zero(updated),
            "numberAvailable": non_zero(available),
            "numberUnavailable": non_zero(desired - available),
        })
    }

    /// Nodes that are to have a pod, that have a new one, and that have one that is available.
    fn counts(&self, daemon_set: &Value) -> (i64, i64, i64) {
        let template = &daemon_set["spec"]["template"];
        if template["spec"]["nodeSelector"].as_object().is_some_and(|labels| !labels.is_empty()) {
            return (0, 0, 0);
        }
        if !self.never_ready.iter().any(|picks| picks(template)) {
            return (self.nodes, self.nodes, self.nodes);
        }
        // The first new pod is one too many to be unavailable, and there the update stands still.
        let status = &daemon_set["status"];
        let (before, after) = (&status["numberAvailable"], fields::generation(daemon_set));
        match before.as_i64() {
            None => (self.nodes, self.nodes, 0),
            Some(available) if status["observedGeneration"].as_i64() == after => (self.nodes, 1, available),
            Some(available) => (self.nodes, 1, available.min(self.nodes) - 1),
        }
    }
}
