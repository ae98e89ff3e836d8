//! The objects, the order in which they changed, and who follows the changes.
//!
//! Invariant: every change takes the next revision, and an object's `resourceVersion` is the
//! revision of its last change.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{fields::set_metadata, registry::GroupVersionResource, selector::Selection, watch::Watcher};

/// Where an object is kept; listing goes in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: GroupVersionResource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(resource: GroupVersionResource, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One object going from one state to another, `None` standing for its absence.
#[derive(Clone, Debug)]
pub struct Change {
    /// What it is.
    pub resource: GroupVersionResource,
    /// The revision that the change took.
    pub revision: u64,
    /// How it was.
    pub before: Option<Arc<Value>>,
    /// How it is.
    pub after: Option<Arc<Value>>,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: BTreeMap<u64, Change>,
    watchers: Vec<Watcher>,
}

impl Store {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision before which history is forgotten.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    pub(crate) fn select(
        &self,
        resource: GroupVersionResource,
        selection: &Selection,
    ) -> impl Iterator<Item = &Arc<Value>> {
        self.objects
            .range(Key::new(resource, "", "")..)
            .take_while(move |(key, _)| key.resource == resource)
            .map(|(_, object)| object)
            .filter(|object| selection.matches(object))
    }

    pub(crate) fn changes_after(&self, revision: u64) -> impl Iterator<Item = &Change> {
        self.history.range(revision + 1..).map(|(_, change)| change)
    }

    /// Stores an object under the next revision.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        let version = json!(self.revision.to_string());
        set_metadata(&mut object, "resourceVersion", version);
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.record(key, before, Some(Arc::clone(&object)));
        object
    }

    /// Forgets an object, which takes a revision as well.
    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(before) = self.objects.remove(key) {
            self.revision += 1;
            self.record(key, Some(before), None);
        }
    }

    fn record(&mut self, key: &Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        let change = Change { resource: key.resource, revision: self.revision, before, after };
        self.watchers.retain(|watcher| watcher.offer(&change));
        self.history.insert(self.revision, change);
    }

    pub(crate) fn follow(&mut self, watcher: Watcher) {
        self.watchers.push(watcher);
    }

    /// Ends every watch after what was already sent.
    pub(crate) fn close_watches(&mut self) {
        self.watchers.clear();
    }

    /// Forgets the history up to and including a revision.
    pub(crate) fn compact(&mut self, revision: u64) {
        self.compacted = revision.clamp(self.compacted, self.revision);
        self.history = self.history.split_off(&(self.compacted + 1));
    }
}
