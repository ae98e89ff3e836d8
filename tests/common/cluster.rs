//! The cluster: an API server, what reacts to its objects, and the controller under test.
//!
//! Time is tokio's, and paused: it passes when a test lets it. The caches are filled by hand before each pass with what
//! the API server holds, so a pass sees exactly what a watch that is not late would have shown.

use super::app::{self, NAME, NAMESPACE};
use super::prometheus::Prometheus;
use super::story;
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::reflector;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use serin::api::{AlertProvider, MANAGED_BY, MetricTemplate};
use serin::controller::lease::Leadership;
use serin::controller::{
    AlertSettings, AllowedHosts, Cache, Clock, Context, Deliveries, Egress, Error, NamespacedName, Settings, Store,
    Tenancy, reconcile,
};
use serin::telemetry::Metrics;
use serin::workload::REVISION;
use serin_testing::workloads::{DaemonSetController, DeploymentController, accept_routes, settle_endpoints};
use serin_testing::{
    ALERT_PROVIDERS, AUTOSCALERS, ApiServer, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS,
    ENDPOINTS, GroupVersionResource, HTTP_ROUTES, METRIC_TEMPLATES, OLD_AUTOSCALERS, SCALED_OBJECTS, SECRETS, SERVICES,
};
use std::cell::{Cell, OnceCell};
use std::fmt::Write as _;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The gateway's controller.
const GATEWAY: &str = "example.com/gateway";

/// More passes than any rollout here takes.
const PASSES: usize = 200;

/// How many nodes there are.
pub(crate) const NODES: u32 = 2;

/// An image whose pods never become ready.
pub(crate) const BROKEN: &str = "web:broken";

/// An image whose pods become ready as canaries, and not as primaries.
pub(crate) const STUCK: &str = "web:stuck";

/// When every test begins.
pub(crate) fn beginning() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("it is a time")
}

/// The cluster with an operator in it.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) prometheus: Prometheus,
    pub(crate) operator: Operator,
    pub(crate) clock: Clock,
    pub(crate) leadership: Leadership,
    /// What the flags say of alerts; a restart takes them up.
    pub(crate) alerts: AlertSettings,
    /// The revision to which the rest of the cluster has reacted, and whether it counted pods then.
    reacted: Cell<Option<(u64, bool)>>,
    /// What other flags say; a restart takes them up.
    always: fn(&mut Settings),
    deployments: DeploymentController,
    pub(crate) daemon_sets: DaemonSetController,
    /// Pods and gateway react to what is written.
    pub(crate) reacts: bool,
    /// Endpoints follow their Services: needed where one is the target.
    pub(crate) counts: bool,
    /// Alerts are delivered before time goes on.
    pub(crate) listens: bool,
    /// When the controller asked to be woken.
    due: Option<Timestamp>,
    /// The newest revision that a pass has looked at.
    looked_at: u64,
    /// Writes since the story was last told.
    told: u64,
    story: String,
    began: Timestamp,
    /// Passes that ended with an error, since the last look.
    pub(crate) errors: Vec<Error>,
}

/// One process of Serin: what it forgets in a crash.
pub(crate) struct Operator {
    pub(crate) context: Arc<Context>,
    stores: Vec<(GroupVersionResource, Arc<Store>)>,
    templates: Writer<MetricTemplate>,
    providers: Writer<AlertProvider>,
    pub(crate) deliveries: Deliveries,
}

impl Cluster {
    /// An empty cluster with an operator in it that leads.
    pub(crate) async fn new() -> Self {
        // A second test in this process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = ApiServer::new();
        let clock = Clock::starting_at(beginning());
        server.set_clock(move || clock.now());
        let prometheus = Prometheus::start().await;
        let leadership = Leadership::lasting(Duration::from_hours(24));
        let alerts = AlertSettings::default();
        let operator = Operator::start(&server, &prometheus, clock, leadership.clone(), alerts.clone());
        let broken = |template: &Value| {
            let image = &template["spec"]["containers"][0]["image"];
            *image == BROKEN || (*image == STUCK && template["metadata"]["labels"]["app"] == "web-primary")
        };
        Self {
            server,
            prometheus,
            operator,
            clock,
            leadership,
            alerts,
            reacted: Cell::default(),
            always: |_| {},
            deployments: DeploymentController::new().never_ready(broken),
            daemon_sets: DaemonSetController::new(NODES).never_ready(broken),
            reacts: true,
            counts: false,
            listens: true,
            due: None,
            looked_at: 0,
            told: 0,
            story: String::new(),
            began: beginning(),
            errors: vec![],
        }
    }

