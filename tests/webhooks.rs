//! Webhooks and orders over real connections: each is asked in its turn, what is answered decides what it should, and nobody
//! who does not answer stands in the way of traffic that has to go.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::Cluster;
use common::inbox::{Does, Inbox, Letter};
use common::prometheus::Says;
use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::controller::lease::Leadership;
use serin_testing::{CANARIES, DEPLOYMENTS, SECRETS};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A webhook at the path of its name.
fn webhook(inbox: &Inbox, kind: &str) -> Value {
    json!({"type": kind, "name": kind, "url": format!("{}/{kind}", inbox.address)})
}

/// A cluster at rest whose Canary has these webhooks.
async fn with_webhooks(webhooks: &Value) -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["analysis"]["webhooks"] = webhooks.clone());
    cluster.settle().await;
    cluster.forget();
    cluster
}

/// A Canary with one webhook of a kind, and with more in it.
async fn with_one(inbox: &Inbox, kind: &str, more: &Value) -> Cluster {
    let mut one = webhook(inbox, kind);
    for (field, value) in more.as_object().into_iter().flatten() {
        one[field] = value.clone();
    }
    with_webhooks(&json!([one])).await
}

async fn until_weight(cluster: &mut Cluster, weight: i64) {
    let reached = cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == weight).await;
    assert!(reached && cluster.status()["canaryWeight"] == weight, "{}\n{:?}", cluster.story(), cluster.errors);
}

async fn until_waiting(cluster: &mut Cluster, reason: &str) {
    let reached = cluster.settle_until(|cluster| cluster.status()["waiting"]["reason"] == reason).await;
    assert!(reached && cluster.status()["waiting"]["reason"] == reason, "{}\n{:?}", cluster.story(), cluster.errors);
}

/// What was asked, a line each.
fn lines(letters: &[Letter]) -> String {
    let line = |letter: &Letter| {
        let Letter { path, body, .. } = letter;
        format!("{path} {} {} step {}", body["phase"].as_str().unwrap_or("-"), body["canaryWeight"], body["step"])
    };
    letters.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn waiting(cluster: &Cluster) -> String {
    cluster.status()["waiting"]["message"].as_str().unwrap_or_default().to_owned()
}

/// The last lines of the history, oldest first.
fn history(cluster: &Cluster, count: usize) -> String {
    let status = cluster.status();
    let all = status["history"].as_array().cloned().unwrap_or_default();
    let line = |entry: &Value| format!("{}: {}", entry["reason"].as_str().unwrap(), entry["message"].as_str().unwrap());
    all.iter().skip(all.len().saturating_sub(count)).map(line).collect::<Vec<_>>().join("\n")
}

/// Gives an order as `kubectl annotate` does.
fn order(cluster: &Cluster, written: &str) {
    order_by(cluster, written, "kubectl-annotate");
}

fn order_by(cluster: &Cluster, written: &str, manager: &str) {
    cluster.edit(CANARIES, NAME, |canary| {
        canary["metadata"]["annotations"]["serin.dev/command"] = written.into();
        canary["metadata"]["managedFields"] = json!([
            {
                "manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "serin.dev/v1beta1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}},
            },
            {
                "manager": manager, "operation": "Update", "apiVersion": "serin.dev/v1beta1",
                "time": "2026-01-01T00:00:01Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:serin.dev/command": {}}}},
            },
        ]);
    });
}

fn ordered(cluster: &Cluster) -> Option<Value> {
    cluster.get(CANARIES, NAME)["metadata"]["annotations"].get("serin.dev/command").cloned()
}

const ALL: [&str; 7] = [
    "confirm-rollout",
    "pre-rollout",
    "rollout",
    "confirm-traffic-increase",
    "confirm-promotion",
    "rollback",
    "post-rollout",
];

async fn with_all(inbox: &Inbox) -> Cluster {
    let webhooks: Vec<_> = ALL.iter().map(|kind| webhook(inbox, kind)).collect();
    inbox.at("/rollback", Does::Answer(403));
    with_webhooks(&json!(webhooks)).await
}

