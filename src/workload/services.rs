//! The Services: `<name>` for the app's clients, `<name>-primary` and `<name>-canary` for the route.
//!
//! A Service `<name>` that exists is the user's: only its selector is changed, and remembered in an annotation.

use super::{App, Labels, Selector, ServiceMetadata, ServiceShape};
use crate::domain::{Traffic, Weight};
use crate::object;
use serde_json::{Value, json};

/// Remembers the selector of a Service that was there before.
const ORIGINAL: &str = "serin.dev/original-selector";

/// The label that marks what Serin made.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// `<name>-primary` and `<name>-canary`, each beginning from what was found.
pub(super) fn versions(app: &App, selector: &Selector, target: &Value, found: [Option<&Value>; 2]) -> [Value; 2] {
    let [primary, canary] = found;
    let make = |found, suffix: &str, value: String, labels| {
        let name = format!("{}-{suffix}", app.service);
        own(app, found, &name, json!({selector.key.clone(): value}), &ports(app, target), labels)
    };
    [
        make(primary, "primary", selector.primary(), &app.metadata.primary),
        make(canary, "canary", selector.value.clone(), &app.metadata.canary),
    ]
}

/// `<name>`, leading where `traffic` says: to the primary while there is one, and to the canary only where no route splits
/// the traffic, and only with all of it.
pub(super) fn apex(app: &App, selector: &Selector, target: &Value, traffic: Traffic, found: Option<&Value>) -> Value {
    let primary = json!({selector.key.clone(): selector.primary()});
    let canary = json!({selector.key.clone(): selector.value});
    let switched = matches!(traffic, Traffic::Split(to) if app.switches && to.weight == Weight::FULL);
    let wanted = match traffic {
        Traffic::Split(_) if !switched => &primary,
        Traffic::Split(_) | Traffic::Untouched | Traffic::Target => &canary,
    };
    let users = found.filter(|found| !app.owns(found));
    let mut service = match (traffic, users) {
        (_, None) => own(app, found, &app.service, wanted.clone(), &ports(app, target), &app.metadata.apex),
        (Traffic::Untouched, Some(users)) => users.clone(),
        (Traffic::Split(_), Some(users)) => adopted(users, wanted, &primary),
        (Traffic::Target, Some(users)) => given_back(users, wanted, &primary),
    };
    object::set_switched(&mut service, switched);
    service
}

/// Whether the Service leads to the primary.
pub(super) fn on_primary(selector: &Selector, service: Option<&Value>) -> bool {
    let selected = service.and_then(|service| object::get(service, &["spec", "selector", &selector.key]));
    selected.and_then(Value::as_str) == Some(selector.primary().as_str())
}

fn adopted(users: &Value, wanted: &Value, primary: &Value) -> Value {
    let mut service = users.clone();
    let original = object::get(users, &["spec", "selector"]).cloned().unwrap_or_default();
    if object::get(users, &["metadata", "annotations", ORIGINAL]).is_none() && original != *primary {
        object::set_metadata(&mut service, "annotations", [(ORIGINAL, original.to_string().as_str())]);
    }
    object::set(&mut service, &["spec", "selector"], wanted.clone());
    service
}

fn given_back(users: &Value, target: &Value, primary: &Value) -> Value {
    let original = object::get(users, &["metadata", "annotations", ORIGINAL]);
    let original = original.and_then(|text| serde_json::from_str(text.as_str()?).ok());
    // One that a Canary before has left on the primary has no other to go back to, and the primary goes.
    let is_left = || object::get(users, &["spec", "selector"]) == Some(primary);
    let mut service = users.clone();
    object::remove_metadata(&mut service, "annotations", &[ORIGINAL]);
    if let Some(selector) = original.or_else(|| is_left().then(|| target.clone())) {
        object::set(&mut service, &["spec", "selector"], selector);
    }
    service
}

