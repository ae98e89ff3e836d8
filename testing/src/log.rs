//! The record of what clients asked for.
//!
//! Invariant: ordinals count every request that named a resource and a verb from 1, and clearing
//! the record does not start them over.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// A request's verb, as RBAC rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads many.
    List,
    /// Follows changes.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes parts of an object.
    Patch,
    /// Removes an object.
    Delete,
}

impl Verb {
    /// The word an RBAC rule uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One request and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How many requests there had been, this one included.
    pub ordinal: u64,
    /// What it asked to do.
    pub verb: Verb,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Subresource, such as `status`.
    pub subresource: Option<String>,
    /// Namespace in the URL.
    pub namespace: Option<String>,
    /// What the URL asks for besides, by name.
    pub query: BTreeMap<String, String>,
    /// Name in the URL, so absent when creating.
    pub name: Option<String>,
    /// Who asked, as far as it said.
    pub user_agent: Option<String>,
    /// Whether it wanted the metadata of objects only.
    pub metadata_only: bool,
    /// Format of the body, which tells the kinds of patches apart.
    pub content_type: Option<String>,
    /// The object, patch or options sent along, null when there were none.
    pub body: Value,
    /// What the server answered; absent when it has not carried the request out. An answer that
    /// was lost on its way is an answer.
    pub status: Option<u16>,
}

impl Request {
    /// Whether it asked for a change.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
    }

    /// `resource` or `resource/subresource`, as RBAC rules name it.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.clone(),
        }
    }

    /// The verbs a role must grant for it: an apply that creates needs two.
    pub(crate) fn verbs(&self) -> impl Iterator<Item = Verb> {
        let created = self.verb == Verb::Patch && self.status == Some(201);
        [Some(self.verb), created.then_some(Verb::Create)].into_iter().flatten()
    }
}

/// The record itself.
#[derive(Debug, Default)]
pub(crate) struct Log {
    arrived: u64,
    entries: BTreeMap<u64, Request>,
    /// Nobody wants to know: requests are counted, and not kept.
    pub(crate) off: bool,
}

impl Log {
    /// Gives a request its ordinal and records that it came.
    pub(crate) fn arrive(&mut self, request: &mut Request) {
        self.arrived += 1;
        request.ordinal = self.arrived;
        if !self.off {
            self.entries.insert(request.ordinal, request.clone());
        }
    }

    /// Records the answer, unless the record was cleared meanwhile.
    pub(crate) fn answered(&mut self, ordinal: u64, status: u16) {
        if let Some(request) = self.entries.get_mut(&ordinal) {
            request.status = Some(status);
        }
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = &Request> {
        self.entries.values()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}
