//! S10: what of an object is the user's, and must be as it was.

use crate::app::{NAME, PRIMARY};
use serde_json::Value;
use serin_testing::{CANARIES, CONFIG_MAPS, Change, DEPLOYMENTS, HTTP_ROUTES, SECRETS, SERVICES};

/// What Serin may change in an object of the user's; nothing for one of its own.
fn allowed(change: &Change, object: &Value) -> Option<&'static [&'static str]> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let made = object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "serin";
    let owned = made || object.pointer("/metadata/ownerReferences/0/kind").is_some_and(|kind| kind == "Canary");
    match (change.resource, name) {
        (CANARIES, _) => Some(&["/metadata/finalizers", "/status"]),
        (DEPLOYMENTS, PRIMARY) => None,
        (DEPLOYMENTS, _) => Some(&["/spec/replicas"]),
        (HTTP_ROUTES, NAME) if !owned => Some(&[
            "/spec/rules/0/backendRefs/0/name",
            "/spec/rules/0/backendRefs/0/weight",
            "/spec/rules/0/backendRefs/1",
        ]),
        (SERVICES, NAME) if !owned => Some(&["/spec/selector", "/metadata/annotations/serin.dev~1original-selector"]),
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
    let [before, after] = [before, after].map(|object| masked(object, allowed));
    (before != after).then(|| format!("{} {name} was {before}, and is {after}", change.resource.plural))
}

fn masked(object: &Value, allowed: &[&str]) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !["resourceVersion", "generation", "managedFields"].contains(&field.as_str()));
    }
    for pointer in allowed {
        let Some((parent, field)) = pointer.rsplit_once('/') else { continue };
        let field = field.replace("~1", "/");
        match object.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(&field)),
            Some(Value::Array(list)) => list.truncate(field.parse().unwrap_or(usize::MAX)),
            _ => {}
        }
    }
    // What is empty is not there.
    for field in ["annotations", "finalizers"] {
        let metadata = &mut object["metadata"];
        if metadata[field].as_object().is_some_and(serde_json::Map::is_empty) || metadata[field].is_null() {
            metadata.as_object_mut().map(|metadata| metadata.remove(field));
        }
    }
    object
}
