//! Nothing blocks the retreat: whatever hangs, whoever waits and however the API server is throttled, traffic that has to go
//! goes in the pass that saw it, and before anything else is written.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::{Cluster, Operator, settings};
use common::inbox::{Does, Inbox};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use serin::controller::{Context, Error, NamespacedName, Network, Settings, reconcile, retry, timed};
use serin::domain::{Answer, Unknown};
use serin::metrics::Query;
use serin_testing::{CANARIES, CONTROLLER_REVISIONS, DEPLOYMENTS, Fault, HTTP_ROUTES, Request, SECRETS, SERVICES};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How many Canaries want to write before the one that matters.
const OTHERS: usize = 400;

/// How many are in the middle of a rollout, and ask a Prometheus that does not answer.
const CLONES: usize = 100;

/// How many questions the operator may ask of one Prometheus.
const PLACES: usize = 8;

/// A Prometheus that knows the one app, and leaves every other question open.
struct Oracle {
    /// `None`: it knows nothing.
    answer: Option<Answer>,
    asked: Mutex<Vec<String>>,
}

impl Network for Oracle {
    fn query<'a>(&'a self, query: &'a Query, limit: Duration) -> BoxFuture<'a, Answer> {
        self.asked.lock().unwrap().push(query.text.clone());
        let is_ours = query.text.contains("web-canary");
        async move {
            if let (true, Some(answer)) = (is_ours, &self.answer) {
                return answer.clone();
            }
            tokio::time::sleep(limit).await;
            Err(Unknown::Timeout(query.address.clone(), format!("{limit:?}")))
        }
        .boxed()
    }
}

/// The app in the middle of a rollout, and an operator with few places.
async fn at_a_weight(inbox: &Inbox) -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    let hook = |kind: &str| json!({"type": kind, "name": kind, "url": format!("{}/{kind}", inbox.address)});
    // They are not asked before the first check at a weight is due.
    let kinds = ["rollout", "confirm-traffic-increase", "confirm-promotion", "rollback", "post-rollout", "event"];
    let hooks: Vec<_> = kinds.map(hook).into();
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.edit_spec(|spec| spec["analysis"]["webhooks"] = json!(hooks));
    cluster.forget();
    cluster
}

/// Gives the operator another Prometheus.
fn consult(cluster: &mut Cluster, answer: Option<Answer>) -> Arc<Oracle> {
    let oracle = Arc::new(Oracle { answer, asked: Mutex::default() });
    let context = Arc::get_mut(&mut cluster.operator.context).expect("no pass is under way");
    context.network = Arc::clone(&oracle) as Arc<dyn Network>;
    oracle
}

/// A name in everything that has to do with an app.
fn renamed(object: &Value, name: &str) -> Value {
    let text = object.to_string().replace("\"web", &format!("\"{name}"));
    let text = text.replace(&format!("{name}hooks"), "webhooks").replace(&format!("{name}:"), "web:");
    serde_json::from_str(&text).unwrap()
}

/// Canaries that have just been made, and want to write a lot.
fn crowd(cluster: &Cluster, count: usize) {
    for number in 0..count {
        let name = format!("new{number}");
        cluster.put(DEPLOYMENTS, renamed(&app::deployment("web:1"), &name));
        cluster.put(CANARIES, renamed(&app::canary(), &name));
    }
}

/// Canaries in the middle of a rollout, as ours is, with a Prometheus of their own that never answers.
fn clones(cluster: &Cluster, count: usize) {
    let ours = |kind| {
        let all = cluster.server.list(kind, Some(NAMESPACE)).into_iter();
        all.filter(|object| of_ours(object["metadata"]["name"].as_str().unwrap_or_default())).collect::<Vec<_>>()
    };
    let (target, canary) = (cluster.get(DEPLOYMENTS, NAME), cluster.get(CANARIES, NAME));
    let made = [DEPLOYMENTS, SERVICES, HTTP_ROUTES, CONTROLLER_REVISIONS].map(|kind| (kind, ours(kind)));
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    for name in (0..count).map(|number| format!("old{number}")) {
        let put = |kind, object: &Value| {
            let mut object = renamed(object, &name);
            for given in ["uid", "resourceVersion", "creationTimestamp"] {
                object["metadata"].as_object_mut().unwrap().remove(given);
            }
            cluster.put(kind, object)
        };
        let target = put(DEPLOYMENTS, &target);
        let mut copy = canary.clone();
        copy["spec"]["metricsServer"] = "http://slow:9090".into();
        for is in ["uid", "generation"] {
            copy["status"]["target"][is] = target["metadata"][is].clone();
        }
        let owner = uid(&put(CANARIES, &copy));
        let others = made.iter().flat_map(|(kind, objects)| objects.iter().map(|object| (*kind, object)));
        for (kind, object) in others.filter(|(kind, object)| *kind != DEPLOYMENTS || object["metadata"]["name"] != NAME)
        {
            let object = object.to_string().replace(&uid(&canary), &owner);
            put(kind, &serde_json::from_str(&object).unwrap());
        }
    }
}

