//! S10: what of an object is the user's, and must be as it was.

use crate::app::{NAME, PRIMARY, text};
use serde_json::{Map, Value};
use serin_testing::{CANARIES, CONFIG_MAPS, Change, DEPLOYMENTS, HTTP_ROUTES, SECRETS, SERVICES};

/// The way to a field.
type Path = &'static [&'static str];

/// What the API server writes by itself.
const SERVERS: [Path; 3] =
    [&["metadata", "resourceVersion"], &["metadata", "generation"], &["metadata", "managedFields"]];

/// What Serin may change in an object of the user's; nothing for one of its own.
fn allowed(change: &Change, object: &Value) -> Option<&'static [Path]> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let made = object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "serin";
    let owned = made || text(object, "/metadata/ownerReferences/0/kind") == "Canary";
    match (change.resource, name) {
        (CANARIES, _) => {
            Some(&[&["metadata", "finalizers"], &["metadata", "annotations", "serin.dev/command"], &["status"]])
        }
        (DEPLOYMENTS, PRIMARY) => None,
        (DEPLOYMENTS, _) => Some(&[&["spec", "replicas"]]),
        (HTTP_ROUTES, NAME) if !owned => Some(&[
            &["spec", "rules", "0", "backendRefs", "0", "name"],
            &["spec", "rules", "0", "backendRefs", "0", "weight"],
            &["spec", "rules", "0", "backendRefs", "1"],
        ]),
        (SERVICES, NAME) if !owned => {
            Some(&[&["spec", "selector"], &["metadata", "annotations", "serin.dev/original-selector"]])
        }
        (HTTP_ROUTES | SERVICES | CONFIG_MAPS | SECRETS, _) if !owned => Some(&[]),
        _ => None,
    }
}

/// A sentence about what was touched that must not be.
pub(super) fn touched(change: &Change) -> Option<String> {
    let before = change.before.as_deref()?;
    let allowed = allowed(change, before)?;
    let name = &before["metadata"]["name"];
    let Some(after) = change.after.as_deref() else {
        let leaves =
            change.resource == CANARIES || before["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "serin";
        return (!leaves).then(|| format!("{} {name} is deleted", change.resource.plural));
    };
    let but: Vec<&[&str]> = SERVERS.iter().chain(allowed).copied().collect();
    (!agree(before, after, &but)).then(|| format!("{} {name} was {before}, and is {after}", change.resource.plural))
}

/// Whether two values are the same but for what is at these places. A map that is not there is an empty one.
fn agree(before: &Value, after: &Value, but: &[&[&str]]) -> bool {
    if but.is_empty() || before == after {
        return before == after;
    }
    let none = Map::new();
    if let (Some(before), Some(after)) = (fields(before, &none), fields(after, &none)) {
        return before
            .keys()
            .chain(after.keys())
            .all(|field| agree_at(field, before.get(field), after.get(field), but));
    }
    let (Some(before), Some(after)) = (before.as_array(), after.as_array()) else { return false };
    let mut places = 0..before.len().max(after.len());
    places.all(|place| agree_at(&place.to_string(), before.get(place), after.get(place), but))
}

fn fields<'value>(value: &'value Value, none: &'value Map<String, Value>) -> Option<&'value Map<String, Value>> {
    if value.is_null() { Some(none) } else { value.as_object() }
}

fn agree_at(field: &str, before: Option<&Value>, after: Option<&Value>, but: &[&[&str]]) -> bool {
    let inside = but.iter().filter_map(|path| path.split_first().filter(|(first, _)| **first == field));
    let inside: Vec<_> = inside.map(|(_, rest)| rest).collect();
    let free = inside.iter().any(|rest| rest.is_empty());
    free || agree(before.unwrap_or(&Value::Null), after.unwrap_or(&Value::Null), &inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_named_may_differ() {
        let but: &[&[&str]] = &[&["spec", "replicas"], &["list", "0", "name"], &["list", "1"], &["notes", "own"]];
        let before = json!({"spec": {"replicas": 1, "image": "a"}, "list": [{"name": "x", "port": 80}]});
        for (after, same) in [
            (json!({"spec": {"replicas": 2, "image": "a"}, "list": [{"name": "y", "port": 80}]}), true),
            (json!({"spec": {"image": "a"}, "list": [{"port": 80}, {"port": 81}], "notes": {"own": 1}}), true),
            (json!({"spec": {"replicas": 1, "image": "b"}, "list": [{"name": "x", "port": 80}]}), false),
            (json!({"spec": {"replicas": 1, "image": "a"}, "list": [{"name": "x", "port": 81}]}), false),
            (json!({"spec": {"replicas": 1, "image": "a"}, "list": []}), false),
            (
                json!({"spec": {"replicas": 1, "image": "a"}, "list": [{"name": "x", "port": 80}], "notes": {"a": 1}}),
                false,
            ),
            (json!({"spec": {"replicas": 1, "image": "a"}}), false),
        ] {
            assert_eq!(agree(&before, &after, but), same, "{after}");
            assert_eq!(agree(&after, &before, but), same, "{after}");
        }
    }
}
