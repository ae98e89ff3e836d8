//! What every pass shares, and the one door to the API server.
//!
//! Invariant: no write leaves without certain leadership, no call without a deadline, and none but by its lane.

use super::alerts::{Deliveries, Outbox};
use super::cache::{Cache, Key};
use super::claims::{Claim, NamespacedName};
use super::clock::Clock;
use super::egress::Egress;
use super::error::Error;
use super::inquiries::{Inquiries, Way};
use super::lanes::{Lane, Lanes, Refusal};
use super::lease::Leadership;
use super::news::News;
use super::observe::Network;
use super::scoped::Scoped;
use super::secrets::{self, Secrets};
use super::settings::Settings;
use super::slim::{slim, slim_canary};
use super::slots::Slots;
use super::tenancy::Scope;
use super::webhooks::Caller;
use crate::api::{AlertProvider, Canary, Defaults, MetricTemplate};
use crate::domain::Answer;
use crate::metrics::Query;
use crate::telemetry::Metrics;
use futures::TryFutureExt;
use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, DynamicObject, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, Resource};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The name under which fields are written.
pub(super) const MANAGER: &str = "serin";

/// How long a call to the API server may take: longer than one under load takes, and shorter than anybody's patience.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

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
    /// Objects of all kinds but templates.
    pub cache: Cache,
    /// Query templates.
    pub templates: Scoped<Store<MetricTemplate>>,
    /// Requests to others than the API server.
    pub egress: Egress,
    /// Metric providers.
    pub network: Arc<dyn Network>,
    /// Calls webhooks.
    pub caller: Arc<Caller>,
    /// What passes that wait are told.
    pub news: Arc<News>,
    /// Takes alerts; without one nobody is told.
    pub outbox: Option<Outbox>,
    /// Time.
    pub clock: Clock,
    /// Where every watch has listed its objects once.
    filled: watch::Sender<BTreeSet<Scope>>,
    /// The order in which calls leave.
    lanes: Lanes,
    /// Questions under way.
    inquiries: Inquiries,
    /// As many passes that write at a time as the settings allow.
    pub(super) slots: Slots,
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
        let lanes = Lanes::new(settings.api_concurrency);
        let secrets = Secrets::new(client.clone(), lanes.clone(), Lane::Work);
        Self {
            caller: Arc::new(Caller::new(secrets, egress.clone(), settings.webhook_concurrency)),
            network: Arc::new(egress.clone()),
            egress,
            news: Arc::default(),
            filled: watch::Sender::default(),
            slots: Slots::new(settings.concurrency, Arc::clone(&metrics)),
            inquiries: Inquiries::new(settings.query_concurrency),
            lanes,
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
        let secrets = Secrets::new(self.client.clone(), self.lanes.clone(), Lane::Courtesy);
        let metrics = Arc::clone(&self.metrics);
        let (outbox, deliveries) = Outbox::open(
            secrets,
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

    /// The newest known version of a Canary; nothing when it is not there, an error when it cannot be read as one.
    #[must_use]
    pub fn canary(&self, key: &Key) -> Option<Result<Canary, serde_json::Error>> {
        Some(self.cache.kept(key)?.canary())
    }

    /// The same as long as the watch shows it; nothing either when it cannot be read any more.
    #[must_use]
    pub fn watched(&self, key: &Key) -> Option<Canary> {
        self.canary(key).filter(|_| self.cache.shows(key))?.ok()
    }

    /// Reads the objects that a Canary may be about and of which nothing is known but that they are there: until a Canary came
    /// to be about them, they were nobody's business.
    ///
    /// # Errors
    /// When the API server does not answer, or says no. What is not known is not taken for missing.
    pub(super) async fn complete(&self, lane: Lane, claim: &Claim) -> Result<(), Error> {
        let stubs = self.cache.stubs(claim);
        let reads = stubs.iter().map(async |key| {
            let found = self.fetch(lane, key).await?;
            self.cache.complete(key, found.map(|object| slimmed(key, object)));
            Ok(())
        });
        join_all(reads).await.into_iter().collect::<Result<(), Error>>()?;
        match self.cache.stubs(claim).first() {
            Some(unknown) if !stubs.is_empty() => Err(Error::Supersede(unknown.to_string())),
            Some(_) | None => Ok(()),
        }
    }

    /// Reads an object from the API server itself.
    ///
    /// # Errors
    /// When it does not answer, or says no.
    pub async fn read(&self, lane: Lane, key: &Key) -> Result<Option<Value>, Error> {
        let found = self.fetch(lane, key).await?;
        found.map(|object| as_value(key, &slimmed(key, object))).transpose()
    }

    /// Reads an object from the API server itself, and remembers it: the watch may be behind what was read.
    ///
    /// # Errors
    /// When it does not answer, or says no.
    pub async fn look_up(&self, lane: Lane, key: &Key) -> Result<Option<Value>, Error> {
        let found = self.fetch(lane, key).await?;
        self.cache.settle(key);
        found.map(|object| self.wrote(key, object)).transpose()
    }

    /// An object as the API server has it.
    async fn fetch(&self, lane: Lane, key: &Key) -> Result<Option<DynamicObject>, Error> {
        let api = self.api(key);
        self.call(lane, "read", key, || api.get_opt(&key.name)).await
    }

    /// Reads a ConfigMap or Secret whole, which no cache holds.
    ///
    /// # Errors
    /// When the API server does not answer, or says no.
    pub async fn content(&self, key: &Key) -> Result<Option<Value>, Error> {
        let request = || collection(key).get(&key.name, &GetParams::default());
        match self.call(Lane::Work, "read", key, || self.text(request())).await {
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
        let request = || collection(key).create(&parameters, object.to_string().into_bytes());
        let made = self.write(Lane::Work, "create", key, || self.text(request())).await?;
        let decode = |source| Error::Decode { object: key.to_string(), source };
        let made: DynamicObject = serde_json::from_str(&made).map_err(decode)?;
        self.wrote(key, made).map(drop)
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
        let api = self.api(key);
        let made = self.write(Lane::Work, "create", key, || api.create(&parameters, &object)).await?;
        self.wrote(key, made)
    }

    /// Changes what differs between `found` and `wanted`, if the object still is what was found.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no; a conflict when the object has changed.
    pub async fn change(&self, lane: Lane, key: &Key, found: &Value, wanted: &Value) -> Result<Value, Error> {
        let mut patch = json_patch::diff(found, wanted);
        let fence =
            json!({"op": "add", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]});
        let fence = serde_json::from_value(fence).map_err(|source| Error::Patch { object: key.to_string(), source })?;
        patch.0.push(fence);
        let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Json::<()>(patch);
        let api = self.api(key);
        let changed = self.write(lane, "change", key, || api.patch(&key.name, &parameters, &patch)).await?;
        self.wrote(key, changed)
    }

    /// Replaces the status, if the Canary still is what was read.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no; a conflict when the Canary has changed.
    pub async fn replace_status(&self, lane: Lane, mut canary: Box<Canary>) -> Result<Box<Canary>, Error> {
        let key = canary_key(&*canary);
        let api: Api<Canary> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        // What is left of these would be taken for a wish to have no others.
        canary.metadata.managed_fields = None;
        let record = || api.replace_status(&key.name, &parameters, &canary).map_ok(Box::new);
        let mut canary = self.write(lane, "record", &key, record).await?;
        slim_canary(&mut *canary);
        self.cache.recorded(&key, &canary);
        Ok(canary)
    }

    /// Deletes an object, if it still is what was found; that it is gone already is as good.
    ///
    /// # Errors
    /// When leadership is not certain, or the API server says no; a conflict when the object has changed.
    pub async fn delete(&self, key: &Key, found: &Value) -> Result<(), Error> {
        let of_found = |field: &str| found["metadata"][field].as_str().map(str::to_owned);
        let fence = Preconditions { uid: of_found("uid"), resource_version: of_found("resourceVersion") };
        let (api, parameters) = (self.api(key), DeleteParams { preconditions: Some(fence), ..DeleteParams::default() });
        match self.write(Lane::Work, "delete", key, || api.delete(&key.name, &parameters)).await {
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
        let (api, parameters) = (Api::namespaced(self.client.clone(), &key.namespace), PostParams::default());
        match self.write(Lane::Courtesy, "publish an event of", key, || api.create(&parameters, event)).await {
            Err(error) if error.code() != Some(409) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Reads what a Secret holds, for those who are about to use it.
    ///
    /// # Errors
    /// Says why it could not be read, and nothing of what it holds.
    pub(super) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<secrets::Data>, String> {
        Secrets::new(self.client.clone(), self.lanes.clone(), Lane::Work).read(namespace, name).await
    }

    /// Asks a metric provider.
    pub(super) async fn inquire(&self, query: Query) -> Answer {
        let (network, metrics) = (Arc::clone(&self.network), Arc::clone(&self.metrics));
        self.inquiries.ask(Way { network, metrics, limit: self.settings.query_timeout }, query).await
    }

    /// How long the API server still wants to be left alone.
    #[must_use]
    pub fn paused(&self) -> Duration {
        self.lanes.paused()
    }

    /// Gives any call to the API server its place and its deadline, and its failure a name. A call is large, and a pass has
    /// many in it of which none may be under way: each has room of its own while it is.
    async fn call<T, Call: Future<Output = Result<T, kube::Error>>>(
        &self,
        lane: Lane,
        verb: &'static str,
        key: &Key,
        send: impl Fn() -> Call,
    ) -> Result<T, Error> {
        Box::pin(self.lanes.call(lane, || CALL_LIMIT, send)).await.map_err(|refusal| named(refusal, verb, key))
    }

    /// The same for a write, which must not be on its way longer than leadership is certain.
    async fn write<T, Call: Future<Output = Result<T, kube::Error>>>(
        &self,
        lane: Lane,
        verb: &'static str,
        key: &Key,
        send: impl Fn() -> Call,
    ) -> Result<T, Error> {
        let limit = || CALL_LIMIT.min(self.leadership.remaining());
        Box::pin(self.lanes.call(lane, limit, send)).await.map_err(|refusal| named(refusal, verb, key))
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

    /// Returns when every watch of a scope has listed its objects once.
    pub(super) async fn filled_scope(&self, scope: &Scope) {
        // The sender lives as long as `self`.
        let _ = self.filled.subscribe().wait_for(|filled| filled.contains(scope)).await;
    }

    /// Returns when every watch of a namespace has listed its objects once.
    pub async fn filled(&self, namespace: &str) {
        let scopes = [None, Some(namespace.to_owned())];
        // The sender lives as long as `self`.
        let _ = self.filled.subscribe().wait_for(|filled| scopes.iter().any(|scope| filled.contains(scope))).await;
    }

    /// No pass waits for its turn or for an answer any more: the process stops.
    pub fn stop(&self) {
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

    fn wrote(&self, key: &Key, object: DynamicObject) -> Result<Value, Error> {
        let object = slimmed(key, object);
        let value = as_value(key, &object)?;
        self.cache.wrote(key, object);
        Ok(value)
    }
}

fn named(refusal: Refusal, verb: &'static str, key: &Key) -> Error {
    let object = key.to_string();
    match refusal {
        Refusal::NoPlace => Error::Wait { verb, object },
        Refusal::NoTime => Error::Lead,
        Refusal::Late(limit) => Error::TimeOut { verb, object, limit },
        Refusal::Said(source) => Error::Call { verb, object, source: Box::new(source) },
    }
}

/// Names a Canary.
pub(super) fn canary_key(canary: &impl Resource<DynamicType = ()>) -> Key {
    let namespace = canary.namespace().unwrap_or_default();
    Key { resource: ApiResource::erase::<Canary>(&()), namespace, name: canary.name_any() }
}

/// The key of a Canary.
pub(super) fn key_of(canary: &NamespacedName) -> Key {
    let NamespacedName { namespace, name } = canary.clone();
    Key { resource: ApiResource::erase::<Canary>(&()), namespace, name }
}

/// Where the objects of a kind are, in a namespace.
fn collection(key: &Key) -> kube::core::Request {
    kube::core::Request::new(DynamicObject::url_path(&key.resource, Some(&key.namespace)))
}

fn slimmed(key: &Key, mut object: DynamicObject) -> DynamicObject {
    slim(&key.resource, &mut object);
    object
}

fn as_value(key: &Key, object: &DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Decode { object: key.to_string(), source })
}
