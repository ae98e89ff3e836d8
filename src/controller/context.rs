//! What every pass shares, and the one door to the API server.
//!
//! Invariant: no write leaves without certain leadership, and no call without a deadline.

use super::alerts::{Deliveries, Outbox};
use super::cache::{Cache, Key, slim, slim_canary};
use super::claims::Guarded;
use super::clock::Clock;
use super::egress::Egress;
use super::error::Error;
use super::lease::Leadership;
use super::news::News;
use super::observe::Network;
use super::scoped::Scoped;
use super::settings::Settings;
use super::tenancy::Scope;
use super::webhooks::Caller;
use crate::api::{AlertProvider, Canary, Defaults, MetricTemplate};
use crate::telemetry::Metrics;
use crate::workload::autoscaler;
use crate::workload::configs::Kind;
use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, GetParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, Resource};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

/// The name under which fields are written.
pub(super) const MANAGER: &str = "serin";

/// Longer than an API server under load takes, and shorter than anybody's patience.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What every pass shares.
pub struct Context {
    /// Speaks to the API server.
    pub client: Client,
    /// What the operator was told.
    pub settings: Settings,
    /// The right to write.
    pub leadership: Leadership,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Objects of all kinds but the two below.
    pub cache: Cache,
    /// Query templates.
    pub templates: Scoped<Store<MetricTemplate>>,
    /// Requests to others than the API server.
    pub egress: Egress,
    /// Metric providers.
    pub network: Arc<dyn Network>,
    /// Calls webhooks.
    pub caller: Arc<Caller>,
    /// The Canaries, as the watch shows them.
    pub canaries: Scoped<Store<Guarded>>,
    /// What passes that wait are told.
    pub news: Arc<News>,
    /// Takes alerts; without one nobody is told.
    pub outbox: Option<Outbox>,
    /// Time.
    pub clock: Clock,
    /// Where every watch has listed its objects once.
    filled: watch::Sender<BTreeSet<Scope>>,
    /// As many passes at a time as the settings allow.
    slots: Semaphore,
    /// How many passes are due and wait for a slot.
    waiting: AtomicUsize,
    /// How often in a row a pass failed, by Canary.
    failures: Mutex<HashMap<Key, u32>>,
}

impl Context {
    /// Nothing is known yet, and nobody is told.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is another thing that all passes share")]
    pub fn new(
        client: Client,
        egress: Egress,
        settings: Settings,
        leadership: Leadership,
        metrics: Arc<Metrics>,
        cache: Cache,
        templates: impl Into<Scoped<Store<MetricTemplate>>>,
        clock: Clock,
    ) -> Self {
        Self {
            caller: Arc::new(Caller::new(client.clone(), egress.clone(), settings.webhook_concurrency)),
            network: Arc::new(egress.clone()),
            egress,
            canaries: Scoped::default(),
            news: Arc::default(),
            filled: watch::Sender::default(),
            slots: Semaphore::new(settings.concurrency),
            waiting: AtomicUsize::new(0),
            client,
            settings,
            leadership,
            metrics,
            cache,
            templates: templates.into(),
            clock,
            outbox: None,
            failures: Mutex::default(),
        }
    }

    /// Begins to tell.
    #[must_use]
    pub fn open_outbox(&mut self, providers: impl Into<Scoped<Store<AlertProvider>>>) -> Deliveries {
        let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
        let (outbox, deliveries) = Outbox::open(
            client,
            &self.settings.alerts,
            providers,
            (self.egress.clone(), Arc::clone(&self.caller)),
            metrics,
        );
        self.outbox = Some(outbox);
        deliveries
    }

