//! Laws that hold for every kind of workload in the registry.

use super::{App, Error, Labelling, Replicas, Selector, ServiceMetadata, ServiceShape, Wanted, Workload, all};
use crate::domain::{Percent, Pods, Revision, Scale, Traffic};
use serde_json::{Value, json};

pub(super) fn app() -> App {
    App {
        namespace: "shop".into(),
        canary: "web".into(),
        target: "web".into(),
        service: "web".into(),
        port: json!({"name": "http", "port": 80}),
        shape: ServiceShape::default(),
        metadata: ServiceMetadata::default(),
        switches: false,
        labelling: Labelling::default(),
        owner: json!({"uid": "u-1"}),
    }
}

/// What a user of each kind has, with everything in it that means the app itself.
fn target(kind: &str) -> Value {
    let own = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
    let (spec, status) = match kind {
        "Deployment" => (
            json!({"replicas": 3, "strategy": {"type": "RollingUpdate"}}),
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
        ),
        "DaemonSet" => (
            json!({"updateStrategy": {"type": "RollingUpdate"}}),
            json!({
                "observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "updatedNumberScheduled": 3, "numberAvailable": 3,
            }),
        ),
        "Service" => return service(),
        other => panic!("add what a user of {other} has"),
    };
    let mut target = json!({
        "apiVersion": "apps/v1", "kind": kind, "status": status, "spec": spec,
        "metadata": {
            "name": "web", "namespace": "shop", "generation": 2, "resourceVersion": "7", "uid": "u-2",
            "labels": {"app": "web", "team": "blue"}, "annotations": {"example.com/owner": "ann"},
        },
    });
    target["spec"]["selector"] = json!({"matchLabels": {"app": "web", "tier": "front"}});
    target["spec"]["template"] = json!({
        "metadata": {"labels": {"app": "web", "tier": "front"}, "annotations": {"example.com/note": "web"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [own]}},
            "topologySpreadConstraints": [own],
            "containers": [{"name": "web", "image": "web:1", "args": ["web"]}],
        },
    });
    target
}

/// The same for a Service, with all that an API server adds.
fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "status": {"loadBalancer": {}},
        "metadata": {
            "name": "web", "namespace": "shop", "resourceVersion": "7", "uid": "u-2",
            "labels": {"app": "web", "team": "blue"}, "annotations": {"example.com/owner": "ann"},
        },
        "spec": {
            "type": "NodePort", "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "sessionAffinity": "None",
            "selector": {"app": "web", "version": "v1"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 30080}],
        },
    })
}

/// Each kind that has pods of its own, with a target of it.
fn with_pods() -> impl Iterator<Item = (&'static str, &'static dyn Workload, Value)> {
    kinds().filter(|(_, workload, _)| workload.counted_by().is_none())
}

/// Each kind, with a target of it.
fn kinds() -> impl Iterator<Item = (&'static str, &'static dyn Workload, Value)> {
    all().map(|(kind, workload)| (kind, workload, target(kind)))
}

fn primary(workload: &dyn Workload, app: &App, target: &Value, found: Option<&Value>) -> Value {
    let recorded = workload.template(target).into_owned();
    let wanted =
        Wanted { revision: &Revision("abc".into()), template: Some(&recorded), replicas: Replicas::Exactly(3) };
    workload.primary(app, target, found, wanted).unwrap()
}

#[test]
fn a_kind_is_called_what_it_is() {
    for (kind, workload, _) in kinds() {
        assert_eq!(workload.resource().kind, kind);
    }
}

#[test]
fn the_primary_of_the_primary_is_unchanged() {
    for (kind, workload, target) in kinds() {
        let included = Labelling { included: vec!["*".into()], ..Labelling::default() };
        for app in [app(), App { labelling: included, ..app() }] {
            let made = primary(workload, &app, &target, None);
            assert_eq!(primary(workload, &app, &target, Some(&made)), made, "{kind}");
            let wanted = Wanted { revision: &Revision("abc".into()), template: None, replicas: Replicas::Exactly(3) };
            assert_eq!(workload.primary(&app, &target, Some(&made), wanted), Ok(made), "{kind}: without a record");
        }
    }
}