/// A Service of Serin's own, beginning from what was found.
pub(super) fn own(
    app: &App,
    found: Option<&Value>,
    name: &str,
    selector: Value,
    ports: &Value,
    labels: &Labels,
) -> Value {
    let ServiceShape { headless, port_discovery: _, traffic_distribution } = app.shape;
    let mut service = found.cloned().unwrap_or_else(|| {
        let mut service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": app.namespace}});
        // The address of one that exists cannot change.
        if headless {
            object::set(&mut service, &["spec", "clusterIP"], "None".into());
        }
        service
    });
    object::own(&mut service, &app.owner);
    object::set_metadata(&mut service, "labels", pairs(&labels.labels));
    object::set_metadata(&mut service, "annotations", pairs(&labels.annotations));
    object::set(&mut service, &["spec", "selector"], selector);
    if !object::get(&service, &["spec", "ports"]).is_some_and(|found| object::covers(found, ports)) {
        object::set(&mut service, &["spec", "ports"], ports.clone());
    }
    match (traffic_distribution, service.pointer_mut("/spec").and_then(Value::as_object_mut)) {
        (Some(wanted), Some(spec)) => drop(spec.insert("trafficDistribution".to_owned(), wanted.into())),
        (None, Some(spec)) => drop(spec.remove("trafficDistribution")),
        (_, None) => {}
    }
    leave_unmanaged(app, found, &mut service);
    service
}

/// Puts labels and annotations that belong to somebody else back to what was found. By its own mark Serin finds its
/// objects again, so that one is never anybody else's.
fn leave_unmanaged(app: &App, found: Option<&Value>, service: &mut Value) {
    let ServiceMetadata { unmanaged_labels, unmanaged_annotations, .. } = &app.metadata;
    for (kind, keys) in [("labels", unmanaged_labels), ("annotations", unmanaged_annotations)] {
        for key in keys.iter().filter(|key| **key != MANAGED_BY) {
            match found.and_then(|found| object::get(found, &["metadata", kind, key])) {
                Some(before) => object::set(service, &["metadata", kind, key], before.clone()),
                None => object::remove_metadata(service, kind, &[key]),
            }
        }
    }
}

/// The ports of the three Services: the app's own and, if they are to be discovered, all others of the target's
/// containers.
fn ports(app: &App, target: &Value) -> Value {
    let mut ports = vec![app.port.clone()];
    if app.shape.port_discovery {
        let containers = object::get(target, &["spec", "template", "spec", "containers"]).and_then(Value::as_array);
        let apps = containers.into_iter().flatten().filter(|container| !is_sidecar(container));
        let others = apps.filter_map(|container| container.get("ports")?.as_array()).flatten();
        for port in others.filter(|port| !is_own_port(app, port)).filter_map(discovered) {
            let same = |other: &Value| {
                let number = other["port"] == port["port"] && other["protocol"] == port["protocol"];
                number || other["name"] == port["name"]
            };
            if !ports.iter().any(same) {
                ports.push(port);
            }
        }
    }
    ports.into()
}

/// Containers of meshes, whose ports are not the app's.
fn is_sidecar(container: &Value) -> bool {
    matches!(container["name"].as_str(), Some("istio-proxy" | "envoy"))
}

/// Whether a port of a container is the one that the app's Service leads to.
fn is_own_port(app: &App, port: &Value) -> bool {
    let target = app.port.get("targetPort").unwrap_or(&app.port["port"]);
    port["containerPort"] == *target || (!target.is_null() && port["name"] == *target)
}

/// A port of a container, as one of a Service.
fn discovered(port: &Value) -> Option<Value> {
    let number = port.get("containerPort")?.as_i64()?;
    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
    let unnamed = || format!("{}-{number}", protocol.to_lowercase());
    let name = port.get("name").and_then(Value::as_str).map_or_else(unnamed, str::to_owned);
    Some(json!({"name": name, "port": number, "targetPort": number, "protocol": protocol}))
}

