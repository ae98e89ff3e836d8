//! What wakes a pass: watches, and nothing that polls.

use super::alerts::Deliveries;
use super::cache::{Cache, Key, slim, slim_canary};
use super::claims::{Claims, Guarded};
use super::clock::Clock;
use super::configs::{self, slim_config};
use super::context::{Context, canary_key};
use super::discovery::{self, Served};
use super::egress::Egress;
use super::error::Error;
use super::lease::Leadership;
use super::news::News;
use super::reconcile::reconcile;
use super::rollout::{config_resource, records};
use super::scaling::{self, slim_scaler};
use super::scoped::Scoped;
use super::settings::Settings;
use super::tell;
use super::tenancy::{Scope, Tenancy};
use crate::api::{AlertProvider, Canary, MANAGED_BY, MetricTemplate};
use crate::server::Readiness;
use crate::telemetry::{Metrics, chain};
use crate::workload::configs::Kind;
use crate::{mesh, workload};
use futures::channel::mpsc;
use futures::stream::{BoxStream, select_all};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind, NamespaceResourceScope, Resource};
use kube::runtime::controller::{Action, Error as ControllerError};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first wait after a failed pass; each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// The longest wait after a failed pass.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// After a conflict the watch will show what happened in a moment.
const CONFLICT_RETRY: Duration = Duration::from_millis(50);

/// How many ConfigMaps are listed at a time: each may hold a mebibyte, of which a checksum is kept.
const CONFIG_PAGE: u32 = 50;

/// Failures in a row that a person should know of; fewer are everyday life.
const TOLD_AFTER: u32 = 3;

