//! `apps/v1` DaemonSet: one pod a node, so it has no number of pods. It is stopped by a selector that no node has.
//!
//! Invariant: that selector is Serin's. It is in no hash, no record and no primary, and it comes off without a trace.

use super::{App, Error, Wanted, Workload, as_count, metadata_name, primary};
use crate::domain::{Pods, Scale};
use crate::object;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::borrow::Cow;

pub(super) struct DaemonSet;

/// The node label that is asked for when no pods are wanted.
const STOPPED: &str = "serin.dev/scale-to-zero";

/// What the primary takes over from the target besides the pod template.
const COPIED: [&str; 3] = ["updateStrategy", "minReadySeconds", "revisionHistoryLimit"];

/// How many pods an update may stop at a time when the strategy does not say.
const MAX_UNAVAILABLE: u32 = 1;

impl Workload for DaemonSet {
    fn resource(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "DaemonSet"))
    }

    fn supported(&self, target: &Value) -> Result<(), Error> {
        let name = || metadata_name(target).to_owned();
        if object::get(target, &["spec", "updateStrategy", "type"]).is_some_and(|kind| kind == "OnDelete") {
            return Err(Error::OnDelete { name: name() });
        }
        match host_port(target) {
            Some(port) => Err(Error::HostPort { name: name(), port }),
            None => Ok(()),
        }
    }

    fn template<'a>(&self, target: &'a Value) -> Cow<'a, Value> {
        let template = object::get(target, &["spec", "template"]).unwrap_or(&Value::Null);
        if !is_stopped(target) {
            return Cow::Borrowed(template);
        }
        let mut template = template.clone();
        start(&mut template);
        Cow::Owned(template)
    }

    /// A pod of before on a node that it may not be on any more is none of these counts, and no reason to wait.
    fn pods(&self, object: &Value) -> Pods {
        let number = |field: &str| object::get(object, &["status", field]).map_or(0, as_count);
        Pods {
            wanted: number("desiredNumberScheduled"),
            updated: number("updatedNumberScheduled"),
            available: number("numberAvailable"),
            total: number("currentNumberScheduled"),
            current: super::is_observed(object),
        }
    }

    fn replicas(&self, object: &Value) -> u32 {
        let nodes = object::get(object, &["status", "desiredNumberScheduled"]).map_or(0, as_count);
        if is_stopped(object) { 0 } else { nodes.max(1) }
    }

    fn pauses(&self, primary: &Value) -> bool {
        let nodes = self.pods(primary).wanted;
        let limit = object::get(primary, &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"]);
        limit.map_or(MAX_UNAVAILABLE, |limit| share(limit, nodes)) >= nodes
    }

    fn primary(&self, app: &App, target: &Value, found: Option<&Value>, wanted: Wanted<'_>) -> Result<Value, Error> {
        let primary = primary::render(self, &COPIED, app, target, found, wanted)?;
        // Whoever stops the primary stops the app.
        Ok(self.scaled(&primary, Scale::AtLeast(wanted.replicas.of(None))))
    }

    fn scaled(&self, target: &Value, scale: Scale) -> Value {
        let mut target = target.clone();
        match (scale, is_stopped(&target)) {
            (Scale::Keep, _) | (Scale::AtLeast(_), false) | (Scale::Zero, true) => {}
            (Scale::AtLeast(_), true) => target.pointer_mut("/spec/template").into_iter().for_each(start),
            (Scale::Zero, false) => {
                object::set(&mut target, &["spec", "template", "spec", "nodeSelector", STOPPED], json!("true"));
            }
        }
        target
    }
}

fn is_stopped(object: &Value) -> bool {
    object::get(object, &["spec", "template", "spec", "nodeSelector", STOPPED]).is_some()
}

/// Takes the selector off a template, and with it the map that was made for it: the API server keeps no empty one.
fn start(template: &mut Value) {
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let Some(nodes) = spec.get_mut("nodeSelector").and_then(Value::as_object_mut) else { return };
    nodes.remove(STOPPED);
    if nodes.is_empty() {
        spec.remove("nodeSelector");
    }
}

/// The first port of a node that the pods take: on one node, primary and canary cannot both have it.
fn host_port(target: &Value) -> Option<u64> {
    let lists = ["containers", "initContainers"];
    let lists = lists.into_iter().filter_map(|list| object::get(target, &["spec", "template", "spec", list]));
    let containers = lists.filter_map(Value::as_array).flatten();
    let ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports.filter_map(|port| port.get("hostPort")?.as_u64()).find(|port| *port > 0)
}

