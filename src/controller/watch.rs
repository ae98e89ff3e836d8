//! What wakes a pass: watches, and nothing that polls.

use super::alerts::Deliveries;
use super::cache::{Cache, Key};
use super::claims::{Claims, NamespacedName};
use super::clock::Clock;
use super::configs;
use super::context::{Context, key_of};
use super::discovery::{self, Served};
use super::egress::Egress;
use super::error::Error;
use super::lease::Leadership;
use super::news::News;
use super::queue;
use super::reconcile::reconcile;
use super::rollout::{config_resource, records};
use super::scoped::Scoped;
use super::settings::Settings;
use super::store::{Change, Store as Objects};
use super::tell;
use super::tenancy::{Scope, Tenancy};
use crate::api::{AlertProvider, Canary, MANAGED_BY, MetricTemplate};
use crate::server::Readiness;
use crate::telemetry::{Metrics, chain};
use crate::workload::configs::Kind;
use crate::{mesh, workload};
use futures::future::{join_all, ready};
use futures::stream::{self, BoxStream, select_all};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind, NamespaceResourceScope, Resource};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first wait after a failed pass; each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// The longest wait after a failed pass.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The longest wait after a retreat that could not be carried out: requests still go where they should not.
const LAST_RETREAT: Duration = Duration::from_secs(1);

/// The shortest wait after a pass that the API server has turned away.
const TURNED_AWAY_RETRY: Duration = Duration::from_secs(1);

/// After a conflict the watch will show what happened in a moment.
const CONFLICT_RETRY: Duration = Duration::from_millis(50);

/// How many objects are listed at a time: of a page there is, for a moment, the text and every object as a tree of it, and
/// a ConfigMap may hold a mebibyte.
const PAGE: u32 = 50;

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
    let wakes: Vec<_> = settings
        .tenancy
        .scopes()
        .into_iter()
        .map(|scope| (scope.clone(), all.open(&client, &settings, &scope, &served)))
        .collect();
    let Watches { cache, templates, providers, news } = all;
    let egress = Egress::new(settings.allowed_egress.clone())?;
    let mut context = Context::new(client, egress, settings, leadership, metrics, cache, templates, clock);
    let deliveries = context.open_outbox(providers);
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
    let queues = wakes.into_iter().map(|(scope, wakes)| {
        let (filling, passing) = (Arc::clone(&context), Arc::clone(&context));
        // One that stands by watches, so that it has nothing to list when its turn to lead comes.
        let may_begin = async move {
            filling.filled_scope(&scope).await;
            filling.leadership.clone().begun().await;
        };
        queue::run(wakes, may_begin, stop.clone(), move |name| one(name, Arc::clone(&passing)))
    });
    join_all(queues).await;
    Ok(deliveries)
}

/// What the watches of all scopes fill.
#[derive(Default)]
struct Watches {
    cache: Cache,
    templates: Scoped<Store<MetricTemplate>>,
    providers: Scoped<Store<AlertProvider>>,
    news: Arc<News>,
}

/// The Canaries that something has happened to.
type Wakes = BoxStream<'static, NamespacedName>;

impl Watches {
    /// The watches of one scope, and whom they wake.
    fn open(&mut self, client: &Client, settings: &Settings, scope: &Scope, served: &Served) -> Wakes {
        let claims = Arc::new(Claims::default());
        self.cache.index(scope.clone(), Arc::clone(&claims));
        let canaries = self.canaries(client, &settings.tenancy, scope, &claims);
        let mut all = vec![canaries, self.templates(client, scope), self.providers(client, scope)];
        let scalers = served.scalers.iter().map(|resource| (resource.clone(), watched(), Keeps::Claimed));
        for (resource, config, keeps) in resources(&served.routed).into_iter().chain(scalers) {
            let store = match keeps {
                Keeps::All => self.cache.add_within(scope.clone(), resource.clone()),
                Keeps::Claimed => self.cache.add_claimed(scope.clone(), resource.clone()),
            };
            let events = watcher(dynamic::<DynamicObject>(client, &resource, scope), config);
            let events = told(events.default_backoff(), &resource.plural, scope);
            let (claimed, about) = (Arc::clone(&claims), Arc::clone(&claims));
            // Which objects concern anybody is known once all Canaries are.
            let events = async move { claimed.listed().await }.map(move |()| events).flatten_stream();
            // By its name a record is nobody's, and what is made of it has to wait until it is shown.
            let is_record = resource == records();
            let about = move |Change { object, canary }: Change| {
                let owner = canary.filter(|_| is_record).map(|canary| NamespacedName::new(&object.namespace, canary));
                about.about(&object.namespace, &object.name).into_iter().chain(owner).collect()
            };
            all.push(wakes(events, store, about, &self.news));
        }
        let kinds: &[Kind] = if settings.config_tracking { &Kind::ALL } else { &[] };
        for kind in kinds.iter().copied() {
            let store = self.cache.add_within(scope.clone(), config_resource(kind));
            let followed = Arc::clone(&self.cache.followed);
            let about = move |change| followed.about(kind, change);
            all.push(wakes(config_events(client, kind, scope), store, about, &self.news));
        }
        select_all(all).boxed()
    }

