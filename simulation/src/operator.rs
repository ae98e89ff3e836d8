//! One process of Serin: its caches, which are as late as the world wants them, and its passes.
//!
//! Invariant: what a crash forgets is in here, and nothing else is. What runs is the real pass with the real retry.

use crate::agenda::Time;
use crate::app::{self, NAME, NAMESPACE};
use crate::door::Door;
use crate::kubelet;
use jiff::SignedDuration;
use kube::Client;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::runtime::reflector;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::Value;
use serin::api::{MANAGED_BY, MetricTemplate};
use serin::controller::lease::Leadership;
use serin::controller::{
    AlertSettings, AllowedHosts, Cache, Clock, Context, Egress, Error, Key, NamespacedName, Settings, Store, Tenancy,
    retry, timed,
};
use serin::telemetry::Metrics;
use serin_testing::{
    ApiServer, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, Change, DEPLOYMENTS, GroupVersionResource, HTTP_ROUTES,
    SECRETS, SERVICES,
};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{self, Poll, Waker};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What is watched.
pub(crate) const WATCHED: [(GroupVersionResource, &str); 7] = [
    (CANARIES, "Canary"),
    (DEPLOYMENTS, "Deployment"),
    (SERVICES, "Service"),
    (CONTROLLER_REVISIONS, "ControllerRevision"),
    (HTTP_ROUTES, "HTTPRoute"),
    (CONFIG_MAPS, "ConfigMap"),
    (SECRETS, "Secret"),
];

/// One process.
pub(crate) struct Operator {
    pub(crate) context: Arc<Context>,
    watches: Vec<Watch>,
    /// What the watches have shown.
    pub(crate) view: BTreeMap<(GroupVersionResource, String), Arc<Value>>,
    /// The pass that is under way.
    pub(crate) running: Option<JoinHandle<Result<Option<Duration>, Error>>>,
    /// How many passes there were.
    pub(crate) passes: u32,
    /// Something happened during the pass that is under way.
    pub(crate) again: bool,
    /// When the next pass is due, and which of several alarms says so.
    pub(crate) due: Option<Time>,
    pub(crate) alarm: u64,
    pub(crate) switch: Arc<Switch>,
    _templates: Writer<MetricTemplate>,
}

/// One watch.
struct Watch {
    name: GroupVersionResource,
    store: Arc<Store>,
    coming: VecDeque<Arc<Change>>,
    /// The connection is broken.
    broken: bool,
    /// Something is about to be shown.
    scheduled: bool,
}

