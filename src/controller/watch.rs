//! What wakes a pass: watches, and nothing that polls.

use super::alerts::{Deliveries, Outbox};
use super::cache::{Cache, Key, slim};
use super::clock::Clock;
use super::context::{Context, canary_key};
use super::error::Error;
use super::lease::Leadership;
use super::reconcile::reconcile;
use super::rollout::records;
use super::settings::Settings;
use super::tell;
use crate::api::{AlertProvider, Canary, MANAGED_BY, MetricTemplate};
use crate::server::Readiness;
use crate::telemetry::{Metrics, chain};
use crate::{mesh, workload};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, DeserializeGuard, GroupVersionKind};
use kube::runtime::controller::{Action, Error as ControllerError};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A Canary that may be unreadable: a broken object must not stop the others.
type Guarded = DeserializeGuard<Canary>;

/// The first wait after a failed pass; each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// The longest wait after a failed pass.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// After a conflict the watch will show what happened in a moment.
const CONFLICT_RETRY: Duration = Duration::from_millis(50);

/// Failures in a row that a person should know of; fewer are everyday life.
const TOLD_AFTER: u32 = 3;

/// Reconciles all Canaries until `stop`; what is left then are the last alerts.
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
    check(&settings)?;
    let canaries: Api<Guarded> = Api::all(client.clone());
    let (reader, writer) = reflector::store();
    let events = watcher(canaries, watcher::Config::default()).default_backoff();
    let trigger = told(events, "canaries.serin.dev".to_owned()).reflect(writer).touched_objects();
    let mut controller = Controller::for_stream(trigger, reader.clone());

    let mut cache = Cache::default();
    for (resource, config) in resources() {
        let (store, stream) = watched(&client, &resource, config);
        cache.add(resource.clone(), store);
        let canaries = reader.clone();
        controller = controller.watches_stream_with(stream, move |object| about(&canaries, &object), resource);
    }
    let (templates, writer) = reflector::store::<MetricTemplate>();
    let events = watcher(Api::all(client.clone()), watcher::Config::default()).default_backoff();
    let events = told(events, "metrictemplates.serin.dev".to_owned()).reflect(writer).touched_objects();
    // A template is looked up when it is asked for; a change of it wakes nobody.
    controller = controller.watches_stream(events, |_: MetricTemplate| None::<ObjectRef<Guarded>>);

    let (providers, writer) = reflector::store::<AlertProvider>();
    let events = watcher(Api::all(client.clone()), watcher::Config::default()).default_backoff();
    let events = told(events, "alertproviders.serin.dev".to_owned()).reflect(writer).touched_objects();
    controller = controller.watches_stream(events, |_: AlertProvider| None::<ObjectRef<Guarded>>);
    let (outbox, deliveries) = Outbox::open(client.clone(), &settings.alerts, providers, Arc::clone(&metrics))?;

    let mut context = Context::new(client, settings, leadership, metrics, cache, templates, Clock::System)?;
    context.outbox = Some(outbox);
    let context = Arc::new(context);
    let watched = Arc::clone(&context);
    tokio::spawn(async move {
        watched.fill().await;
        readiness.set_ready();
    });
    let passes = controller.graceful_shutdown_on(stop).run(timed, retry, Arc::clone(&context));
    passes.for_each(async |result| after(&context, result)).await;
    Ok(deliveries)
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
fn resources() -> Vec<(ApiResource, watcher::Config)> {
    let all = watcher::Config::default;
    let (key, value) = MANAGED_BY;
    let mut resources: BTreeMap<String, (ApiResource, watcher::Config)> = BTreeMap::new();
    let mut add = |resource: ApiResource, config| resources.insert(resource.kind.clone(), (resource, config));
    add(ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service")), all());
    add(records(), all().labels(&format!("{key}={value}")));
    for workload in workload::all() {
        add(workload.resource(), all());
    }
    for (_, mesh) in mesh::all() {
        for resource in mesh.resources() {
            add(resource, all());
        }
    }
    resources.into_values().collect()
}

type Events = BoxStream<'static, Result<DynamicObject, watcher::Error>>;

fn watched(client: &Client, resource: &ApiResource, config: watcher::Config) -> (Store<DynamicObject>, Events) {
    let writer = Writer::new(resource.clone());
    let store = writer.as_reader();
    let events = watcher(Api::all_with(client.clone(), resource), config);
    let touched =
        told(events.default_backoff().modify(slim), resource.plural.clone()).reflect(writer).touched_objects();
    (store, touched.boxed())
}

/// Logs why a watch is begun again, and what to do if it never begins.
fn told<K>(events: impl Stream<Item = watcher::Result<K>>, plural: String) -> impl Stream<Item = watcher::Result<K>> {
    events.inspect_err(move |error| match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            tracing::warn!("the API server does not know {plural}; install their CRDs");
        }
        error => tracing::warn!(error = chain(error), "the watch of {plural} is begun again"),
    })
}

/// The Canaries that an object may be about: their objects' names begin with the target's or the Service's.
fn about(canaries: &Store<Guarded>, object: &DynamicObject) -> Vec<ObjectRef<Guarded>> {
    let name = object.name_any();
    let base = ["-primary", "-canary"].into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
    let is_about = |guard: &Guarded| {
        let Ok(canary) = &guard.0 else { return false };
        let spec = &canary.spec;
        let names = [Some(spec.target_ref.name.as_str()), spec.service.name.as_deref()];
        canary.namespace() == object.namespace() && names.into_iter().flatten().any(|own| own == base || own == name)
    };
    canaries.state_filter(is_about).iter().map(|guard| ObjectRef::from_obj(&**guard)).collect()
}

/// One pass, with its span, its time and its outcome.
#[tracing::instrument(name = "pass", skip_all, fields(namespace = guard.namespace(), canary = guard.name_any()))]
async fn timed(guard: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let key = canary_key(&*guard);
    context.filled().await;
    let _slot = context.slot().await;
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

#[expect(clippy::needless_pass_by_value, reason = "the signature is the Controller's")]
fn retry(guard: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    if error.is_conflict() {
        return Action::requeue(CONFLICT_RETRY);
    }
    let doublings = context.failures(&canary_key(&*guard)).saturating_sub(1).min(16);
    Action::requeue((FIRST_RETRY * 2_u32.pow(doublings)).min(LAST_RETRY))
}

type Finished = Result<(ObjectRef<Guarded>, Action), ControllerError<Error, watcher::Error>>;

fn after(context: &Context, result: Finished) {
    match result {
        Err(ControllerError::ObjectNotFound(gone)) => {
            let namespace = gone.namespace.clone().unwrap_or_default();
            context.metrics.canary_gone(&namespace, &gone.name);
            context.succeeded(&Key { resource: ApiResource::erase::<Canary>(&()), namespace, name: gone.name.clone() });
        }
        // Told where they happen.
        Err(ControllerError::QueueError(_) | ControllerError::ReconcilerFailed(..)) | Ok(_) => {}
        Err(ControllerError::RunnerError(error)) => tracing::error!(error = chain(&error), "the queue ended"),
    }
}