#[tokio::test(start_paused = true)]
async fn every_kind_is_asked_in_its_turn_in_a_good_rollout() {
    let inbox = Inbox::start(Does::Answer(204)).await;
    let mut cluster = with_all(&inbox).await;
    assert_eq!(inbox.take().len(), 0, "nothing is asked while nothing is rolled out");
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    let letters = inbox.take();
    // What is asked at once may arrive in any order.
    let mut asked = letters.clone();
    asked.sort_by_key(|letter| (letter.body["step"].as_i64(), letter.path.clone()));
    insta::assert_snapshot!(lines(&asked), @r"
    /confirm-rollout Progressing 0 step 0
    /confirm-traffic-increase Progressing 0 step 0
    /post-rollout Succeeded 0 step 0
    /pre-rollout Progressing 0 step 0
    /rollback Waiting 0 step 0
    /rollback Progressing 0 step 0
    /rollback Progressing 0 step 0
    /confirm-traffic-increase Progressing 10 step 1
    /rollback Progressing 10 step 1
    /rollout Progressing 10 step 1
    /confirm-traffic-increase Progressing 30 step 2
    /rollback Progressing 30 step 2
    /rollout Progressing 30 step 2
    /confirm-promotion Progressing 60 step 3
    /rollback Progressing 60 step 3
    /rollback Promoting 60 step 3
    /rollout Progressing 60 step 3
    ");
    let traces: BTreeSet<_> = letters.iter().map(|letter| letter.body["traceId"].to_string()).collect();
    assert_eq!(traces.len(), 1, "one rollout is one trace");
    let keys: BTreeSet<_> = letters.iter().map(|letter| letter.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), letters.len(), "no question is asked twice");
    assert!(
        letters.iter().all(|letter| letter.headers["traceparent"].contains(letter.body["traceId"].as_str().unwrap()))
    );
    let revision = cluster.status()["promoted"]["revision"].clone();
    assert!(letters.iter().all(|letter| letter.body["revision"] == revision && letter.body["checksum"] == revision));
    assert!(letters.iter().all(|letter| letter.body["name"] == NAME && letter.body["namespace"] == NAMESPACE));

    cluster.wait(600).await;
    cluster.pass().await.unwrap();
    assert_eq!(inbox.take().len(), 0, "nothing is asked when it is over");
}