#[test]
fn what_the_api_server_adds_to_a_primary_stays() {
    for (kind, workload, target) in kinds() {
        let mut made = primary(workload, &app(), &target, None);
        made["metadata"]["annotations"]["somebody"] = "else".into();
        made["spec"]["template"]["spec"]["restartPolicy"] = "Always".into();
        made["status"] = target["status"].clone();
        assert_eq!(primary(workload, &app(), &target, Some(&made)), made, "{kind}");
    }
}

#[test]
fn the_primarys_template_is_the_record_but_for_the_rename() {
    for (kind, workload, target) in with_pods() {
        let made = primary(workload, &app(), &target, None);
        let recorded = workload.template(&target).to_string();
        // Only labels and label selectors say it like this.
        let renamed = recorded.replace(r#""app":"web""#, r#""app":"web-primary""#);
        assert_ne!(recorded, renamed);
        assert_eq!(made["spec"]["template"].to_string(), renamed, "{kind}");
        let selector = workload.selector(&app(), &target).unwrap();
        assert_eq!(workload.original(&made, &selector).to_string(), recorded, "{kind}: and back");
    }
}

#[test]
fn a_primary_is_found_by_its_own_label_and_has_its_owner() {
    for (kind, workload, target) in with_pods() {
        let made = primary(workload, &app(), &target, None);
        assert_eq!(made["spec"]["selector"]["matchLabels"], json!({"app": "web-primary"}), "{kind}");
        assert_eq!(made["metadata"]["ownerReferences"], json!([{"uid": "u-1"}]), "{kind}");
        assert_eq!(made["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"], "disabled", "{kind}");
    }
}

#[test]
fn labels_of_the_target_follow_when_they_are_included() {
    for (kind, workload, target) in kinds() {
        let labelling = Labelling { included: vec!["team".into(), "example.com/".into()], ..Labelling::default() };
        let app = App { labelling, ..app() };
        let made = primary(workload, &app, &target, None);
        assert_eq!(made["metadata"]["labels"]["team"], "blue", "{kind}");
        let renamed = workload.counted_by().is_none().then_some("web-primary");
        assert_eq!(made["metadata"]["labels"]["app"].as_str(), renamed, "{kind}");
        assert_eq!(made["metadata"]["annotations"]["example.com/owner"], "ann", "{kind}");
        let mut changed = target.clone();
        changed["metadata"]["labels"] = json!({"app": "web"});
        let followed = primary(workload, &app, &changed, Some(&made));
        assert_eq!(followed["metadata"]["labels"]["team"], Value::Null, "{kind}");
        assert_eq!(followed["spec"], made["spec"], "{kind}: labels of the target are no reason to restart pods");
    }
}

#[test]
fn stopping_and_starting_restores_the_object() {
    for (kind, workload, target) in with_pods() {
        let mut bare = target.clone();
        bare["spec"]["template"]["spec"].as_object_mut().unwrap().remove("nodeSelector");
        for target in [target, bare] {
            assert!(workload.replicas(&target) > 0, "{kind}");
            let stopped = workload.scaled(&target, Scale::Zero);
            assert_eq!(workload.replicas(&stopped), 0, "{kind}");
            let started = workload.scaled(&stopped, Scale::AtLeast(3));
            assert_eq!(started.to_string(), target.to_string(), "{kind}");
        }
    }
}

#[test]
fn scaling_is_no_new_version_and_changes_nothing_twice() {
    for (kind, workload, target) in kinds() {
        let stopped = workload.scaled(&target, Scale::Zero);
        assert_eq!(workload.template(&stopped), workload.template(&target), "{kind}");
        assert_eq!(primary(workload, &app(), &stopped, None), primary(workload, &app(), &target, None), "{kind}");
        for (object, scale) in [
            (&target, Scale::Keep),
            (&stopped, Scale::Keep),
            (&stopped, Scale::Zero),
            (&target, Scale::AtLeast(1)),
            (&target, Scale::AtLeast(9)),
        ] {
            assert_eq!(workload.scaled(object, scale), *object, "{kind} {scale:?}");
        }
    }
}

#[test]
fn what_cannot_be_rolled_out_says_what_to_write() {
    for (kind, workload, target) in with_pods() {
        assert_eq!(workload.supported(&target), Ok(()), "{kind}");
        let mut odd = target.clone();
        let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
        match kind {
            "DaemonSet" => odd["spec"]["template"]["spec"]["containers"][0]["ports"] = ports,
            _ => odd["spec"]["strategy"]["type"] = "Recreate".into(),
        }
        odd["spec"]["selector"]["matchLabels"] = json!({"tier": "front"});
        let sentence = |refusal: Result<(), Error>| refusal.unwrap_err().to_string();
        let refusals = [sentence(workload.supported(&odd)), sentence(workload.selector(&app(), &odd).map(drop))];
        let says = |what: &str| refusals.iter().any(|refusal| refusal.contains(what));
        assert!(refusals.iter().all(|refusal| refusal.starts_with(&format!("{kind} web: "))), "{refusals:?}");
        assert!(says("app, name, app.kubernetes.io/name") && says("--selector-labels"), "{refusals:?}");
        assert!(says("write RollingUpdate") || says("remove hostPort"), "{refusals:?}");
    }
    let (_, workload) = all().find(|(kind, _)| *kind == "DaemonSet").unwrap();
    let mut odd = target("DaemonSet");
    odd["spec"]["updateStrategy"]["type"] = "OnDelete".into();
    assert!(workload.supported(&odd).unwrap_err().to_string().contains("write RollingUpdate"));
}

#[test]
fn the_first_label_that_is_there_tells_the_versions_apart() {
    for (kind, workload, mut target) in with_pods() {
        let selectors = vec!["team".into(), "tier".into(), "app".into()];
        let app = App { labelling: Labelling { selectors, ..Labelling::default() }, ..app() };
        let tier = Selector { key: "tier".into(), value: "front".into() };
        assert_eq!(workload.selector(&app, &target), Ok(tier), "{kind}");
        target["spec"]["selector"]["matchLabels"]["team"] = "blue".into();
        assert_eq!(workload.selector(&app, &target).unwrap().key, "team", "{kind}");
    }
}

// ---- Services as targets ----

fn counted(service: &Value, version: Option<&str>, ready: usize, waiting: usize) -> Pods {
    let (_, workload) = all().find(|(kind, _)| *kind == "Service").unwrap();
    let addresses = |count: usize| vec![json!({"ip": "10.0.0.1"}); count];
    let endpoints = json!({
        "metadata": {"labels": {"serin.dev/revision": version}},
        "subsets": [{"addresses": addresses(ready), "notReadyAddresses": addresses(waiting)}],
    });
    workload.counted(service, Some(&endpoints))
}

#[test]
fn what_goes_to_a_service_is_recorded_without_what_the_api_server_chose() {
    let (_, workload) = all().find(|(kind, _)| *kind == "Service").unwrap();
    let recorded = workload.template(&service()).into_owned();
    let port = json!({"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"});
    assert_eq!(recorded, json!({"selector": {"app": "web", "version": "v1"}, "ports": [port]}));
    let mut bare = service();
    bare["spec"]["ports"] = json!([{"name": "http", "port": 8080}]);
    let mut full = bare.clone();
    full["spec"]["ports"] = json!([{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]);
    assert_eq!(workload.template(&bare), workload.template(&full), "defaults are no new version");
    assert_eq!(workload.generation(&bare), workload.generation(&full));
    assert_ne!(workload.generation(&bare), workload.generation(&service()));
    assert!(workload.generation(&json!({})) > 0, "0 means something else");
}

#[test]
fn the_services_of_a_service_lead_where_the_versions_led() {
    let (_, workload) = all().find(|(kind, _)| *kind == "Service").unwrap();
    let selector = workload.selector(&app(), &service()).unwrap();
    let mut target = service();
    target["spec"]["selector"]["version"] = "v2".into();
    target["spec"]["sessionAffinity"] = "ClientIP".into();
    let recorded = workload.template(&service()).into_owned();
    let wanted =
        Wanted { revision: &Revision("abc".into()), template: Some(&recorded), replicas: Replicas::Exactly(3) };
    let primary = workload.primary(&app(), &target, None, wanted).unwrap();
    let [none, canary] = workload.services(&app(), &selector, &target, [None, None]);
    let canary = canary.unwrap();
    assert_eq!(none, None, "the primary is made elsewhere");
    assert_eq!(
        workload.apex(&app(), &selector, &target, Traffic::Target, Some(&target)),
        None,
        "the target is the user's"
    );
    for (made, name, version) in [(&primary, "web-primary", "v1"), (&canary, "web-canary", "v2")] {
        assert_eq!(made["metadata"]["name"], name);
        assert_eq!(made["spec"]["selector"], json!({"app": "web", "version": version}));
        assert_eq!(made["spec"]["sessionAffinity"], "ClientIP", "this is no part of a version");
        for chosen in ["clusterIP", "clusterIPs", "type"] {
            assert_eq!(made["spec"].get(chosen), None);
        }
        assert_eq!(made["spec"]["ports"][0].get("nodePort"), None);
    }
    assert_eq!(workload.original(&primary, &selector), recorded);
    let again = workload.services(&app(), &selector, &target, [None, Some(&canary)]);
    assert_eq!(again, [None, Some(canary)]);
}

#[test]
fn endpoints_count_for_the_version_that_they_name() {
    let (_, workload) = all().find(|(kind, _)| *kind == "Service").unwrap();
    let selector = workload.selector(&app(), &service()).unwrap();
    let [_, canary] = workload.services(&app(), &selector, &service(), [None, None]);
    let named = canary.unwrap()["metadata"]["labels"]["serin.dev/revision"].clone();
    let named = named.as_str();
    let good = Pods { wanted: 3, updated: 3, available: 3, total: 3, current: true };
    assert_eq!(counted(&service(), named, 3, 0), good);
    assert_eq!(counted(&service(), named, 2, 1), Pods { available: 2, ..good });
    assert!(!counted(&service(), named, 0, 0).ready(Percent::ALL), "nobody is there");
    assert!(!counted(&service(), None, 3, 0).current);
    let mut changed = service();
    changed["spec"]["selector"]["version"] = "v2".into();
    assert!(!counted(&changed, named, 3, 0).current, "these are the pods of before");
    assert!(!workload.counted(&service(), None).current);
}

#[test]
fn a_service_that_leads_nowhere_says_what_to_write() {
    let (_, workload) = all().find(|(kind, _)| *kind == "Service").unwrap();
    let mut without = service();
    without["spec"].as_object_mut().unwrap().remove("selector");
    let refusal = workload.selector(&app(), &without).unwrap_err().to_string();
    assert_eq!(refusal, "Service web: it has no spec.selector, so it has no pods that could be rolled out; write one");
    let mut other = service();
    other["spec"]["ports"][0]["port"] = 81.into();
    let refusal = workload.selector(&app(), &other).unwrap_err().to_string();
    assert_eq!(refusal, "Service web has no port 80; write one of its own in service.port: 81");
}

#[test]
fn nobodys_pods_are_scaled_for_a_service() {
    let (_, workload) = all().find(|(kind, _)| *kind == "Service").unwrap();
    for scale in [Scale::Zero, Scale::Keep, Scale::AtLeast(3)] {
        assert_eq!(workload.scaled(&service(), scale), service());
    }
}