    /// A cluster with the app, its Service and its route, and no Canary yet.
    pub(crate) async fn with_app() -> Self {
        let cluster = Self::new().await;
        cluster.put(DEPLOYMENTS, app::deployment("web:1"));
        cluster.put(SERVICES, app::service());
        cluster.put(HTTP_ROUTES, app::route());
        cluster.react();
        cluster
    }

    /// A cluster with the app and its Canary, initialised and at rest.
    pub(crate) async fn at_rest() -> Self {
        let mut cluster = Self::with_app().await;
        cluster.put(CANARIES, app::canary());
        cluster.settle().await;
        cluster.forget();
        cluster
    }

    /// An operator with other flags.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let context = Arc::get_mut(&mut self.operator.context).expect("no pass is under way");
        change(&mut context.settings);
    }

    /// An operator with other flags, now and after every restart.
    pub(crate) fn always(&mut self, change: fn(&mut Settings)) {
        self.always = change;
        self.restart();
    }

    // ---- the user ----

    pub(crate) fn put(&self, resource: GroupVersionResource, object: Value) -> Value {
        self.server.put(resource, object).expect("the user writes what the server takes")
    }

    pub(crate) fn edit(&self, resource: GroupVersionResource, name: &str, change: impl FnMut(&mut Value)) -> Value {
        self.server.update(resource, NAMESPACE, name, change).expect("the user changes what is there")
    }

    /// Deploys a version.
    pub(crate) fn deploy(&self, image: &str) {
        self.edit(DEPLOYMENTS, NAME, |deployment| {
            deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        });
    }

    /// Changes the Canary's spec.
    pub(crate) fn edit_spec(&self, change: impl Fn(&mut Value)) {
        self.edit(CANARIES, NAME, |canary| change(&mut canary["spec"]));
    }

    pub(crate) fn delete_canary(&self) {
        self.server.delete(CANARIES, NAMESPACE, NAME).expect("the Canary is there");
    }

    // ---- looking ----

    pub(crate) fn find(&self, resource: GroupVersionResource, name: &str) -> Option<Value> {
        self.server.get(resource, NAMESPACE, name)
    }

    pub(crate) fn get(&self, resource: GroupVersionResource, name: &str) -> Value {
        self.find(resource, name).unwrap_or_else(|| panic!("{} {name} is there", resource.plural))
    }

    pub(crate) fn status(&self) -> Value {
        self.get(CANARIES, NAME)["status"].clone()
    }

    pub(crate) fn phase(&self) -> String {
        self.status()["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// A condition as `status reason: message`.
    pub(crate) fn condition(&self, kind: &str) -> String {
        let status = self.status();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    }

    pub(crate) fn image(&self, deployment: &str) -> String {
        let deployment = self.get(DEPLOYMENTS, deployment);
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn replicas(&self, deployment: &str) -> i64 {
        self.get(DEPLOYMENTS, deployment)["spec"]["replicas"].as_i64().unwrap_or(1)
    }

    /// The backends of the app's rule and their weights.
    pub(crate) fn backends(&self) -> String {
        story::backends(&self.get(HTTP_ROUTES, NAME))
    }

    /// What there is besides the Canary: `resource/name`.
    pub(crate) fn left(&self) -> Vec<String> {
        let kinds = [CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, HTTP_ROUTES, SERVICES];
        let names = kinds.into_iter().flat_map(|kind| {
            let objects = self.server.list(kind, None);
            objects.into_iter().map(move |object| {
                format!("{}/{}", kind.plural, object["metadata"]["name"].as_str().unwrap_or_default())
            })
        });
        names.collect()
    }

    // ---- time ----

    /// The rest of the cluster does what it would have done by now.
    pub(crate) fn react(&self) {
        // Nothing but a change makes it do anything.
        if self.reacts && self.reacted.get() != Some((self.server.revision(), self.counts)) {
            self.deployments.settle(&self.server);
            self.daemon_sets.settle(&self.server);
            if self.counts {
                settle_endpoints(&self.server);
            }
            accept_routes(&self.server, GATEWAY);
            self.reacted.set(Some((self.server.revision(), self.counts)));
        }
    }

    /// One pass, over what the API server holds now.
    pub(crate) async fn pass(&mut self) -> Result<Option<Duration>, Error> {
        self.react();
        self.pass_over_what_is_there().await
    }

    /// One pass, without a reaction of the cluster before.
    pub(crate) async fn pass_over_what_is_there(&mut self) -> Result<Option<Duration>, Error> {
        self.looked_at = self.server.revision();
        self.operator.refresh(&self.server);
        let Some(canary) = self.find(CANARIES, NAME) else { return Ok(None) };
        let outcome = self.operator.pass(canary).await;
        if self.listens {
            self.operator.delivered().await;
        }
        self.tell();
        outcome
    }

    /// One pass during which time goes on, and in which the user does something after a while; answers how long it took. What
    /// the user does is shown to the caches as the watches would.
    pub(crate) async fn pass_during(&mut self, after: Duration, act: impl FnOnce(&Self)) -> SignedDuration {
        self.react();
        self.operator.refresh(&self.server);
        self.looked_at = self.server.revision();
        let (canary, context) = (name(), Arc::clone(&self.operator.context));
        let mut pass = Box::pin(reconcile(&canary, &context));
        let began = self.clock.now();
        let elapsed = |cluster: &Self| cluster.clock.now().duration_since(began);
        let mut act = Some(act);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut pass => break outcome,
                () = real_time(Duration::from_millis(5)) => tokio::time::advance(Duration::from_millis(100)).await,
            }
            assert!(elapsed(self) < SignedDuration::from_hours(1), "the pass does not end");
            if elapsed(self).unsigned_abs() >= after
                && let Some(act) = act.take()
            {
                act(self);
                self.react();
                self.operator.refresh(&self.server);
                self.operator.context.news.tell(&name());
            }
        };
        let took = elapsed(self);
        match outcome {
            Ok(next) => self.due = next.map(|after| self.clock.now() + after),
            Err(error) => {
                self.due = Some(self.clock.now());
                self.errors.push(error);
            }
        }
        self.tell();
        took
    }

    /// The same, while the user only waits.
    pub(crate) async fn pass_in_time(&mut self) -> SignedDuration {
        self.pass_during(Duration::MAX, |_| {}).await
    }

    /// Passes as the controller would make them, each when something changed or when it is due, until nothing moves.
    pub(crate) async fn settle(&mut self) {
        assert!(self.settle_until(|_| false).await, "nothing comes to rest");
    }

    /// The same, but ends as soon as `reached`; whether it came to an end.
    pub(crate) async fn settle_until(&mut self, reached: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..PASSES {
            self.react();
            if reached(self) {
                return true;
            }
            let changed = self.server.revision() != self.looked_at;
            match self.due {
                _ if changed => {}
                Some(due) => self.wait_until(due).await,
                None => return true,
            }
            match self.pass().await {
                Ok(next) => self.due = next.map(|after| self.clock.now() + after),
                Err(error) => {
                    let after = if error.is_conflict() { 50 } else { 200 };
                    self.due = Some(self.clock.now() + SignedDuration::from_millis(after));
                    self.errors.push(error);
                }
            }
        }
        false
    }

    pub(crate) async fn wait_until(&self, time: Timestamp) {
        let rest = time.duration_since(self.clock.now());
        tokio::time::advance(Duration::try_from(rest).unwrap_or_default()).await;
    }

    pub(crate) async fn wait(&self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    /// The process dies, and another takes its place.
    pub(crate) fn restart(&mut self) {
        let alerts = self.alerts.clone();
        self.operator = Operator::start(&self.server, &self.prometheus, self.clock, self.leadership.clone(), alerts);
        self.set(self.always);
        self.due = None;
        self.looked_at = 0;
    }

    // ---- the story ----

    /// Forgets what was written so far; the clock of the story starts again.
    pub(crate) fn forget(&mut self) {
        self.server.clear_log();
        self.prometheus.asked();
        self.story.clear();
        self.errors.clear();
        self.began = self.clock.now();
    }

    /// What was written since the last call, pass by pass; passes that wrote nothing are left out.
    pub(crate) fn story(&mut self) -> String {
        std::mem::take(&mut self.story)
    }

    fn tell(&mut self) {
        let new = self.server.writes_after(self.told);
        let Some(last) = new.last() else { return };
        self.told = last.ordinal;
        let seconds = self.clock.now().duration_since(self.began).as_secs_f64();
        let _ = writeln!(self.story, "+{seconds}s");
        for write in &new {
            let _ = writeln!(self.story, "  {}", story::line(write));
        }
    }
}

impl Operator {
    pub(crate) fn start(
        server: &ApiServer,
        prometheus: &Prometheus,
        clock: Clock,
        leadership: Leadership,
        alerts: AlertSettings,
    ) -> Self {
        Self::with(server, Settings { alerts, ..settings(&prometheus.address) }, clock, leadership)
    }

    pub(crate) fn with(server: &ApiServer, settings: Settings, clock: Clock, leadership: Leadership) -> Self {
        let mut cache = Cache::default();
        let kinds = [
            (CANARIES, "Canary"),
            (DEPLOYMENTS, "Deployment"),
            (DAEMON_SETS, "DaemonSet"),
            (SERVICES, "Service"),
            (ENDPOINTS, "Endpoints"),
            (CONTROLLER_REVISIONS, "ControllerRevision"),
            (HTTP_ROUTES, "HTTPRoute"),
            (CONFIG_MAPS, "ConfigMap"),
            (SECRETS, "Secret"),
            (if server.is_served(AUTOSCALERS) { AUTOSCALERS } else { OLD_AUTOSCALERS }, "HorizontalPodAutoscaler"),
            (SCALED_OBJECTS, "ScaledObject"),
        ];
        let watch = |(name, kind): (GroupVersionResource, &str)| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(name.group, name.version, kind));
            (name, cache.add(resource))
        };
        let stores = kinds.into_iter().filter(|(name, _)| server.is_served(*name)).map(watch).collect();
        let templates = Writer::default();
        let reader: reflector::Store<MetricTemplate> = templates.as_reader();
        let metrics = Arc::new(Metrics::new());
        let providers = Writer::default();
        let egress = egress(&settings.allowed_egress);
        let mut context = Context::new(server.client(), egress, settings, leadership, metrics, cache, reader, clock);
        let deliveries = context.open_outbox(providers.as_reader());
        Self { context: Arc::new(context), stores, templates, providers, deliveries }
    }

    /// Shows the caches what there is, as the watches would.
    pub(crate) fn refresh(&mut self, server: &ApiServer) {
        self.show(server);
        fill(&mut self.templates, server.list(METRIC_TEMPLATES, None).into_iter().map(parse));
        fill(&mut self.providers, server.list(ALERT_PROVIDERS, None).into_iter().map(parse));
    }

    /// The same, but for what is looked up only.
    pub(crate) fn show(&self, server: &ApiServer) {
        for (name, store) in &self.stores {
            let is_ours = |object: &Value| object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1;
            let has_version = |object: &Value| object["metadata"]["labels"][REVISION].is_string();
            let wanted = |object: &Value| match *name {
                CONTROLLER_REVISIONS => is_ours(object),
                ENDPOINTS => is_ours(object) && has_version(object),
                _ => true,
            };
            let objects = server.list(*name, None).into_iter().filter(wanted).map(parse);
            show(store, objects);
        }
    }

    /// What shows one object, as the watch of its kind would; others stay as they were shown.
    pub(crate) fn watch(&self, kind: GroupVersionResource) -> impl Fn(Value) + Send + use<> {
        let store = self.stores.iter().find(|(name, _)| *name == kind);
        let store = Arc::clone(&store.expect("the kind is watched").1);
        move |object| drop(store.apply(Event::Apply(parse(object))))
    }

    /// Waits, in real time, until no alert is on its way any more; paused time stands still meanwhile.
    pub(crate) async fn delivered(&self) {
        let metrics = Arc::clone(&self.context.metrics);
        let is_quiet = move || metrics.encode().lines().any(|line| line == "serin_alerts_waiting 0");
        if !is_quiet() {
            let began = std::time::Instant::now();
            let waiting = tokio::task::spawn_blocking(move || {
                while !is_quiet() {
                    assert!(began.elapsed() < Duration::from_secs(20), "an alert is still on its way");
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            waiting.await.expect("all alerts are delivered");
        }
    }

    /// One pass over a Canary as a watch shows it.
    pub(crate) async fn pass(&self, canary: Value) -> Result<Option<Duration>, Error> {
        // Time must not run ahead while an answer of Prometheus is on its way; it does not while this waits.
        let (done, running) = mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || running.recv());
        let canaries = self.stores.iter().filter(|(kind, _)| *kind == CANARIES);
        canaries.for_each(|(_, store)| show(store, [parse(canary.clone())].into_iter()));
        let name = NamespacedName::new(NAMESPACE, canary["metadata"]["name"].as_str().unwrap_or_default());
        let outcome = reconcile(&name, &self.context).await;
        drop(done);
        let _ = held.await;
        outcome
    }
}

/// The certificates of the system are read for each anew, which takes longer than a rollout here; and a connection belongs
/// to the test that has opened it.
fn egress(allowed: &AllowedHosts) -> Egress {
    thread_local! {
        static TO_ALL: OnceCell<Egress> = const { OnceCell::new() };
    }
    let new = || Egress::new(allowed.clone()).expect("connections can be made");
    if *allowed == AllowedHosts::default() { TO_ALL.with(|egress| egress.get_or_init(new).clone()) } else { new() }
}

/// Waits while paused time stands still.
async fn real_time(wait: Duration) {
    tokio::task::spawn_blocking(move || std::thread::sleep(wait)).await.expect("a sleep ends");
}

fn fill<K>(writer: &mut Writer<K>, objects: impl Iterator<Item = K>)
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    list(objects).for_each(|event| writer.apply_watcher_event(&event));
}