impl Operator {
    /// A process that has listed everything.
    pub(crate) async fn start(server: &ApiServer, door: Door, clock: Clock) -> Self {
        let mut cache = Cache::default();
        let watches = WATCHED.map(|(name, kind)| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(name.group, name.version, kind));
            Watch { name, store: cache.add(resource), coming: VecDeque::new(), broken: false, scheduled: false }
        });
        let mut templates = Writer::default();
        templates.apply_watcher_event(&Event::Init);
        templates.apply_watcher_event(&Event::InitDone);
        let reader: reflector::Store<MetricTemplate> = templates.as_reader();
        let client = Client::new(door.clone(), NAMESPACE);
        let leadership = Leadership::lasting(Duration::from_hours(24 * 365));
        let metrics = Arc::new(Metrics::new());
        let mut context = Context::new(client, egress(), settings(), leadership, metrics, cache, reader, clock);
        if let Some(caller) = Arc::get_mut(&mut context.caller) {
            caller.way_out = Arc::new(door.clone());
        }
        context.network = Arc::new(door);
        let mut operator = Self {
            context: Arc::new(context),
            watches: watches.into(),
            view: BTreeMap::new(),
            running: None,
            passes: 0,
            again: false,
            due: None,
            alarm: 0,
            switch: Arc::default(),
            _templates: templates,
        };
        for kind in 0..WATCHED.len() {
            operator.list(server, kind);
        }
        operator.context.fill().await;
        operator
    }

    /// A watch begins again: it shows what there is, and not what there was.
    pub(crate) fn list(&mut self, server: &ApiServer, kind: usize) {
        let watch = &mut self.watches[kind];
        watch.coming.clear();
        watch.broken = false;
        let name = watch.name;
        let objects = server.look_at_all(name, None).into_iter().filter(|object| is_watched(name, object));
        let objects: Vec<_> = objects.collect();
        self.view.retain(|(kind, _), _| *kind != name);
        watch.store.apply(Event::Init);
        for object in &objects {
            watch.store.apply(Event::InitApply(dynamic(object)));
        }
        watch.store.apply(Event::InitDone);
        for object in objects {
            self.view.insert((name, app::text(&object, "/metadata/name").to_owned()), object);
        }
    }

    /// A change is on its way to a watch; answers whether somebody has to see to its arrival.
    pub(crate) fn hear(&mut self, kind: usize, change: &Arc<Change>) -> bool {
        let watch = &mut self.watches[kind];
        let shown = [&change.before, &change.after];
        if !shown.into_iter().flatten().any(|object| is_watched(watch.name, object)) {
            return false;
        }
        watch.coming.push_back(Arc::clone(change));
        !std::mem::replace(&mut watch.scheduled, true)
    }

    /// Shows what has come on a watch, or only the first of it; answers whether it is about the Canary, and whether
    /// there is more.
    pub(crate) fn show(&mut self, kind: usize, only_one: bool) -> (bool, bool) {
        let watch = &mut self.watches[kind];
        watch.scheduled = false;
        if watch.broken {
            return (false, false);
        }
        let count = if only_one { 1.min(watch.coming.len()) } else { watch.coming.len() };
        let coming: Vec<_> = watch.coming.drain(..count).collect();
        watch.scheduled = !watch.coming.is_empty();
        let more = watch.scheduled;
        let mut concerned = false;
        for change in coming {
            concerned |= self.apply(kind, &change);
        }
        (concerned, more)
    }

    fn apply(&mut self, kind: usize, change: &Change) -> bool {
        let watch = &mut self.watches[kind];
        let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return false };
        let name = app::text(object, "/metadata/name").to_owned();
        let key = (watch.name, name.clone());
        watch.store.apply(match &change.after {
            Some(object) => Event::Apply(dynamic(object)),
            None => Event::Delete(dynamic(object)),
        });
        match &change.after {
            Some(object) => drop(self.view.insert(key, Arc::clone(object))),
            None => drop(self.view.remove(&key)),
        }
        let resource = self.watches[kind].name;
        let concerned = self.concerns(resource, &name, object);
        if concerned {
            self.context.news.tell(&canary());
        }
        concerned
    }

    /// Whether a change wakes the Canary, as the real index of claims and configs has it.
    fn concerns(&self, resource: GroupVersionResource, name: &str, object: &Value) -> bool {
        if resource == CANARIES {
            return true;
        }
        let is_owned = || app::text(object, "/metadata/ownerReferences/0/kind") == "Canary";
        if resource == CONTROLLER_REVISIONS {
            return is_owned();
        }
        if resource == CONFIG_MAPS || resource == SECRETS {
            let target = self.view.get(&(DEPLOYMENTS, NAME.to_owned()));
            let used = target.is_some_and(|target| kubelet::uses(&target["spec"]["template"], name));
            return used || is_owned();
        }
        let base = name.strip_suffix("-primary").or_else(|| name.strip_suffix("-canary")).unwrap_or(name);
        base == NAME
    }

    /// A watch's connection breaks.
    pub(crate) fn disconnect(&mut self, kind: usize) {
        self.watches[kind].broken = true;
    }

    /// It is there again, and shows everything that it has missed; answers whether that is to be shown.
    pub(crate) fn reconnect(&mut self, kind: usize) -> bool {
        let watch = &mut self.watches[kind];
        watch.broken = false;
        watch.scheduled = !watch.coming.is_empty();
        watch.scheduled
    }

    /// The Canary's object of a kind as a pass would find it.
    pub(crate) fn known(&self, kind: GroupVersionResource) -> Option<Arc<Value>> {
        let (_, name) = WATCHED.iter().find(|(watched, _)| *watched == kind)?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(kind.group, kind.version, name));
        self.context.cache.get(&Key { resource, namespace: NAMESPACE.to_owned(), name: NAME.to_owned() })
    }

    pub(crate) fn has_canary(&self) -> bool {
        self.view.contains_key(&(CANARIES, NAME.to_owned()))
    }

    /// Begins a pass over the Canary as its watch shows it.
    pub(crate) fn pass(&mut self) {
        if !self.has_canary() {
            return;
        }
        self.passes += 1;
        self.again = false;
        self.due = None;
        let context = Arc::clone(&self.context);
        let pass = Box::pin(async move { timed(&canary(), &context).await });
        self.running = Some(tokio::spawn(Pausable { pass, switch: Arc::clone(&self.switch) }));
    }

    /// After how many milliseconds a pass that ended so is made again.
    pub(crate) fn next(&self, outcome: &Result<Option<Duration>, Error>) -> Option<Time> {
        let after = match outcome {
            Ok(next) => *next,
            Err(error) => self.has_canary().then(|| retry(&canary(), error, &self.context)),
        };
        after.map(requeue)
    }

    /// The clock jumps; answers whether it could, which it cannot in the middle of a pass.
    pub(crate) fn set_clock(&mut self, clock: Clock) -> bool {
        Arc::get_mut(&mut self.context).map(|context| context.clock = clock).is_some()
    }
}