#[tokio::test(start_paused = true)]
async fn a_gate_holds_until_it_says_yes() {
    for (kind, held) in [("confirm-rollout", 0), ("confirm-traffic-increase", 0), ("confirm-promotion", 60)] {
        let inbox = Inbox::start(Does::Say(403, "the release manager is at lunch")).await;
        let mut cluster = with_one(&inbox, kind, &json!({})).await;
        cluster.deploy("web:2");
        until_waiting(&mut cluster, "Gate").await;
        for _ in 0..3 {
            cluster.wait(10).await;
            cluster.pass().await.unwrap();
        }
        assert_eq!(cluster.status()["canaryWeight"], held, "{kind}");
        assert!(waiting(&cluster).contains("HTTP 403: the release manager is at lunch"), "{}", waiting(&cluster));
        let asked = inbox.take();
        assert!(asked.len() >= 3, "{kind}: {}", lines(&asked));
        let keys: BTreeSet<_> = asked.iter().map(|letter| letter.headers["idempotency-key"].clone()).collect();
        assert_eq!(keys.len(), asked.len(), "{kind}: each round is a question of its own");
        inbox.at(&format!("/{kind}"), Does::Answer(206));
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Succeeded", "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_that_says_no_is_a_failed_check() {
    for kind in ["pre-rollout", "rollout"] {
        let inbox = Inbox::start(Does::Say(500, "2 of 7 tests failed")).await;
        let mut cluster = with_one(&inbox, kind, &json!({})).await;
        cluster.edit_spec(|spec| spec["analysis"]["threshold"] = 2.into());
        cluster.settle().await;
        cluster.deploy("web:2");
        until_waiting(&mut cluster, "CheckFailed").await;
        let why = format!("the {kind} webhook {kind} said no: HTTP 500: 2 of 7 tests failed (failed check 1 of 2)");
        assert!(waiting(&cluster).contains(&why), "{}", waiting(&cluster));
        inbox.at(&format!("/{kind}"), Does::Answer(200));
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Succeeded");

        inbox.at(&format!("/{kind}"), Does::Answer(404));
        cluster.deploy("web:3");
        cluster.settle().await;
        assert_eq!((cluster.phase().as_str(), &cluster.status()["canaryWeight"]), ("Failed", &json!(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_webhook_takes_the_version_back_at_any_time() {
    for phase in ["Waiting", "Progressing 10", "Promoting"] {
        let inbox = Inbox::start(Does::Answer(403)).await;
        let mut webhooks = vec![webhook(&inbox, "rollback"), webhook(&inbox, "post-rollout")];
        if phase == "Waiting" {
            webhooks.push(webhook(&inbox, "confirm-rollout"));
        }
        let mut cluster = with_webhooks(&json!(webhooks)).await;
        inbox.at("/post-rollout", Does::Answer(200));
        match phase {
            "Promoting" => cluster.deploy(common::cluster::STUCK),
            _ => cluster.deploy("web:2"),
        }
        let reached = cluster
            .settle_until(|cluster| {
                let status = cluster.status();
                format!("{} {}", status["phase"].as_str().unwrap(), status["canaryWeight"]).starts_with(phase)
            })
            .await;
        assert!(reached);
        inbox.at("/rollback", Does::Answer(200));
        cluster.settle().await;
        assert_eq!((cluster.phase().as_str(), &cluster.status()["canaryWeight"]), ("Failed", &json!(0)), "{phase}");
        assert!(history(&cluster, 4).contains("the rollback webhook rollback asks for it"), "{}", history(&cluster, 4));
        let told: Vec<_> = inbox.take().into_iter().filter(|letter| letter.path == "/post-rollout").collect();
        assert_eq!(told.len(), 1, "{phase}");
        assert_eq!(told[0].body["phase"], "Failed", "{phase}");
        assert_eq!(cluster.image("web-primary"), "web:1");
    }
}

/// What a gate at `url` is answered with, and how many requests that takes, and how long.
async fn answered(inbox: &Inbox, more: &Value) -> (String, usize, SignedDuration) {
    let mut cluster = with_one(inbox, "confirm-rollout", more).await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Waiting").await);
    let took = cluster.pass_in_time().await;
    (waiting(&cluster), inbox.take().len(), took)
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_by_itself_is_tried_again() {
    let again = json!({"retries": 2});
    for (does, requests, why) in [
        (Does::Answer(403), 1, "HTTP 403"),
        (Does::Answer(408), 1, "HTTP 408"),
        (Does::Answer(429), 3, "HTTP 429 (attempt 3 of 3)"),
        (Does::Answer(503), 3, "HTTP 503 (attempt 3 of 3)"),
        (Does::Redirect("/elsewhere"), 1, "HTTP 307; write the url that it redirects to"),
        (Does::Flood, 1, "HTTP 403: flood flood "),
    ] {
        let inbox = Inbox::start(does).await;
        let (waiting, asked, took) = answered(&inbox, &again).await;
        assert!(waiting.contains(why) && waiting.len() < 500, "{does:?}: {waiting}");
        assert_eq!(asked, requests, "{does:?}");
        assert!(took < SignedDuration::from_secs(3), "{does:?}: {took:?}");
        let (_, asked, _) = answered(&inbox, &json!({})).await;
        assert_eq!(asked, 1, "{does:?}: no retries are asked for");
    }
    let inbox = Inbox::start(Does::Recover(2)).await;
    let (waiting, asked, _) = answered(&inbox, &again).await;
    assert_eq!(asked, 3);
    assert!(!waiting.contains("confirm-rollout is not open"), "{waiting}");
    let inbox = Inbox::start(Does::Busy(7)).await;
    let (_, asked, took) = answered(&inbox, &again).await;
    assert_eq!(asked, 2);
    assert!(took >= SignedDuration::from_secs(7) && took < SignedDuration::from_secs(9), "{took:?}");
    let nobody = json!({"retries": 1, "url": "http://127.0.0.1:1/x"});
    let (waiting, _, took) = answered(&inbox, &nobody).await;
    assert!(waiting.contains("it cannot be reached: ") && waiting.contains("(attempt 2 of 2)"), "{waiting}");
    assert!(took >= SignedDuration::from_millis(250) && took < SignedDuration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_an_end() {
    let inbox = Inbox::start(Does::Hang).await;
    for (more, seconds, requests, why) in [
        (json!({}), 10, 1, "no answer within 10s"),
        (json!({"timeout": "2s", "retries": 1}), 4, 2, "no answer within 2s (attempt 2 of 2)"),
    ] {
        let (waiting, asked, took) = answered(&inbox, &more).await;
        assert!(waiting.contains(why), "{waiting}");
        assert_eq!(asked, requests);
        assert!((seconds..seconds + 2).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_sent_nothing_is() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    for (url, why) in [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("http://me:hunter2@127.0.0.1/", "holds a user or a password"),
    ] {
        let (waiting, _, took) = answered(&inbox, &json!({"url": url})).await;
        assert!(waiting.contains(why) && !waiting.contains("hunter2"), "{waiting}");
        assert!(took < SignedDuration::from_secs(1), "{took:?}");
    }
}

/// What is logged in this thread, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics in here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_from_a_secret_is_sent_and_shown_nowhere() {
    let log = Log::default();
    let written = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || written.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let inbox = Inbox::start(Does::Echo).await;
    let secret = json!({"secretRef": {"name": "gate"}, "retries": 1});
    let mut cluster = with_one(&inbox, "confirm-rollout", &secret).await;
    cluster.edit_spec(|spec| {
        let event = json!({"type": "event", "name": "told", "url": format!("{}/event", inbox.address), "secretRef": {"name": "gate"}});
        spec["analysis"]["webhooks"].as_array_mut().unwrap().push(event);
    });
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Waiting").await);
    cluster.pass_in_time().await;
    assert!(
        waiting(&cluster).contains("its secret gate does not exist; create it in namespace shop"),
        "{}",
        waiting(&cluster)
    );

    let data = |value: &str| serde_json::to_value(k8s_openapi::ByteString(value.as_bytes().to_vec())).unwrap();
    cluster.put(
        SECRETS,
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gate", "namespace": NAMESPACE},
            "data": {"Authorization": data("Bearer hunter2hunter2\n"), "x-team": data("blue")},
        }),
    );
    inbox.take();
    cluster.wait(10).await;
    cluster.pass_in_time().await;
    let letters: Vec<_> = inbox.take().into_iter().filter(|letter| letter.path == "/confirm-rollout").collect();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].headers["authorization"], "Bearer hunter2hunter2");
    assert_eq!(letters[0].headers["x-team"], "blue");
    assert!(waiting(&cluster).contains("HTTP 403: "), "{}", waiting(&cluster));
    inbox.at("/confirm-rollout", Does::Answer(200));
    cluster.wait(10).await;
    cluster.pass_in_time().await;
    assert_eq!(cluster.phase(), "Progressing");

    let stored: String = cluster
        .server
        .requests()
        .iter()
        .filter(|request| request.is_write())
        .map(|request| request.body.to_string())
        .collect();
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    let own: String = logged.lines().filter(|line| line.contains("serin")).collect();
    assert!(stored.contains("HTTP 403") && !stored.contains("hunter2"), "{stored}");
    assert!(!cluster.story().contains("hunter2"));
    assert!(own.len() > 100 && !logged.contains("hunter2"), "the log says it");

    cluster.edit(SECRETS, "gate", |secret| secret["data"]["Content-Length"] = data("7"));
    inbox.at("/confirm-rollout", Does::Answer(200));
    cluster.deploy("web:3");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Waiting").await);
    // The first pass after it stops pods of the version before.
    cluster.pass_in_time().await;
    cluster.wait(1).await;
    cluster.pass_in_time().await;
    assert!(waiting(&cluster).contains("Content-Length is a header that Serin sets itself"), "{}", waiting(&cluster));
}

/// A rollout at weight 10 with a test that hangs for a minute.
async fn hanging(inbox: &Inbox) -> Cluster {
    let one = json!({"timeout": "1m"});
    let mut cluster = with_one(inbox, "rollout", &one).await;
    cluster.deploy("web:2");
    until_weight(&mut cluster, 10).await;
    inbox.at("/rollout", Does::Hang);
    cluster.wait(10).await;
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_breach_does_not_wait_for_a_webhook() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let mut cluster = hanging(&inbox).await;
    cluster.prometheus.says(Says::Value(50.0));
    let took = cluster.pass_in_time().await;
    assert_eq!((cluster.phase().as_str(), &cluster.status()["canaryWeight"]), ("Failed", &json!(0)));
    assert!(took < SignedDuration::from_secs(1), "{took:?}");
    assert!(cluster.backends().contains("web-canary 0"), "{}", cluster.backends());
}

#[tokio::test(start_paused = true)]
async fn a_breach_while_a_webhook_takes_its_time_is_seen_at_the_next_check() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let mut cluster = hanging(&inbox).await;
    let took = cluster.pass_during(Duration::from_secs(5), |cluster| cluster.prometheus.says(Says::Value(50.0))).await;
    assert_eq!((cluster.phase().as_str(), &cluster.status()["canaryWeight"]), ("Failed", &json!(0)));
    assert!(took >= SignedDuration::from_secs(10) && took < SignedDuration::from_secs(12), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_takes_traffic_back_does_not_wait_for_a_webhook() {
    type Act = fn(&Cluster);
    let acts: [(&str, Act); 6] = [
        ("a new version", |cluster| cluster.deploy("web:3")),
        ("an order", |cluster| order(cluster, "abort")),
        ("the end of all pods", |cluster| {
            cluster.edit(DEPLOYMENTS, NAME, |target| target["status"]["availableReplicas"] = 0.into());
        }),
        ("the old version", |cluster| cluster.deploy("web:1")),
        ("a deletion", Cluster::delete_canary),
        ("the end of the target", |cluster| cluster.server.delete(DEPLOYMENTS, NAMESPACE, NAME).map(drop).unwrap()),
    ];
    for (what, act) in acts {
        let inbox = Inbox::start(Does::Answer(200)).await;
        let mut cluster = hanging(&inbox).await;
        cluster.reacts = what != "the end of all pods";
        let took = cluster.pass_during(Duration::from_secs(3), act).await;
        assert!(took >= SignedDuration::from_secs(3) && took < SignedDuration::from_secs(4), "{what}: {took:?}");
        assert!(cluster.errors.iter().all(serin::controller::Error::is_conflict), "{what}: {:?}", cluster.errors);
        if !cluster.errors.is_empty() {
            cluster.pass_in_time().await;
        }
        let backends = cluster.backends();
        assert!(backends.contains("web-canary 0"), "{what}: {backends}: {}", cluster.story());
    }
}

#[tokio::test(start_paused = true)]
async fn another_spec_does_not_wait_for_a_webhook_and_suspension_holds_the_weight() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let mut cluster = hanging(&inbox).await;
    let suspend = |cluster: &Cluster| cluster.edit_spec(|spec| spec["suspend"] = true.into());
    let took = cluster.pass_during(Duration::from_secs(3), suspend).await;
    assert!(took < SignedDuration::from_secs(4), "{took:?}");
    cluster.pass_in_time().await;
    assert_eq!(cluster.status()["waiting"]["reason"], "Suspended");
    assert_eq!(cluster.status()["canaryWeight"], 10);
}

/// A webhook may start a test, or ring a telephone.
#[tokio::test(start_paused = true)]
async fn who_is_not_sure_that_it_leads_asks_nobody() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let lease = watch::Sender::new(Some(Instant::now() + Duration::from_hours(24)));
    let mut cluster = hanging(&inbox).await;
    cluster.leadership = Leadership::told_by(lease.subscribe());
    cluster.restart();
    inbox.take();
    // It ends in the middle of a question, which is given up.
    let end = |_: &Cluster| {
        lease.send_replace(Some(Instant::now()));
    };
    let took = cluster.pass_during(Duration::from_secs(3), end).await;
    assert!(took < SignedDuration::from_secs(5), "{took:?}");
    assert_eq!(inbox.take().len(), 1);
    let writes = cluster.server.writes().len();
    for _ in 0..3 {
        cluster.wait(10).await;
        cluster.pass_in_time().await;
    }
    assert_eq!(inbox.take().len(), 0);
    assert_eq!(cluster.server.writes().len(), writes);
    // Neither a yes nor a no was heard: whoever leads next asks again.
    assert_eq!(
        (cluster.status()["canaryWeight"].clone(), cluster.status()["failedChecks"].clone()),
        (json!(10), json!(0))
    );
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_asks_for_the_way_back_waits_for_no_other() {
    let inbox = Inbox::start(Does::Hang).await;
    inbox.at("/rollback", Does::Answer(403));
    let webhooks = json!([webhook(&inbox, "rollout"), webhook(&inbox, "rollback")]);
    let mut cluster = with_webhooks(&webhooks).await;
    inbox.at("/rollout", Does::Answer(200));
    cluster.deploy("web:2");
    until_weight(&mut cluster, 10).await;
    inbox.at("/rollout", Does::Hang);
    inbox.at("/rollback", Does::Answer(200));
    cluster.wait(10).await;
    let took = cluster.pass_in_time().await;
    assert_eq!(cluster.phase(), "Failed");
    assert!(took < SignedDuration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_rollout_holds_up_the_next_for_a_moment_at_most() {
    let inbox = Inbox::start(Does::Hang).await;
    let mut cluster = with_one(&inbox, "post-rollout", &json!({"timeout": "30m"})).await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Succeeded").await);
    let took = cluster.pass_during(Duration::from_secs(2), |cluster| cluster.deploy("web:3")).await;
    assert!(took < SignedDuration::from_secs(4), "{took:?}");
    let began = cluster.clock.now();
    while cluster.status()["canaryWeight"] != 10 {
        let took = cluster.pass_in_time().await;
        assert!(took < SignedDuration::from_secs(12), "{took:?}");
        cluster.wait(1).await;
        assert!(cluster.clock.now().duration_since(began) < SignedDuration::from_mins(1), "{}", cluster.story());
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_repeated_has_the_same_key() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let mut cluster = with_one(&inbox, "rollout", &json!({"retries": 1})).await;
    cluster.deploy("web:2");
    until_weight(&mut cluster, 10).await;
    inbox.take();
    cluster.wait(10).await;
    // The process dies when it has the answer and could not record it.
    cluster.server.set_faults(|request| {
        if request.is_write() { serin_testing::Fault::DropBefore } else { serin_testing::Fault::Pass }
    });
    assert!(cluster.pass().await.is_err());
    cluster.server.clear_faults();
    cluster.restart();
    inbox.at("/rollout", Does::Recover(2));
    cluster.pass_in_time().await;
    let keys: Vec<_> = inbox.take().iter().map(|letter| letter.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 3, "before the crash, after it, and once more");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(cluster.status()["canaryWeight"], 30);
    cluster.wait(10).await;
    cluster.pass_in_time().await;
    let next = inbox.take();
    assert!(next.iter().all(|letter| letter.headers["idempotency-key"] != keys[0]));
}

#[tokio::test(start_paused = true)]
async fn an_event_webhook_is_told_everything_and_nobody_waits_for_it() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let more = json!({"metadata": {"channel": "releases"}, "retries": 1});
    let mut cluster = with_one(&inbox, "event", &more).await;
    cluster.deploy("web:2");
    until_weight(&mut cluster, 10).await;
    cluster.prometheus.says(Says::Value(50.0));
    cluster.settle().await;
    let letters = inbox.wait_for(3).await;
    let line = |letter: &Letter| {
        let metadata = &letter.body["metadata"];
        assert_eq!(metadata["channel"], "releases");
        assert_eq!(metadata["timestamp"].as_str().unwrap().len(), 13);
        format!("{} {}", metadata["eventType"].as_str().unwrap(), metadata["eventMessage"].as_str().unwrap())
    };
    insta::assert_snapshot!(letters.iter().map(line).collect::<Vec<_>>().join("\n"), @r"
    Normal revision 6ebea71b19 is being started
    Normal canary weight 10: its pods are ready
    Warning all traffic goes to the primary: request-success-rate is 50, below the minimum 99 (failed check 1 of 1)
    ");
    let keys: BTreeSet<_> = letters.iter().map(|letter| letter.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 3);

    inbox.at("/event", Does::Hang);
    cluster.listens = false;
    cluster.prometheus.says(Says::Value(100.0));
    cluster.deploy("web:3");
    let before = cluster.clock.now();
    cluster.pass().await.unwrap();
    assert_eq!(cluster.clock.now(), before, "no pass waits");
}

#[tokio::test(start_paused = true)]
async fn a_muted_gate_alerts_nobody() {
    for (muted, expected) in [(false, true), (true, false)] {
        let inbox = Inbox::start(Does::Answer(200)).await;
        inbox.at("/confirm-promotion", Does::Answer(403));
        let mut cluster = with_one(&inbox, "confirm-promotion", &json!({"muteAlert": muted})).await;
        cluster.put(
            serin_testing::ALERT_PROVIDERS,
            json!({
                "apiVersion": "serin.dev/v1beta1", "kind": "AlertProvider",
                "metadata": {"name": "on-call", "namespace": NAMESPACE},
                "spec": {"type": "generic", "address": format!("{}/alerts", inbox.address)},
            }),
        );
        cluster.edit_spec(|spec| {
            spec["analysis"]["alerts"] = json!([{"name": "on-call", "providerRef": {"name": "on-call"}}]);
        });
        cluster.deploy("web:2");
        until_waiting(&mut cluster, "Gate").await;
        cluster.wait(10).await;
        cluster.pass().await.unwrap();
        inbox.at("/confirm-promotion", Does::Answer(200));
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Succeeded");
        let reasons: Vec<_> =
            inbox.take().iter().map(|letter| letter.body["reason"].as_str().unwrap_or_default().to_owned()).collect();
        for reason in ["GateClosed", "GateOpened"] {
            assert_eq!(reasons.iter().any(|told| told == reason), expected, "{muted} {reason}: {reasons:?}");
        }
        assert!(reasons.iter().any(|told| told == "Succeeded"), "{reasons:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_opened_by_an_order_while_its_webhook_hangs() {
    let inbox = Inbox::start(Does::Hang).await;
    let mut cluster = with_one(&inbox, "confirm-rollout", &json!({})).await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Waiting").await);
    let took = cluster.pass_during(Duration::from_secs(2), |cluster| order(cluster, "approve")).await;
    assert!(took < SignedDuration::from_secs(3), "{took:?}");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert_eq!(ordered(&cluster), None, "it was removed");
}

#[tokio::test(start_paused = true)]
async fn each_order_is_taken_once_and_says_who_gave_it() {
    let inbox = Inbox::start(Does::Answer(403)).await;
    let mut cluster = with_one(&inbox, "confirm-promotion", &json!({})).await;
    let status = |cluster: &Cluster| format!("{} {}", cluster.phase(), cluster.status()["canaryWeight"]);
    cluster.deploy("web:2");
    until_weight(&mut cluster, 10).await;
    order_by(&cluster, "pause", "alice");
    for _ in 0..4 {
        cluster.wait(10).await;
        cluster.pass().await.unwrap();
    }
    assert_eq!(status(&cluster), "Progressing 10");
    assert_eq!(ordered(&cluster), None);
    order_by(&cluster, "resume", "bob");
    until_waiting(&mut cluster, "Gate").await;
    assert_eq!(status(&cluster), "WaitingPromotion 60");
    order_by(&cluster, "aprove", "carol");
    cluster.pass().await.unwrap();
    cluster.wait(1).await;
    order_by(&cluster, "approve", "pipeline");
    cluster.settle().await;
    assert_eq!(status(&cluster), "Succeeded 0");
    insta::assert_snapshot!(history(&cluster, 12), @r"
    Advanced: canary weight 10: its pods are ready
    Ordered: paused by alice at weight 10; checks go on
    Ordered: resumed by bob at weight 10
    Advanced: canary weight 30: every check passed
    Advanced: canary weight 60: every check passed
    GateClosed: held at weight 60: confirm-promotion is not open: the confirm-promotion webhook confirm-promotion said no: HTTP 403; to open it by hand: kubectl annotate --overwrite canary NAME serin.dev/command=approve
    OrderRefused: the order aprove by carol was not carried out: nobody knows it; write one of approve, pause, resume, promote, abort, retry
    Ordered: approved by pipeline: confirm-promotion is open
    GateOpened: confirm-promotion is open at weight 60
    Promoting: the primary is given revision 6ebea71b19: every check passed at the last step
    Finalising: the primary runs the analysed version; it gets all traffic
    Succeeded: revision 6ebea71b19 is promoted
    ");

    cluster.deploy("web:3");
    until_weight(&mut cluster, 10).await;
    order(&cluster, "abort");
    cluster.settle().await;
    assert_eq!(status(&cluster), "Failed 0");
    order(&cluster, "retry");
    until_weight(&mut cluster, 10).await;
    order(&cluster, "promote");
    cluster.settle().await;
    assert_eq!((status(&cluster).as_str(), cluster.image("web-primary").as_str()), ("Succeeded 0", "web:3"));
    insta::assert_snapshot!(history(&cluster, 12), @r"
    Succeeded: revision 6ebea71b19 is promoted
    NewRevision: revision ce6b739075 is being started
    Advanced: canary weight 10: its pods are ready
    Ordered: aborted by kubectl-annotate
    RolledBack: all traffic goes to the primary: aborted by kubectl-annotate
    Ordered: retry ordered by kubectl-annotate: the version is analysed again
    NewRevision: revision ce6b739075 is being started: it is tried again
    Advanced: canary weight 10: its pods are ready
    Ordered: promotion ordered by kubectl-annotate: the rest of the analysis is skipped
    Promoting: the primary is given revision ce6b739075: its pods are ready, and the analysis is skipped
    Finalising: the primary runs the analysed version; it gets all traffic
    Succeeded: revision ce6b739075 is promoted
    ");
    assert_eq!(ordered(&cluster), None);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_a_tool_puts_back_is_a_new_one_only_after_it_was_gone() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let mut cluster = with_one(&inbox, "event", &json!({})).await;
    cluster.deploy("web:2");
    until_weight(&mut cluster, 10).await;
    // The removal fails: the order is on record as taken, and is found again.
    order(&cluster, "pause");
    cluster.server.set_faults(|request| {
        let removal = request.verb == serin_testing::Verb::Patch && request.resource == "canaries";
        if removal { serin_testing::Fault::DropBefore } else { serin_testing::Fault::Pass }
    });
    assert!(cluster.pass().await.is_err());
    assert!(cluster.status()["paused"] == true && ordered(&cluster).is_some());
    cluster.server.clear_faults();
    cluster.restart();
    cluster.pass().await.unwrap();
    assert_eq!(ordered(&cluster), None);
    let taken = |cluster: &Cluster| history(cluster, 32).matches("paused by").count();
    assert_eq!(taken(&cluster), 1);
    cluster.pass().await.unwrap();
    order(&cluster, "pause");
    cluster.pass().await.unwrap();
    assert!(history(&cluster, 1).contains("already"), "{}", history(&cluster, 1));
    let managers = cluster.get(CANARIES, app::NAME)["metadata"]["managedFields"].as_array().map(Vec::len);
    assert_eq!(managers, Some(2), "what others manage is not touched");
}
