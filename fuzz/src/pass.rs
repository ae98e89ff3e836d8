//! Whole passes over a cluster in which somebody edited whatever they liked.
//!
//! Random bytes are hardly ever a Canary. So here they are edits of one, of its app, and of its route: each puts something
//! that nobody would write somewhere in there.

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use serin::api::MetricTemplate;
use serin::controller::lease::Leadership;
use serin::controller::{
    AlertSettings, AllowedHosts, Cache, Clock, Context, Egress, NamespacedName, Network, Settings, Store, Tenancy,
    reconcile,
};
use serin::domain::Answer;
use serin::metrics::Query;
use serin::telemetry::Metrics;
use serin_testing::{
    ApiServer, CANARIES, CONTROLLER_REVISIONS, DEPLOYMENTS, GroupVersionResource, HTTP_ROUTES, SERVICES,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const NAMESPACE: &str = "shop";

/// What is edited, and watched; then what is only watched.
const KINDS: [(GroupVersionResource, &str); 5] = [
    (CANARIES, "Canary"),
    (DEPLOYMENTS, "Deployment"),
    (SERVICES, "Service"),
    (HTTP_ROUTES, "HTTPRoute"),
    (CONTROLLER_REVISIONS, "ControllerRevision"),
];
const EDITED: usize = 4;

/// After so many passes with nothing from outside, everything is at rest.
const PASSES: usize = 30;

/// How large a list of copies is made, in bytes: lists of lists of lists grow beyond any memory, and etcd takes no megabytes.
const LARGEST_LIST: usize = 100_000;

/// The longest status, in bytes, besides what somebody wrote into it.
const LARGEST_STATUS: usize = 64 * 1024;

/// Edits of two bytes each, where and what: no pass panics, what is said of it fits into a status, and with nobody editing
/// any more the writes come to an end.
///
/// # Panics
/// When that is not so.
pub fn canary_pass(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(run(bytes));
}

async fn run(bytes: &[u8]) {
    let server = ApiServer::new();
    let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
    server.set_clock(move || clock.now());
    let mut objects = [canary(), deployment(), service(), route()];
    for edit in bytes.chunks_exact(2).take(64) {
        let edited = usize::from(edit[0]) % EDITED;
        put_something(&mut objects[edited], usize::from(edit[0]) / EDITED, edit[1]);
    }
    for ((kind, _), object) in KINDS.into_iter().zip(objects) {
        // What no API server would take is not there.
        let _ = server.put(kind, object);
    }
    let status = |server: &ApiServer| -> usize {
        server.list(CANARIES, None).iter().map(|canary| canary["status"].to_string().len()).sum()
    };
    let edited = status(&server);
    let operator = Operator::start(&server, clock);
    let mut quiet = 0;
    for _ in 0..PASSES {
        let before = server.revision();
        operator.pass(&server).await;
        tokio::time::advance(Duration::from_mins(1)).await;
        quiet = if server.revision() == before { quiet + 1 } else { 0 };
    }
    assert!(quiet > 0, "it writes for ever: {:?}", server.writes().last());
    let bytes = status(&server);
    assert!(bytes <= LARGEST_STATUS + edited, "the status has {bytes} bytes");
}

/// Puts something at one place of an object, all places being counted through.
fn put_something(object: &mut Value, place: usize, what: u8) {
    let mut places = vec![];
    pointers(object, "", &mut places);
    // Where it is and what it is called has to stay, or there is nothing to look at.
    places.retain(|place| !["", "/metadata", "/metadata/name", "/metadata/namespace"].contains(&place.as_str()));
    let Some(pointer) = places.get(place.wrapping_mul(7) % places.len().max(1)) else { return };
    if let Some(found) = object.pointer_mut(pointer) {
        *found = something(what, found);
    }
}

fn pointers(value: &Value, here: &str, places: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.replace('/', "~1"), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(place, value)| (place.to_string(), value)).collect(),
        _ => vec![],
    };
    places.push(here.to_owned());
    for (key, value) in children {
        pointers(value, &format!("{here}/{key}"), places);
    }
}

