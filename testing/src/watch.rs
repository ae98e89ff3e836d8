//! Following changes: what a watcher is sent, and from where on.
//!
//! Invariant: a watcher sees each change that concerns it once and in order of revision.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt,
    channel::mpsc::{UnboundedSender, unbounded},
    stream::BoxStream,
};
use serde_json::{Value, json};

use crate::{
    answer::status_value,
    fields::set_metadata,
    refusal::{Refusal, bad_request, expired},
    registry::{GroupVersionResource, Resource},
    selector::Selection,
    store::{Change, Store},
    view::View,
};

/// The server's end of one open watch.
#[derive(Debug)]
pub(crate) struct Watcher {
    resource: GroupVersionResource,
    selection: Selection,
    view: View,
    sender: UnboundedSender<Bytes>,
}

impl Watcher {
    /// Sends a change if it concerns this watcher; says whether anyone still listens.
    pub(crate) fn offer(&self, change: &Change) -> bool {
        if change.resource == self.resource
            && let Some((kind, object)) = self.event(change)
        {
            self.send(kind, &object);
        }
        !self.sender.is_closed()
    }

    /// An object that leaves the selection is deleted as far as the watcher is concerned.
    fn event(&self, change: &Change) -> Option<(&'static str, Value)> {
        let selected = |object: &&Value| self.selection.matches(object);
        let before = change.before.as_deref().filter(selected);
        let after = change.after.as_deref().filter(selected);
        match (before, after) {
            (None, None) => None,
            (None, Some(after)) => Some(("ADDED", self.view.object(after))),
            (Some(_), Some(after)) => Some(("MODIFIED", self.view.object(after))),
            (Some(before), None) => {
                let mut last = self.view.object(before);
                let version = json!(change.revision.to_string());
                set_metadata(&mut last, "resourceVersion", version);
                Some(("DELETED", last))
            }
        }
    }

    fn send(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        // A client that hung up is noticed, and dropped, at the next change.
        let _ = self.sender.unbounded_send(Bytes::from(line));
    }
}

/// Opens a watch and says what comes out of it.
pub(crate) fn open(
    store: &mut Store,
    resource: &Resource,
    selection: Selection,
    view: View,
    query: &BTreeMap<String, String>,
) -> Result<BoxStream<'static, Bytes>, Refusal> {
    let start = parse_start(query)?;
    let (sender, receiver) = unbounded();
    let watcher = Watcher { resource: resource.name, selection, view, sender };
    match start {
        None => {
            for object in store.select(watcher.resource, &watcher.selection) {
                watcher.send("ADDED", &view.object(object));
            }
            if query.get("sendInitialEvents").is_some_and(|value| value == "true") {
                watcher.send("BOOKMARK", &end_of_initial_events(resource, store.revision()));
            }
            store.follow(watcher);
        }
        // The real server accepts such a watch too, reports the error inside it and ends it.
        Some(revision) if revision < store.compacted() => {
            let refusal = expired(revision, store.compacted());
            watcher.send("ERROR", &status_value(&refusal));
        }
        Some(revision) => {
            for change in store.changes_after(revision) {
                watcher.offer(change);
            }
            store.follow(watcher);
        }
    }
    Ok(match timeout(query) {
        Some(timeout) => receiver.take_until(tokio::time::sleep(timeout)).boxed(),
        None => receiver.boxed(),
    })
}

/// The revision to start after; `None` to begin with what there is.
fn parse_start(query: &BTreeMap<String, String>) -> Result<Option<u64>, Refusal> {
    match query.get("resourceVersion").map(String::as_str) {
        None | Some("" | "0") => Ok(None),
        Some(version) => {
            version.parse().map(Some).map_err(|_| bad_request(&format!("invalid resource version: {version}")))
        }
    }
}

fn timeout(query: &BTreeMap<String, String>) -> Option<Duration> {
    let seconds: u64 = query.get("timeoutSeconds")?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn end_of_initial_events(resource: &Resource, revision: u64) -> Value {
    json!({
        "apiVersion": resource.name.api_version(),
        "kind": resource.kind,
        "metadata": {
            "resourceVersion": revision.to_string(),
            "annotations": { "k8s.io/initial-events-end": "true" },
        },
    })
}
