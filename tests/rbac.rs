//! What the charts grant is what the operator asks for: a rule too few and a rule too many both fail.
//!
//! The real controller, watches and Lease included, goes through a whole life of a Canary in real time, with a conflict
//! on every kind of object that it writes.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::{settings, template};
use common::configs::{self, config_map};
use common::prometheus::{Prometheus, Says};
use common::scalers;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use serin::controller::lease::Candidate;
use serin::controller::{Settings, run};
use serin::server::Readiness;
use serin::telemetry::Metrics;
use serin_testing::workloads::{DaemonSetController, DeploymentController, accept_routes, settle_endpoints};
use serin_testing::{
    AUTOSCALERS, ApiServer, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, Fault,
    GroupVersionResource, HTTP_ROUTES, METRIC_TEMPLATES, Request, SCALED_OBJECTS, SECRETS, SERVICES, Verb,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// Group, resource and verb.
type Grant = (String, String, String);

/// Where the Lease is.
const OWN_NAMESPACE: &str = "serin-system";

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_charts_grant_what_is_used_and_nothing_else() {
    let server = live().await;
    let is_own = |grant: &Grant| grant.0 == "coordination.k8s.io";
    let (own, cluster): (BTreeSet<_>, BTreeSet<_>) = server.verbs_used().into_iter().partition(is_own);
    compare("charts/serin/files/cluster-rules.yaml", &cluster);
    compare("charts/serin/files/namespace-rules.yaml", &own);

    let leases: Vec<_> = server.requests().into_iter().filter(|request| request.resource == "leases").collect();
    assert!(leases.iter().all(|request| request.namespace.as_deref() == Some(OWN_NAMESPACE)));
    let secrets: Vec<_> = server.requests().into_iter().filter(|request| request.resource == "secrets").collect();
    for request in &secrets {
        let referred = ["prometheus", "token"].map(Some).contains(&request.name.as_deref());
        let copy = request.name.as_ref().is_some_and(|name| name.starts_with("token-primary-"));
        match request.verb {
            Verb::List | Verb::Watch => assert!(request.metadata_only, "no content is listed or watched"),
            Verb::Get => assert!(referred || copy, "{:?}: only what is referred to is read", request.name),
            Verb::Create | Verb::Update | Verb::Patch => {}
            Verb::Delete => assert!(copy, "{:?}", request.name),
        }
    }
}

#[test]
fn a_rule_too_many_or_too_few_is_found() {
    let rules = "- apiGroups: ['', apps]\n  resources: [services]\n  verbs: [get, list]\n";
    let grant = |group: &str, verb: &str| (group.to_owned(), "services".to_owned(), verb.to_owned());
    let granted = granted(rules);
    assert_eq!(
        granted,
        [("", "get"), ("", "list"), ("apps", "get"), ("apps", "list")].map(|(group, verb)| grant(group, verb)).into()
    );
    let used = [grant("", "get"), grant("", "patch")].into();
    let (missing, unused) = differences(&granted, &used);
    assert_eq!(missing, ["services: patch"]);
    assert_eq!(unused, ["services: list", "services.apps: get", "services.apps: list"]);
}

fn compare(file: &str, used: &BTreeSet<Grant>) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the chart has its rules");
    let (missing, unused) = differences(&granted(&text), used);
    assert!(missing.is_empty() && unused.is_empty(), "{file}: missing {missing:?}, unused {unused:?}");
}

/// What is used and not granted, and what is granted and not used.
fn differences(granted: &BTreeSet<Grant>, used: &BTreeSet<Grant>) -> (Vec<String>, Vec<String>) {
    let show = |(group, resource, verb): &Grant| {
        let dot = if group.is_empty() { "" } else { "." };
        format!("{resource}{dot}{group}: {verb}")
    };
    (used.difference(granted).map(show).collect(), granted.difference(used).map(show).collect())
}

