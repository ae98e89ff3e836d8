//! Laws that hold for every kind of autoscaler in the registry.

use super::{Copy, Misfit, Reference, Scaler, all, by_kind, resource, resumed};
use crate::workload::laws::app;
use crate::workload::{App, Labelling, Selector};
use kube::core::ApiResource;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a user of each kind has, with everything in it that means the app itself.
fn own(kind: &str) -> Value {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = match kind {
        "HorizontalPodAutoscaler" => json!({
            "minReplicas": 2, "maxReplicas": 6, "scaleTargetRef": target, "somethingNew": {"of": "tomorrow"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99}}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        }),
        "ScaledObject" => json!({
            "minReplicaCount": 2, "maxReplicaCount": 6, "idleReplicaCount": 0, "scaleTargetRef": target,
            "pollingInterval": 5, "somethingNew": {"of": "tomorrow"},
            "advanced": {"horizontalPodAutoscalerConfig": {"name": "web-hpa", "behavior": {"scaleDown": {"stabilizationWindowSeconds": 3}}}},
            "triggers": [
                {"type": "prometheus", "name": "requests", "metadata": {"query": "rate(web_requests{app=\"web\",other=\"web-two\"}[1m])", "threshold": "5"}},
                {"type": "prometheus", "metadata": {"query": "errors{app=\"web\"}"}, "authenticationRef": {"name": "web"}},
                {"type": "cpu", "metadata": {"value": "60"}},
            ],
        }),
        other => panic!("add what a user of {other} has"),
    };
    json!({
        "apiVersion": "any/version", "kind": kind, "spec": spec, "status": {"desiredReplicas": 2},
        "metadata": {
            "name": "scaler", "namespace": "shop", "resourceVersion": "7", "uid": "u-3",
            "labels": {"app": "web", "team": "blue", "kustomize.toolkit.fluxcd.io/name": "shop"},
            "annotations": {
                "example.com/owner": "ann", "argocd.argoproj.io/tracking-id": "shop",
                "autoscaling.keda.sh/paused-replicas": "0", "scaledobject.keda.sh/transfer-hpa-ownership": "true",
            },
        },
    })
}

fn reference(scaler: &'static dyn Scaler) -> Reference {
    Reference { scaler, name: "scaler".into(), least: None, most: None, queries: BTreeMap::new() }
}

fn selector() -> Selector {
    Selector { key: "app".into(), value: "web".into() }
}

fn newest(scaler: &dyn Scaler) -> ApiResource {
    resource(scaler, scaler.versions()[0])
}

fn copy(app: &App, reference: &Reference, own: &Value, found: Option<&Value>, floor: u32) -> Value {
    Copy { app, reference, selector: &selector(), own, floor }.render(&newest(reference.scaler), found)
}

/// Each kind, with what a user has of it.
fn kinds() -> impl Iterator<Item = (&'static dyn Scaler, Value)> {
    all().map(|scaler| (scaler, own(scaler.kind())))
}

fn counts(scaler: &dyn Scaler, copy: &Value) -> [u64; 2] {
    scaler.range().map(|bound| copy["spec"][bound.field].as_u64().unwrap_or(bound.default.into()))
}

#[test]
fn a_kind_is_found_by_its_name() {
    for (scaler, _) in kinds() {
        assert_eq!(by_kind(scaler.kind()).map(Scaler::kind), Some(scaler.kind()));
        assert!(!scaler.versions().is_empty());
    }
    assert!(by_kind("VerticalPodAutoscaler").is_none());
}