fn of_ours(name: &str) -> bool {
    name == NAME || name.starts_with("web-") || name.starts_with("web.")
}

/// Begins a pass over each of them.
fn begin(cluster: &Cluster) -> Vec<JoinHandle<Result<Option<Duration>, Error>>> {
    let canaries = cluster.server.list(CANARIES, None);
    let others = canaries.into_iter().filter(|canary| canary["metadata"]["name"] != NAME);
    others.map(|canary| tokio::spawn(pass(canary, Arc::clone(&cluster.operator.context)))).collect()
}

async fn pass(canary: Value, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let name = canary["metadata"]["name"].as_str().unwrap().to_owned();
    Box::pin(reconcile(&NamespacedName::new(NAMESPACE, name), &context)).await
}

/// Lets everybody go on as far as they come without time.
async fn come_to_a_stop() {
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
}

/// A request about the one app, and when it came.
#[derive(Clone, Debug, PartialEq)]
struct Write {
    what: String,
    after: Duration,
}

/// What is written for the one app.
type Seen = Arc<Mutex<Vec<Write>>>;

/// Refuses everything, but what takes the traffic of the one app back; and that too at first, so many times each.
fn throttle(cluster: &Cluster, obstacle: Fault, refused: usize) -> Seen {
    let seen = Seen::default();
    let (shared, clock, began) = (Arc::clone(&seen), cluster.clock, cluster.clock.now());
    cluster.server.set_faults(move |request| {
        let what = request.target();
        let named = request.namespace.as_deref() == Some(NAMESPACE) && request.name.as_deref() == Some(NAME);
        if !request.is_write() || !(named || about_ours(request)) {
            return obstacle;
        }
        let mut seen = shared.lock().unwrap();
        let before = seen.iter().filter(|write| write.what == what).count();
        seen.push(Write { what: what.clone(), after: since(clock.now(), began) });
        match what.as_str() {
            "canaries/status" | "httproutes" if before < refused => Fault::Fail(429, "TooManyRequests"),
            "canaries/status" | "httproutes" => Fault::Pass,
            _ => obstacle,
        }
    });
    seen
}

/// Objects that are made have no name in the URL.
fn about_ours(request: &Request) -> bool {
    of_ours(request.body["metadata"]["name"].as_str().unwrap_or_default())
}

fn since(now: Timestamp, began: Timestamp) -> Duration {
    now.duration_since(began).unsigned_abs()
}