/// What nobody would write, and some of what somebody would.
fn something(what: u8, found: &Value) -> Value {
    let copies = (LARGEST_LIST / found.to_string().len()).min(300);
    let all = [
        Value::Null,
        json!(0),
        json!(-1),
        json!(1),
        json!(100),
        json!(i32::MAX),
        json!(i64::MAX),
        json!(1e300),
        json!(true),
        json!(""),
        json!("web"),
        json!("10s"),
        json!("999999999h"),
        json!("2026-13-41T99:99:99Z"),
        json!("9999-12-30T22:00:00Z"),
        json!("http://169.254.169.254"),
        json!("{{ 9 ** 9 ** 9 }}"),
        json!("../../etc"),
        json!("ä\u{0}\u{202e}'\"\\`$(id)"),
        json!("x".repeat(10_000)),
        json!({}),
        json!([]),
        json!(vec![found.clone(); copies]),
        json!([found]),
        json!({"": found}),
        json!({"web": "web", "app": "web"}),
        json!("Progressing"),
        json!("Promoting"),
        json!("Terminating"),
        json!("Draining"),
        json!("serin.dev/finalizer"),
    ];
    let count = all.len();
    all.into_iter().nth(usize::from(what) % count).unwrap_or_default()
}

struct Operator {
    context: Arc<Context>,
    stores: Vec<(GroupVersionResource, Arc<Store>)>,
    _templates: Writer<MetricTemplate>,
}

impl Operator {
    fn start(server: &ApiServer, clock: Clock) -> Self {
        let mut cache = Cache::default();
        let watched = KINDS.map(|(name, kind)| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(name.group, name.version, kind));
            (name, cache.add(resource))
        });
        let templates = Writer::default();
        let (client, leadership) =
            (Client::new(server.clone(), NAMESPACE), Leadership::lasting(Duration::from_hours(24)));
        let metrics = Arc::new(Metrics::new());
        let reader = templates.as_reader();
        let mut context = Context::new(client, egress(), settings(), leadership, metrics, cache, reader, clock);
        context.network = Arc::new(AllWell);
        Self { context: Arc::new(context), stores: watched.into(), _templates: templates }
    }

    /// One pass over what the API server holds now. That it fails is as good as anything.
    async fn pass(&self, server: &ApiServer) {
        for (name, store) in &self.stores {
            let objects = server.list(*name, None).into_iter().filter_map(|object| serde_json::from_value(object).ok());
            let all = [Event::Init].into_iter().chain(objects.map(Event::InitApply)).chain([Event::InitDone]);
            all.for_each(|event: Event<DynamicObject>| drop(store.apply(event)));
        }
        for canary in server.list(CANARIES, None) {
            let name = canary["metadata"]["name"].as_str().unwrap_or_default();
            let _ = Box::pin(reconcile(&NamespacedName::new(NAMESPACE, name), &self.context)).await;
        }
    }
}

/// A Prometheus that is content with everything.
struct AllWell;

impl Network for AllWell {
    fn query<'a>(&'a self, _: &'a Query, _: Duration) -> BoxFuture<'a, Answer> {
        async { Ok(100.0) }.boxed()
    }
}

/// To build one takes longer than all the rest, and nothing goes through it.
fn egress() -> Egress {
    static EGRESS: OnceLock<Egress> = OnceLock::new();
    let built = EGRESS.get_or_init(|| {
        // One of several threads installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Egress::new(AllowedHosts::new(["nowhere.invalid".to_owned()])).unwrap_or_else(|error| panic!("{error}"))
    });
    built.clone()
}

fn settings() -> Settings {
    let second = SignedDuration::from_secs(1);
    Settings {
        metrics_server: "http://prometheus:9090".to_owned(),
        provider: "gatewayapi:v1".to_owned(),
        gateway_metrics: "traefik".to_owned(),
        selector_labels: vec!["app".to_owned()],
        include_label_prefix: vec!["*".to_owned()],
        drain_delay: second,
        route_grace: second,
        query_timeout: Duration::from_secs(1),
        config_tracking: false,
        concurrency: 1,
        api_concurrency: 4,
        query_concurrency: 4,
        webhook_concurrency: 1,
        allowed_egress: AllowedHosts::default(),
        tenancy: Tenancy::default(),
        alerts: AlertSettings::default(),
    }
}