#[test]
fn the_copy_of_an_hpa() {
    let scaler = by_kind("HorizontalPodAutoscaler").unwrap();
    let made = copy(&app(), &reference(scaler), &own(scaler.kind()), None, 0);
    insta::assert_yaml_snapshot!(made, @r"
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata:
      annotations:
        helm.toolkit.fluxcd.io/driftDetection: disabled
        kustomize.toolkit.fluxcd.io/reconcile: disabled
        serin.dev/applied: df92fa6dec
      labels:
        app.kubernetes.io/managed-by: serin
      name: scaler-primary
      namespace: shop
      ownerReferences:
        - uid: u-1
    spec:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 300
      maxReplicas: 6
      metrics:
        - resource:
            name: cpu
            target:
              averageUtilization: 99
              type: Utilization
          type: Resource
      minReplicas: 2
      scaleTargetRef:
        apiVersion: apps/v1
        kind: Deployment
        name: web-primary
      somethingNew:
        of: tomorrow
    ");
}

#[test]
fn the_copy_of_a_scaled_object() {
    let scaler = by_kind("ScaledObject").unwrap();
    let queries = BTreeMap::from([("requests".to_owned(), "rate(primary)".to_owned())]);
    let made = copy(&app(), &Reference { queries, ..reference(scaler) }, &own(scaler.kind()), None, 0);
    insta::assert_yaml_snapshot!(made, @r#"
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata:
      annotations:
        helm.toolkit.fluxcd.io/driftDetection: disabled
        kustomize.toolkit.fluxcd.io/reconcile: disabled
        serin.dev/applied: 1b4f9132a2
      labels:
        app.kubernetes.io/managed-by: serin
      name: scaler-primary
      namespace: shop
      ownerReferences:
        - uid: u-1
    spec:
      advanced:
        horizontalPodAutoscalerConfig:
          behavior:
            scaleDown:
              stabilizationWindowSeconds: 3
          name: web-hpa-primary
      idleReplicaCount: 0
      maxReplicaCount: 6
      minReplicaCount: 2
      pollingInterval: 5
      scaleTargetRef:
        apiVersion: apps/v1
        kind: Deployment
        name: web-primary
      somethingNew:
        of: tomorrow
      triggers:
        - metadata:
            query: rate(primary)
            threshold: "5"
          name: requests
          type: prometheus
        - authenticationRef:
            name: web
          metadata:
            query: "errors{app=\"web-primary\"}"
          type: prometheus
        - metadata:
            value: "60"
          type: cpu
    "#);
}

#[test]
fn the_target_is_renamed_in_queries_as_a_whole_word() {
    let scaler = by_kind("ScaledObject").unwrap();
    let made = copy(&app(), &reference(scaler), &own(scaler.kind()), None, 0);
    let queries: Vec<_> =
        made["spec"]["triggers"].as_array().unwrap().iter().map(|it| &it["metadata"]["query"]).collect();
    let expected =
        json!(["rate(web_requests{app=\"web-primary\",other=\"web-two\"}[1m])", "errors{app=\"web-primary\"}", null]);
    assert_eq!(json!(queries), expected);
}

#[test]
fn the_copy_is_made_once() {
    for (scaler, own) in kinds() {
        for floor in [0, 4] {
            let made = copy(&app(), &reference(scaler), &own, None, floor);
            assert_eq!(copy(&app(), &reference(scaler), &own, Some(&made), floor), made, "{}", scaler.kind());
        }
    }
}

#[test]
fn what_others_add_to_a_copy_stays() {
    for (scaler, own) in kinds() {
        let mut made = copy(&app(), &reference(scaler), &own, None, 0);
        made["metadata"]["annotations"]["autoscaling.keda.sh/paused"] = "true".into();
        made["metadata"]["finalizers"] = json!(["finalizer.keda.sh"]);
        made["status"] = json!({"desiredReplicas": 3});
        made["spec"]["defaulted"] = "by the server".into();
        assert_eq!(copy(&app(), &reference(scaler), &own, Some(&made), 0), made, "{}", scaler.kind());
    }
}

#[test]
fn what_changes_in_the_users_scaler_changes_in_the_copy() {
    for (scaler, own) in kinds() {
        let kind = scaler.kind();
        let made = copy(&app(), &reference(scaler), &own, None, 0);
        let mut changed = own.clone();
        changed["spec"]["somethingNew"] = json!({"of": "today"});
        let [least, _] = scaler.range().map(|bound| bound.field);
        changed["spec"][least] = 3.into();
        changed["spec"].as_object_mut().unwrap().remove("pollingInterval");
        let followed = copy(&app(), &reference(scaler), &changed, Some(&made), 0);
        assert_eq!(followed["spec"]["somethingNew"], json!({"of": "today"}), "{kind}");
        assert_eq!(counts(scaler, &followed), [3, 6], "{kind}");
        assert_eq!(followed["spec"].get("pollingInterval"), None, "{kind}: what left the user's leaves the copy");
    }
}

#[test]
fn the_canary_has_the_last_word_on_the_primarys_range() {
    for (scaler, own) in kinds() {
        for (least, most, expected) in [
            (None, None, [2, 6]),
            (Some(4), Some(9), [4, 9]),
            (Some(4), None, [4, 6]),
            (Some(8), None, [8, 8]),
            (None, Some(1), [1, 1]),
            (None, Some(3), [2, 3]),
        ] {
            let made = copy(&app(), &Reference { least, most, ..reference(scaler) }, &own, None, 0);
            assert_eq!(counts(scaler, &made), expected, "{} {least:?} {most:?}", scaler.kind());
        }
    }
}

#[test]
fn a_floor_raises_the_least_up_to_the_most_and_comes_off_again() {
    for (scaler, own) in kinds() {
        let at_rest = copy(&app(), &reference(scaler), &own, None, 0);
        for (floor, expected) in [(0, 2), (1, 2), (2, 2), (4, 4), (6, 6), (60, 6)] {
            let raised = copy(&app(), &reference(scaler), &own, Some(&at_rest), floor);
            assert_eq!(counts(scaler, &raised), [expected, 6], "{} {floor}", scaler.kind());
            let idle = raised["spec"].get("idleReplicaCount");
            assert!(floor == 0 || idle.is_none(), "{}: nothing scales below the floor", scaler.kind());
            assert_eq!(copy(&app(), &reference(scaler), &own, Some(&raised), 0), at_rest, "{}", scaler.kind());
        }
        let mut bare = own.clone();
        let [least, _] = scaler.range();
        bare["spec"].as_object_mut().unwrap().remove(least.field);
        let made = copy(&app(), &reference(scaler), &bare, None, 0);
        assert_eq!(made["spec"].get(least.field), None, "{}: what is not said is not said", scaler.kind());
        let raised = copy(&app(), &reference(scaler), &bare, Some(&made), 3);
        assert_eq!(counts(scaler, &raised), [3, 6], "{}", scaler.kind());
    }
}

#[test]
fn labels_follow_the_rules_of_the_primary() {
    for (scaler, own) in kinds() {
        let none = copy(&app(), &reference(scaler), &own, None, 0);
        assert_eq!(none["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "serin"}), "{}", scaler.kind());
        let all = App { labelling: Labelling { included: vec!["*".into()], ..Labelling::default() }, ..app() };
        let made = copy(&all, &reference(scaler), &own, None, 0);
        let labels = json!({"app.kubernetes.io/managed-by": "serin", "team": "blue"});
        assert_eq!(made["metadata"]["labels"], labels, "{}", scaler.kind());
        let annotations = made["metadata"]["annotations"].as_object().unwrap();
        assert!(annotations.contains_key("example.com/owner"), "{annotations:?}");
        let foreign = |key: &String| key.contains("keda.sh") || key.contains("argocd");
        assert!(!annotations.keys().any(foreign), "{annotations:?}");
    }
}

#[test]
fn a_pause_comes_off_without_a_trace() {
    for (scaler, own) in kinds() {
        for before in [None, Some("2")] {
            let mut own = own.clone();
            own["metadata"]["annotations"].as_object_mut().unwrap().remove("autoscaling.keda.sh/paused-replicas");
            if let Some(before) = before {
                own["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"] = before.into();
            }
            let paused = scaler.paused(&own, "web", true);
            assert_eq!(paused["spec"], own["spec"], "{}", scaler.kind());
            assert_eq!(scaler.paused(&paused, "web", true), paused, "{}", scaler.kind());
            assert_eq!(scaler.paused(&paused, "web", false), own, "{}", scaler.kind());
            assert_eq!(scaler.paused(&own, "web", false), own, "{}: nobody else's pause comes off", scaler.kind());
            assert_eq!(resumed(scaler, &paused, "web"), own, "{}", scaler.kind());
            assert_eq!(resumed(scaler, &paused, "blog"), paused, "{}: another Canary's", scaler.kind());
        }
    }
}

#[test]
fn a_scaled_object_is_paused_at_nothing() {
    let scaler = by_kind("ScaledObject").unwrap();
    let value = |object: &Value| object["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"].clone();
    let mut own = own("ScaledObject");
    let taken_over = scaler.paused(&own, "web", true);
    assert_eq!(value(&taken_over), "0");
    assert_eq!(value(&scaler.paused(&taken_over, "web", false)), json!(null), "as another rollout tool left it");
    own["metadata"].as_object_mut().unwrap().remove("annotations");
    let mut changed = scaler.paused(&own, "web", true);
    changed["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"] = "5".into();
    let again = scaler.paused(&changed, "web", true);
    assert_eq!(value(&again), "0", "a drift is repaired");
    assert_eq!(scaler.paused(&again, "web", false), own);
}

#[test]
fn what_does_not_fit_says_what_to_write() {
    let sentence = |reference: &Reference, own: Option<&Value>| {
        reference.check("Deployment", "web", own).map_err(|misfit| misfit.to_string())
    };
    for (scaler, own) in kinds() {
        let kind = scaler.kind();
        let reference = reference(scaler);
        assert_eq!(sentence(&reference, Some(&own)), Ok(()));
        let missing = sentence(&reference, None).unwrap_err();
        assert_eq!(
            missing,
            format!("spec.autoscalerRef: there is no {kind} scaler; create it, or remove autoscalerRef")
        );
        let mut other = own.clone();
        other["spec"]["scaleTargetRef"]["name"] = "blog".into();
        let elsewhere = sentence(&reference, Some(&other)).unwrap_err();
        assert!(
            elsewhere.contains("scales Deployment blog; write Deployment web in its spec.scaleTargetRef"),
            "{elsewhere}"
        );
        let mut other = own.clone();
        other["spec"]["scaleTargetRef"]["kind"] = "StatefulSet".into();
        assert!(sentence(&reference, Some(&other)).is_err(), "{kind}");
    }
    let scaler = by_kind("ScaledObject").unwrap();
    let mut own = own("ScaledObject");
    own["spec"]["scaleTargetRef"] = json!({"name": "web"});
    assert_eq!(
        sentence(&reference(scaler), Some(&own)),
        Ok(()),
        "a ScaledObject that names no kind means a Deployment"
    );
    let queries = BTreeMap::from([("reqests".to_owned(), "q".to_owned())]);
    let typo = sentence(&Reference { queries, ..reference(scaler) }, Some(&own)).unwrap_err();
    assert!(typo.contains("has no trigger reqests; write one of: requests"), "{typo}");
    let unserved = Misfit::Unserved { kind: scaler.kind(), needs: scaler.needs() }.to_string();
    assert!(unserved.contains("install KEDA and restart Serin"), "{unserved}");
}

#[test]
fn a_kind_is_called_as_the_api_server_calls_it() {
    let names: Vec<_> = all().map(newest).map(|it| format!("{} {}", it.plural, it.api_version)).collect();
    assert_eq!(names, ["horizontalpodautoscalers autoscaling/v2", "scaledobjects keda.sh/v1alpha1"]);
}
