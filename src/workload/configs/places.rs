//! Where a pod template refers to ConfigMaps and Secrets.

use super::{Config, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Arguments;

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
    let spec = &template["spec"];
    let mut places = vec![];
    for (volume, index) in items(&spec["volumes"]) {
        let at = format_args!("/spec/volumes/{index}");
        places.extend(place(&volume["configMap"], Kind::ConfigMap, "name", format_args!("{at}/configMap")));
        places.extend(place(&volume["secret"], Kind::Secret, "secretName", format_args!("{at}/secret")));
        for (source, index) in items(&volume["projected"]["sources"]) {
            places.extend(pair(source, ["configMap", "secret"], format_args!("{at}/projected/sources/{index}")));
        }
    }
    for list in ["initContainers", "containers"] {
        for (container, index) in items(&spec[list]) {
            let at = format_args!("/spec/{list}/{index}");
            for (variable, index) in items(&container["env"]) {
                let (value, at) = (&variable["valueFrom"], format_args!("{at}/env/{index}/valueFrom"));
                places.extend(pair(value, ["configMapKeyRef", "secretKeyRef"], at));
            }
            for (source, index) in items(&container["envFrom"]) {
                places.extend(pair(source, ["configMapRef", "secretRef"], format_args!("{at}/envFrom/{index}")));
            }
        }
    }
    places
}

/// A reference to a ConfigMap and one to a Secret, which both are called by their `name`.
fn pair(holder: &Value, fields: [&str; 2], at: Arguments<'_>) -> impl Iterator<Item = Place> {
    let [config_map, secret] = fields;
    let of = |field: &str, kind| place(&holder[field], kind, "name", format_args!("{at}/{field}"));
    [of(config_map, Kind::ConfigMap), of(secret, Kind::Secret)].into_iter().flatten()
}

fn place(source: &Value, kind: Kind, field: &str, at: Arguments<'_>) -> Option<Place> {
    let name = source.get(field)?.as_str().filter(|name| !name.is_empty())?;
    Some(Place {
        pointer: format!("{at}/{field}"),
        config: Config { kind, name: name.to_owned() },
        optional: source["optional"] == true,
    })
}

fn items(list: &Value) -> impl Iterator<Item = (&Value, usize)> {
    list.as_array().into_iter().flatten().zip(0..)
}
