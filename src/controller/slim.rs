//! What is kept of an object, and what of it is never looked at.
//!
//! Invariant: what is dropped here is never written either. A write is a patch from what was kept to what it should be, so
//! it does not name what was dropped; and nothing that held it goes with it.

use super::configs::slim_config;
use super::orders;
use crate::api::Canary;
use crate::workload::autoscaler;
use crate::workload::configs::Kind;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::{ApiResource, Resource};

/// What `kubectl apply` notes for itself: as long as all the rest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Drops what is never looked at, whether a watch has shown it or the API server has answered it to a write.
pub(super) fn slim(resource: &ApiResource, object: &mut DynamicObject) {
    if resource.kind == Canary::kind(&()) {
        slim_canary(object);
    } else {
        object.metadata.managed_fields = None;
        forget_last_applied(object);
    }
    if let Some(kind) = Kind::named(&resource.kind) {
        slim_config(kind, object);
    }
    if autoscaler::by_kind(&resource.kind).is_some() {
        slim_scaler(object);
    }
    slim_status(&resource.kind, object);
}

/// Drops of a Canary what is never looked at. Who gave an order is.
pub(super) fn slim_canary(canary: &mut impl ResourceExt) {
    if let Some(managers) = &mut canary.meta_mut().managed_fields {
        orders::slim_managers(managers);
    }
    forget_last_applied(canary);
}

/// The annotation stays, or a patch that adds or removes the only other one would do it to this one too.
fn forget_last_applied(object: &mut impl ResourceExt) {
    let annotations = object.meta_mut().annotations.as_mut();
    if let Some(text) = annotations.and_then(|annotations| annotations.get_mut(LAST_APPLIED)) {
        *text = String::new();
    }
}

/// A scaler writes its status every few seconds, and counts some of that as generations.
fn slim_scaler(object: &mut DynamicObject) {
    object.metadata.generation = None;
    if let Some(data) = object.data.as_object_mut() {
        data.remove("status");
    }
}

/// Pods are counted by numbers; what is said about them in words concerns people.
fn slim_status(kind: &str, object: &mut DynamicObject) {
    let Some(data) = object.data.as_object_mut() else { return };
    match kind {
        "Service" => drop(data.remove("status")),
        "Deployment" | "DaemonSet" => {
            if let Some(status) = data.get_mut("status").and_then(|status| status.as_object_mut()) {
                status.remove("conditions");
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;
    use kube::core::GroupVersionKind;
    use serde_json::{Value, json};

    fn slimmed(group: &str, kind: &str, whole: Value) -> Value {
        let mut object: DynamicObject = serde_json::from_value(whole).unwrap();
        slim(&ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)), &mut object);
        serde_json::to_value(&object).unwrap()
    }

    fn whole() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop", "generation": 2, "annotations": {LAST_APPLIED: "{\"spec\":{}}"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"replicas": 1},
            "status": {"observedGeneration": 2, "replicas": 1, "conditions": [{"type": "Available"}]},
        })
    }

    #[test]
    fn what_is_looked_at_is_kept() {
        insta::assert_json_snapshot!(slimmed("apps", "Deployment", whole()), @r#"
        {
          "apiVersion": "apps/v1",
          "kind": "Deployment",
          "metadata": {
            "annotations": {
              "kubectl.kubernetes.io/last-applied-configuration": ""
            },
            "generation": 2,
            "name": "web",
            "namespace": "shop"
          },
          "spec": {
            "replicas": 1
          },
          "status": {
            "observedGeneration": 2,
            "replicas": 1
          }
        }
        "#);
        assert!(slimmed("", "Service", whole()).get("status").is_none());
        let route = slimmed("gateway.networking.k8s.io", "HTTPRoute", whole());
        assert_eq!(route["status"], whole()["status"], "it says whether the gateway has accepted the route");
        let scaler = slimmed("autoscaling", "HorizontalPodAutoscaler", whole());
        assert_eq!((scaler.get("status"), scaler["metadata"].get("generation")), (None, None));
    }

    /// Of what is written only the difference is sent: `kubectl apply` must find its note as it left it.
    #[test]
    fn no_patch_touches_what_was_dropped() {
        let found = slimmed("apps", "Deployment", whole());
        let mut marked = found.clone();
        object::set_metadata(&mut marked, "annotations", [("serin.dev/revision", "abc")]);
        let patches = [json_patch::diff(&found, &marked), json_patch::diff(&marked, &found)];
        let mut object = whole();
        json_patch::patch(&mut object, &patches[0]).unwrap();
        assert_eq!(object["metadata"]["annotations"]["serin.dev/revision"], "abc");
        json_patch::patch(&mut object, &patches[1]).unwrap();
        assert_eq!(object, whole());

        object::remove_metadata(&mut marked, "annotations", &["serin.dev/revision"]);
        assert_eq!(marked, found, "with the last annotation of ours that of others does not go");
    }
}
