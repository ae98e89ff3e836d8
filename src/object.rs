//! Kubernetes objects as JSON: what is equal, and what has to change.
//!
//! Invariant: an object is changed by starting from what was found. Fields that the API server or somebody else
//! added stay, and nothing is written when nothing of ours differs.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// By these Flux leaves an object alone even where a manifest describes it. Argo CD leaves alone what has an owner.
const UNMANAGED: [(&str, &str); 2] =
    [("helm.toolkit.fluxcd.io/driftDetection", "disabled"), ("kustomize.toolkit.fluxcd.io/reconcile", "disabled")];

/// Remembers what was written last, so that a field that left the spec leaves the object too.
const APPLIED: &str = "serin.dev/applied";

/// The label that marks what Serin made.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Says of an app's Service that it leads to the canary.
const SWITCHED: &str = "serin.dev/leads-to-canary";

/// The annotation by which somebody hands an object over to Serin.
pub const ADOPT: &str = "serin.dev/adopt";

/// Whether `found` has everything that `wanted` says; fields that only `found` has are defaults of the API server.
/// Lists must agree item by item.
#[must_use]
pub fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match found.get(key) {
            Some(found) => covers(found, wanted),
            None => is_empty(wanted),
        }),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| covers(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

/// The API server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A short hash of canonical JSON: the order of keys does not matter.
#[must_use]
pub fn hash(value: &Value) -> String {
    digest(value, 5)
}

/// The same for content that is compared and not only named.
#[must_use]
pub fn checksum(value: &Value) -> String {
    digest(value, 8)
}

fn digest(value: &Value, bytes: usize) -> String {
    let mut canonical = Vec::new();
    write_canonical(value, &mut canonical);
    Sha256::digest(canonical).iter().take(bytes).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write_canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push(b'{');
            for (key, value) in entries {
                write_json(key, text);
                text.push(b':');
                write_canonical(value, text);
                text.push(b',');
            }
            text.push(b'}');
        }
        Value::Array(list) => {
            text.push(b'[');
            for value in list {
                write_canonical(value, text);
                text.push(b',');
            }
            text.push(b']');
        }
        plain => write_json(plain, text),
    }
}

fn write_json(value: &(impl Serialize + ?Sized), text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("a text or a plain value can be written to memory");
}

/// `found` with `part` at `field`, replaced as a whole when it does not cover what is wanted, or when something else
/// was wanted before; else as it is.
pub fn put(found: &mut Value, field: &str, part: Value) {
    let mark = hash(&part);
    let path = ["metadata", "annotations", APPLIED];
    let same = get(found, &path).and_then(Value::as_str) == Some(mark.as_str());
    if same && found.get(field).is_some_and(|found| covers(found, &part)) {
        return;
    }
    found[field] = part;
    set(found, &path, mark.into());
}

/// The value at `path`.
#[must_use]
pub fn get<'value>(value: &'value Value, path: &[&str]) -> Option<&'value Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// Sets the value at `path`, making the objects on the way.
pub fn set(value: &mut Value, path: &[&str], new: Value) {
    match path {
        [] => *value = new,
        [key, rest @ ..] => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            set(&mut value[*key], rest, new);
        }
    }
}

/// Sets labels or annotations, and keeps the others.
pub fn set_metadata<'entry>(
    value: &mut Value,
    kind: &str,
    entries: impl IntoIterator<Item = (&'entry str, &'entry str)>,
) {
    for (key, text) in entries {
        set(value, &["metadata", kind, key], text.into());
    }
}

/// Removes labels or annotations, and with the last one what held them.
pub fn remove_metadata(value: &mut Value, kind: &str, keys: &[&str]) {
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(entries) = metadata.get_mut(kind).and_then(Value::as_object_mut) else { return };
    entries.retain(|key, _| !keys.contains(&key.as_str()));
    if entries.is_empty() {
        metadata.remove(kind);
    }
}

/// Marks an object that Serin makes as none of the business of tools that apply manifests.
pub fn leave_alone(object: &mut Value) {
    set_metadata(object, "annotations", UNMANAGED);
}

/// Takes that mark off an object that is no longer Serin's.
pub fn let_go(object: &mut Value) {
    let is_mark = |(key, mark): &(&str, &str)| {
        get(object, &["metadata", "annotations", key]).and_then(Value::as_str) == Some(*mark)
    };
    let marks: Vec<_> = UNMANAGED.into_iter().filter(is_mark).map(|(key, _)| key).collect();
    remove_metadata(object, "annotations", &marks);
}