/// What a watch shows that begins anew.
fn list<K>(objects: impl Iterator<Item = K>) -> impl Iterator<Item = Event<K>> {
    [Event::Init].into_iter().chain(objects.map(Event::InitApply)).chain([Event::InitDone])
}

fn show(store: &Store, objects: impl Iterator<Item = DynamicObject>) {
    list(objects).for_each(|event| drop(store.apply(event)));
}

/// Names the Canary.
fn name() -> NamespacedName {
    NamespacedName::new(NAMESPACE, NAME)
}

pub(crate) fn settings(metrics_server: &str) -> Settings {
    Settings {
        metrics_server: metrics_server.to_owned(),
        provider: "gatewayapi:v1".to_owned(),
        gateway_metrics: "traefik".to_owned(),
        selector_labels: ["app", "name", "app.kubernetes.io/name"].map(str::to_owned).into(),
        include_label_prefix: vec![],
        drain_delay: SignedDuration::from_secs(5),
        route_grace: SignedDuration::from_secs(5),
        query_timeout: Duration::from_secs(5),
        config_tracking: true,
        concurrency: 4,
        api_concurrency: 8,
        query_concurrency: 8,
        webhook_concurrency: 16,
        allowed_egress: AllowedHosts::default(),
        tenancy: Tenancy::default(),
        alerts: AlertSettings::default(),
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("what the server holds fits its type")
}

/// A Canary with another interval, steps and so on.
pub(crate) fn canary_with(analysis: &Value) -> Value {
    let mut canary = app::canary();
    for (field, value) in analysis.as_object().into_iter().flatten() {
        canary["spec"]["analysis"][field] = value.clone();
    }
    canary
}

/// A `MetricTemplate` that asks `address`.
pub(crate) fn template(name: &str, address: &str, secret: Option<&str>) -> Value {
    let mut template = json!({
        "apiVersion": "serin.dev/v1beta1",
        "kind": "MetricTemplate",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"provider": {"type": "prometheus", "address": address}, "query": "errors{app=\"{{ target }}\"}"},
    });
    if let Some(secret) = secret {
        template["spec"]["provider"]["secretRef"] = json!({"name": secret});
    }
    template
}
