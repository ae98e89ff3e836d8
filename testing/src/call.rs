//! An HTTP request, understood.
//!
//! Invariant: everything a handler looks at is here; the HTTP request itself is gone.

use std::collections::BTreeMap;

use http::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, HeaderName, USER_AGENT},
    request::Parts,
};
use serde_json::Value;

use crate::{
    answer::Answer,
    log::{Request, Verb},
    path::Path,
    refusal::method_not_allowed,
    view::View,
};

pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) view: View,
}

impl Call {
    /// Reads a request, or answers one that names no resource or no verb.
    pub(crate) fn parse(parts: &Parts, body: &[u8]) -> Result<Self, Answer> {
        let path = Path::parse(parts.uri.path()).ok_or(Answer::Missing)?;
        let query = parse_query(parts.uri.query().unwrap_or_default());
        let verb =
            parse_verb(&parts.method, path.name.is_some(), &query).ok_or_else(|| Answer::from(method_not_allowed()))?;
        let view = View::asked_for(&parts.headers);
        let request = Request {
            ordinal: 0,
            verb,
            group: path.group.to_owned(),
            version: path.version.to_owned(),
            resource: path.plural.to_owned(),
            subresource: path.subresource.map(str::to_owned),
            namespace: path.namespace.map(str::to_owned),
            query,
            name: path.name.map(str::to_owned),
            user_agent: header(&parts.headers, &USER_AGENT),
            metadata_only: view == View::Metadata,
            content_type: header(&parts.headers, &CONTENT_TYPE),
            body: parse_body(body),
            status: None,
        };
        Ok(Self { request, view })
    }
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn parse_verb(method: &Method, named: bool, query: &BTreeMap<String, String>) -> Option<Verb> {
    let watching = query.get("watch").is_some_and(|watch| watch == "true" || watch == "1");
    match (method.as_str(), named) {
        ("GET", true) => Some(Verb::Get),
        ("GET", false) if watching => Some(Verb::Watch),
        ("GET", false) => Some(Verb::List),
        ("POST", false) => Some(Verb::Create),
        ("PUT", true) => Some(Verb::Update),
        ("PATCH", true) => Some(Verb::Patch),
        ("DELETE", true) => Some(Verb::Delete),
        _ => None,
    }
}

/// What is not JSON is kept as text: no object and no patch, so the handlers refuse it.
fn parse_body(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}