/// Whether the object with `uid` owns `object`.
#[must_use]
pub fn owned_by(object: &Value, uid: &str) -> bool {
    owners(object).iter().any(|owner| owner["uid"] == uid)
}

/// Makes `owner` the owner, if it is not yet, and marks the object as Serin's and as nobody else's business.
pub fn own(object: &mut Value, owner: &Value) {
    if !owner["uid"].as_str().is_some_and(|uid| owned_by(object, uid)) {
        object["metadata"]["ownerReferences"] = json!([owner]);
    }
    set_metadata(object, "labels", [(MANAGED_BY, "serin")]);
    leave_alone(object);
}

/// Whether Serin made the object, or it was handed over to Serin.
#[must_use]
pub fn is_serins(object: &Value) -> bool {
    let says = |path: [&str; 3], text: &str| get(object, &path).and_then(Value::as_str) == Some(text);
    says(["metadata", "labels", MANAGED_BY], "serin") || says(["metadata", "annotations", ADOPT], "true")
}

/// Whether an app's Service was made to lead to the canary.
#[must_use]
pub fn is_switched(service: &Value) -> bool {
    get(service, &["metadata", "annotations", SWITCHED]).is_some()
}

/// Says whether an app's Service leads to the canary.
pub fn set_switched(service: &mut Value, switched: bool) {
    if switched {
        set_metadata(service, "annotations", [(SWITCHED, "true")]);
    } else {
        remove_metadata(service, "annotations", &[SWITCHED]);
    }
}

/// Takes the owner with `uid` away, and puts `heir` in its place, if there is one.
pub fn disown(object: &mut Value, uid: &str, heir: Option<&Value>) {
    if !owned_by(object, uid) {
        return;
    }
    let mut owners: Vec<Value> = owners(object).iter().filter(|owner| owner["uid"] != uid).cloned().collect();
    owners.extend(heir.cloned());
    object["metadata"]["ownerReferences"] = json!(owners);
}

fn owners(object: &Value) -> &[Value] {
    get(object, &["metadata", "ownerReferences"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_server_are_not_differences() {
        let found = json!({"ports": [{"port": 80, "protocol": "TCP"}], "clusterIP": "10.0.0.1"});
        assert!(covers(&found, &json!({"ports": [{"port": 80}]})));
        assert!(covers(&found, &json!({"ports": [{"port": 80}], "hostnames": []})));
        assert!(!covers(&found, &json!({"ports": [{"port": 81}]})));
        assert!(!covers(&found, &json!({"ports": []})));
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_goes() {
        let mut route = json!({});
        put(&mut route, "spec", json!({"timeout": "1s", "rules": [1]}));
        let with_default =
            json!({"spec": {"timeout": "1s", "rules": [1], "added": true}, "metadata": route["metadata"]});

        let mut again = with_default.clone();
        put(&mut again, "spec", json!({"timeout": "1s", "rules": [1]}));
        assert_eq!(again, with_default);

        put(&mut again, "spec", json!({"rules": [1]}));
        assert_eq!(again["spec"], json!({"rules": [1]}));
    }

    #[test]
    fn the_hash_ignores_the_order_of_keys_and_nulls() {
        let left: Value = serde_json::from_str(r#"{"a":1,"b":[{"c":2,"d":null}]}"#).unwrap();
        let right: Value = serde_json::from_str(r#"{"b":[{"c":2}],"a":1}"#).unwrap();
        assert_eq!(hash(&left), hash(&right));
        assert_ne!(hash(&left), hash(&json!({"a": 1, "b": [{"c": 3}]})));
        assert_eq!(hash(&left).len(), 10);
    }

    #[test]
    fn the_mark_of_a_generated_object_comes_off_without_a_trace() {
        let plain = json!({"metadata": {"name": "web"}});
        let mut object = plain.clone();
        leave_alone(&mut object);
        assert_eq!(object["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"], "disabled");
        let_go(&mut object);
        assert_eq!(object, plain);
        let users = json!({"metadata": {"annotations": {"helm.toolkit.fluxcd.io/driftDetection": "enabled"}}});
        let mut object = users.clone();
        let_go(&mut object);
        assert_eq!(object, users, "somebody means something else by it");
    }

    #[test]
    fn an_owner_can_be_replaced() {
        let mut object = json!({"metadata": {"ownerReferences": [{"uid": "a"}, {"uid": "b"}]}});
        disown(&mut object, "a", Some(&json!({"uid": "c"})));
        assert_eq!(object["metadata"]["ownerReferences"], json!([{"uid": "b"}, {"uid": "c"}]));
        assert!(!owned_by(&object, "a"));
    }
}