/// Watches at once, and reconciles all Canaries from the moment at which `leadership` begins until `stop`; what is left
/// then are the last alerts.
///
/// # Errors
/// When the operator cannot start.
pub async fn run(
    client: Client,
    settings: Settings,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<Deliveries, Error> {
    run_by(Clock::System, client, settings, leadership, metrics, readiness, stop).await
}

/// The same, by another clock.
///
/// # Errors
/// When the operator cannot start.
pub(super) async fn run_by(
    clock: Clock,
    client: Client,
    settings: Settings,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<Deliveries, Error> {
    check(&settings)?;
    let stop = stop.shared();
    let served = tokio::select! {
        served = discovery::served(&client) => served,
        // There is nothing to be watched any more.
        () = stop.clone() => Served::default(),
    };
    let mut all = Watches::default();
    let controllers = settings.tenancy.scopes().into_iter();
    let controllers: Vec<_> = controllers.map(|scope| all.open(&client, &settings, &scope, &served)).collect();
    let Watches { cache, templates, providers, canaries, news } = all;
    let egress = Egress::new(settings.allowed_egress.clone())?;
    let mut context = Context::new(client, egress, settings, leadership, metrics, cache, templates, clock);
    let deliveries = context.open_outbox(providers);
    context.canaries = canaries;
    context.news = news;
    let context = Arc::new(context);
    let watched = Arc::clone(&context);
    tokio::spawn(async move {
        watched.fill().await;
        readiness.set_ready();
    });
    let (stopping, stopped) = (stop.clone(), Arc::clone(&context));
    tokio::spawn(async move {
        stopping.await;
        stopped.stop();
    });
    let passes = controllers.into_iter().map(|controller| {
        let controller = controller.reconcile_all_on(context.leadership.clone().begun().into_stream());
        controller.graceful_shutdown_on(stop.clone()).run(timed, retry, Arc::clone(&context)).boxed()
    });
    select_all(passes).for_each(async |result| after(&context, result)).await;
    Ok(deliveries)
}

/// What the watches of all scopes fill.
#[derive(Default)]
struct Watches {
    cache: Cache,
    templates: Scoped<Store<MetricTemplate>>,
    providers: Scoped<Store<AlertProvider>>,
    canaries: Scoped<Store<Guarded>>,
    news: Arc<News>,
}

impl Watches {
    /// The watches of one scope, and what they wake.
    fn open(&mut self, client: &Client, settings: &Settings, scope: &Scope, served: &Served) -> Controller<Guarded> {
        let claims = Arc::new(Claims::default());
        self.cache.index(scope.clone(), Arc::clone(&claims));
        let (canaries, mut controller) = canaries(client, &settings.tenancy, scope, &claims, &self.news);
        self.canaries.insert(scope.clone(), canaries);
        let resources = resources(&served.routed).into_iter().map(|(resource, config)| {
            let (store, stream) = watched(client, &resource, config, scope);
            (resource, store, stream)
        });
        let scalers = served.scalers.iter().map(|resource| {
            let (store, stream) = watched_scalers(client, resource, scope);
            (resource.clone(), store, stream)
        });
        for (resource, store, stream) in resources.chain(scalers) {
            self.cache.add_within(scope.clone(), resource.clone(), store);
            let (claims, news) = (Arc::clone(&claims), Arc::clone(&self.news));
            let about = move |object: DynamicObject| {
                let concerned = claims.about(object.namespace().as_deref().unwrap_or_default(), &object.name_any());
                told_to_all(&news, concerned)
            };
            controller = controller.watches_stream_with(stream, about, resource);
        }
        let kinds: &[Kind] = if settings.config_tracking { &Kind::ALL } else { &[] };
        for kind in kinds.iter().copied() {
            let (store, stream) = watched_configs(client, kind, scope);
            self.cache.add_within(scope.clone(), config_resource(kind), store);
            let (followed, news) = (Arc::clone(&self.cache.followed), Arc::clone(&self.news));
            let named = |(namespace, name): (String, String)| ObjectRef::new(&name).within(&namespace);
            let about = move |object| {
                let concerned = followed.about(kind, &object).into_iter().map(named).collect();
                told_to_all(&news, concerned)
            };
            controller = controller.watches_stream_with(stream, about, config_resource(kind));
        }
        let (templates, writer) = reflector::store::<MetricTemplate>();
        let events = watcher(within(client, scope), watcher::Config::default()).default_backoff();
        let events = told(events, "metrictemplates.serin.dev", scope).reflect(writer).touched_objects();
        self.templates.insert(scope.clone(), templates);
        // Templates and providers are looked up when they are needed; a change of one wakes nobody.
        controller = controller.watches_stream(events, |_: MetricTemplate| None::<ObjectRef<Guarded>>);
        let (providers, writer) = reflector::store::<AlertProvider>();
        let events = watcher(within(client, scope), watcher::Config::default()).default_backoff();
        let events = told(events, "alertproviders.serin.dev", scope).reflect(writer).touched_objects();
        self.providers.insert(scope.clone(), providers);
        controller.watches_stream(events, |_: AlertProvider| None::<ObjectRef<Guarded>>)
    }
}

/// The watch of the Canaries themselves. What one of them does may concern another on the same app.
fn canaries(
    client: &Client,
    tenancy: &Tenancy,
    scope: &Scope,
    claims: &Arc<Claims>,
    news: &Arc<News>,
) -> (Store<Guarded>, Controller<Guarded>) {
    let mut config = watcher::Config::default();
    if let Some(selector) = &tenancy.canary_selector {
        config = config.labels(selector);
    }
    let (reader, writer) = reflector::store();
    let (concerned, concern) = mpsc::unbounded();
    let (claims, news) = (Arc::clone(claims), Arc::clone(news));
    let events = watcher(within(client, scope), config).default_backoff().modify(|canary: &mut Guarded| {
        if let Ok(canary) = &mut canary.0 {
            slim_canary(canary);
        }
    });
    let events = told(events, "canaries.serin.dev", scope).reflect(writer).inspect_ok(move |event| {
        if let Event::Apply(canary) | Event::InitApply(canary) | Event::Delete(canary) = event {
            news.tell(canary.namespace().as_deref().unwrap_or_default(), &canary.name_any());
        }
        for canary in claims.apply(event) {
            // It is not read any more when the process is stopping.
            let _ = concerned.unbounded_send(canary);
        }
    });
    (reader.clone(), Controller::for_stream(events.touched_objects(), reader).reconcile_on(concern))
}

/// Passes that wait for an answer are told that something has changed.
fn told_to_all(news: &News, concerned: Vec<ObjectRef<Guarded>>) -> Vec<ObjectRef<Guarded>> {
    for canary in &concerned {
        news.tell(canary.namespace.as_deref().unwrap_or_default(), &canary.name);
    }
    concerned
}

/// The objects of one kind within a scope.
fn within<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        None => Api::all(client.clone()),
        Some(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

/// The objects of a kind that is known by name only, within a scope.
fn dynamic<K>(client: &Client, resource: &ApiResource, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    match scope {
        None => Api::all_with(client.clone(), resource),
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    settings.alerts.check()?;
    let known: Vec<_> = mesh::all().map(|(name, _)| name).collect();
    if !known.contains(&settings.provider.as_str()) {
        let (wrong, known) = (&settings.provider, known.join(", "));
        return Err(Error::Start(format!("--mesh-provider {wrong} is not known; write one of {known}")));
    }
    let known = crate::metrics::builtin::gateways();
    if !known.contains(&settings.gateway_metrics.as_str()) {
        let (wrong, known) = (&settings.gateway_metrics, known.join(", "));
        return Err(Error::Start(format!("--gateway-metrics {wrong} is not known; write one of {known}")));
    }
    Ok(())
}

/// The kinds that are watched besides Canaries and templates, and which objects of them.
fn resources(routed: &[ApiResource]) -> Vec<(ApiResource, watcher::Config)> {
    let all = watcher::Config::default;
    let (key, value) = MANAGED_BY;
    let mut resources: BTreeMap<String, (ApiResource, watcher::Config)> = BTreeMap::new();
    let mut add = |resource: ApiResource, config| resources.insert(resource.kind.clone(), (resource, config));
    add(ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service")), all());
    add(records(), all().labels(&format!("{key}={value}")));
    for (_, workload) in workload::all() {
        add(workload.resource(), all());
        if let Some(resource) = workload.counted_by() {
            // Only those of Services that say of which version they are: the others' pods are counted elsewhere.
            add(resource, all().labels(&format!("{key}={value},{}", workload::REVISION)));
        }
    }
    for resource in routed {
        add(resource.clone(), all());
    }
    resources.into_values().collect()
}

type Events = BoxStream<'static, Result<DynamicObject, watcher::Error>>;

fn watched(
    client: &Client,
    resource: &ApiResource,
    config: watcher::Config,
    scope: &Scope,
) -> (Store<DynamicObject>, Events) {
    let writer = Writer::new(resource.clone());
    let store = writer.as_reader();
    let objects = dynamic::<DynamicObject>(client, resource, scope);
    let events = watcher(objects, config).default_backoff().modify(slim);
    let touched = told(events, &resource.plural, scope).reflect(writer).touched_objects();
    (store, touched.boxed())
}

/// An autoscaler writes its status all the time, and its annotations as well: what says nothing new wakes nobody.
fn watched_scalers(client: &Client, resource: &ApiResource, scope: &Scope) -> (Store<DynamicObject>, Events) {
    let writer = Writer::new(resource.clone());
    let store = writer.as_reader();
    let objects = dynamic::<DynamicObject>(client, resource, scope);
    let events = watcher(objects, watcher::Config::default()).default_backoff().modify(|object| {
        slim(object);
        slim_scaler(object);
    });
    let events = told(events, &resource.plural, scope).reflect(writer);
    let mut news = scaling::News::default();
    let touched = events.filter_map(move |event| {
        let object = event.map(|event| news.of(event)).transpose();
        async { object }
    });
    (store, touched.boxed())
}

/// ConfigMaps come with their content, of which a checksum is kept; of Secrets only the metadata come.
fn watched_configs(client: &Client, kind: Kind, scope: &Scope) -> (Store<DynamicObject>, Events) {
    let resource = config_resource(kind);
    let writer = Writer::new(resource.clone());
    let store = writer.as_reader();
    let config = watcher::Config::default();
    let events = match kind {
        Kind::ConfigMap => {
            let api = dynamic::<DynamicObject>(client, &resource, scope);
            watcher(api, config.page_size(CONFIG_PAGE)).boxed()
        }
        Kind::Secret => {
            let api = dynamic::<PartialObjectMeta<DynamicObject>>(client, &resource, scope);
            watcher(api, config).map_ok(configs::without_content).boxed()
        }
    };
    let events = events.default_backoff().modify(move |object| slim_config(kind, object));
    let touched = told(events, &resource.plural, scope).reflect(writer).touched_objects();
    (store, touched.boxed())
}

/// Logs why a watch is begun again, and what to do if it never begins.
fn told<K, S: Stream<Item = watcher::Result<K>>>(
    events: S,
    plural: &str,
    scope: &Scope,
) -> impl Stream<Item = watcher::Result<K>> + use<K, S> {
    let place = scope.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let plural = plural.to_owned();
    events.inspect_err(move |error| match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            tracing::warn!("the API server does not know {plural}; install their CRDs");
        }
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403 => {
            tracing::warn!(
                "Serin may not list {plural}{place}; until it may, nothing happens there: grant what \
                 files/cluster-rules.yaml of the chart lists, or choose other namespaces with --namespace"
            );
        }
        error => tracing::warn!(error = chain(error), "the watch of {plural}{place} is begun again"),
    })
}

/// One pass, with its span, its time and its outcome.
///
/// # Errors
/// Those of the pass; [`retry`] says when it is taken again.
#[tracing::instrument(name = "pass", skip_all, fields(namespace = guard.namespace(), canary = guard.name_any()))]
pub async fn timed(guard: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    if !context.leadership.has_begun() {
        // When it begins, all Canaries get their pass.
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let key = canary_key(&*guard);
    tokio::select! {
        biased;
        () = context.filled(&key.namespace) => {}
        () = context.news.stopped() => return Ok(Action::await_change()),
    }
    let result = Box::pin(reconcile(Arc::clone(&guard), Arc::clone(&context))).await;
    context.metrics.pass(if result.is_ok() { "ok" } else { "error" }, started.elapsed());
    match &result {
        Ok(_) => context.succeeded(&key),
        Err(error) if error.is_conflict() => tracing::debug!(error = chain(error), "the pass is taken again"),
        Err(error) => {
            let failures = context.failed(&key);
            tracing::warn!(error = chain(error), failures, "the pass failed and is taken again");
            if let (TOLD_AFTER, Ok(canary)) = (failures, &guard.0) {
                tell::publish(&context, canary, true, "PassFailed".to_owned(), &chain(error)).await;
            }
        }
    }
    result
}

/// When a pass that failed is taken again.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the signature is the Controller's")]
pub fn retry(guard: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    if error.is_conflict() {
        return Action::requeue(CONFLICT_RETRY);
    }
    let doublings = context.failures(&canary_key(&*guard)).saturating_sub(1).min(16);
    let due = if let Error::Unread { due: Some(due), .. } = error { *due } else { LAST_RETRY };
    Action::requeue((FIRST_RETRY * 2_u32.pow(doublings)).min(LAST_RETRY).min(due))
}

type Finished = Result<(ObjectRef<Guarded>, Action), ControllerError<Error, watcher::Error>>;

fn after(context: &Context, result: Finished) {
    match result {
        Err(ControllerError::ObjectNotFound(gone)) => {
            let namespace = gone.namespace.clone().unwrap_or_default();
            context.metrics.canary_gone(&namespace, &gone.name);
            let key = Key { resource: ApiResource::erase::<Canary>(&()), namespace, name: gone.name.clone() };
            context.succeeded(&key);
            context.cache.followed.forget(&key);
        }
        // Told where they happen.
        Err(ControllerError::QueueError(_) | ControllerError::ReconcilerFailed(..)) | Ok(_) => {}
        Err(ControllerError::RunnerError(error)) => tracing::error!(error = chain(&error), "the queue ended"),
    }
}
