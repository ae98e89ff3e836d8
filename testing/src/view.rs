//! How much of an object a client wants to see.
//!
//! Invariant: a view only shapes answers; it never touches what is stored.

use http::{HeaderMap, header::ACCEPT};
use serde_json::{Value, json};

/// The representation asked for in `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    Metadata,
}

impl View {
    pub(crate) fn asked_for(headers: &HeaderMap) -> Self {
        let metadata_only = headers
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        if metadata_only { Self::Metadata } else { Self::Whole }
    }

    pub(crate) fn object(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => json!({
                "apiVersion": "meta.k8s.io/v1",
                "kind": "PartialObjectMetadata",
                "metadata": object["metadata"],
            }),
        }
    }

    pub(crate) fn list_types(self, api_version: String, kind: &str) -> (String, String) {
        match self {
            Self::Whole => (api_version, format!("{kind}List")),
            Self::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
        }
    }
}