fn names(writes: &[Write]) -> Vec<&str> {
    writes.iter().map(|write| write.what.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_retreat_is_written_in_the_pass_that_saw_the_breach_whatever_hangs() {
    let inbox = Inbox::start(Does::Hang).await;
    let mut cluster = at_a_weight(&inbox).await;
    let oracle = consult(&mut cluster, Some(Ok(12.0)));
    crowd(&cluster, OTHERS);
    clones(&cluster, CLONES);
    cluster.wait(10).await;
    let began = cluster.clock.now();
    cluster.operator.refresh(&cluster.server);
    let seen = throttle(&cluster, Fault::Fail(429, "TooManyRequests"), 3);
    let others = begin(&cluster);
    come_to_a_stop().await;
    let waiting = format!("serin_queue_depth {}\n", OTHERS - 3);
    assert!(cluster.operator.context.metrics.encode().contains(&waiting), "all but three of four places are theirs");
    assert!(others.iter().all(|other| !other.is_finished()));

    let ours = tokio::spawn(pass(cluster.get(CANARIES, NAME), Arc::clone(&cluster.operator.context)));
    ours.await.unwrap().unwrap();
    assert_eq!(cluster.clock.now().duration_since(began).as_secs(), 2, "so long its event waited, and was left out");
    assert_eq!(oracle.asked.lock().unwrap().len(), PLACES + 1, "no more than there are places for, and ours");
    assert_eq!(cluster.status()["canaryWeight"], 0);
    assert_eq!(cluster.phase(), "Failed");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    let writes = seen.lock().unwrap().clone();
    let retreat = ["canaries/status"; 4].into_iter().chain(["httproutes"; 4]).collect::<Vec<_>>();
    assert_eq!(names(&writes)[..8], retreat, "{writes:#?}");
    assert!(writes[7].after < Duration::from_millis(400), "{writes:#?}");
    others.iter().for_each(JoinHandle::abort);
}

/// Why traffic has to go, and what the user, the cluster or somebody else does to bring that about.
type Reason = (&'static str, fn(&Cluster));

const REASONS: [Reason; 6] = [
    ("its pods are lost", |cluster| {
        cluster.edit(DEPLOYMENTS, NAME, |deployment| {
            deployment["status"]["availableReplicas"] = 0.into();
            deployment["status"]["readyReplicas"] = 0.into();
        });
    }),
    ("a newer version came", |cluster| cluster.deploy("web:3")),
    ("a newer version came, with a Secret that nobody has read", |cluster| {
        cluster.put(SECRETS, secret("token"));
        cluster.edit(DEPLOYMENTS, NAME, |deployment| {
            let pod = &mut deployment["spec"]["template"]["spec"];
            pod["containers"][0]["image"] = "web:3".into();
            pod["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "token"}}]);
        });
    }),
    ("the version before came back", |cluster| cluster.deploy("web:1")),
    ("the target is gone", |cluster| cluster.server.delete(DEPLOYMENTS, NAMESPACE, NAME).unwrap()),
    ("the plan ends lower", |cluster| cluster.edit_spec(|spec| spec["analysis"]["stepWeights"] = json!([10]))),
];

fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": {"a": "YQ=="},
    })
}

/// The one place of each kind is taken, by somebody who will not give it back for a while; and nobody answers.
async fn in_the_way_of(cluster: &mut Cluster) -> Vec<JoinHandle<Result<Option<Duration>, Error>>> {
    let few = Settings { concurrency: 1, api_concurrency: 1, query_concurrency: 1, ..settings("http://nobody") };
    cluster.operator = Operator::with(&cluster.server, few, cluster.clock, cluster.leadership.clone());
    consult(cluster, None);
    crowd(cluster, 3);
    cluster.operator.refresh(&cluster.server);
    let others = begin(cluster);
    come_to_a_stop().await;
    others
}

#[tokio::test(start_paused = true)]
async fn no_retreat_waits_for_a_place_whatever_its_reason() {
    for (reason, happens) in REASONS {
        for overdue in [false, true] {
            let inbox = Inbox::start(Does::Hang).await;
            let mut cluster = at_a_weight(&inbox).await;
            if overdue {
                cluster.wait(10).await;
            }
            let seen = throttle(&cluster, Fault::Hang, 0);
            let others = in_the_way_of(&mut cluster).await;
            happens(&cluster);
            cluster.operator.refresh(&cluster.server);
            let ours = tokio::spawn(pass(cluster.get(CANARIES, NAME), Arc::clone(&cluster.operator.context)));
            come_to_a_stop().await;
            let writes = seen.lock().unwrap().clone();
            let expected = ["canaries/status", "httproutes"];
            assert_eq!(names(&writes)[..2], expected, "{reason}, a check is due: {overdue}: {writes:#?}");
            assert_eq!(writes[1].after, Duration::ZERO, "{reason}: {writes:#?}");
            let lower = if reason == "the plan ends lower" { 10 } else { 0 };
            assert_eq!(cluster.status()["canaryWeight"], lower, "{reason}");
            assert_eq!(cluster.backends(), format!("web-primary {}, web-canary {lower}", 100 - lower), "{reason}");
            ours.abort();
            others.iter().for_each(JoinHandle::abort);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_a_pass_waits_takes_the_traffic_back_at_once() {
    // Another spec is another pass.
    for (reason, happens) in REASONS.into_iter().filter(|(reason, _)| *reason != "the plan ends lower") {
        let inbox = Inbox::start(Does::Hang).await;
        let mut cluster = at_a_weight(&inbox).await;
        cluster.wait(10).await;
        let seen = throttle(&cluster, Fault::Hang, 0);
        let others = in_the_way_of(&mut cluster).await;
        // It asks the metrics and hooks, and nobody answers.
        let ours = tokio::spawn(pass(cluster.get(CANARIES, NAME), Arc::clone(&cluster.operator.context)));
        come_to_a_stop().await;
        assert_eq!(*seen.lock().unwrap(), [], "{reason}: nothing is written yet");
        happens(&cluster);
        cluster.operator.refresh(&cluster.server);
        cluster.operator.context.news.tell(&NamespacedName::new(NAMESPACE, NAME));
        come_to_a_stop().await;
        let writes = seen.lock().unwrap().clone();
        assert_eq!(names(&writes)[..2], ["canaries/status", "httproutes"], "{reason}: {writes:#?}");
        assert_eq!(cluster.backends(), "web-primary 100, web-canary 0", "{reason}");
        ours.abort();
        others.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn weights_that_somebody_raised_go_back_before_anything_is_asked() {
    let inbox = Inbox::start(Does::Hang).await;
    let mut cluster = at_a_weight(&inbox).await;
    cluster.wait(10).await;
    let seen = throttle(&cluster, Fault::Hang, 0);
    let others = in_the_way_of(&mut cluster).await;
    cluster.edit(HTTP_ROUTES, NAME, |route| {
        route["spec"]["rules"][0]["backendRefs"][0]["weight"] = 10.into();
        route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 90.into();
    });
    cluster.operator.refresh(&cluster.server);
    let ours = tokio::spawn(pass(cluster.get(CANARIES, NAME), Arc::clone(&cluster.operator.context)));
    come_to_a_stop().await;
    assert_eq!(*seen.lock().unwrap(), [], "a word on whether the record is the newest is waited for, a moment");
    cluster.wait(1).await;
    come_to_a_stop().await;
    assert_eq!(names(&seen.lock().unwrap()), ["httproutes"]);
    assert_eq!(cluster.backends(), "web-primary 70, web-canary 30");
    ours.abort();
    others.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_retreat_that_failed_is_tried_again_within_a_second_however_often_it_failed() {
    let inbox = Inbox::start(Does::Hang).await;
    let mut cluster = at_a_weight(&inbox).await;
    consult(&mut cluster, Some(Ok(12.0)));
    cluster.wait(10).await;
    cluster.operator.refresh(&cluster.server);
    let context = Arc::clone(&cluster.operator.context);
    cluster.server.set_faults(|request| {
        let fails = request.resource == "httproutes" && request.is_write();
        if fails { Fault::Fail(500, "InternalError") } else { Fault::Pass }
    });
    let error = pass(cluster.get(CANARIES, NAME), Arc::clone(&context)).await.unwrap_err();
    assert!(matches!(error, Error::Retreat(_)), "{error:?}");
    let key = serin::controller::Key {
        resource: kube::core::ApiResource::erase::<serin::api::Canary>(&()),
        namespace: NAMESPACE.to_owned(),
        name: NAME.to_owned(),
    };
    for _ in 0..20 {
        context.failed(&key);
    }
    assert_eq!(retry(&NamespacedName::new(NAMESPACE, NAME), &error, &context), Duration::from_secs(1));
    // The post-rollout hook, which is asked now, hangs; the route is not waited for it.
    cluster.server.clear_faults();
    cluster.operator.refresh(&cluster.server);
    let ours = tokio::spawn(pass(cluster.get(CANARIES, NAME), context));
    come_to_a_stop().await;
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    ours.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_is_turned_away_comes_back_when_the_api_server_asks_for_no_more_patience() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    cluster.react();
    cluster.operator.refresh(&cluster.server);
    cluster.server.set_faults(|_| Fault::Fail(429, "TooManyRequests"));
    let began = cluster.clock.now();
    let error = pass(cluster.get(CANARIES, NAME), Arc::clone(&cluster.operator.context)).await.unwrap_err();
    assert!(error.is_turned_away(), "{error:?}");
    let took = since(cluster.clock.now(), began);
    assert!((Duration::from_secs(8)..=Duration::from_secs(10)).contains(&took), "{took:?}");
    let requests = cluster.server.requests().len();
    assert!((9..=11).contains(&requests), "one a second: {requests}");
    cluster.server.clear_faults();
    // Passes of this cluster stop the time.
    cluster.wait(10).await;
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
}

/// A pass in the line for a place had something to ask, and waited for another place with the one that came for it in hand:
/// in the end nobody had any.
#[tokio::test(start_paused = true)]
async fn a_pass_leaves_the_line_for_a_place_to_ask() {
    let inbox = Inbox::start(Does::Hang).await;
    let mut cluster = at_a_weight(&inbox).await;
    // Before those who have the place give up.
    cluster.edit_spec(|spec| spec["analysis"]["interval"] = "5s".into());
    throttle(&cluster, Fault::Hang, 0);
    let others = in_the_way_of(&mut cluster).await;
    let ours = tokio::spawn(pass(cluster.get(CANARIES, NAME), Arc::clone(&cluster.operator.context)));
    come_to_a_stop().await;
    assert!(!ours.is_finished(), "it is in the line");
    cluster.wait(6).await;
    come_to_a_stop().await;
    assert!(ours.is_finished(), "a check is due");
    assert_eq!(ours.await.unwrap().unwrap(), Some(Duration::ZERO), "it is begun again, and asks");
    others.iter().for_each(JoinHandle::abort);
}

/// Thousands of passes may wait at the same time. Each is a future, whose parts have room of their own while they are needed.
#[tokio::test(start_paused = true)]
async fn a_pass_that_waits_is_small() {
    let cluster = Cluster::with_app().await;
    let name = NamespacedName::new(NAMESPACE, NAME);
    let pass = timed(&name, &cluster.operator.context);
    let size = size_of_val(&pass);
    assert!(size <= 2048, "{size} bytes");
}