fn object(api_version: &str, kind: &str, spec: &Value) -> Value {
    let metadata = json!({
        "name": "web", "namespace": NAMESPACE, "labels": {"team": "blue"}, "annotations": {"team": "blue"},
        "finalizers": ["example.com/keep"],
    });
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}

/// A Canary in the middle of an analysis, with a bit of everything.
fn canary() -> Value {
    let metric = json!({
        "name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99, "max": 100},
        "query": "up{app=\"{{ target }}\"}", "templateVariables": {"code": "5.."},
    });
    let matching =
        json!([{"uri": {"prefix": "/"}, "headers": {"x-a": {"exact": "b"}}, "queryParams": {"c": {"regex": "d"}}}]);
    let analysis = json!({
        "interval": "10s", "threshold": 2, "stepWeights": [10, 50], "stepWeightPromotion": 25, "inconclusiveLimit": 3,
        "onInconclusive": "Rollback", "primaryReadyThreshold": 100, "canaryReadyThreshold": 100, "metrics": [metric],
        "sessionAffinity": {"cookieName": "v", "maxAge": 60},
    });
    let service = json!({
        "name": "web", "port": 80, "targetPort": 8080, "gatewayRefs": [{"name": "gateway", "namespace": "gateways"}],
        "hosts": ["shop.example"], "match": matching, "timeout": "5s", "rewrite": {"uri": "/x"},
        "headers": {"request": {"set": {"x-team": "blue"}}}, "apex": {"labels": {"a": "b"}},
        "corsPolicy": {"allowOrigins": [{"exact": "https://a.example"}], "maxAge": "1h"},
    });
    let spec = json!({
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "provider": "gatewayapi:v1",
        "progressDeadlineSeconds": 60, "service": service, "analysis": analysis, "suspend": false,
        "skipAnalysis": false, "revertOnDeletion": false, "metricsServer": "http://prometheus:9090",
    });
    let time = "1970-01-01T00:00:00Z";
    let mut canary = object("serin.dev/v1beta1", "Canary", &spec);
    canary["status"] = json!({
        "phase": "Progressing", "since": time, "weightSince": time, "canaryWeight": 10, "step": 1, "iterations": 0,
        "failedChecks": 0, "inconclusiveChecks": 0, "canaryPods": "Up", "drainingSince": time, "replicas": 3,
        "target": {"revision": "b", "hash": "b", "generation": 1, "uid": "u"}, "promoted": {"revision": "a"},
        "trackedConfigs": {}, "conditions": [], "history": [],
    });
    canary
}

fn deployment() -> Value {
    let container = json!({
        "name": "main", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "A", "value": "b"}], "envFrom": [{"configMapRef": {"name": "settings"}}],
    });
    let template = json!({
        "metadata": {"labels": {"app": "web", "tier": "front"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [container], "volumes": [{"name": "v", "secret": {"secretName": "token"}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"},
            ]}},
        },
    });
    let mut deployment = object(
        "apps/v1",
        "Deployment",
        &json!({
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template,
        }),
    );
    deployment["status"] = json!({
        "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
        "conditions": [{"type": "Available", "status": "True"}],
    });
    deployment
}

fn service() -> Value {
    object(
        "v1",
        "Service",
        &json!({
            "clusterIP": "10.0.0.7", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        }),
    )
}

fn route() -> Value {
    let weight =
        |name: &str, weight: i64| json!({"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight});
    let filter =
        json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "y"}]}});
    let mut route = object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        &json!({
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
            "hostnames": ["shop.example"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "a", "value": "b"}]}],
                    "filters": [filter], "backendRefs": [weight("web-primary", 90), weight("web-canary", 10)],
                },
                {"backendRefs": [weight("web", 1), weight("legacy", 1)]},
            ],
        }),
    );
    let condition = json!({"type": "Accepted", "status": "True", "observedGeneration": 1});
    let parent = json!({"name": "gateway"});
    route["status"] =
        json!({"parents": [{"parentRef": parent, "controllerName": "example.com/gateway", "conditions": [condition]}]});
    route
}
