//! The rules by which objects come, change and go.
//!
//! Invariant: every write passes through here, so uid, creation time, generation and deletion are
//! the server's alone, and a write that changes nothing leaves no trace.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    checks::{check_change, check_identity, check_preconditions},
    fields::{
        finalizers, generation, is_deleting, metadata_mut, resource_version, set_metadata, text, tidy, well_formed,
    },
    refusal::{Refusal, already_exists, bad_request, invalid, not_found, refusal},
    registry::{Generation, Resource},
    state::State,
    store::Key,
};

/// The part of an object that a writer may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All but the status, if that has a subresource of its own.
    Main,
    /// The status alone.
    Status,
    /// Everything, which only tests are allowed.
    Everything,
}

/// Metadata that is the server's, whatever a client sends.
const SERVER_FIELDS: [&str; 6] =
    ["uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

impl State {
    /// Stores a new object.
    pub(crate) fn create(
        &mut self,
        resource: &Resource,
        namespace: &str,
        mut object: Value,
        scope: Scope,
    ) -> Result<Arc<Value>, Refusal> {
        well_formed(&object)?;
        if resource_version(&object).is_some() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(refusal(500, "InternalError", message));
        }
        let number = self.next_uid();
        let name = name_of_new(resource, &object, number)?;
        let key = Key::new(resource.name, namespace, &name);
        if self.store.get(&key).is_some() {
            return Err(already_exists(resource, &name));
        }
        if resource.status && scope == Scope::Main {
            object["status"] = Value::Null;
        }
        set_types(resource, &mut object)?;
        self.apply_defaults(resource, &mut object);
        let generation = (resource.generation != Generation::Absent).then_some(1);
        let metadata = metadata_mut(&mut object);
        metadata.retain(|field, _| !SERVER_FIELDS.contains(&field.as_str()));
        metadata.insert("name".to_owned(), json!(name));
        metadata.insert("namespace".to_owned(), non_empty(namespace));
        metadata.insert("uid".to_owned(), json!(format_uid(number)));
        metadata.insert("creationTimestamp".to_owned(), json!(self.now()));
        metadata.insert("generation".to_owned(), json!(generation));
        tidy(&mut object);
        Ok(self.store.put(&key, object))
    }

    /// Gives a stored object the content a writer proposes, as far as the writer may.
    pub(crate) fn replace(
        &mut self,
        resource: &Resource,
        key: &Key,
        proposed: Value,
        scope: Scope,
    ) -> Result<Arc<Value>, Refusal> {
        let stored = self.store.get(key).cloned().ok_or_else(|| not_found(resource, &key.name))?;
        well_formed(&proposed)?;
        check_identity(resource, &stored, &proposed)?;
        let mut next = scope.combine(resource, &stored, proposed);
        set_types(resource, &mut next)?;
        self.apply_defaults(resource, &mut next);
        keep_server_fields(&stored, &mut next);
        tidy(&mut next);
        check_change(resource, &stored, &next)?;
        if is_new_content(resource, &stored, &next) {
            bump_generation(&mut next);
        }
        if next == *stored {
            return Ok(stored);
        }
        if is_deleting(&next) && finalizers(&next).is_empty() {
            self.store.remove(key);
            return Ok(Arc::new(next));
        }
        Ok(self.store.put(key, next))
    }

    /// Removes an object, or marks it when finalizers hold it; says what became of it.
    pub(crate) fn delete(&mut self, resource: &Resource, key: &Key, options: &Value) -> Result<Deletion, Refusal> {
        let stored = self.store.get(key).cloned().ok_or_else(|| not_found(resource, &key.name))?;
        check_preconditions(resource, &stored, options)?;
        if finalizers(&stored).is_empty() {
            self.store.remove(key);
            return Ok(Deletion::Done(stored));
        }
        if is_deleting(&stored) {
            return Ok(Deletion::Pending(stored));
        }
        let mut marked = Value::clone(&stored);
        set_metadata(&mut marked, "deletionTimestamp", json!(self.now()));
        set_metadata(&mut marked, "deletionGracePeriodSeconds", json!(0));
        bump_generation(&mut marked);
        Ok(Deletion::Pending(self.store.put(key, marked)))
    }
}

/// How far a deletion got.
pub(crate) enum Deletion {
    Done(Arc<Value>),
    Pending(Arc<Value>),
}

impl Scope {
    fn combine(self, resource: &Resource, stored: &Value, mut proposed: Value) -> Value {
        match self {
            Self::Main if resource.status => {
                proposed["status"] = stored["status"].clone();
                proposed
            }
            Self::Main | Self::Everything => proposed,
            Self::Status => {
                let mut next = stored.clone();
                next["status"] = proposed["status"].take();
                next
            }
        }
    }
}

fn name_of_new(resource: &Resource, object: &Value, number: u64) -> Result<String, Refusal> {
    if let Some(name) = text(object, "/metadata/name") {
        return Ok(name.to_owned());
    }
    text(object, "/metadata/generateName").map(|prefix| format!("{prefix}{number:05x}")).ok_or_else(|| {
        let why = "metadata.name: Required value: name or generateName is required";
        invalid(resource, "", why)
    })
}

fn format_uid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn non_empty(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

/// Objects may leave out their types, but not claim others.
fn set_types(resource: &Resource, object: &mut Value) -> Result<(), Refusal> {
    let types = [("apiVersion", resource.name.api_version()), ("kind", resource.kind.to_owned())];
    for (field, expected) in types {
        let given = object[field].as_str().unwrap_or_default();
        if !given.is_empty() && given != expected {
            let message = format!("the {field} in the data ({given}) does not match the expected {field} ({expected})");
            return Err(bad_request(&message));
        }
        object[field] = json!(expected);
    }
    Ok(())
}

fn keep_server_fields(stored: &Value, next: &mut Value) {
    for field in SERVER_FIELDS.into_iter().chain(["name", "namespace"]) {
        set_metadata(next, field, stored["metadata"][field].clone());
    }
}

fn is_new_content(resource: &Resource, stored: &Value, next: &Value) -> bool {
    let content_differs = || !content(resource, stored).eq(content(resource, next));
    let annotations = |object: &Value| crate::fields::at(object, "/metadata/annotations").cloned();
    match resource.generation {
        Generation::Absent => false,
        Generation::Content => content_differs(),
        Generation::ContentAndAnnotations => content_differs() || annotations(stored) != annotations(next),
    }
}

/// What the generation counts the changes of: all fields but these. An object is tidied before it is stored, so none of
/// them is null.
fn content<'object>(
    resource: &Resource,
    object: &'object Value,
) -> impl Iterator<Item = (&'object String, &'object Value)> {
    let counts_status = !resource.status;
    let fields = object.as_object().into_iter().flatten();
    fields.filter(move |(field, _)| *field != "metadata" && (counts_status || *field != "status"))
}

/// Counts on from the stored generation; kinds without one stay without.
fn bump_generation(object: &mut Value) {
    if let Some(generation) = generation(object) {
        set_metadata(object, "generation", json!(generation + 1));
    }
}