fn pairs(map: &std::collections::BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    map.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Split;
    use crate::workload::ServiceMetadata;

    fn app() -> App {
        App {
            namespace: "shop".into(),
            canary: "web".into(),
            target: "web".into(),
            service: "web".into(),
            port: json!({"name": "http", "port": 80, "targetPort": "http"}),
            shape: ServiceShape::default(),
            metadata: ServiceMetadata::default(),
            switches: false,
            labelling: crate::workload::Labelling::default(),
            owner: json!({"uid": "u-1"}),
        }
    }

    fn selector() -> Selector {
        Selector { key: "app".into(), value: "web".into() }
    }

    fn target() -> Value {
        let port = |name: Option<&str>, number: u16| json!({"name": name, "containerPort": number});
        let metrics = json!({"containerPort": 9797, "protocol": "UDP"});
        json!({"spec": {"template": {"spec": {"containers": [
            {"name": "web", "ports": [port(Some("http"), 8080), port(Some("grpc"), 9999), port(None, 8081), metrics]},
            {"name": "istio-proxy", "ports": [port(Some("envoy"), 15090)]},
            {"name": "envoy", "ports": [port(None, 9901)]},
            {"name": "cache", "ports": [port(Some("grpc"), 9998), port(None, 8081), port(None, 6379)]},
        ]}}}})
    }

    fn users() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 8080}], "selector": {"app": "web", "tier": "front"}}})
    }

    #[test]
    fn a_users_service_gets_its_selector_back() {
        let split = apex(&app(), &selector(), &target(), Traffic::Split(Split::of(Weight::ZERO)), Some(&users()));
        assert!(on_primary(&selector(), Some(&split)));
        assert_eq!(split["spec"]["ports"], users()["spec"]["ports"]);
        assert_eq!(
            apex(&app(), &selector(), &target(), Traffic::Split(Split::of(Weight::FULL)), Some(&split)),
            split,
            "again changes nothing"
        );
        assert_eq!(apex(&app(), &selector(), &target(), Traffic::Target, Some(&split)), users());
    }

    #[test]
    fn without_a_route_the_service_itself_moves_all_at_once_and_back() {
        let app = App { switches: true, ..app() };
        let to = |percent, found: &Value| {
            let weight = Weight::try_from(percent).unwrap();
            apex(&app, &selector(), &target(), Traffic::Split(Split::of(weight)), Some(found))
        };
        let on_canary = to(100, &to(0, &users()));
        assert_eq!(on_canary["spec"]["selector"], json!({"app": "web"}));
        assert!(object::is_switched(&on_canary));
        assert_eq!(to(100, &on_canary), on_canary, "again changes nothing");
        for percent in [0, 1, 99] {
            assert!(on_primary(&selector(), Some(&to(percent, &on_canary))), "there is no part of a Service");
            assert_eq!(to(percent, &on_canary), to(0, &users()));
        }
        for split in [on_canary.clone(), to(0, &on_canary)] {
            assert_eq!(apex(&app, &selector(), &target(), Traffic::Target, Some(&split)), users());
        }
        let routed = App { switches: false, ..app.clone() };
        let repaired = apex(&routed, &selector(), &target(), Traffic::Split(Split::of(Weight::FULL)), Some(&on_canary));
        assert_eq!(repaired, to(0, &users()), "with a route the Service stays on the primary");
    }

    #[test]
    fn nothing_is_touched_before_the_primary_is_there() {
        assert_eq!(apex(&app(), &selector(), &target(), Traffic::Untouched, Some(&users())), users());
    }

    #[test]
    fn own_services_select_one_version_each() {
        let [primary, canary] = versions(&app(), &selector(), &target(), [None, None]);
        assert_eq!(primary["spec"]["selector"], json!({"app": "web-primary"}));
        assert_eq!(canary["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(versions(&app(), &selector(), &target(), [Some(&primary), Some(&canary)]), [primary, canary]);
        assert!(!on_primary(&selector(), None));
    }
    #[test]
    fn other_ports_of_the_containers_are_found() {
        let app = App { shape: ServiceShape { port_discovery: true, ..ServiceShape::default() }, ..app() };
        let made = apex(&app, &selector(), &target(), Traffic::Untouched, None);
        let ports = made["spec"]["ports"].as_array().unwrap().iter();
        let ports: Vec<_> =
            ports.map(|port| format!("{} {} {}", port["name"], port["port"], port["protocol"])).collect();
        // Not the app's own by another name, no sidecar's, no name and no number twice.
        assert_eq!(
            ports,
            [
                r#""http" 80 null"#,
                r#""grpc" 9999 "TCP""#,
                r#""tcp-8081" 8081 "TCP""#,
                r#""udp-9797" 9797 "UDP""#,
                r#""tcp-6379" 6379 "TCP""#
            ]
        );
        let [primary, canary] = versions(&app, &selector(), &target(), [None, None]);
        assert_eq!([&primary["spec"]["ports"], &canary["spec"]["ports"]], [&made["spec"]["ports"]; 2]);
        assert_eq!(apex(&app, &selector(), &target(), Traffic::Untouched, Some(&made)), made, "again changes nothing");
        let by_number = App { port: json!({"name": "web", "port": 80, "targetPort": 8080}), ..app };
        let made = apex(&by_number, &selector(), &target(), Traffic::Untouched, None);
        assert_eq!(made["spec"]["ports"][1]["port"], 9999);
    }

    #[test]
    fn a_service_is_made_without_an_address_and_keeps_the_one_that_it_has() {
        let headless = App { shape: ServiceShape { headless: true, ..ServiceShape::default() }, ..app() };
        let [made, _] = versions(&headless, &selector(), &target(), [None, None]);
        assert_eq!(made["spec"]["clusterIP"], "None");
        let [plain, _] = versions(&app(), &selector(), &target(), [None, None]);
        assert_eq!(plain["spec"]["clusterIP"], Value::Null);
        let mut with_address = plain.clone();
        with_address["spec"]["clusterIP"] = "10.0.0.9".into();
        let [again, _] = versions(&headless, &selector(), &target(), [Some(&with_address), None]);
        assert_eq!(again["spec"]["clusterIP"], "10.0.0.9");
    }

    #[test]
    fn the_traffic_distribution_follows_the_spec() {
        let near = ServiceShape { traffic_distribution: Some("PreferClose"), ..ServiceShape::default() };
        let near = App { shape: near, ..app() };
        let [made, _] = versions(&near, &selector(), &target(), [None, None]);
        assert_eq!(made["spec"]["trafficDistribution"], "PreferClose");
        let [again, _] = versions(&app(), &selector(), &target(), [Some(&made), None]);
        assert_eq!(again["spec"].get("trafficDistribution"), None);
        let mine = apex(&near, &selector(), &target(), Traffic::Split(Split::of(Weight::ZERO)), Some(&users()));
        assert_eq!(mine["spec"].get("trafficDistribution"), None, "a user's own Service keeps what it has");
    }

    #[test]
    fn labels_of_others_are_neither_set_nor_removed() {
        let team = Labels {
            labels: [("team".into(), "blue".into())].into(),
            annotations: [("note".into(), "a".into())].into(),
        };
        let reconcile = "kustomize.toolkit.fluxcd.io/reconcile";
        let metadata = ServiceMetadata {
            primary: team,
            unmanaged_labels: vec!["team".into(), MANAGED_BY.into()],
            unmanaged_annotations: vec!["note".into(), reconcile.into()],
            ..ServiceMetadata::default()
        };
        let app = App { metadata, ..app() };
        let [made, canary] = versions(&app, &selector(), &target(), [None, None]);
        assert_eq!(made["metadata"]["labels"], json!({MANAGED_BY: "serin"}), "by this Serin knows its own");
        assert_eq!(made["metadata"]["annotations"], json!({"helm.toolkit.fluxcd.io/driftDetection": "disabled"}));
        assert_eq!(canary["metadata"]["annotations"][reconcile], Value::Null);
        let mut theirs = made.clone();
        theirs["metadata"]["labels"]["team"] = "red".into();
        theirs["metadata"]["annotations"][reconcile] = "enabled".into();
        let [again, _] = versions(&app, &selector(), &target(), [Some(&theirs), None]);
        assert_eq!(again, theirs);
    }
}
