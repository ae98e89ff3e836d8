//! The handle tests hold, and the switches on it.
//!
//! Invariant: clones are the same server, and the lock is never held while time passes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    log::Request,
    registry::{GroupVersionResource, Resource},
    service::Fault,
    state::State,
    store::Change,
};

type Faults = Box<dyn FnMut(&Request) -> Fault + Send>;

/// An in-process Kubernetes API server; clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    faults: Mutex<Option<Faults>>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// An empty server that serves everything Serin uses.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared { state: Mutex::new(State::new()), faults: Mutex::new(None) };
        Self { shared: Arc::new(shared) }
    }

    /// A client of this server. Must be called inside a tokio runtime.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Serves a resource, or changes the rules for one.
    pub fn serve(&self, resource: Resource) {
        let mut state = self.lock();
        state.unserved.remove(&resource.name);
        state.registry.insert(resource.name, resource);
    }

    /// Stops serving a resource, as if its definition were not installed. Its objects stay, and
    /// stay within reach of the methods that read and write without a request.
    pub fn stop_serving(&self, resource: GroupVersionResource) {
        self.lock().unserved.insert(resource);
    }

    /// Whether requests find a resource.
    #[must_use]
    pub fn is_served(&self, resource: GroupVersionResource) -> bool {
        let state = self.lock();
        state.registry.contains_key(&resource) && !state.unserved.contains(&resource)
    }

    /// Has every object of a resource completed before it is stored, after earlier such functions.
    /// The function must not call the server.
    pub fn add_defaults(&self, resource: GroupVersionResource, fill: impl Fn(&mut Value) + Send + Sync + 'static) {
        let mut state = self.lock();
        state.defaults.entry(resource).or_default().push(Box::new(fill));
    }

    /// Sets where timestamps come from. The function must not call the server.
    pub fn set_clock(&self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) {
        self.lock().clock = Arc::new(clock);
    }

    /// The server's time, 2026-01-01T00:00:00Z unless a clock was set.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let clock = Arc::clone(&self.lock().clock);
        clock()
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().store.revision()
    }

    /// What changed after a revision, in order, as far as it is not forgotten.
    #[must_use]
    pub fn changes_after(&self, revision: u64) -> Vec<Change> {
        self.lock().store.changes_after(revision).cloned().collect()
    }

    /// Forgets the history up to a revision: a watch from before it ends with 410. Open watches go
    /// on.
    pub fn compact(&self, revision: u64) {
        self.lock().store.compact(revision);
    }

    /// Ends every open watch, after what was already sent on it.
    pub fn close_watches(&self) {
        self.lock().store.close_watches();
    }

    /// Asks a function for the fate of every request from now on. It may call the server, but not
    /// this method or [`ApiServer::clear_faults`].
    pub fn set_faults(&self, faults: impl FnMut(&Request) -> Fault + Send + 'static) {
        *self.faults() = Some(Box::new(faults));
    }

    /// Lets every request pass again.
    pub fn clear_faults(&self) {
        *self.faults() = None;
    }

    /// Every logged request in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.lock().log.requests().cloned().collect()
    }

    /// Those that asked for a change, refused ones included.
    #[must_use]
    pub fn writes(&self) -> Vec<Request> {
        let state = self.lock();
        let writes = state.log.requests().filter(|request| request.is_write());
        writes.cloned().collect()
    }

    /// Those of them that came after a request, by its ordinal.
    #[must_use]
    pub fn writes_after(&self, ordinal: u64) -> Vec<Request> {
        let state = self.lock();
        let writes = state.log.requests().filter(|request| request.ordinal > ordinal && request.is_write());
        writes.cloned().collect()
    }

    /// How many asked for a change.
    #[must_use]
    pub fn write_count(&self) -> usize {
        self.lock().log.requests().filter(|request| request.is_write()).count()
    }

    /// Logs nothing from now on: copies of all requests cost time.
    pub fn stop_logging(&self) {
        self.lock().log.off = true;
    }

    /// Forgets the logged requests; ordinals go on.
    pub fn clear_log(&self) {
        self.lock().log.clear();
    }

    /// The grants the logged requests need: group, `resource` or `resource/subresource`, and verb.
    #[must_use]
    pub fn verbs_used(&self) -> BTreeSet<(String, String, String)> {
        let state = self.lock();
        let grants = state.log.requests().flat_map(|request| {
            request.verbs().map(|verb| (request.group.clone(), request.target(), verb.to_string()))
        });
        grants.collect()
    }

    pub(crate) fn fault(&self, request: &Request) -> Fault {
        self.faults().as_mut().map_or(Fault::Pass, |faults| faults(request))
    }

    /// A panic elsewhere has failed its own test; the state it leaves is whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Option<Faults>> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
