//! The way in for a test's user and its simulated controllers.
//!
//! Invariant: what goes this way follows the same rules and reaches the same watches as a request,
//! but may write the whole object, meets no fault and is not logged.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    fields::{resource_version, set_metadata, text, well_formed},
    patch::Format,
    refusal::{Refusal, not_found},
    registry::GroupVersionResource,
    rules::Scope,
    selector::Selection,
    server::ApiServer,
    store::Key,
};

impl ApiServer {
    /// Reads an object. The namespace of cluster-scoped ones is empty.
    #[must_use]
    pub fn get(&self, resource: GroupVersionResource, namespace: &str, name: &str) -> Option<Value> {
        self.look_at(resource, namespace, name).map(Arc::unwrap_or_clone)
    }

    /// The same, without a copy.
    #[must_use]
    pub fn look_at(&self, resource: GroupVersionResource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = Key::new(resource, namespace, name);
        self.lock().store.get(&key).cloned()
    }

    /// Reads all objects of one namespace, or of all.
    #[must_use]
    pub fn list(&self, resource: GroupVersionResource, namespace: Option<&str>) -> Vec<Value> {
        self.look_at_all(resource, namespace).into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// The same, without copies.
    #[must_use]
    pub fn look_at_all(&self, resource: GroupVersionResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let selection = Selection::of_namespace(namespace);
        self.lock().store.select(resource, &selection).cloned().collect()
    }

    /// Creates an object or replaces the one of its name, status included. Where the
    /// status is a matter of its own, an object without one leaves the stored one alone.
    ///
    /// # Errors
    ///
    /// Those of the API, such as a conflict when the object carries an old `resourceVersion`.
    ///
    /// # Panics
    ///
    /// When the resource was never registered.
    pub fn put(&self, resource: GroupVersionResource, mut object: Value) -> Result<Value, Refusal> {
        well_formed(&object)?;
        let mut state = self.lock();
        let resource = state.registered(resource);
        let namespace = text(&object, "/metadata/namespace").unwrap_or_default().to_owned();
        let name = text(&object, "/metadata/name").unwrap_or_default();
        let key = Key::new(resource.name, &namespace, name);
        let stored = if let Some(stored) = state.store.get(&key) {
            if resource.status && object["status"].is_null() {
                object["status"] = stored["status"].clone();
            }
            state.replace(&resource, &key, object, Scope::Everything)?
        } else {
            state.create(&resource, &namespace, object, Scope::Everything)?
        };
        Ok(Value::clone(&stored))
    }

    /// Merges a patch into an object, status included.
    ///
    /// # Errors
    ///
    /// Those of the API, such as the object not being there.
    ///
    /// # Panics
    ///
    /// When the resource was never registered.
    pub fn patch(
        &self,
        resource: GroupVersionResource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Refusal> {
        let mut state = self.lock();
        let resource = state.registered(resource);
        let key = Key::new(resource.name, namespace, name);
        let stored = state.store.get(&key).cloned();
        let stored = stored.ok_or_else(|| not_found(&resource, name))?;
        let patched = Format::Merge.patched(&stored, patch)?;
        let stored = state.replace(&resource, &key, patched, Scope::Everything)?;
        Ok(Value::clone(&stored))
    }

    /// Changes an object in place, status included. The function may call the server, and runs
    /// again if the object changes meanwhile.
    ///
    /// # Errors
    ///
    /// Those of the API, such as the object not being there.
    ///
    /// # Panics
    ///
    /// When the resource was never registered.
    pub fn update(
        &self,
        resource: GroupVersionResource,
        namespace: &str,
        name: &str,
        mut change: impl FnMut(&mut Value),
    ) -> Result<Value, Refusal> {
        loop {
            let registered = self.lock().registered(resource);
            let mut object = self.get(resource, namespace, name).ok_or_else(|| not_found(&registered, name))?;
            let version = json!(resource_version(&object));
            change(&mut object);
            well_formed(&object)?;
            set_metadata(&mut object, "resourceVersion", version);
            let key = Key::new(resource, namespace, name);
            match self.lock().replace(&registered, &key, object, Scope::Everything) {
                Err(refusal) if refusal.is_conflict() => {}
                outcome => return outcome.map(|stored| Value::clone(&stored)),
            }
        }
    }

    /// Deletes an object; with finalizers on it, it is only marked.
    ///
    /// # Errors
    ///
    /// When the object is not there.
    ///
    /// # Panics
    ///
    /// When the resource was never registered.
    pub fn delete(&self, resource: GroupVersionResource, namespace: &str, name: &str) -> Result<(), Refusal> {
        let mut state = self.lock();
        let resource = state.registered(resource);
        let key = Key::new(resource.name, namespace, name);
        state.delete(&resource, &key, &Value::Null).map(drop)
    }
}
