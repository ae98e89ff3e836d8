//! Laws that hold for every mesh in the registry.

use super::{App, Mesh, Route, all};
use crate::domain::{Routing, Split, Traffic, Weight};
use serde_json::{Value, json};

fn app() -> App {
    App {
        namespace: "shop".into(),
        name: "web".into(),
        port: 80,
        route: Route { gateways: vec![json!({"name": "gw"})], ..Route::default() },
        owner: json!({"apiVersion": "serin.dev/v1beta1", "kind": "Canary", "name": "web", "uid": "u-1", "controller": true}),
    }
}

/// What a user may have before Serin comes, for each mesh: the first is nothing at all.
fn found(provider: &str) -> Vec<Vec<Option<Value>>> {
    match provider {
        "gatewayapi:v1" => vec![vec![None], vec![Some(users_route())]],
        other => panic!("add what a user of {other} may have before Serin comes"),
    }
}

fn users_route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop", "annotations": {"team": "blue"}},
        "spec": {"parentRefs": [{"name": "gw"}], "x-unknown": {"kept": true}, "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/api"}}],
             "filters": [{"type": "RequestHeaderModifier"}],
             "backendRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80, "weight": 1, "filters": [{"x": 1}]}]},
            {"backendRefs": [{"name": "legacy", "port": 80}, {"name": "web", "namespace": "elsewhere", "port": 80}]},
            {"filters": [{"type": "RequestRedirect"}]},
        ]},
    })
}

fn weights() -> impl Iterator<Item = Weight> {
    (0..=100).filter_map(|percent| Weight::try_from(percent).ok())
}

fn shown(mesh: &dyn Mesh, objects: &[Option<Value>]) -> Option<Weight> {
    match mesh.observe(&app(), objects) {
        Routing::Split(weight, _) => Some(weight),
        Routing::Missing | Routing::Whole(_) | Routing::Mixed | Routing::Unusable(_) => None,
    }
}

#[test]
fn what_is_rendered_is_what_is_observed() {
    for (provider, mesh) in all() {
        for found in found(provider) {
            for weight in weights() {
                let rendered = mesh.render(&app(), Traffic::Split(Split::of(weight)), &found);
                assert_eq!(shown(mesh, &rendered), Some(weight), "{provider}");
            }
        }
    }
}

#[test]
fn rendering_again_changes_nothing() {
    for (provider, mesh) in all() {
        for found in found(provider) {
            for traffic in [
                Traffic::Untouched,
                Traffic::Split(Split::of(Weight::ZERO)),
                Traffic::Split(Split::of(Weight::FULL)),
                Traffic::Target,
            ] {
                let once = mesh.render(&app(), traffic, &found);
                assert_eq!(mesh.render(&app(), traffic, &once), once, "{provider} {traffic:?}");
            }
        }
    }
}

#[test]
fn a_weight_can_follow_any_other() {
    for (provider, mesh) in all() {
        for found in found(provider) {
            let mut objects = found;
            for weight in weights().chain([Weight::ZERO]) {
                objects = mesh.render(&app(), Traffic::Split(Split::of(weight)), &objects);
                assert_eq!(shown(mesh, &objects), Some(weight), "{provider}");
            }
        }
    }
}

#[test]
fn handing_back_restores_what_was_found() {
    for (provider, mesh) in all() {
        for found in found(provider).into_iter().filter(|found| found.iter().all(Option::is_some)) {
            let split = mesh.render(&app(), Traffic::Split(Split::of(Weight::FULL)), &found);
            assert_ne!(split, found, "{provider}");
            assert_eq!(mesh.render(&app(), Traffic::Target, &split), found, "{provider}");
        }
    }
}

#[test]
fn what_is_not_ours_is_unchanged() {
    let (_, mesh) = all().find(|(provider, _)| *provider == "gatewayapi:v1").unwrap();
    let rendered = mesh.render(&app(), Traffic::Split(Split::of(Weight::ZERO)), &[Some(users_route())]);
    let rendered = rendered[0].clone().unwrap();
    let original = users_route();
    assert_eq!(rendered["metadata"], original["metadata"]);
    assert_eq!(rendered["spec"]["x-unknown"], original["spec"]["x-unknown"]);
    assert_eq!(rendered["spec"]["rules"][1], original["spec"]["rules"][1]);
    assert_eq!(rendered["spec"]["rules"][2], original["spec"]["rules"][2]);
    assert_eq!(rendered["spec"]["rules"][0]["filters"], original["spec"]["rules"][0]["filters"]);
    let canary = &rendered["spec"]["rules"][0]["backendRefs"][1];
    assert_eq!(
        *canary,
        json!({"group": "", "kind": "Service", "name": "web-canary", "port": 80, "weight": 0, "filters": [{"x": 1}]})
    );
}

#[test]
fn a_route_that_cannot_be_split_says_what_to_write() {
    let (_, mesh) = all().find(|(provider, _)| *provider == "gatewayapi:v1").unwrap();
    let sentence = |app: &App, found: Option<Value>| match mesh.observe(app, &[found]) {
        Routing::Unusable(why) => why,
        other => panic!("{other:?}"),
    };
    let lost = App { route: Route::default(), ..app() };
    assert!(sentence(&lost, None).contains("write gatewayRefs"));
    let other_port = App { port: 8080, ..app() };
    assert!(sentence(&other_port, Some(users_route())).contains("write the same port in both"));
    let mut shared = users_route();
    shared["spec"]["rules"][1]["backendRefs"][1]["namespace"] = "shop".into();
    assert!(sentence(&app(), Some(shared)).contains("a rule of its own"));
    let mut foreign = users_route();
    foreign["spec"]["rules"] = json!([{"backendRefs": [{"name": "legacy", "port": 80}]}]);
    assert!(sentence(&app(), Some(foreign)).contains("{name: web, port: 80}"));
}

#[test]
fn weights_that_somebody_changed_are_seen() {
    let (_, mesh) = all().find(|(provider, _)| *provider == "gatewayapi:v1").unwrap();
    let mut rendered = mesh.render(&app(), Traffic::Split(Split::of(Weight::FULL)), &[Some(users_route())]);
    rendered[0].as_mut().unwrap()["spec"]["rules"][0]["backendRefs"][0]["weight"] = 7.into();
    assert_eq!(mesh.observe(&app(), &rendered), Routing::Mixed);
}
