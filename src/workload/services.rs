//! The Services: `<name>` for the app's clients, `<name>-primary` and `<name>-canary` for the route.
//!
//! A Service `<name>` that exists is the user's: only its selector is changed, and remembered in an annotation.

use super::{App, Labels, Selector};
use crate::domain::{Traffic, Weight};
use crate::object;
use serde_json::{Value, json};

/// Remembers the selector of a Service that was there before.
const ORIGINAL: &str = "serin.dev/original-selector";

/// `<name>-primary` and `<name>-canary`, each beginning from what was found.
#[must_use]
pub fn versions(app: &App, selector: &Selector, found: [Option<&Value>; 2]) -> [Value; 2] {
    let [primary, canary] = found;
    let make = |found, suffix: &str, value: String, labels| {
        own(app, found, &format!("{}-{suffix}", app.service), json!({selector.key.clone(): value}), labels)
    };
    [
        make(primary, "primary", selector.primary(), &app.metadata.primary),
        make(canary, "canary", selector.value.clone(), &app.metadata.canary),
    ]
}

/// `<name>`, leading where `traffic` says: to the primary while there is one, and to the canary only where no route splits
/// the traffic, and only with all of it.
#[must_use]
pub fn apex(app: &App, selector: &Selector, traffic: Traffic, found: Option<&Value>) -> Value {
    let primary = json!({selector.key.clone(): selector.primary()});
    let target = json!({selector.key.clone(): selector.value});
    let switched = matches!(traffic, Traffic::Split(to) if app.switches && to.weight == Weight::FULL);
    let wanted = match traffic {
        Traffic::Split(_) if !switched => &primary,
        Traffic::Split(_) | Traffic::Untouched | Traffic::Target => &target,
    };
    let users = found.filter(|found| !app.owns(found));
    let mut service = match (traffic, users) {
        (_, None) => own(app, found, &app.service, wanted.clone(), &app.metadata.apex),
        (Traffic::Untouched, Some(users)) => users.clone(),
        (Traffic::Split(_), Some(users)) => adopted(users, wanted, &primary),
        (Traffic::Target, Some(users)) => given_back(users),
    };
    object::set_switched(&mut service, switched);
    service
}

/// Whether the Service leads to the primary.
#[must_use]
pub fn on_primary(selector: &Selector, service: Option<&Value>) -> bool {
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

fn given_back(users: &Value) -> Value {
    let mut service = users.clone();
    let annotations = service.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(annotations) = annotations else { return service };
    let original = annotations.remove(ORIGINAL).and_then(|text| serde_json::from_str(text.as_str()?).ok());
    if annotations.is_empty()
        && let Some(metadata) = service["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    if let Some(original) = original {
        object::set(&mut service, &["spec", "selector"], original);
    }
    service
}

fn own(app: &App, found: Option<&Value>, name: &str, selector: Value, labels: &Labels) -> Value {
    let mut service = found.cloned().unwrap_or_else(
        || json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": app.namespace}}),
    );
    object::own(&mut service, &app.owner);
    object::set_metadata(&mut service, "labels", pairs(&labels.labels));
    object::set_metadata(&mut service, "annotations", pairs(&labels.annotations));
    object::set(&mut service, &["spec", "selector"], selector);
    let ports = json!([app.port]);
    if !object::get(&service, &["spec", "ports"]).is_some_and(|found| object::covers(found, &ports)) {
        object::set(&mut service, &["spec", "ports"], ports);
    }
    service
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
            metadata: ServiceMetadata::default(),
            switches: false,
            labelling: crate::workload::Labelling::default(),
            owner: json!({"uid": "u-1"}),
        }
    }

    fn selector() -> Selector {
        Selector { key: "app".into(), value: "web".into() }
    }

    fn users() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 8080}], "selector": {"app": "web", "tier": "front"}}})
    }

    #[test]
    fn a_users_service_gets_its_selector_back() {
        let split = apex(&app(), &selector(), Traffic::Split(Split::of(Weight::ZERO)), Some(&users()));
        assert!(on_primary(&selector(), Some(&split)));
        assert_eq!(split["spec"]["ports"], users()["spec"]["ports"]);
        assert_eq!(
            apex(&app(), &selector(), Traffic::Split(Split::of(Weight::FULL)), Some(&split)),
            split,
            "again changes nothing"
        );
        assert_eq!(apex(&app(), &selector(), Traffic::Target, Some(&split)), users());
    }

    #[test]
    fn without_a_route_the_service_itself_moves_all_at_once_and_back() {
        let app = App { switches: true, ..app() };
        let to = |percent, found: &Value| {
            let weight = Weight::try_from(percent).unwrap();
            apex(&app, &selector(), Traffic::Split(Split::of(weight)), Some(found))
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
            assert_eq!(apex(&app, &selector(), Traffic::Target, Some(&split)), users());
        }
        let routed = App { switches: false, ..app.clone() };
        let repaired = apex(&routed, &selector(), Traffic::Split(Split::of(Weight::FULL)), Some(&on_canary));
        assert_eq!(repaired, to(0, &users()), "with a route the Service stays on the primary");
    }

    #[test]
    fn nothing_is_touched_before_the_primary_is_there() {
        assert_eq!(apex(&app(), &selector(), Traffic::Untouched, Some(&users())), users());
    }

    #[test]
    fn own_services_select_one_version_each() {
        let [primary, canary] = versions(&app(), &selector(), [None, None]);
        assert_eq!(primary["spec"]["selector"], json!({"app": "web-primary"}));
        assert_eq!(canary["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(versions(&app(), &selector(), [Some(&primary), Some(&canary)]), [primary, canary]);
        assert!(!on_primary(&selector(), None));
    }
}
