//! What the watches have seen, and what this process has written since.
//!
//! Invariant: a pass never acts on an object that is older than this process's own last write to it.

use super::claims::{Claim, Claims};
use super::configs::{self, Followed};
use super::rollout::records;
use super::scaling;
use super::scoped::Scoped;
use super::store::{Kept, Marks, Store, number};
use super::tenancy::Scope;
use crate::api::Canary;
use crate::domain::{Led, Weight};
use crate::workload::autoscaler;
use crate::workload::configs::Kind;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

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
    stores: BTreeMap<String, Scoped<Arc<Store>>>,
    resources: BTreeMap<String, ApiResource>,
    claims: Scoped<Arc<Claims>>,
    /// Objects of which nobody knows whether the last write to them was carried out.
    doubtful: Mutex<HashSet<Key>>,
    /// Routes as this process wrote them last.
    led: Mutex<HashMap<Key, LedBy>>,
    /// The configs of versions.
    pub(super) followed: Arc<Followed>,
}

impl Cache {
    /// Reads objects of this kind from a watch of all namespaces, which is to show them to what is answered.
    pub fn add(&mut self, resource: ApiResource) -> Arc<Store> {
        self.add_within(None, resource)
    }

    /// Reads objects of this kind from a watch of one scope, and keeps each of them.
    pub fn add_within(&mut self, scope: Scope, resource: ApiResource) -> Arc<Store> {
        let store = Store::whole(resource.clone(), marks(&resource.kind));
        self.insert(scope, resource, store)
    }

    /// The same, but keeps only those that some Canary is about: most Deployments of a cluster concern nobody here.
    pub(super) fn add_claimed(&mut self, scope: Scope, resource: ApiResource) -> Arc<Store> {
        let claims = self.claims.of(&scope).cloned().unwrap_or_default();
        let store = Store::claimed(resource.clone(), marks(&resource.kind), claims);
        self.insert(scope, resource, store)
    }

    fn insert(&mut self, scope: Scope, resource: ApiResource, store: Store) -> Arc<Store> {
        let store = Arc::new(store);
        self.stores.entry(resource.kind.clone()).or_default().insert(scope, Arc::clone(&store));
        self.resources.insert(resource.kind.clone(), resource);
        store
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
        for store in self.stores.values().filter_map(|stores| stores.of(scope)) {
            store.ready().await;
        }
    }