    /// What the flags say where a spec does not.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        Defaults {
            drain_delay: self.settings.drain_delay,
            route_grace: self.settings.route_grace,
            meshless: self.settings.provider == "kubernetes",
        }
    }

    /// The Canary as it was last written, if that is newer than what the watch shows.
    ///
    /// # Errors
    /// When it cannot be read as one.
    pub fn newest(&self, canary: &Canary) -> Result<Canary, Error> {
        let key = canary_key(canary);
        let decode = |source| Error::Decode { object: key.to_string(), source };
        let watched = serde_json::to_value(canary).map_err(decode)?;
        let newest = self.cache.newest(&key, Some(watched)).unwrap_or_default();
        serde_json::from_value(newest).map_err(decode)
    }

    /// The Canary as the watch shows it now; nothing when it is gone or cannot be read any more.
    #[must_use]
    pub fn watched(&self, canary: &Canary) -> Option<Canary> {
        let key = canary_key(canary);
        // Where no watch is, nothing is known but what was given.
        let Some(watched) = self.canaries.within(&key.namespace) else { return Some(canary.clone()) };
        let guard = watched.get(&ObjectRef::new(&key.name).within(&key.namespace))?;
        self.newest(guard.0.as_ref().ok()?).ok()
    }

    /// Reads an object from the API server itself.
    ///
    /// # Errors
    /// When it does not answer, or says no.
    pub async fn read(&self, key: &Key) -> Result<Option<Value>, Error> {
        let found = self.call("read", key, self.api(key).get_opt(&key.name)).await?;
        found.map(|object| as_value(key, &object)).transpose()
    }

    /// Reads an object from the API server itself, and remembers it: the watch may be behind what was read.
    ///
    /// # Errors
    /// When it does not answer, or says no.
    pub async fn look_up(&self, key: &Key) -> Result<Option<Value>, Error> {
        let found = self.read(key).await?;
        self.cache.settle(key);
        if let Some(found) = &found {
            self.cache.wrote(key.clone(), found.clone());
        }
        Ok(found)
    }

    /// Reads a ConfigMap or Secret whole, which no cache holds.
    ///
    /// # Errors
    /// When the API server does not answer, or says no.
    pub async fn content(&self, key: &Key) -> Result<Option<Value>, Error> {
        let request = collection(key).get(&key.name, &GetParams::default());
        match self.call("read", key, self.text(request)).await {
            Ok(text) => {
                let decode = |source| Error::Decode { object: key.to_string(), source };
                serde_json::from_str(&text).map(Some).map_err(decode)
            }
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the copy of a ConfigMap or Secret.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no.
    pub async fn copy(&self, key: &Key, object: &Value) -> Result<(), Error> {
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let request = collection(key).create(&parameters, object.to_string().into_bytes());
        let made = self.write("create", key, self.text(request)).await?;
        let decode = |source| Error::Decode { object: key.to_string(), source };
        let made: DynamicObject = serde_json::from_str(&made).map_err(decode)?;
        self.wrote(key, &made).map(drop)
    }

    /// The text of an answer, which is logged nowhere.
    async fn text(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<String, kube::Error> {
        self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await
    }

    /// Makes an object.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no.
    pub async fn create(&self, key: &Key, object: &Value) -> Result<Value, Error> {
        let decode = |source| Error::Decode { object: key.to_string(), source };
        let object: DynamicObject = serde_json::from_value(object.clone()).map_err(decode)?;
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let made = self.write("create", key, self.api(key).create(&parameters, &object)).await?;
        self.wrote(key, &made)
    }

    /// Changes what differs between `found` and `wanted`, if the object still is what was found.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no; a conflict when the object has changed.
    pub async fn change(&self, key: &Key, found: &Value, wanted: &Value) -> Result<Value, Error> {
        let mut patch = json_patch::diff(found, wanted);
        let fence =
            json!({"op": "add", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]});
        let fence = serde_json::from_value(fence).map_err(|source| Error::Patch { object: key.to_string(), source })?;
        patch.0.push(fence);
        let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Json::<()>(patch);
        let changed = self.write("change", key, self.api(key).patch(&key.name, &parameters, &patch)).await?;
        self.wrote(key, &changed)
    }

    /// Replaces the status, if the Canary still is what was read.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no; a conflict when the Canary has changed.
    pub async fn replace_status(&self, canary: &Canary) -> Result<Canary, Error> {
        let key = canary_key(canary);
        let api: Api<Canary> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        // What is left of these would be taken for a wish to have no others.
        let mut canary = canary.clone();
        canary.metadata.managed_fields = None;
        let recorded = api.replace_status(&key.name, &parameters, &canary);
        let mut canary = self.write("record", &key, recorded).await?;
        slim_canary(&mut canary);
        let value =
            serde_json::to_value(&canary).map_err(|source| Error::Decode { object: key.to_string(), source })?;
        self.cache.wrote(key, value);
        Ok(canary)
    }

    /// Deletes an object; that it is gone already is as good.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        match self.write("delete", key, self.api(key).delete(&key.name, &kube::api::DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(404) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes an event of an object; that it is there already is as good. An event is a write like any other: what an
    /// instance that is not sure has to say of a Canary may be wrong by now.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no.
    pub async fn publish(&self, key: &Key, event: &Event) -> Result<(), Error> {
        let api = Api::namespaced(self.client.clone(), &key.namespace);
        match self.write("publish an event of", key, api.create(&PostParams::default(), event)).await {
            Err(error) if error.code() != Some(409) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Gives any call to the API server its deadline, and its failure a name.
    ///
    /// # Errors
    /// Says what was being done to what.
    pub async fn call<T>(
        &self,
        verb: &'static str,
        key: &Key,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        within(CALL_LIMIT, verb, key, call).await
    }

    /// The same for a write, which must not be on its way longer than leadership is certain.
    async fn write<T>(
        &self,
        verb: &'static str,
        key: &Key,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        let left = self.leadership.remaining();
        if left.is_zero() {
            return Err(Error::Lead);
        }
        within(CALL_LIMIT.min(left), verb, key, call).await
    }

    /// Waits until every watch has listed its objects once, and lets the passes begin: in each scope by itself, so that
    /// a namespace that cannot be read holds up no other. To be called once: a store of kube 5 wakes only the last of
    /// several that wait for it.
    pub async fn fill(&self) {
        join_all(self.templates.scopes().map(|scope| self.fill_scope(scope))).await;
    }

    async fn fill_scope(&self, scope: &Scope) {
        self.cache.ready(scope).await;
        if let Some(templates) = self.templates.of(scope) {
            // An error means that the watch was dropped: the process is stopping.
            let _ = templates.wait_until_ready().await;
        }
        self.filled.send_modify(|filled| {
            filled.insert(scope.clone());
        });
    }

    /// Returns when every watch of a namespace has listed its objects once.
    pub async fn filled(&self, namespace: &str) {
        let scopes = [None, Some(namespace.to_owned())];
        // The sender lives as long as `self`.
        let _ = self.filled.subscribe().wait_for(|filled| scopes.iter().any(|scope| filled.contains(scope))).await;
    }

    /// Waits until a pass may begin; it ends when the permit is dropped. `None` when the process stops.
    pub async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.metrics.queue_depth(self.waiting.fetch_add(1, Ordering::Relaxed) + 1);
        let permit = self.slots.acquire().await;
        self.metrics.queue_depth(self.waiting.fetch_sub(1, Ordering::Relaxed) - 1);
        permit.ok()
    }

    /// No pass begins any more, and none waits for its turn or for an answer: the process stops.
    pub fn stop(&self) {
        self.slots.close();
        self.news.stop();
    }

    /// Counts a failed pass of a Canary; answers how many in a row that makes.
    pub fn failed(&self, key: &Key) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// How often in a row the passes of a Canary failed.
    #[must_use]
    pub fn failures(&self, key: &Key) -> u32 {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(key).copied().unwrap_or_default()
    }

    /// Forgets the failed passes of a Canary.
    pub fn succeeded(&self, key: &Key) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, &key.resource)
    }

    fn wrote(&self, key: &Key, object: &DynamicObject) -> Result<Value, Error> {
        let value = as_value(key, object)?;
        self.cache.wrote(key.clone(), value.clone());
        Ok(value)
    }
}

