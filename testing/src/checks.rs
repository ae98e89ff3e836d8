//! What a write must not do.
//!
//! Invariant: checks look and refuse; they change nothing.

use serde_json::Value;

use crate::{
    fields::{at, finalizers, is_deleting, resource_version, text, uid},
    refusal::{Refusal, conflict, invalid, modified},
    registry::Resource,
};

/// The writer must mean this very object, and this version of it if it names one.
pub(crate) fn check_identity(resource: &Resource, stored: &Value, proposed: &Value) -> Result<(), Refusal> {
    let name = text(stored, "/metadata/name").unwrap_or_default();
    if resource_version(proposed).is_some_and(|version| resource_version(stored) != Some(version)) {
        return Err(modified(resource, name));
    }
    if uid(proposed).is_some_and(|proposed| uid(stored) != Some(proposed)) {
        return Err(invalid(resource, name, "metadata.uid: field is immutable"));
    }
    Ok(())
}

pub(crate) fn check_preconditions(resource: &Resource, stored: &Value, options: &Value) -> Result<(), Refusal> {
    for (field, actual) in [("uid", uid(stored)), ("resourceVersion", resource_version(stored))] {
        let wanted = options["preconditions"][field].as_str();
        if wanted.is_some() && wanted != actual {
            let name = text(stored, "/metadata/name").unwrap_or_default();
            let why = format!("the {field} in the precondition is not that of the object");
            return Err(conflict(resource, name, &why));
        }
    }
    Ok(())
}

pub(crate) fn check_change(resource: &Resource, stored: &Value, next: &Value) -> Result<(), Refusal> {
    let name = text(stored, "/metadata/name").unwrap_or_default();
    for pointer in resource.immutable {
        if at(stored, pointer) != at(next, pointer) {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            let why = format!("{field}: Invalid value: field is immutable");
            return Err(invalid(resource, name, &why));
        }
    }
    let known = finalizers(stored);
    if is_deleting(stored) && finalizers(next).iter().any(|added| !known.contains(added)) {
        let why = "metadata.finalizers: Forbidden: no new finalizers can be added if the object \
                   is being deleted";
        return Err(invalid(resource, name, why));
    }
    Ok(())
}
