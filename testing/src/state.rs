//! Everything the server knows, behind one lock.
//!
//! Invariant: whatever is to be the same on every run comes from here, and from nowhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    log::Log,
    registry::{self, GroupVersionResource, Resource},
    store::Store,
};

/// Fills in what an object leaves out.
pub(crate) type Defaults = Box<dyn Fn(&mut Value) + Send + Sync>;
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) registry: BTreeMap<GroupVersionResource, Resource>,
    /// Resources that requests do not find, as if their definitions were not installed.
    pub(crate) unserved: BTreeSet<GroupVersionResource>,
    pub(crate) defaults: BTreeMap<GroupVersionResource, Vec<Defaults>>,
    pub(crate) clock: Clock,
    uids: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            store: Store::default(),
            log: Log::default(),
            registry: registry::known(),
            unserved: BTreeSet::new(),
            defaults: BTreeMap::new(),
            // 2026-01-01T00:00:00Z, for want of a better moment.
            clock: Arc::new(|| Timestamp::constant(1_767_225_600, 0)),
            uids: 0,
        }
    }

    pub(crate) fn next_uid(&mut self) -> u64 {
        self.uids += 1;
        self.uids
    }

    /// The time in the format of `metadata.creationTimestamp`.
    pub(crate) fn now(&self) -> String {
        format_time((self.clock)())
    }

    pub(crate) fn apply_defaults(&self, resource: &Resource, object: &mut Value) {
        for fill in self.defaults.get(&resource.name).into_iter().flatten() {
            fill(object);
        }
    }

    /// The resource a test names.
    ///
    /// # Panics
    ///
    /// When it was never registered, which is a mistake in the test.
    pub(crate) fn registered(&self, name: GroupVersionResource) -> Resource {
        *self.registry.get(&name).unwrap_or_else(|| panic!("{} is not registered", name.qualified()))
    }
}

/// A time in whole seconds, as Kubernetes writes it.
pub(crate) fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
