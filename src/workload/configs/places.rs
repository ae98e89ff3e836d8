//! Where a pod template refers to ConfigMaps and Secrets.

use super::{Config, Kind};
use serde_json::Value;
use std::collections::BTreeMap;

/// One reference.
struct Place {
    /// Where the name stands in the template.
    pointer: String,
    config: Config,
    optional: bool,
}

/// The ConfigMaps and Secrets that the template refers to, and whether each may be missing: only if every reference to
/// it says so.
#[must_use]
pub fn references(template: &Value) -> BTreeMap<Config, bool> {
    let mut references = BTreeMap::new();
    for Place { config, optional, pointer: _ } in places(template) {
        *references.entry(config).or_insert(true) &= optional;
    }
    references
}

/// The template with other names in its references.
#[must_use]
pub fn renamed(template: &Value, name: impl Fn(&Config) -> Option<String>) -> Value {
    let mut renamed = template.clone();
    for Place { pointer, config, optional: _ } in places(template) {
        if let (Some(name), Some(place)) = (name(&config), renamed.pointer_mut(&pointer)) {
            *place = name.into();
        }
    }
    renamed
}

/// Every reference, of every kind. Containers for debugging are none of the template's.
fn places(template: &Value) -> Vec<Place> {
    let volumes = items(template, "/spec/volumes").into_iter().flat_map(|volume| {
        let projected = items(template, &format!("{volume}/projected/sources"));
        let sources = projected.into_iter().flat_map(|source| {
            [
                (format!("{source}/configMap"), Kind::ConfigMap, "name"),
                (format!("{source}/secret"), Kind::Secret, "name"),
            ]
        });
        let own = [
            (format!("{volume}/configMap"), Kind::ConfigMap, "name"),
            (format!("{volume}/secret"), Kind::Secret, "secretName"),
        ];
        own.into_iter().chain(sources).collect::<Vec<_>>()
    });
    let containers = ["/spec/initContainers", "/spec/containers"].into_iter().flat_map(|list| items(template, list));
    let environments = containers.flat_map(|container| {
        let single = items(template, &format!("{container}/env")).into_iter().flat_map(|variable| {
            [
                (format!("{variable}/valueFrom/configMapKeyRef"), Kind::ConfigMap, "name"),
                (format!("{variable}/valueFrom/secretKeyRef"), Kind::Secret, "name"),
            ]
        });
        let whole = items(template, &format!("{container}/envFrom")).into_iter().flat_map(|source| {
            [
                (format!("{source}/configMapRef"), Kind::ConfigMap, "name"),
                (format!("{source}/secretRef"), Kind::Secret, "name"),
            ]
        });
        single.chain(whole).collect::<Vec<_>>()
    });
    volumes.chain(environments).filter_map(|(at, kind, field)| place(template, &at, kind, field)).collect()
}

fn place(template: &Value, at: &str, kind: Kind, field: &str) -> Option<Place> {
    let source = template.pointer(at)?;
    let name = source.get(field)?.as_str().filter(|name| !name.is_empty())?;
    Some(Place {
        pointer: format!("{at}/{field}"),
        config: Config { kind, name: name.to_owned() },
        optional: source["optional"] == true,
    })
}

/// The pointers of a list's items.
fn items(template: &Value, list: &str) -> Vec<String> {
    let count = template.pointer(list).and_then(Value::as_array).map_or(0, Vec::len);
    (0..count).map(|place| format!("{list}/{place}")).collect()
}
