//! Which objects a list or a watch is about.
//!
//! Invariant: what cannot be understood is refused, never taken to select everything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    fields::text,
    refusal::{Refusal, bad_request},
};

/// The namespace, names and labels asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    namespace: Option<String>,
    fields: Vec<(&'static str, String)>,
    labels: Vec<Requirement>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

impl Selection {
    /// Everything in one namespace, or everything.
    pub(crate) fn of_namespace(namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(str::to_owned), ..Self::default() }
    }

    pub(crate) fn parse(namespace: Option<&str>, query: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let selector = |name: &str| query.get(name).map_or("", String::as_str);
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            fields: terms(selector("fieldSelector")).map(parse_field).collect::<Result<_, _>>()?,
            labels: terms(selector("labelSelector")).map(Requirement::parse).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let namespace_fits =
            self.namespace.as_deref().is_none_or(|namespace| text(object, "/metadata/namespace") == Some(namespace));
        let fields_fit = self.fields.iter().all(|(pointer, wanted)| text(object, pointer) == Some(wanted));
        let labels = &object["metadata"]["labels"];
        namespace_fits && fields_fit && self.labels.iter().all(|label| label.matches(labels))
    }
}

impl Requirement {
    fn parse(term: &str) -> Result<Self, Refusal> {
        let requirement = if let Some((key, values)) = term.split_once(" notin ") {
            Self::NotIn(key.trim().to_owned(), parse_set(values)?)
        } else if let Some((key, values)) = term.split_once(" in ") {
            Self::In(key.trim().to_owned(), parse_set(values)?)
        } else if let Some((key, value)) = term.split_once("!=") {
            Self::NotIn(key.trim().to_owned(), single(value))
        } else if let Some((key, value)) = term.split_once('=') {
            Self::In(key.trim().to_owned(), single(value.trim_start_matches('=')))
        } else if let Some(key) = term.strip_prefix('!') {
            Self::Absent(key.trim().to_owned())
        } else {
            Self::Exists(term.to_owned())
        };
        let key = requirement.key();
        if key.is_empty() || key.contains([' ', '(', ')']) {
            return Err(bad_request(&format!("unable to parse requirement: {term}")));
        }
        Ok(requirement)
    }

    fn key(&self) -> &str {
        match self {
            Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::Absent(key) => key,
        }
    }

    fn matches(&self, labels: &Value) -> bool {
        let value = labels.get(self.key()).and_then(Value::as_str);
        match self {
            Self::In(_, values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(_, values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists(_) => value.is_some(),
            Self::Absent(_) => value.is_none(),
        }
    }
}

/// The parts between those commas that are not inside parentheses.
fn terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    selector
        .split(move |character| {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            character == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|term| !term.is_empty())
}

fn parse_set(values: &str) -> Result<BTreeSet<String>, Refusal> {
    values
        .trim()
        .strip_prefix('(')
        .and_then(|values| values.strip_suffix(')'))
        .map(|values| values.split(',').map(|value| value.trim().to_owned()).collect())
        .ok_or_else(|| bad_request(&format!("unable to parse values: {values}")))
}

fn single(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.trim().to_owned()])
}

fn parse_field(term: &str) -> Result<(&'static str, String), Refusal> {
    let (field, value) = term.split_once('=').ok_or_else(|| bad_request(&format!("invalid field selector: {term}")))?;
    let pointer = match field {
        "metadata.name" => "/metadata/name",
        "metadata.namespace" => "/metadata/namespace",
        _ => return Err(bad_request(&format!("field label not supported: {field}"))),
    };
    Ok((pointer, value.trim_start_matches('=').to_owned()))
}