fn granted(rules: &str) -> BTreeSet<Grant> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Rule {
        api_groups: Vec<String>,
        resources: Vec<String>,
        verbs: Vec<String>,
    }
    let rules: Vec<Rule> = serde_saphyr::from_str(rules).expect("the rules are a list of rules");
    let mut granted = BTreeSet::new();
    for Rule { api_groups, resources, verbs } in &rules {
        for group in api_groups {
            for resource in resources {
                granted.extend(verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    granted
}

/// A whole life of the operator and of a Canary; answers with the server that was asked for everything.
async fn live() -> ApiServer {
    // A second test in this process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = ApiServer::new();
    server.set_clock(Timestamp::now);
    let prometheus = Prometheus::start().await;
    let cluster = tokio::spawn(react(server.clone()));
    disturb(&server);

    let mut term = Candidate::new(server.client(), OWN_NAMESPACE, "serin", "first").lead().await;
    let leadership = term.leadership();
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = Settings {
        drain_delay: SignedDuration::from_millis(50),
        route_grace: SignedDuration::from_millis(50),
        ..settings(&prometheus.address)
    };
    let readiness = Readiness::awaiting("the caches are being filled");
    let stopped = async { stopped.await.unwrap_or_default() };
    let operator = run(server.client(), settings, leadership, Arc::new(Metrics::new()), readiness, stopped);
    let (ended, ()) = tokio::join!(
        async {
            tokio::select! {
                ended = operator => ended.expect("the controller runs"),
                lost = term.keep() => panic!("{lost}"),
            }
        },
        async {
            use_it(&server, &prometheus).await;
            stop.send(()).expect("the controller runs until it is stopped");
        },
    );
    ended.finish().await;
    term.release().await.expect("the Lease can be given back");
    cluster.abort();
    server
}

/// What users do, in their order.
async fn use_it(server: &ApiServer, prometheus: &Prometheus) {
    prometheus.says(Says::Value(0.0));
    put(server, METRIC_TEMPLATES, template("errors", &prometheus.address, Some("prometheus")));
    let secret = json!({
        "metadata": {"name": "prometheus", "namespace": NAMESPACE}, "data": {"username": "YQ==", "password": "Yg=="},
    });
    put(server, SECRETS, secret);
    put(server, CONFIG_MAPS, config_map("settings"));
    put(server, CONFIG_MAPS, config_map("unrelated"));
    put(server, SECRETS, configs::secret("token"));
    put(server, DEPLOYMENTS, app::deployment("web:1"));
    use_configs(server);
    let mut canary = app::canary();
    canary["spec"]["analysis"] = json!({
        "interval": "1s", "stepWeights": [50],
        "metrics": [{"name": "errors", "templateRef": {"name": "errors"}, "thresholdRange": {"max": 1}}],
    });
    put(server, CANARIES, canary.clone());
    until(server, "it is initialised", |status| status["phase"] == "Initialized" && status["canaryPods"] == "Down")
        .await;

    deploy(server, "web:2");
    until(server, "a version is promoted", |status| status["phase"] == "Succeeded" && status["canaryPods"] == "Down")
        .await;
    let asked = prometheus.asked();
    assert!(asked.iter().any(|asked| asked.authorization.as_deref() == Some("Basic YTpi")), "{asked:?}");

    // No pod template changes: the watches of configs wake the Canary.
    server.patch(CANARIES, NAMESPACE, NAME, &json!({"spec": {"skipAnalysis": true}})).unwrap();
    let changes: [(GroupVersionResource, &str, Value); 2] = [
        (CONFIG_MAPS, "settings", json!({"data": {"color": "green"}})),
        (SECRETS, "token", json!({"data": {"password": "bmV3"}})),
    ];
    for (kind, name, change) in changes {
        next(server, || drop(server.patch(kind, NAMESPACE, name, &change).unwrap())).await;
    }

    scale(server).await;

    // Enough versions that records are too many.
    for version in 3..=6 {
        next(server, || deploy(server, &format!("web:{version}"))).await;
    }
    wait(server, "old records are collected", |server| server.list(CONTROLLER_REVISIONS, None).len() == 4).await;

    let named = |mut object: Value| {
        object["metadata"]["name"] = "agent".into();
        object
    };
    put(server, DAEMON_SETS, named(app::daemon_set("web:1")));
    let mut agents = named(app::canary());
    agents["spec"]["targetRef"] = json!({"kind": "DaemonSet", "name": "agent"});
    put(server, CANARIES, agents);
    wait(server, "the DaemonSet is adopted", |server| {
        let canary = server.get(CANARIES, NAMESPACE, "agent");
        canary.is_some_and(|canary| canary["status"]["canaryPods"] == "Down")
    })
    .await;

    server.delete(CANARIES, NAMESPACE, NAME).unwrap();
    wait(server, "the Canary is gone", |server| server.get(CANARIES, NAMESPACE, NAME).is_none()).await;
    server.collect_garbage();
    assert_eq!(server.list(DEPLOYMENTS, None).len(), 1);
    assert_eq!(server.list(SECRETS, None).len(), 2, "the copies went with the Canary");

    // A primary that stays takes its copies with it.
    put(server, CANARIES, canary);
    until(server, "it is initialised again", |status| status["canaryPods"] == "Down").await;
    prometheus.says(Says::Value(100.0));
    deploy(server, "web:7");
    until(server, "a version is taken back", |status| status["phase"] == "Failed" && status["canaryPods"] == "Down")
        .await;
    server.delete(CANARIES, NAMESPACE, NAME).unwrap();
    wait(server, "the Canary is gone again", |server| server.get(CANARIES, NAMESPACE, NAME).is_none()).await;
    server.collect_garbage();
    assert_eq!((server.list(DEPLOYMENTS, None).len(), server.list(SECRETS, None).len()), (2, 3));
}

/// The app gets one autoscaler after the other, and then none.
async fn scale(server: &ApiServer) {
    put(server, AUTOSCALERS, scalers::hpa());
    put(server, SCALED_OBJECTS, scalers::scaled_object());
    for (kind, resource) in [("HorizontalPodAutoscaler", AUTOSCALERS), ("ScaledObject", SCALED_OBJECTS)] {
        let reference = json!({"spec": {"autoscalerRef": {"kind": kind, "name": NAME}}});
        server.patch(CANARIES, NAMESPACE, NAME, &reference).unwrap();
        let copy = |server: &ApiServer| server.get(resource, NAMESPACE, "web-primary");
        wait(server, "the primary has a scaler of its own", |server| copy(server).is_some()).await;
        server.patch(resource, NAMESPACE, NAME, &json!({"spec": {"cooldownPeriod": 7}})).unwrap();
        let is_followed = |copy: Value| copy["spec"]["cooldownPeriod"] == 7;
        wait(server, "an edit reaches the copy", |server| copy(server).is_some_and(is_followed)).await;
    }
    wait(server, "the copy of before is gone", |server| server.get(AUTOSCALERS, NAMESPACE, "web-primary").is_none())
        .await;
    server.patch(CANARIES, NAMESPACE, NAME, &json!({"spec": {"autoscalerRef": null}})).unwrap();
    wait(server, "no copy is left", |server| server.get(SCALED_OBJECTS, NAMESPACE, "web-primary").is_none()).await;
}

/// A change that is promoted without an analysis.
async fn next(server: &ApiServer, change: impl FnOnce()) {
    let revision = |status: &Value| status["promoted"]["revision"].clone();
    let before = revision(&server.get(CANARIES, NAMESPACE, NAME).unwrap()["status"]);
    change();
    until(server, "the next version is promoted", |status| {
        status["phase"] == "Succeeded" && status["canaryPods"] == "Down" && revision(status) != before
    })
    .await;
}

/// The app reads its configuration.
fn use_configs(server: &ApiServer) {
    let change = |deployment: &mut Value| {
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "token"}}]);
    };
    server.update(DEPLOYMENTS, NAMESPACE, NAME, change).expect("the app is there");
}

