//! Reading and tidying the fields every object has.
//!
//! Invariant: a tidied object holds no null and no empty collection in its metadata, so that equal
//! objects compare equal however they were written.

use serde_json::{Map, Value, json};

use crate::refusal::{Refusal, bad_request};

/// The value at a JSON pointer without escapes, which costs no copy of the pointer.
#[must_use]
pub fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(object, |value, token| match value {
        Value::Array(list) => list.get(token.parse::<usize>().ok()?),
        value => value.get(token),
    })
}

/// The text at a JSON pointer, when there is any.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    let text = at(object, pointer)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

pub(crate) fn uid(object: &Value) -> Option<&str> {
    text(object, "/metadata/uid")
}

pub(crate) fn resource_version(object: &Value) -> Option<&str> {
    text(object, "/metadata/resourceVersion")
}

pub(crate) fn generation(object: &Value) -> Option<i64> {
    at(object, "/metadata/generation")?.as_i64()
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    text(object, "/metadata/deletionTimestamp").is_some()
}

pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn finalizers(object: &Value) -> &[Value] {
    list(object, "/metadata/finalizers")
}

/// Refuses what cannot be an object, so that the rest may rely on its shape.
pub(crate) fn well_formed(object: &Value) -> Result<(), Refusal> {
    let metadata_fits = matches!(object.get("metadata"), None | Some(Value::Null | Value::Object(_)));
    if object.is_object() && metadata_fits { Ok(()) } else { Err(bad_request("the body is not a Kubernetes object")) }
}

/// The metadata of a well-formed object, made when it is missing.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let metadata = &mut object["metadata"];
    if metadata.is_null() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("a well-formed object has an object as its metadata")
}

pub(crate) fn set_metadata(object: &mut Value, field: &str, value: Value) {
    metadata_mut(object).insert(field.to_owned(), value);
}

pub(crate) fn tidy(object: &mut Value) {
    drop_nulls(object);
    metadata_mut(object).retain(|_, value| !is_empty_collection(value));
}

fn is_empty_collection(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