/// A number, or a percentage that Kubernetes rounds up.
fn share(limit: &Value, nodes: u32) -> u32 {
    let percent = limit.as_str().and_then(|text| text.strip_suffix('%')?.parse::<u32>().ok());
    percent.map_or_else(|| as_count(limit), |percent| nodes.saturating_mul(percent).div_ceil(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Revision;
    use crate::workload::Replicas;
    use crate::workload::laws::app;

    fn target() -> Value {
        json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {
                "minReadySeconds": 5,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
                "selector": {"matchLabels": {"app": "web", "tier": "front"}},
                "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": {"containers": [{"image": "web:1"}]}},
            },
            "status": {
                "observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "updatedNumberScheduled": 2, "numberAvailable": 1, "numberMisscheduled": 4,
            },
        })
    }

    fn primary(found: Option<&Value>, template: &Value) -> Value {
        let revision = Revision("abc".into());
        let wanted = Wanted { revision: &revision, template: Some(template), replicas: Replicas::Exactly(3) };
        DaemonSet.primary(&app(), &target(), found, wanted).unwrap()
    }

    #[test]
    fn the_primary_is_the_record_with_one_label_renamed() {
        let recorded = target()["spec"]["template"].clone();
        insta::assert_yaml_snapshot!(primary(None, &recorded), @r#"
        apiVersion: apps/v1
        kind: DaemonSet
        metadata:
          annotations:
            helm.toolkit.fluxcd.io/driftDetection: disabled
            kustomize.toolkit.fluxcd.io/reconcile: disabled
            serin.dev/revision: abc
          labels:
            app: web-primary
            app.kubernetes.io/managed-by: serin
          name: web-primary
          namespace: shop
          ownerReferences:
            - uid: u-1
        spec:
          minReadySeconds: 5
          selector:
            matchLabels:
              app: web-primary
          template:
            metadata:
              labels:
                app: web-primary
                tier: front
            spec:
              containers:
                - image: "web:1"
          updateStrategy:
            rollingUpdate:
              maxUnavailable: 1
            type: RollingUpdate
        "#);
    }

    #[test]
    fn no_pods_means_a_selector_that_no_node_has() {
        let stopped = DaemonSet.scaled(&target(), Scale::Zero);
        assert_eq!(stopped["spec"]["template"]["spec"]["nodeSelector"], json!({"serin.dev/scale-to-zero": "true"}));
        assert_eq!(DaemonSet.replicas(&stopped), 0);
        assert_eq!(DaemonSet.replicas(&target()), 3);
        assert_eq!(object::hash(&DaemonSet.template(&stopped)), object::hash(&DaemonSet.template(&target())));
    }

    #[test]
    fn the_users_own_selector_stays() {
        let mut picky = target();
        picky["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        let stopped = DaemonSet.scaled(&picky, Scale::Zero);
        assert_eq!(
            stopped["spec"]["template"]["spec"]["nodeSelector"],
            json!({"disk": "ssd", "serin.dev/scale-to-zero": "true"})
        );
        assert_eq!(*DaemonSet.template(&stopped), picky["spec"]["template"]);
        assert_eq!(DaemonSet.scaled(&stopped, Scale::AtLeast(1)), picky);
    }

    #[test]
    fn a_primary_that_somebody_stopped_is_started() {
        let recorded = target()["spec"]["template"].clone();
        let made = primary(None, &recorded);
        assert_eq!(primary(Some(&DaemonSet.scaled(&made, Scale::Zero)), &recorded), made);
    }

    #[test]
    fn pods_are_counted_by_node_and_by_the_newest_spec() {
        let pods = DaemonSet.pods(&target());
        assert_eq!(pods, Pods { wanted: 3, updated: 2, available: 1, total: 3, current: true });
        let mut changed = target();
        changed["metadata"]["generation"] = 3.into();
        assert!(!DaemonSet.pods(&changed).current);
    }

    #[test]
    fn an_update_that_may_stop_every_pod_at_once_is_noticed() {
        let pauses = |nodes: u32, limit: Value| {
            let mut primary = target();
            primary["status"]["desiredNumberScheduled"] = nodes.into();
            primary["spec"]["updateStrategy"]["rollingUpdate"] = limit;
            DaemonSet.pauses(&primary)
        };
        assert!(pauses(1, json!({"maxUnavailable": 1})), "there is only one");
        assert!(pauses(1, Value::Null), "one is what Kubernetes takes");
        assert!(pauses(3, json!({"maxUnavailable": "67%"})), "rounded up");
        assert!(!pauses(3, json!({"maxUnavailable": "66%"})));
        assert!(!pauses(2, json!({"maxUnavailable": 1})));
        assert!(!pauses(1, json!({"maxUnavailable": 0, "maxSurge": 1})), "the new one comes first");
    }
}