    /// The watch of the Canaries themselves. What one of them does may concern another on the same app.
    fn canaries(&mut self, client: &Client, tenancy: &Tenancy, scope: &Scope, claims: &Arc<Claims>) -> Wakes {
        let resource = ApiResource::erase::<Canary>(&());
        let store = self.cache.add_within(scope.clone(), resource.clone());
        let config = match &tenancy.canary_selector {
            Some(selector) => watched().labels(selector),
            None => watched(),
        };
        let events = watcher(dynamic::<DynamicObject>(client, &resource, scope), config).default_backoff();
        let (claims, news) = (Arc::clone(claims), Arc::clone(&self.news));
        let events = told(events, "canaries.serin.dev", scope).filter_map(|event| ready(event.ok()));
        let concerned = events.flat_map(move |event| {
            let rivals = claims.apply(&event);
            let changed = store.apply(event).into_iter().map(|change| change.object);
            let concerned: Vec<_> = changed.inspect(|name| news.tell(name)).chain(rivals).collect();
            stream::iter(concerned)
        });
        concerned.boxed()
    }

    fn templates(&mut self, client: &Client, scope: &Scope) -> Wakes {
        let (templates, writer) = reflector::store::<MetricTemplate>();
        self.templates.insert(scope.clone(), templates);
        looked_up(client, "metrictemplates.serin.dev", scope, writer)
    }

    fn providers(&mut self, client: &Client, scope: &Scope) -> Wakes {
        let (providers, writer) = reflector::store::<AlertProvider>();
        self.providers.insert(scope.clone(), providers);
        looked_up(client, "alertproviders.serin.dev", scope, writer)
    }
}

/// Objects that are looked up when they are needed; a change of one wakes nobody.
fn looked_up<K>(client: &Client, plural: &str, scope: &Scope, writer: reflector::store::Writer<K>) -> Wakes
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let events = watcher(within::<K>(client, scope), watched()).default_backoff();
    told(events, plural, scope).reflect(writer).filter_map(|_| ready(None)).boxed()
}

