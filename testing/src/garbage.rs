//! The garbage collector, run when a test says so.
//!
//! Invariant: an object goes only when it names owners and none of them exists.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    fields::{is_deleting, list, uid},
    server::ApiServer,
    state::State,
    store::Key,
};

impl ApiServer {
    /// Deletes the objects whose owners are all gone, then those that this leaves without owners,
    /// until there are none. Objects with finalizers are marked and stay owners meanwhile.
    pub fn collect_garbage(&self) {
        let mut state = self.lock();
        loop {
            let orphans = orphans(&state);
            if orphans.is_empty() {
                return;
            }
            for key in orphans {
                let resource = state.registered(key.resource);
                // It was found under this very lock, so it is there to be deleted.
                let _ = state.delete(&resource, &key, &Value::Null);
            }
        }
    }
}

fn orphans(state: &State) -> Vec<Key> {
    let alive: BTreeSet<&str> = state.store.iter().filter_map(|(_, object)| uid(object)).collect();
    state
        .store
        .iter()
        .filter(|(_, object)| !is_deleting(object) && is_orphan(object, &alive))
        .map(|(key, _)| key.clone())
        .collect()
}

fn is_orphan(object: &Value, alive: &BTreeSet<&str>) -> bool {
    let owners = list(object, "/metadata/ownerReferences");
    let is_alive = |owner: &Value| owner["uid"].as_str().is_some_and(|uid| alive.contains(uid));
    !owners.is_empty() && !owners.iter().any(is_alive)
}