async fn within<T>(
    limit: Duration,
    verb: &'static str,
    key: &Key,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Call { verb, object: key.to_string(), source: Box::new(source) }),
        Err(_) => Err(Error::TimeOut { verb, object: key.to_string(), limit }),
    }
}

/// Names a Canary.
pub(super) fn canary_key(canary: &impl Resource<DynamicType = ()>) -> Key {
    let namespace = canary.namespace().unwrap_or_default();
    Key { resource: ApiResource::erase::<Canary>(&()), namespace, name: canary.name_any() }
}

/// Where the objects of a kind are, in a namespace.
fn collection(key: &Key) -> kube::core::Request {
    kube::core::Request::new(DynamicObject::url_path(&key.resource, Some(&key.namespace)))
}

fn as_value(key: &Key, object: &DynamicObject) -> Result<Value, Error> {
    let mut object = object.clone();
    if key.resource.kind == Canary::kind(&()) {
        slim_canary(&mut object);
    } else {
        slim(&mut object);
    }
    if let Some(kind) = Kind::named(&key.resource.kind) {
        super::configs::slim_config(kind, &mut object);
    }
    if autoscaler::by_kind(&key.resource.kind).is_some() {
        super::scaling::slim_scaler(&mut object);
    }
    serde_json::to_value(&object).map_err(|source| Error::Decode { object: key.to_string(), source })
}