/// Shows a store what a watch shows, and tells whom that is about: those that wait for a pass, and passes that wait for an
/// answer.
fn wakes(
    events: impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Send + 'static,
    store: Arc<Objects>,
    about: impl Fn(Change) -> Vec<NamespacedName> + Send + 'static,
    news: &Arc<News>,
) -> Wakes {
    let news = Arc::clone(news);
    // Errors are told of already.
    let events = events.filter_map(|event| ready(event.ok()));
    let concerned = events.flat_map(move |event| {
        let concerned: Vec<_> =
            store.apply(event).into_iter().flat_map(&about).inspect(|name| news.tell(name)).collect();
        stream::iter(concerned)
    });
    concerned.boxed()
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

/// How a kind is watched.
fn watched() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Which objects of a kind are kept.
enum Keeps {
    /// All that are watched.
    All,
    /// Those that a Canary is about; of the others only that they are there.
    Claimed,
}

/// The kinds that are watched besides Canaries and templates, and which objects of them.
fn resources(routed: &[ApiResource]) -> Vec<(ApiResource, watcher::Config, Keeps)> {
    let (key, value) = MANAGED_BY;
    let mut resources = BTreeMap::new();
    let mut add =
        |resource: ApiResource, config, keeps| resources.insert(resource.kind.clone(), (resource, config, keeps));
    add(ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service")), watched(), Keeps::Claimed);
    add(records(), watched().labels(&format!("{key}={value}")), Keeps::All);
    for (_, workload) in workload::all() {
        add(workload.resource(), watched(), Keeps::Claimed);
        if let Some(resource) = workload.counted_by() {
            // Only those of Services that say of which version they are: the others' pods are counted elsewhere.
            add(resource, watched().labels(&format!("{key}={value},{}", workload::REVISION)), Keeps::All);
        }
    }
    for resource in routed {
        add(resource.clone(), watched(), Keeps::Claimed);
    }
    resources.into_values().collect()
}

/// ConfigMaps come with their content, of which a checksum is kept; of Secrets only the metadata come.
fn config_events(
    client: &Client,
    kind: Kind,
    scope: &Scope,
) -> impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Send + 'static {
    let resource = config_resource(kind);
    let events = match kind {
        Kind::ConfigMap => watcher(dynamic::<DynamicObject>(client, &resource, scope), watched()).boxed(),
        Kind::Secret => {
            let api = dynamic::<PartialObjectMeta<DynamicObject>>(client, &resource, scope);
            watcher(api, watched()).map_ok(configs::without_content).boxed()
        }
    };
    told(events.default_backoff(), &resource.plural, scope)
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

/// One turn of a Canary: a pass, or what is left to do when the Canary is gone; answers when the next one is due.
async fn one(name: NamespacedName, context: Arc<Context>) -> Option<Duration> {
    if !context.cache.shows(&key_of(&name)) {
        gone(&context, &name);
        return None;
    }
    let result = timed(&name, &context).await;
    result.unwrap_or_else(|error| Some(retry(&name, &error, &context)))
}

/// One pass, with its span, its time and its outcome.
///
/// # Errors
/// Those of the pass; [`retry`] says when it is taken again.
#[tracing::instrument(name = "pass", skip_all, fields(namespace = name.namespace, canary = name.name))]
pub async fn timed(name: &NamespacedName, context: &Context) -> Result<Option<Duration>, Error> {
    let started = Instant::now();
    let key = key_of(name);
    context.filled(&name.namespace).await;
    let result = reconcile(name, context).await;
    context.metrics.pass(if result.is_ok() { "ok" } else { "error" }, started.elapsed());
    match &result {
        Ok(_) => context.succeeded(&key),
        Err(error) if error.is_conflict() => tracing::debug!(error = chain(error), "the pass is taken again"),
        // It is told once, of the API server itself; a retreat that is held up is another matter.
        Err(error) if error.is_turned_away() && !matches!(error, Error::Retreat(_)) => {
            tracing::debug!(error = chain(error), "the pass is taken again when the API server takes requests");
        }
        Err(error) => {
            let failures = context.failed(&key);
            tracing::warn!(error = chain(error), failures, "the pass failed and is taken again");
            if failures == TOLD_AFTER {
                Box::pin(tell_of_failures(context, &key, error)).await;
            }
        }
    }
    result
}

async fn tell_of_failures(context: &Context, key: &Key, error: &Error) {
    if let Some(Ok(canary)) = context.canary(key) {
        tell::publish(context, &canary, true, "PassFailed".to_owned(), &chain(error)).await;
    }
}

/// After how long a pass that failed is taken again.
#[must_use]
pub fn retry(name: &NamespacedName, error: &Error, context: &Context) -> Duration {
    if error.is_conflict() {
        return CONFLICT_RETRY;
    }
    let due = if let Error::Unread { due: Some(due), .. } = error { *due } else { LAST_RETRY };
    if error.is_turned_away() && !matches!(error, Error::Retreat(_)) {
        return context.paused().max(TURNED_AWAY_RETRY).min(due);
    }
    let last = if matches!(error, Error::Retreat(_)) { LAST_RETREAT } else { LAST_RETRY };
    let doublings = context.failures(&key_of(name)).saturating_sub(1).min(16);
    (FIRST_RETRY * 2_u32.pow(doublings)).min(last).min(due)
}

/// Forgets a Canary.
fn gone(context: &Context, name: &NamespacedName) {
    let key = key_of(name);
    context.metrics.canary_gone(&name.namespace, &name.name);
    context.succeeded(&key);
    context.cache.followed.forget(&key);
}