/// The rest of the cluster.
async fn react(server: ApiServer) {
    let deployments = DeploymentController::new();
    let daemon_sets = DaemonSetController::new(2);
    loop {
        deployments.settle(&server);
        daemon_sets.settle(&server);
        settle_endpoints(&server);
        accept_routes(&server, "example.com/gateway");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Somebody else writes right before the first change of every kind, and of the Canary's status twice: once in its
/// metadata, and once so that the pass has to be taken again.
fn disturb(server: &ApiServer) {
    let touched = server.clone();
    let mut left: Vec<GroupVersionResource> =
        vec![AUTOSCALERS, CANARIES, DAEMON_SETS, DEPLOYMENTS, HTTP_ROUTES, SCALED_OBJECTS, SERVICES];
    server.set_faults(move |request: &Request| {
        let Some(name) = &request.name else { return Fault::Pass };
        let place = left.iter().position(|kind| kind.plural == request.resource);
        if let (Verb::Patch | Verb::Update, Some(place)) = (request.verb, place) {
            let kind = left[place];
            let touch = json!({"metadata": {"annotations": {"touched": "by somebody else"}}});
            // The finalizer is set before anything is recorded; what matters here is the status.
            let is_finalizer = kind == CANARIES && request.subresource.is_none();
            if !is_finalizer && touched.patch(kind, NAMESPACE, name, &touch).is_ok() {
                left.remove(place);
            }
        }
        Fault::Pass
    });
}

fn deploy(server: &ApiServer, image: &str) {
    let change =
        |deployment: &mut Value| deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    server.update(DEPLOYMENTS, NAMESPACE, NAME, change).expect("the app is there");
}

fn put(server: &ApiServer, kind: GroupVersionResource, object: Value) {
    server.put(kind, object).expect("the server takes it");
}

async fn until(server: &ApiServer, what: &str, reached: impl Fn(&Value) -> bool) {
    wait(server, what, |server| server.get(CANARIES, NAMESPACE, NAME).is_some_and(|canary| reached(&canary["status"])))
        .await;
}

async fn wait(server: &ApiServer, what: &str, reached: impl Fn(&ApiServer) -> bool) {
    let began = Instant::now();
    while !reached(server) {
        let writes: Vec<_> = server.writes().iter().map(common::story::line).collect();
        assert!(began.elapsed() < PATIENCE, "not in time: {what}\n{}", writes.join("\n"));
        sleep(Duration::from_millis(10)).await;
    }
}