/// Holds a process.
#[derive(Default)]
pub(crate) struct Switch(Mutex<(bool, Option<Waker>)>);

impl Switch {
    pub(crate) fn set(&self, paused: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = paused;
        if let (false, Some(waker)) = (paused, state.1.take()) {
            waker.wake();
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A pass that does not go on while its process stands still, whatever happens around it.
struct Pausable<Pass> {
    pass: Pin<Box<Pass>>,
    switch: Arc<Switch>,
}

impl<Pass: Future> Future for Pausable<Pass> {
    type Output = Pass::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Pass::Output> {
        {
            let mut state = self.switch.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                state.1 = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.pass.as_mut().poll(context)
    }
}

fn is_watched(kind: GroupVersionResource, object: &Value) -> bool {
    kind != CONTROLLER_REVISIONS || object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1
}

fn canary() -> NamespacedName {
    NamespacedName::new(NAMESPACE, NAME)
}

/// What `serde` would make of it by way of copies that are thrown away.
fn dynamic(object: &Value) -> DynamicObject {
    let data = object.as_object().into_iter().flatten();
    let data = data.filter(|(field, _)| !["apiVersion", "kind", "metadata"].contains(&field.as_str()));
    let [api_version, kind] = ["/apiVersion", "/kind"].map(|field| app::text(object, field).to_owned());
    DynamicObject {
        types: Some(TypeMeta { api_version, kind }),
        metadata: parse(&object["metadata"]),
        data: data.map(|(field, value)| (field.clone(), value.clone())).collect(),
    }
}

fn parse<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    T::deserialize(object).unwrap_or_else(|error| panic!("{object} is not what it should be: {error}"))
}

/// What is due within a millisecond is due with it.
fn requeue(after: Duration) -> Time {
    u64::try_from(after.as_millis()).unwrap_or(u64::MAX) + u64::from(!after.subsec_nanos().is_multiple_of(1_000_000))
}

/// Never used: what is asked of others goes through the door. One is enough, as clients are slow to make.
fn egress() -> Egress {
    static EGRESS: OnceLock<Egress> = OnceLock::new();
    // A second world in this process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    EGRESS.get_or_init(|| Egress::new(AllowedHosts::default()).expect("connections can be made")).clone()
}

fn settings() -> Settings {
    Settings {
        metrics_server: "http://prometheus:9090".to_owned(),
        provider: "gatewayapi:v1".to_owned(),
        gateway_metrics: "traefik".to_owned(),
        selector_labels: vec!["app".to_owned()],
        include_label_prefix: vec![],
        drain_delay: SignedDuration::from_millis(DRAIN_DELAY.cast_signed()),
        route_grace: SignedDuration::from_millis(ROUTE_GRACE.cast_signed()),
        query_timeout: Duration::from_secs(5),
        config_tracking: true,
        concurrency: 4,
        api_concurrency: 8,
        query_concurrency: 8,
        webhook_concurrency: 4,
        allowed_egress: AllowedHosts::default(),
        tenancy: Tenancy::default(),
        alerts: AlertSettings::default(),
    }
}

/// How long pods without weight are kept, in milliseconds.
pub(crate) const DRAIN_DELAY: Time = 5000;

/// How long a gateway may say nothing, in milliseconds.
pub(crate) const ROUTE_GRACE: Time = 5000;
