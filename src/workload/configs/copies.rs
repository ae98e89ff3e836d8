//! The copies of a version's configs that the primary uses.

use super::{Config, Kind};
use crate::object;
use crate::workload::{App, record};
use serde_json::{Value, json};

/// Says of a copy what it was made of.
const COPY_OF: &str = "serin.dev/copy-of";

/// The longest name that an object can have.
const NAME_LIMIT: usize = 253;

/// What is between the name of a config and the hash in the name of its copy.
const INFIX: &str = "-primary-";

/// The name of the copy of a config with this content. It is the Canary's own: another one has another copy, and so has
/// one of the same name that comes later, whose copies must not go with those of the first.
#[must_use]
pub fn copy_name(app: &App, config: &Config, checksum: &str) -> String {
    let hash = object::hash(&json!([app.owner["uid"], config.to_string(), checksum]));
    let room = NAME_LIMIT - INFIX.len() - hash.len();
    let base = config.name.get(..room).unwrap_or(&config.name).trim_end_matches(['-', '.']);
    format!("{base}{INFIX}{hash}")
}

/// The copy of a config. It cannot be changed, and goes with the Canary.
#[must_use]
pub fn copy(app: &App, config: &Config, name: &str, original: &Value) -> Value {
    let (key, value) = record::label(app);
    let mut copy = json!({
        "apiVersion": "v1",
        "kind": config.kind.as_str(),
        "metadata": {
            "name": name,
            "namespace": app.namespace,
            "labels": {key: value},
            "annotations": {COPY_OF: config.name},
        },
        "immutable": true,
    });
    object::own(&mut copy, &app.owner);
    let fields: &[&str] = match config.kind {
        Kind::ConfigMap => &["data", "binaryData"],
        Kind::Secret => &["type", "data"],
    };
    for field in fields {
        if let Some(part) = original.get(field).filter(|part| !part.is_null()) {
            copy[*field] = part.clone();
        }
    }
    copy
}