    /// The newest known version of an object.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        let store = self.store(key)?;
        store.value(&store.get(&key.namespace, &key.name)?)
    }

    /// The text of the newest known version of an object.
    pub(super) fn kept(&self, key: &Key) -> Option<Kept> {
        self.store(key)?.get(&key.namespace, &key.name)
    }

    /// Whether a watch shows the object.
    pub(super) fn shows(&self, key: &Key) -> bool {
        self.store(key).is_some_and(|store| store.shows(&key.namespace, &key.name))
    }

    /// The Canary that an object belongs to, as the watch shows it.
    pub(super) fn holder(&self, key: &Key) -> Option<OwnerReference> {
        self.store(key)?.holder(&key.namespace, &key.name)
    }

    /// All objects of a kind that a mark leads to, as the watch shows them, by name.
    pub(super) fn marked(&self, kind: &str, mark: &str) -> Vec<Arc<Value>> {
        let stores = self.stores.get(kind).into_iter().flat_map(Scoped::all);
        stores.flat_map(|store| store.marked(mark)).collect()
    }

    /// The names of the same.
    pub(super) fn marked_names(&self, kind: &str, mark: &str) -> Vec<String> {
        let stores = self.stores.get(kind).into_iter().flat_map(Scoped::all);
        stores.flat_map(|store| store.marked_names(mark)).collect()
    }

    /// The objects that a Canary may be about and of which nothing is known but that they are there.
    pub(super) fn stubs(&self, claim: &Claim) -> Vec<Key> {
        let namespace = claim.namespace();
        let stores = self.stores.iter().filter_map(|(kind, stores)| Some((kind, stores.within(namespace)?)));
        let stores: Vec<_> = stores.filter(|(_, store)| store.has_stubs()).collect();
        if stores.is_empty() {
            return vec![];
        }
        let names: Vec<_> = claim.all_names().collect();
        let stubs = stores.into_iter().flat_map(|(kind, store)| {
            let stubs = names.iter().filter(|name| store.is_stub(namespace, name));
            stubs.filter_map(|name| Some((self.resource(kind)?.clone(), name.clone())))
        });
        stubs.map(|(resource, name)| Key { resource, namespace: namespace.to_owned(), name }).collect()
    }

    /// What the API server says of an object of which nothing was known but that it is there. It is slim.
    pub(super) fn complete(&self, key: &Key, found: Option<DynamicObject>) {
        if let Some(store) = self.store(key) {
            store.complete(&key.namespace, &key.name, found);
        }
    }

    /// Remembers what the API server answered to a write. It is slim.
    pub(super) fn wrote(&self, key: &Key, object: DynamicObject) {
        if let Some(store) = self.store(key) {
            store.wrote(object);
        }
    }

    /// Remembers a Canary as the API server answered it to a write of its status.
    pub(super) fn recorded(&self, key: &Key, canary: &Canary) {
        if let Some(store) = self.store(key) {
            store.recorded(canary);
        }
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

    /// Remembers how this process has led traffic, by what was on record: a weight that is put right again and again is there
    /// since the first time.
    pub(super) fn led(&self, key: &Key, route: &Value, weight: Weight, record: &Canary, now: Timestamp) {
        let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        let since = led.get(key).filter(|before| before.weight == weight).map_or(now, |before| before.led.since);
        let now = Led { since, written: now };
        let record = record.resource_version();
        led.insert(key.clone(), LedBy { identity: identity(route), weight, record, led: now });
    }

    /// Since when a route is led as this process has led it last; nothing when it is led otherwise.
    pub(super) fn led_as(&self, key: &Key, found: Option<&Value>) -> Option<Led> {
        let led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        let LedBy { identity: written, led, .. } = led.get(key)?;
        (identity(found?) == *written).then_some(*led)
    }

    /// Whether a route is led as this process has led it last, and nobody has recorded anything since: nobody leads traffic
    /// without a record.
    pub(super) fn is_led_by(&self, key: &Key, found: Option<&Value>, record: &Canary) -> bool {
        let led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |led: &LedBy| found.is_some_and(|found| identity(found) == led.identity);
        led.get(key).is_some_and(|led| is_known(led) && led.record == record.resource_version())
    }

    /// Its Canary is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.led.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The newer of what a pass has looked at and what this process has written since. What else the watch has shown since
    /// is not meant: what was rendered from an older one must meet with a conflict.
    pub(super) fn newer(&self, key: &Key, found: Option<Arc<Value>>) -> Option<Arc<Value>> {
        let Some(store) = self.store(key) else { return found };
        match (store.written(&key.namespace, &key.name), found) {
            (Some((ours, _)), Some(found)) if version(&found) >= ours.version() => Some(found),
            (Some((ours, is_over)), found) if found.is_some() || !is_over => store.value(&ours),
            (_, found) => found,
        }
    }

    fn store(&self, key: &Key) -> Option<&Store> {
        self.stores.get(&key.resource.kind)?.within(&key.namespace).map(|store| &**store)
    }
}

/// How this process has led traffic by a route.
struct LedBy {
    identity: Identity,
    /// The canary's share.
    weight: Weight,
    /// The version of the record that says so.
    record: Option<String>,
    led: Led,
}

/// Which object it is, and of which generation: its status says what is made of that.
pub(super) type Identity = (Value, Value);

pub(super) fn identity(object: &Value) -> Identity {
    (object["metadata"]["uid"].clone(), object["metadata"]["generation"].clone())
}

/// By what objects of a kind are looked for, besides their names.
fn marks(kind: &str) -> Marks {
    if kind == records().kind {
        owners
    } else if Kind::named(kind).is_some() {
        |object| if configs::is_copy(object) { owners(object) } else { vec![] }
    } else if autoscaler::by_kind(kind).is_some() {
        |object| owners(object).into_iter().chain(scaling::paused_for(object)).collect()
    } else {
        |_| vec![]
    }
}

/// The UIDs of the owners.
fn owners(object: &DynamicObject) -> Vec<Box<str>> {
    object.owner_references().iter().map(|owner| owner.uid.as_str().into()).collect()
}

/// The version of an object.
pub(super) fn version(object: &Value) -> u128 {
    object["metadata"]["resourceVersion"].as_str().map_or(0, number)
}
