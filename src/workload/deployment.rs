//! `apps/v1` Deployment.

use super::{App, Error, Wanted, Workload, as_count, metadata_name, primary};
use crate::domain::{Pods, Scale};
use crate::object;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use std::borrow::Cow;

pub(super) struct Deployment;

/// What the primary takes over from the target besides the pod template.
const COPIED: [&str; 4] = ["strategy", "minReadySeconds", "progressDeadlineSeconds", "revisionHistoryLimit"];

impl Workload for Deployment {
    fn resource(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"))
    }

    fn supported(&self, target: &Value) -> Result<(), Error> {
        match object::get(target, &["spec", "strategy", "type"]).and_then(Value::as_str) {
            Some("Recreate") => Err(Error::Recreate { kind: "Deployment", name: metadata_name(target).to_owned() }),
            _ => Ok(()),
        }
    }

    fn template<'a>(&self, target: &'a Value) -> Cow<'a, Value> {
        Cow::Borrowed(object::get(target, &["spec", "template"]).unwrap_or(&Value::Null))
    }

    fn pods(&self, object: &Value) -> Pods {
        let number = |field: &str| object::get(object, &["status", field]).map_or(0, as_count);
        Pods {
            wanted: self.replicas(object),
            updated: number("updatedReplicas"),
            available: number("availableReplicas"),
            total: number("replicas"),
            current: super::is_observed(object),
        }
    }

    fn replicas(&self, object: &Value) -> u32 {
        object::get(object, &["spec", "replicas"]).map_or(1, as_count)
    }

    fn primary(&self, app: &App, target: &Value, found: Option<&Value>, wanted: Wanted<'_>) -> Result<Value, Error> {
        let mut primary = primary::render(self, &COPIED, app, target, found, wanted)?;
        let replicas = wanted.replicas.of(found.map(|found| self.replicas(found)));
        object::set(&mut primary, &["spec", "replicas"], replicas.into());
        Ok(primary)
    }

    fn scaled(&self, target: &Value, scale: Scale) -> Value {
        let mut target = target.clone();
        let replicas = match scale {
            Scale::Keep => return target,
            Scale::AtLeast(_) if self.replicas(&target) > 0 => return target,
            Scale::AtLeast(replicas) => replicas,
            Scale::Zero => 0,
        };
        object::set(&mut target, &["spec", "replicas"], replicas.into());
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Revision;
    use crate::workload::Replicas;
    use crate::workload::laws::app;
    use serde_json::json;

    fn target() -> Value {
        json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {
                "replicas": 3, "minReadySeconds": 5,
                "selector": {"matchLabels": {"app": "web", "tier": "front"}},
                "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": {"containers": [{"image": "web:1"}]}},
            },
            "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2},
        })
    }

    fn primary(found: Option<&Value>, template: Option<&Value>) -> Result<Value, Error> {
        let revision = Revision("abc".into());
        Deployment.primary(
            &app(),
            &target(),
            found,
            Wanted { revision: &revision, template, replicas: Replicas::Exactly(3) },
        )
    }

    #[test]
    fn the_primary_is_the_record_with_one_label_renamed() {
        let recorded = target()["spec"]["template"].clone();
        let made = primary(None, Some(&recorded)).unwrap();
        insta::assert_yaml_snapshot!(made, @r#"
        apiVersion: apps/v1
        kind: Deployment
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
          replicas: 3
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
        "#);
        assert_eq!(primary(Some(&made), Some(&recorded)).unwrap(), made, "again changes nothing");
        let selector = Deployment.selector(&app(), &target()).unwrap();
        assert_eq!(Deployment.original(&made, &selector), recorded, "and back");
    }

    #[test]
    fn without_a_record_the_primary_stays_as_it_is() {
        let made = primary(None, Some(&target()["spec"]["template"])).unwrap();
        assert_eq!(primary(Some(&made), None).unwrap(), made);
        assert_eq!(primary(None, None), Err(Error::Record("abc".into())));
    }

    #[test]
    fn a_changed_image_on_the_primary_is_put_right() {
        let recorded = target()["spec"]["template"].clone();
        let made = primary(None, Some(&recorded)).unwrap();
        let mut edited = made.clone();
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = "web:evil".into();
        assert_eq!(primary(Some(&edited), Some(&recorded)).unwrap(), made);
    }

    #[test]
    fn pods_are_counted_by_the_newest_spec() {
        let pods = Deployment.pods(&target());
        assert_eq!(pods, Pods { wanted: 3, updated: 3, available: 2, total: 3, current: true });
        let mut changed = target();
        changed["metadata"]["generation"] = 3.into();
        assert!(!Deployment.pods(&changed).current);
    }

    #[test]
    fn scaling_touches_nothing_but_the_number() {
        let mut zero = target();
        zero["spec"]["replicas"] = 0.into();
        assert_eq!(Deployment.scaled(&target(), Scale::Zero), zero);
        assert_eq!(Deployment.scaled(&zero, Scale::AtLeast(3)), target());
        assert_eq!(Deployment.scaled(&target(), Scale::AtLeast(5)), target());
        assert_eq!(Deployment.scaled(&zero, Scale::Keep), zero);
    }

    #[test]
    fn a_strategy_that_stops_all_pods_is_refused() {
        let mut odd = target();
        odd["spec"]["strategy"] = json!({"type": "Recreate"});
        let refusal = Deployment.supported(&odd).unwrap_err().to_string();
        assert!(refusal.contains("write RollingUpdate"), "{refusal}");
    }
}
