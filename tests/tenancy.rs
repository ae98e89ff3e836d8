//! Several tenants in one cluster: what is watched, what may be referred to, and whose an app is.
//!
//! The real controller with its watches, in real time, against an API server in this process.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::{settings, template};
use common::prometheus::{Prometheus, Says};
use common::scalers;
use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::controller::lease::Leadership;
use serin::controller::{Settings, Tenancy, run};
use serin::server::Readiness;
use serin::telemetry::Metrics;
use serin_testing::workloads::{DeploymentController, accept_routes};
use serin_testing::{
    AUTOSCALERS, ApiServer, CANARIES, CONTROLLER_REVISIONS, DEPLOYMENTS, Fault, GroupVersionResource, HTTP_ROUTES,
    METRIC_TEMPLATES, Request, SCALED_OBJECTS, SERVICES, Verb,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Long enough for everything that a change sets off, had it set off anything.
const QUIET: Duration = Duration::from_millis(300);

// ---- what is watched ----

#[tokio::test]
async fn only_the_given_namespaces_are_watched_and_written() {
    let mut cluster = Cluster::new().await;
    for namespace in ["shop", "blog", "other"] {
        cluster.adopt(namespace, app::canary());
    }
    cluster.start(tenancy("shop,blog"));
    cluster.until("shop", NAME, "Initialized").await;
    cluster.until("blog", NAME, "Initialized").await;
    sleep(QUIET).await;

    let requests = cluster.server.requests();
    let elsewhere: Vec<_> = requests.iter().filter(|request| !is_in(request, &["shop", "blog"])).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    let mut lists: Vec<_> = requests
        .iter()
        .filter(|request| request.verb == Verb::List)
        .map(|request| format!("{}/{}", request.namespace.as_deref().unwrap_or_default(), request.resource))
        .collect();
    lists.sort();
    insta::assert_snapshot!(lists.join("\n"), @r"
    blog/alertproviders
    blog/canaries
    blog/configmaps
    blog/controllerrevisions
    blog/daemonsets
    blog/deployments
    blog/endpoints
    blog/horizontalpodautoscalers
    blog/httproutes
    blog/metrictemplates
    blog/scaledobjects
    blog/secrets
    blog/services
    shop/alertproviders
    shop/canaries
    shop/configmaps
    shop/controllerrevisions
    shop/daemonsets
    shop/deployments
    shop/endpoints
    shop/horizontalpodautoscalers
    shop/httproutes
    shop/metrictemplates
    shop/scaledobjects
    shop/secrets
    shop/services
    ");
    assert!(cluster.get("other", CANARIES, NAME)["status"].is_null());
    assert!(cluster.is_ready().await);
}

#[tokio::test]
async fn without_namespaces_one_watch_of_each_kind_covers_all() {
    let mut cluster = Cluster::new().await;
    cluster.adopt("shop", app::canary());
    cluster.adopt("blog", app::canary());
    cluster.start(Tenancy::default());
    cluster.until("shop", NAME, "Initialized").await;
    cluster.until("blog", NAME, "Initialized").await;
    let requests = cluster.server.requests();
    let watched = |verb| requests.iter().filter(move |request| request.verb == verb);
    assert!(watched(Verb::List).chain(watched(Verb::Watch)).all(|request| request.namespace.is_none()));
    assert_eq!(watched(Verb::List).count(), 13);
}

#[tokio::test]
async fn a_namespace_that_cannot_be_read_holds_up_no_other() {
    let mut cluster = Cluster::new().await;
    cluster.adopt("shop", app::canary());
    cluster.adopt("blog", app::canary());
    cluster.server.set_faults(|request| {
        let refused = request.resource == "services" && request.namespace.as_deref() == Some("blog");
        if refused { Fault::Fail(403, "Forbidden") } else { Fault::Pass }
    });
    cluster.start(tenancy("shop,blog"));
    cluster.until("shop", NAME, "Initialized").await;
    sleep(QUIET).await;
    let written = cluster.server.writes().into_iter().filter(|request| request.namespace.as_deref() == Some("blog"));
    assert_eq!(written.count(), 0, "nothing is done on half of the facts");
    assert!(!cluster.is_ready().await, "a person should look at it");

    cluster.server.clear_faults();
    cluster.until("blog", NAME, "Initialized").await;
    assert!(cluster.is_ready().await);
}

#[tokio::test]
async fn canaries_that_the_selector_leaves_out_cost_nothing() {
    let mut cluster = Cluster::new().await;
    let labelled = |tier: &str| {
        let mut canary = app::canary();
        canary["metadata"]["labels"] = json!({"tier": tier});
        canary
    };
    cluster.adopt("shop", labelled("gold"));
    cluster.adopt("blog", labelled("silver"));
    let selector = "tier in (gold,platinum)";
    cluster.start(Tenancy { canary_selector: Some(selector.to_owned()), ..Tenancy::default() });
    cluster.until("shop", NAME, "Initialized").await;
    sleep(QUIET).await;

    let requests = cluster.server.requests();
    for request in requests.iter().filter(|request| matches!(request.verb, Verb::List | Verb::Watch)) {
        let asked = request.query.get("labelSelector").map(String::as_str);
        let expected = match request.resource.as_str() {
            "canaries" => Some(selector),
            "controllerrevisions" => Some("app.kubernetes.io/managed-by=serin"),
            "endpoints" => Some("app.kubernetes.io/managed-by=serin,serin.dev/revision"),
            _ => None,
        };
        assert_eq!(asked, expected, "{request:?}");
    }
    assert!(requests.iter().all(|request| request.namespace.as_deref() != Some("blog")));

    cluster.server.patch(CANARIES, "blog", NAME, &json!({"metadata": {"labels": {"tier": "gold"}}})).unwrap();
    cluster.until("blog", NAME, "Initialized").await;
}

// ---- what is kept ----

#[tokio::test]
async fn what_a_canary_comes_to_be_about_is_read_once_and_nothing_else_is() {
    let mut cluster = Cluster::new().await;
    cluster.start(Tenancy::default());
    cluster.put(NAMESPACE, DEPLOYMENTS, app::deployment("web:1"));
    cluster.put(NAMESPACE, SERVICES, app::service());
    cluster.put(NAMESPACE, HTTP_ROUTES, app::route());
    for name in ["other", "web-api"] {
        let mut unrelated = app::deployment("web:1");
        unrelated["metadata"]["name"] = name.into();
        cluster.put(NAMESPACE, DEPLOYMENTS, unrelated);
    }
    assert!(cluster.is_ready().await);
    cluster.put(NAMESPACE, CANARIES, app::canary());
    cluster.until(NAMESPACE, NAME, "Initialized").await;

    let of_objects =
        |request: &Request| [DEPLOYMENTS, SERVICES, HTTP_ROUTES].iter().any(|kind| kind.plural == request.resource);
    let reads = |requests: &[Request]| {
        let reads = requests.iter().filter(|request| request.verb == Verb::Get && of_objects(request));
        reads
            .map(|read| format!("{}/{}", read.resource, read.name.as_deref().unwrap_or_default()))
            .collect::<BTreeSet<_>>()
    };
    let requests = cluster.server.requests();
    let first_write = requests.iter().position(|request| request.verb == Verb::Patch).expect("it gets a finalizer");
    let expected = ["deployments/web", "httproutes/web", "services/web"].map(str::to_owned);
    assert_eq!(
        reads(&requests[..first_write]),
        BTreeSet::from(expected),
        "before anything is done on half of the facts"
    );
    assert!(
        reads(&requests)
            .iter()
            .all(|read| read.ends_with("/web") || read.contains("/web-primary") || read.contains("/web-canary"))
    );
}

#[tokio::test]
async fn an_unread_object_is_not_taken_for_missing() {
    let mut cluster = Cluster::new().await;
    cluster.start(Tenancy::default());
    cluster.put(NAMESPACE, DEPLOYMENTS, app::deployment("web:1"));
    assert!(cluster.is_ready().await);
    cluster.server.set_faults(|request| {
        let refused = request.resource == "deployments" && request.verb == Verb::Get;
        if refused { Fault::Fail(500, "InternalError") } else { Fault::Pass }
    });
    cluster.put(NAMESPACE, SERVICES, app::service());
    cluster.put(NAMESPACE, HTTP_ROUTES, app::route());
    cluster.put(NAMESPACE, CANARIES, app::canary());
    sleep(QUIET).await;
    assert!(cluster.server.writes().is_empty(), "nothing is done on half of the facts");
    cluster.server.clear_faults();
    cluster.until(NAMESPACE, NAME, "Initialized").await;
}

#[tokio::test]
async fn the_series_of_a_canary_vanish_with_it() {
    let mut cluster = Cluster::new().await;
    cluster.adopt("shop", app::canary());
    cluster.adopt("blog", app::canary());
    cluster.start(Tenancy::default());
    cluster.until("shop", NAME, "Initialized").await;
    cluster.until("blog", NAME, "Initialized").await;
    cluster.deploy("shop", "web:2");
    cluster.until("shop", NAME, "Progressing").await;
    let metrics = Arc::clone(&cluster.metrics);
    let series = |namespace: &str| {
        let label = format!("namespace=\"{namespace}\"");
        metrics.encode().lines().filter(|line| line.contains(&label)).count()
    };
    cluster
        .wait("its check was counted", |_| metrics.encode().contains("serin_canary_checks_total{namespace=\"shop\""))
        .await;
    cluster.server.delete(CANARIES, "shop", NAME).unwrap();
    cluster.wait("the Canary is gone", |server| server.get(CANARIES, "shop", NAME).is_none()).await;
    cluster.wait("its series are gone", |_| series("shop") == 0).await;
    sleep(QUIET).await;
    assert_eq!(series("shop"), 0, "and they do not come back");
    assert!(series("blog") >= 2);
}

// ---- what may be referred to ----

/// A Canary whose only metric is a template in another namespace.
fn referring(namespace: &str) -> Value {
    let mut canary = app::canary();
    canary["spec"]["analysis"] = json!({
        "interval": "1s", "stepWeights": [50],
        "metrics": [{
            "name": "errors", "templateRef": {"name": "errors", "namespace": namespace}, "thresholdRange": {"max": 1},
        }],
    });
    canary
}

#[tokio::test]
async fn a_reference_to_another_namespace_is_refused_where_it_is_not_wanted() {
    let mut cluster = Cluster::new().await;
    cluster.adopt(NAMESPACE, referring("monitoring"));
    cluster.start(Tenancy { no_cross_namespace_refs: true, ..Tenancy::default() });
    let stalled = cluster.stalled(NAMESPACE, NAME, "InvalidSpec").await;
    insta::assert_snapshot!(stalled, @"True InvalidSpec: spec.analysis.metrics: errors: templateRef.namespace is monitoring, but this installation allows no references to other namespaces; create the MetricTemplate errors in namespace shop and leave templateRef.namespace out");
    cluster.only_its_status_was_written(NAME).await;

    let leave_out = json!({"spec": {"analysis": {"metrics": [
        {"name": "errors", "templateRef": {"name": "errors"}, "thresholdRange": {"max": 1}},
    ]}}});
    cluster.server.patch(CANARIES, NAMESPACE, NAME, &leave_out).unwrap();
    cluster.until(NAMESPACE, NAME, "Initialized").await;
}

#[tokio::test]
async fn an_edit_does_not_get_past_it_and_a_deletion_does_not_wait_for_it() {
    let mut cluster = Cluster::new().await;
    cluster.adopt(NAMESPACE, referring(NAMESPACE));
    cluster.start(Tenancy { no_cross_namespace_refs: true, ..Tenancy::default() });
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    let template = template("errors", &cluster.prometheus.address, None);
    cluster.put("monitoring", METRIC_TEMPLATES, template);
    cluster.server.patch(CANARIES, NAMESPACE, NAME, &json!({"spec": referring("monitoring")["spec"]})).unwrap();
    cluster.stalled(NAMESPACE, NAME, "InvalidSpec").await;
    cluster.deploy(NAMESPACE, "web:2");
    sleep(QUIET).await;
    assert!(cluster.prometheus.asked().is_empty());
    assert_eq!(cluster.get(NAMESPACE, CANARIES, NAME)["status"]["phase"], "Initialized");

    cluster.server.delete(CANARIES, NAMESPACE, NAME).unwrap();
    cluster.wait("the Canary is gone", |server| server.get(CANARIES, NAMESPACE, NAME).is_none()).await;
}

#[tokio::test]
async fn a_reference_to_a_namespace_that_is_not_watched_is_refused() {
    let mut cluster = Cluster::new().await;
    cluster.adopt(NAMESPACE, referring("monitoring"));
    cluster.start(tenancy("shop,blog"));
    let stalled = cluster.stalled(NAMESPACE, NAME, "InvalidSpec").await;
    insta::assert_snapshot!(stalled, @"True InvalidSpec: spec.analysis.metrics: errors: templateRef.namespace is monitoring, but this installation does not watch that namespace; create the MetricTemplate errors in namespace shop and leave templateRef.namespace out");
}

#[tokio::test]
async fn a_template_in_another_watched_namespace_is_found() {
    let mut cluster = Cluster::new().await;
    cluster.prometheus.says(Says::Value(0.0));
    let template = template("errors", &cluster.prometheus.address, None);
    cluster.put("monitoring", METRIC_TEMPLATES, template);
    cluster.adopt(NAMESPACE, referring("monitoring"));
    cluster.start(tenancy("shop,monitoring"));
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    cluster.deploy(NAMESPACE, "web:2");
    cluster.until(NAMESPACE, NAME, "Succeeded").await;
    assert!(!cluster.prometheus.asked().is_empty());
}

// ---- whose an app is ----

/// A Canary on the same app, under another name.
fn rival(name: &str) -> Value {
    let mut canary = app::canary();
    canary["metadata"]["name"] = name.into();
    canary
}

#[tokio::test]
async fn the_younger_of_two_canaries_waits_and_takes_over() {
    let mut cluster = Cluster::new().await;
    cluster.adopt(NAMESPACE, app::canary());
    cluster.later();
    cluster.put(NAMESPACE, CANARIES, rival("a-younger-one"));
    cluster.start(Tenancy::default());
    let stalled = cluster.stalled(NAMESPACE, "a-younger-one", "TargetTaken").await;
    insta::assert_snapshot!(stalled, @"True TargetTaken: Deployment web belongs to Canary web, which had it first: give this one another targetRef or service.name, or delete one of the two. When web is gone, this one takes over by itself");
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    cluster.only_its_status_was_written("a-younger-one").await;

    cluster.at_rest().await;
    cluster.server.clear_log();
    sleep(QUIET).await;
    assert_eq!(cluster.server.requests(), [], "it is not asked again and again");

    cluster.server.delete(CANARIES, NAMESPACE, NAME).unwrap();
    cluster.wait("the older one is gone", |server| server.get(CANARIES, NAMESPACE, NAME).is_none()).await;
    let stalled =
        cluster.stalled(NAMESPACE, "a-younger-one", "TargetTaken: Deployment web-primary belongs to a ").await;
    insta::assert_snapshot!(stalled, @"True TargetTaken: Deployment web-primary belongs to a Canary web that is gone or another installation's. When the Deployment is gone, too, this one takes over by itself");
    let old = cluster.get(NAMESPACE, DEPLOYMENTS, "web-primary")["metadata"]["uid"].clone();
    cluster.server.collect_garbage();
    cluster.until(NAMESPACE, "a-younger-one", "Initialized").await;
    let primary = cluster.get(NAMESPACE, DEPLOYMENTS, "web-primary");
    assert_ne!(primary["metadata"]["uid"], old, "the one that was about to go is nothing to build on");
    assert_eq!(primary["metadata"]["ownerReferences"][0]["name"], "a-younger-one");
}

#[tokio::test]
async fn the_younger_one_takes_over_when_the_older_turns_to_another_app() {
    let mut cluster = Cluster::new().await;
    // Its target is not there yet, so it has nothing.
    cluster.put(NAMESPACE, CANARIES, app::canary());
    cluster.later();
    cluster.put(NAMESPACE, CANARIES, rival("younger"));
    cluster.start(Tenancy::default());
    cluster.stalled(NAMESPACE, "younger", "TargetTaken").await;
    cluster.server.patch(CANARIES, NAMESPACE, NAME, &json!({"spec": {"targetRef": {"name": "api"}}})).unwrap();
    cluster
        .wait("the younger one waits for its target", |server| {
            let status = server.get(CANARIES, NAMESPACE, "younger").unwrap()["status"].clone();
            condition(&status, "Stalled").contains("TargetMissing")
        })
        .await;
}

#[tokio::test]
async fn two_canaries_do_not_share_an_autoscaler() {
    let mut cluster = Cluster::new().await;
    cluster.put(NAMESPACE, AUTOSCALERS, scalers::hpa());
    cluster.adopt(NAMESPACE, scalers::canary("HorizontalPodAutoscaler"));
    cluster.later();
    let mut younger = scalers::canary("HorizontalPodAutoscaler");
    younger["metadata"]["name"] = "younger".into();
    younger["spec"]["targetRef"]["name"] = "api".into();
    cluster.put(NAMESPACE, CANARIES, younger);
    cluster.start(Tenancy::default());
    let stalled = cluster.stalled(NAMESPACE, "younger", "TargetTaken").await;
    insta::assert_snapshot!(stalled, @r"
    True TargetTaken: HorizontalPodAutoscaler web belongs to Canary web, which had it first: give this one another autoscalerRef, or delete one of the two. When web is gone, this one takes over by itself
    ");
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    cluster.only_its_status_was_written("younger").await;
}

/// Seed 800038419: a record was there before a watch showed it, and the primary waited for it for ever.
#[tokio::test]
async fn a_record_that_is_shown_wakes_its_canary() {
    let mut cluster = Cluster::new().await;
    cluster.adopt(NAMESPACE, app::canary());
    cluster.start(Tenancy::default());
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    cluster.at_rest().await;
    let passes = cluster.passes();
    let record = cluster.server.list(CONTROLLER_REVISIONS, None).remove(0);
    let name = record["metadata"]["name"].as_str().unwrap();
    let label = json!({"metadata": {"labels": {"team": "blue"}}});
    cluster.server.patch(CONTROLLER_REVISIONS, NAMESPACE, name, &label).unwrap();
    let woken = async {
        while cluster.passes() == passes {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, woken).await.expect("there is a pass");
}

#[tokio::test]
async fn what_an_autoscaler_says_of_itself_wakes_nobody() {
    let mut cluster = Cluster::new().await;
    cluster.put(NAMESPACE, AUTOSCALERS, scalers::hpa());
    cluster.adopt(NAMESPACE, scalers::canary("HorizontalPodAutoscaler"));
    cluster.server.stop_serving(SCALED_OBJECTS);
    cluster.start(Tenancy::default());
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    cluster.at_rest().await;
    let requests = cluster.server.requests();
    assert!(!requests.iter().any(|request| request.resource == "scaledobjects"), "nothing waits for KEDA");

    cluster.server.clear_log();
    let passes = cluster.passes();
    for pods in 1..=3 {
        for name in [NAME, "web-primary"] {
            let says = |scaler: &mut Value| scaler["status"] = json!({"currentReplicas": pods});
            cluster.server.update(AUTOSCALERS, NAMESPACE, name, says).unwrap();
        }
    }
    sleep(QUIET).await;
    assert_eq!(cluster.server.requests(), []);
    assert_eq!(cluster.passes(), passes);

    let began = Instant::now();
    cluster.server.patch(AUTOSCALERS, NAMESPACE, NAME, &json!({"spec": {"maxReplicas": 8}})).unwrap();
    let follows = |server: &ApiServer| {
        server.get(AUTOSCALERS, NAMESPACE, "web-primary").is_some_and(|copy| copy["spec"]["maxReplicas"] == 8)
    };
    cluster.wait("an edit reaches the primary's", follows).await;
    println!("an edit reaches the primary's after {:?}", began.elapsed());
    sleep(QUIET).await;
    cluster.server.delete(AUTOSCALERS, NAMESPACE, "web-primary").unwrap();
    cluster.wait("a copy that somebody deletes is made anew", follows).await;
}

#[tokio::test]
async fn who_has_begun_keeps_the_app() {
    let mut cluster = Cluster::new().await;
    let mut older = rival("older");
    older["spec"]["targetRef"]["name"] = "api".into();
    cluster.put(NAMESPACE, CANARIES, older);
    cluster.later();
    cluster.adopt(NAMESPACE, app::canary());
    cluster.start(Tenancy::default());
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    cluster.at_rest().await;

    cluster.server.patch(CANARIES, NAMESPACE, "older", &json!({"spec": {"targetRef": {"name": NAME}}})).unwrap();
    let stalled = cluster.stalled(NAMESPACE, "older", "TargetTaken").await;
    insta::assert_snapshot!(stalled, @"True TargetTaken: Deployment web belongs to Canary web, which had it first: give this one another targetRef or service.name, or delete one of the two. When web is gone, this one takes over by itself");
    let before = cluster.objects();
    sleep(QUIET).await;
    assert_eq!(cluster.get(NAMESPACE, CANARIES, NAME)["status"]["phase"], "Initialized");

    // It has a finalizer from its time with the other app; its deletion is nothing to this one.
    cluster.server.delete(CANARIES, NAMESPACE, "older").unwrap();
    cluster.wait("it goes", |server| server.get(CANARIES, NAMESPACE, "older").is_none()).await;
    cluster.server.collect_garbage();
    sleep(QUIET).await;
    assert_eq!(cluster.objects(), before);
}

#[tokio::test]
async fn of_canaries_that_come_at_once_one_gets_the_app() {
    for order in [["a", "b", "c"], ["c", "b", "a"]] {
        for pause in [0, 1, 2, 4, 8] {
            let mut cluster = Cluster::new().await;
            cluster.start(Tenancy::default());
            sleep(QUIET / 3).await;
            cluster.adopt(NAMESPACE, rival(order[0]));
            for name in &order[1..] {
                sleep(Duration::from_millis(pause)).await;
                cluster.put(NAMESPACE, CANARIES, rival(name));
            }
            let states = |server: &ApiServer| {
                let canaries = order.map(|name| server.get(CANARIES, NAMESPACE, name).unwrap_or_default());
                let one = |canary: Value| match condition(&canary["status"], "Stalled") {
                    taken if taken.starts_with("True TargetTaken") => "taken",
                    _ if canary["status"]["canaryPods"] == "Down" => "done",
                    _ => "busy",
                };
                let mut states = canaries.map(one);
                states.sort_unstable();
                states
            };
            let expected = ["done", "taken", "taken"];
            cluster.wait(&format!("{order:?} {pause} ms"), |server| states(server) == expected).await;
            sleep(QUIET).await;
            assert_eq!(states(&cluster.server), expected, "{order:?} {pause} ms");
        }
    }
}

#[tokio::test]
async fn a_service_can_be_taken_as_well_as_a_target() {
    let mut cluster = Cluster::new().await;
    cluster.adopt(NAMESPACE, app::canary());
    cluster.later();
    let mut other = rival("other");
    other["spec"]["targetRef"]["name"] = "api".into();
    other["spec"]["service"]["name"] = "web-canary".into();
    cluster.put(NAMESPACE, CANARIES, other);
    cluster.start(Tenancy::default());
    let stalled = cluster.stalled(NAMESPACE, "other", "TargetTaken").await;
    insta::assert_snapshot!(stalled, @"True TargetTaken: Service web-canary belongs to Canary web, which had it first: give this one another targetRef or service.name, or delete one of the two. When web is gone, this one takes over by itself");
}

#[tokio::test]
async fn an_app_of_another_installation_is_left_alone() {
    let mut cluster = Cluster::new().await;
    cluster.adopt(NAMESPACE, app::canary());
    cluster.start(Tenancy { canary_selector: Some("!tier".to_owned()), ..Tenancy::default() });
    cluster.until(NAMESPACE, NAME, "Initialized").await;
    cluster.at_rest().await;
    let before = cluster.objects();

    cluster.start(Tenancy { canary_selector: Some("tier=gold".to_owned()), ..Tenancy::default() });
    let mut gold = rival("gold");
    gold["metadata"]["labels"] = json!({"tier": "gold"});
    cluster.put(NAMESPACE, CANARIES, gold);
    let stalled = cluster.stalled(NAMESPACE, "gold", "TargetTaken").await;
    insta::assert_snapshot!(stalled, @"True TargetTaken: Deployment web-primary belongs to a Canary web that is gone or another installation's. When the Deployment is gone, too, this one takes over by itself");
    assert_eq!(cluster.objects(), before);
}

// ---- the cluster ----

struct Cluster {
    server: ApiServer,
    prometheus: Prometheus,
    readiness: Option<Readiness>,
    metrics: Arc<Metrics>,
    stops: Vec<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Cluster {
    async fn new() -> Self {
        // A second test in this process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = ApiServer::new();
        server.set_clock(|| "2026-01-01T00:00:00Z".parse().expect("it is a time"));
        let reacting = tokio::spawn(react(server.clone()));
        let prometheus = Prometheus::start().await;
        Self { server, prometheus, readiness: None, metrics: Arc::default(), stops: vec![], tasks: vec![reacting] }
    }

    /// What is created from now on is younger.
    fn later(&self) {
        let now = self.server.now() + SignedDuration::from_mins(1);
        self.server.set_clock(move || now);
    }

    /// Starts an operator.
    fn start(&mut self, tenancy: Tenancy) {
        let settings = Settings {
            drain_delay: SignedDuration::from_millis(50),
            route_grace: SignedDuration::from_millis(50),
            tenancy,
            ..settings(&self.prometheus.address)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or_default() };
        let readiness = Readiness::awaiting("the caches are being filled");
        let leadership = Leadership::lasting(Duration::from_hours(24));
        self.metrics = Arc::new(Metrics::new());
        let metrics = Arc::clone(&self.metrics);
        let operator = run(self.server.client(), settings, leadership, metrics, readiness.clone(), stopped);
        self.tasks.push(tokio::spawn(async { drop(operator.await.expect("the controller runs")) }));
        self.stops.push(stop);
        self.readiness = Some(readiness);
    }

    /// How many passes there were.
    fn passes(&self) -> Vec<String> {
        let lines = self.metrics.encode();
        lines.lines().filter(|line| line.starts_with("serin_pass_duration_seconds_count")).map(str::to_owned).collect()
    }

    async fn is_ready(&self) -> bool {
        let readiness = self.readiness.clone().expect("an operator was started");
        sleep(QUIET).await;
        !format!("{readiness:?}").contains("the caches are being filled")
    }

    fn put(&self, namespace: &str, kind: GroupVersionResource, mut object: Value) {
        object["metadata"]["namespace"] = namespace.into();
        self.server.put(kind, object).expect("the server takes it");
    }

    /// An app and its Canary.
    fn adopt(&self, namespace: &str, canary: Value) {
        self.put(namespace, DEPLOYMENTS, app::deployment("web:1"));
        self.put(namespace, SERVICES, app::service());
        self.put(namespace, HTTP_ROUTES, app::route());
        self.put(namespace, CANARIES, canary);
    }

    fn deploy(&self, namespace: &str, image: &str) {
        let change =
            |deployment: &mut Value| deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        self.server.update(DEPLOYMENTS, namespace, NAME, change).expect("the app is there");
    }

    fn get(&self, namespace: &str, kind: GroupVersionResource, name: &str) -> Value {
        self.server.get(kind, namespace, name).unwrap_or_else(|| panic!("{} {name} is there", kind.plural))
    }

    /// Everything that Serin changes for an app.
    fn objects(&self) -> Vec<Value> {
        [DEPLOYMENTS, SERVICES, HTTP_ROUTES].into_iter().flat_map(|kind| self.server.list(kind, None)).collect()
    }

    async fn until(&self, namespace: &str, name: &str, phase: &str) {
        let what = format!("{namespace}/{name} is {phase}");
        self.wait(&what, |server| {
            server.get(CANARIES, namespace, name).is_some_and(|canary| canary["status"]["phase"] == phase)
        })
        .await;
    }

    /// Waits for the first Canary to be done with everything.
    async fn at_rest(&self) {
        self.wait("the app is scaled down", |server| {
            server.get(CANARIES, NAMESPACE, NAME).is_some_and(|canary| canary["status"]["canaryPods"] == "Down")
        })
        .await;
        sleep(QUIET).await;
    }

    /// Waits until a Canary is stalled; answers why.
    async fn stalled(&self, namespace: &str, name: &str, reason: &str) -> String {
        let stalled = |server: &ApiServer| {
            let canary = server.get(CANARIES, namespace, name).unwrap_or_default();
            condition(&canary["status"], "Stalled")
        };
        let expected = format!("True {reason}");
        self.wait(&format!("{namespace}/{name} is stalled: {reason}"), |server| stalled(server).starts_with(&expected))
            .await;
        stalled(&self.server)
    }

    async fn only_its_status_was_written(&self, name: &str) {
        sleep(QUIET).await;
        let canary = self.get(NAMESPACE, CANARIES, name);
        assert!(canary["metadata"]["finalizers"].is_null(), "{canary}");
        let uid = &canary["metadata"]["uid"];
        let owned = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"] == *uid;
        assert!(!self.objects().iter().any(owned));
        let writes = self.server.writes();
        let own = writes.iter().filter(|write| write.resource == "canaries" && write.name.as_deref() == Some(name));
        let targets: BTreeSet<_> = own.map(Request::target).collect();
        assert_eq!(targets, ["canaries/status".to_owned()].into());
    }

    async fn wait(&self, what: &str, reached: impl Fn(&ApiServer) -> bool) {
        let began = Instant::now();
        while !reached(&self.server) {
            let writes: Vec<_> = self.server.writes().iter().map(common::story::line).collect();
            assert!(began.elapsed() < PATIENCE, "not in time: {what}\n{}", writes.join("\n"));
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The rest of the cluster.
async fn react(server: ApiServer) {
    let deployments = DeploymentController::new();
    loop {
        deployments.settle(&server);
        accept_routes(&server, "example.com/gateway");
        sleep(Duration::from_millis(10)).await;
    }
}

fn tenancy(namespaces: &str) -> Tenancy {
    Tenancy { namespaces: namespaces.split(',').map(str::to_owned).collect(), ..Tenancy::default() }
}

fn is_in(request: &Request, namespaces: &[&str]) -> bool {
    request.namespace.as_deref().is_some_and(|namespace| namespaces.contains(&namespace))
}

/// A condition as `status reason: message`.
fn condition(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    format!("{} {}: {}", text("status"), text("reason"), text("message"))
}
