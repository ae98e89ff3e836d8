//! What the watches have seen, and what this process has written since.
//!
//! Invariant: a pass never acts on an object that is older than this process's own last write to it.

use super::claims::Claims;
use super::configs::Followed;
use super::orders;
use super::scoped::Scoped;
use super::tenancy::Scope;
use crate::api::Canary;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject, Resource};
use kube::runtime::reflector::{ObjectRef, Store};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A watch that has not shown a write after this long will not: the object was deleted again.
const WATCH_LAG: Duration = Duration::from_secs(30);

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: ApiResource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}/{}", self.resource.kind, self.namespace, self.name)
    }
}

/// The objects of all kinds that Serin reads.
#[derive(Default)]
pub struct Cache {
    watched: BTreeMap<String, Scoped<Store<DynamicObject>>>,
    resources: BTreeMap<String, ApiResource>,
    claims: Scoped<Arc<Claims>>,
    written: Mutex<HashMap<Key, (Value, Instant)>>,
    /// Objects of which nobody knows whether the last write to them was carried out.
    doubtful: Mutex<HashSet<Key>>,
    /// The configs of versions.
    pub(super) followed: Arc<Followed>,
}

impl Cache {
    /// Reads objects of this kind from a watch of all namespaces.
    pub fn add(&mut self, resource: ApiResource, store: Store<DynamicObject>) {
        self.add_within(None, resource, store);
    }

    /// Reads objects of this kind from a watch of one scope.
    pub fn add_within(&mut self, scope: Scope, resource: ApiResource, store: Store<DynamicObject>) {
        self.watched.entry(resource.kind.clone()).or_default().insert(scope, store);
        self.resources.insert(resource.kind.clone(), resource);
    }

    /// A kind in the version in which it is watched; nothing when it is not.
    pub fn resource(&self, kind: &str) -> Option<&ApiResource> {
        self.resources.get(kind)
    }

    /// Reads from here which Canaries of a scope are about which names.
    pub(super) fn index(&mut self, scope: Scope, claims: Arc<Claims>) {
        self.claims.insert(scope, claims);
    }

    /// Which Canaries of a namespace are about which names.
    pub(super) fn claims(&self, namespace: &str) -> Option<&Claims> {
        self.claims.within(namespace).map(|claims| &**claims)
    }

    /// Returns when every watch of a scope has listed its objects once.
    pub async fn ready(&self, scope: &Scope) {
        for store in self.watched.values().filter_map(|stores| stores.of(scope)) {
            // An error means that the watch was dropped: the process is stopping.
            let _ = store.wait_until_ready().await;
        }
    }

    /// The newest known version of an object.
    pub fn get(&self, key: &Key) -> Option<Value> {
        let watched = self.watched(key).and_then(|object| serde_json::to_value(&*object).ok());
        self.newest(key, watched)
    }

    /// The Canary that an object belongs to, as the watch shows it.
    pub(super) fn holder(&self, key: &Key) -> Option<OwnerReference> {
        let object = self.watched(key)?;
        let is_canary =
            |owner: &&OwnerReference| owner.kind == Canary::kind(&()) && owner.api_version == Canary::api_version(&());
        object.owner_references().iter().find(is_canary).cloned()
    }

    fn watched(&self, key: &Key) -> Option<Arc<DynamicObject>> {
        let reference = ObjectRef::new_with(&key.name, key.resource.clone()).within(&key.namespace);
        self.watched.get(&key.resource.kind)?.within(&key.namespace)?.get(&reference)
    }

    /// All objects of a kind for which `matches` holds, as the watch shows them, by name.
    pub fn list(&self, kind: &str, matches: impl Fn(&DynamicObject) -> bool) -> Vec<Value> {
        let stores = self.watched.get(kind).into_iter().flat_map(Scoped::all);
        let mut found: Vec<_> = stores.flat_map(|store| store.state_filter(&matches)).collect();
        // A store has no order, and what is written must not depend on that.
        found.sort_by_key(|object| (object.namespace(), object.name_any()));
        found.into_iter().filter_map(|object| serde_json::to_value(&*object).ok()).collect()
    }

    /// Remembers what the API server answered to a write.
    pub fn wrote(&self, key: Key, object: Value) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|_, (_, at)| at.elapsed() <= WATCH_LAG);
        written.insert(key, (object, Instant::now()));
    }

    /// Remembers that nobody knows whether a write was carried out: a watch that is behind must not be believed.
    pub(super) fn doubt(&self, key: Key) {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    pub(super) fn is_doubtful(&self, key: &Key) -> bool {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// The API server itself has said how it is.
    pub(super) fn settle(&self, key: &Key) {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The newer of what a pass has looked at and what was written since. A pass may have looked at what was written, so
    /// nothing is forgotten here: the watch may still be behind it.
    pub(super) fn newer(&self, key: &Key, found: Option<Value>) -> Option<Value> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match (written.get(key), found) {
            (Some((ours, _)), Some(found)) if version(&found) >= version(ours) => Some(found),
            (Some((ours, at)), found) if found.is_some() || at.elapsed() <= WATCH_LAG => Some(ours.clone()),
            (_, found) => found,
        }
    }

    /// The newer of what a watch shows and what was written, which is forgotten once the watch shows it.
    pub fn newest(&self, key: &Key, watched: Option<Value>) -> Option<Value> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((ours, at)) = written.get(key) else { return watched };
        let caught_up = match &watched {
            Some(watched) => version(watched) >= version(ours),
            None => at.elapsed() > WATCH_LAG,
        };
        if caught_up {
            written.remove(key);
            return watched;
        }
        Some(ours.clone())
    }
}

/// Resource versions of one kind are comparable numbers (KEP-5504).
pub(super) fn version(object: &Value) -> u128 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Drops what is never looked at, before it is cached.
pub fn slim(object: &mut DynamicObject) {
    object.managed_fields_mut().clear();
}

/// The same for a Canary, of which is looked at who gave an order.
pub fn slim_canary(canary: &mut impl ResourceExt) {
    orders::slim_managers(canary.managed_fields_mut());
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::GroupVersionKind;
    use serde_json::json;

    fn key() -> Key {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
        Key { resource, namespace: "shop".into(), name: "web".into() }
    }

    fn at(version: &str) -> Value {
        json!({"metadata": {"resourceVersion": version}})
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_watch_does_not_undo_a_write() {
        let cache = Cache::default();
        cache.wrote(key(), at("10"));
        assert_eq!(cache.newest(&key(), Some(at("9"))), Some(at("10")));
        assert_eq!(cache.newest(&key(), None), Some(at("10")), "created a moment ago");
        assert_eq!(cache.newest(&key(), Some(at("11"))), Some(at("11")));
        assert_eq!(cache.newest(&key(), Some(at("9"))), Some(at("9")), "a write is forgotten once the watch shows it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_looks_at_its_own_write_does_not_forget_it() {
        let cache = Cache::default();
        cache.wrote(key(), at("10"));
        assert_eq!(cache.newer(&key(), Some(at("10"))), Some(at("10")));
        assert_eq!(cache.newest(&key(), Some(at("9"))), Some(at("10")), "the watch is still behind");
        assert_eq!(cache.newer(&key(), Some(at("9"))), Some(at("10")));
        assert_eq!(cache.newer(&key(), Some(at("11"))), Some(at("11")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_no_watch_ever_shows_is_forgotten() {
        let cache = Cache::default();
        cache.wrote(key(), at("10"));
        tokio::time::advance(WATCH_LAG * 2).await;
        assert_eq!(cache.newest(&key(), None), None);
    }
}
