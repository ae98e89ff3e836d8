//! The three patch formats that custom resources know.
//!
//! Invariant: a patch that fails leaves no trace, since it works on a copy.

use json_patch::PatchOperation;
use serde::Deserialize;
use serde_json::Value;

use crate::refusal::{Refusal, bad_request, unprocessable_patch, unsupported_media_type};

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Merge,
    Apply,
}

impl Format {
    pub(crate) fn parse(content_type: Option<&str>) -> Result<Self, Refusal> {
        match content_type.unwrap_or_default() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(unsupported_media_type(other)),
        }
    }

    /// What the patch makes of an object.
    pub(crate) fn patched(self, object: &Value, patch: &Value) -> Result<Value, Refusal> {
        let mut object = object.clone();
        match self {
            Self::Json => apply_operations(&mut object, patch)?,
            // Without field ownership an apply is a merge: lists are replaced whole, and a field
            // that an earlier apply set and this one leaves out stays.
            Self::Merge | Self::Apply => json_patch::merge(&mut object, patch),
        }
        Ok(object)
    }
}

fn apply_operations(object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let operations = Vec::<PatchOperation>::deserialize(patch)
        .map_err(|error| bad_request(&format!("error decoding patch: {error}")))?;
    json_patch::patch(object, &operations).map_err(|error| unprocessable_patch(&error.to_string()))
}
