//! Alerts over a real connection: each transition is told once to everybody who wants to know, and nobody who does not
//! listen costs a rollout anything.

mod common;

use common::app;
use common::cluster::Cluster;
use common::inbox::{Does, Inbox, Letter};
use common::prometheus::Says;
use serde_json::{Value, json};
use serin::controller::AlertSettings;
use serin_testing::{ALERT_PROVIDERS, CANARIES, Fault, Request, SECRETS, Verb};
use std::collections::BTreeSet;
use std::time::Duration;

/// A provider in the app's namespace.
fn provider(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "serin.dev/v1beta1",
        "kind": "AlertProvider",
        "metadata": {"name": name, "namespace": app::NAMESPACE},
        "spec": spec,
    })
}

/// A cluster at rest with one Canary whose alerts go to `kind` at `address`.
async fn telling(kind: &str, address: &str, severity: Option<&str>) -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    cluster.put(ALERT_PROVIDERS, provider("on-call", &json!({"type": kind, "address": address})));
    let mut alert = json!({"name": "on-call", "providerRef": {"name": "on-call"}});
    if let Some(severity) = severity {
        alert["severity"] = severity.into();
    }
    cluster.edit_spec(|spec| spec["analysis"]["alerts"] = json!([alert]));
    cluster.settle().await;
    cluster.forget();
    cluster
}

fn lines(letters: &[Letter]) -> String {
    letters.iter().map(Letter::line).collect::<Vec<_>>().join("\n")
}

/// One line of the operator's own metrics.
fn counted(cluster: &Cluster, channel: &str, outcome: &str) -> u64 {
    let name = format!("serin_alerts_total{{channel=\"{channel}\",outcome=\"{outcome}\"}} ");
    let text = cluster.operator.context.metrics.encode();
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn each_transition_is_told_once_and_in_order() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let mut cluster = telling("generic", &inbox.address, None).await;
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    let letters = inbox.wait_for(7).await;
    insta::assert_snapshot!(lines(&letters), @r"
    info NewRevision: revision 6ebea71b19 is being started
    info Advanced: canary weight 10: its pods are ready
    info Advanced: canary weight 30: every check passed
    info Advanced: canary weight 60: every check passed
    info Promoting: the primary is given revision 6ebea71b19: every check passed at the last step
    info Finalising: the primary runs the analysed version; it gets all traffic
    info Succeeded: revision 6ebea71b19 is promoted
    ");
    let ids: BTreeSet<_> = letters.iter().map(|letter| letter.headers["idempotency-key"].clone()).collect();
    assert_eq!(ids.len(), letters.len(), "each has an id of its own");

    // What was told is what the status remembers and what the events say.
    let history = cluster.status()["history"].as_array().cloned().unwrap_or_default();
    let remembered = history.iter().rev().take(7).rev().map(|entry| entry["message"].clone());
    assert!(remembered.eq(letters.iter().map(|letter| letter.body["text"].clone())));
    let advanced = &letters[2].body;
    assert_eq!((&advanced["weight"], &advanced["phase"]), (&json!(30), &json!("Progressing")));
    assert_eq!(
        advanced["checks"][0],
        json!({
            "metric": "request-success-rate", "value": 100.0, "min": 99.0, "max": null, "verdict": "Pass",
        })
    );
    assert_eq!(counted(&cluster, "generic", "sent"), 7);

    // Nothing happens when nothing happens, and a restart tells nothing again.
    cluster.restart();
    cluster.settle().await;
    cluster.wait(600).await;
    cluster.pass().await.unwrap();
    inbox.wait_for(7).await;
}

#[tokio::test(start_paused = true)]
async fn a_severity_leaves_out_what_is_less() {
    for (severity, expected) in [("", 4), ("info", 4), ("warn", 2), ("error", 1)] {
        let inbox = Inbox::start(Does::Answer(204)).await;
        let mut cluster = telling("generic", &inbox.address, Some(severity)).await;
        cluster.edit_spec(|spec| spec["analysis"]["threshold"] = 2.into());
        cluster.settle().await;
        cluster.prometheus.says(Says::Value(97.5));
        cluster.deploy("web:2");
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Failed");
        let letters = inbox.wait_for(expected).await;
        let last = letters.last().unwrap();
        assert_eq!(last.body["severity"], "error");
        insta::allow_duplicates! {
            insta::assert_snapshot!(last.line(), @"error RolledBack: all traffic goes to the primary: request-success-rate is 97.5, below the minimum 99 (failed check 2 of 2)");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_delays_no_pass() {
    // The same rollout without anybody to tell, and with somebody who never answers.
    let mut stories = vec![];
    let inbox = Inbox::start(Does::Hang).await;
    for alerts in [false, true] {
        let mut cluster = if alerts {
            telling("generic", &inbox.address, None).await
        } else {
            let mut cluster = telling("generic", &inbox.address, None).await;
            cluster.edit_spec(|spec| spec["analysis"]["alerts"] = json!([]));
            cluster.settle().await;
            cluster.forget();
            cluster
        };
        cluster.listens = false;
        cluster.prometheus.says(Says::Value(97.5));
        cluster.deploy("web:2");
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let before = cluster.clock.now();
            cluster.pass().await.unwrap();
            slowest = slowest.max(cluster.clock.now().duration_since(before).unsigned_abs());
            cluster.wait(1).await;
        }
        assert_eq!(slowest, Duration::ZERO, "no pass waits for anything that takes time");
        assert_eq!(cluster.phase(), "Failed");
        stories.push(cluster.story());
        if alerts {
            // The first is given up after three attempts of five seconds each, and the waits in between.
            assert!((1..=3).contains(&inbox.arrived().len()), "it was told, and it hangs");
            for _ in 0..120 {
                cluster.wait(1).await;
                inbox_has_time().await;
            }
            assert_eq!(counted(&cluster, "generic", "failed"), 3);
            assert_eq!(inbox.arrived().len(), 9, "three alerts, three attempts each");
            let ids: BTreeSet<_> =
                inbox.arrived().iter().map(|letter| letter.headers["idempotency-key"].clone()).collect();
            assert_eq!(ids.len(), 3, "another attempt has the same id");
        }
    }
    assert_eq!(stories[0], stories[1], "the same writes at the same times");
}

/// Lets connections happen in real time while paused time stands still.
async fn inbox_has_time() {
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(10))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_recovers_gets_it_once_more_and_one_that_refuses_does_not() {
    for (does, arrivals, outcome) in
        [(Does::Recover(1), 2, "sent"), (Does::Recover(9), 3, "failed"), (Does::Answer(404), 1, "failed")]
    {
        let inbox = Inbox::start(does).await;
        let mut cluster = telling("generic", &inbox.address, Some("error")).await;
        cluster.listens = false;
        cluster.prometheus.says(Says::Value(97.5));
        cluster.deploy("web:2");
        cluster.settle().await;
        for _ in 0..10 {
            inbox_has_time().await;
            cluster.wait(2).await;
        }
        inbox.wait_for(arrivals).await;
        assert_eq!(counted(&cluster, "generic", outcome), 1, "{does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_pass_whose_status_was_recorded_tells() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let mut cluster = telling("generic", &inbox.address, None).await;
    cluster.deploy("web:2");
    // Another leader was quicker, or the API server says no: nothing is recorded, so nothing has happened.
    let refuse = |request: &Request| match (request.verb, request.subresource.as_deref()) {
        (Verb::Update, Some("status")) => Fault::Fail(500, "InternalError"),
        _ => Fault::Pass,
    };
    cluster.server.set_faults(refuse);
    for _ in 0..3 {
        assert!(cluster.pass().await.is_err());
    }
    inbox.wait_for(0).await;
    cluster.server.set_faults(|_| Fault::Pass);
    cluster.pass().await.unwrap();
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    let letters = inbox.wait_for(2).await;
    insta::assert_snapshot!(lines(&letters), @r"
    info NewRevision: revision 6ebea71b19 is being started
    info Advanced: canary weight 10: its pods are ready
    ");
}

#[tokio::test(start_paused = true)]
async fn address_and_token_come_from_the_secret_each_time_and_are_written_nowhere() {
    let (old, new) = (Inbox::start(Does::Answer(200)).await, Inbox::start(Does::Answer(200)).await);
    let mut cluster = telling("generic", "http://127.0.0.1:1/written", None).await;
    let secret = |inbox: &Inbox, token: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook", "namespace": app::NAMESPACE},
            "data": {"address": base64(&format!("{}/hunter?key=hunter", inbox.address)), "token": base64(token)},
        })
    };
    cluster.put(SECRETS, secret(&old, "hunter-1"));
    cluster.edit(ALERT_PROVIDERS, "on-call", |provider| provider["spec"]["secretRef"] = json!({"name": "hook"}));
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    let letters = old.wait_for(2).await;
    assert_eq!(letters[0].headers["authorization"], "Bearer hunter-1");
    assert_eq!(letters[0].path, "/hunter?key=hunter");

    cluster.edit(SECRETS, "hook", |found| found["data"] = secret(&new, "hunter-2")["data"].clone());
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    assert_eq!(new.wait_for(1).await[0].headers["authorization"], "Bearer hunter-2");
    old.wait_for(2).await;
    assert!(!format!("{:?}", cluster.server.writes()).contains("hunter"), "no secret is written anywhere");
    assert!(!cluster.operator.context.metrics.encode().contains("hunter"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_counted() {
    let mut cluster = telling("generic", "http://127.0.0.1:1", None).await;
    cluster.edit_spec(|spec| spec["analysis"]["alerts"][0]["providerRef"]["name"] = "nowhere".into());
    cluster.edit(ALERT_PROVIDERS, "on-call", |provider| provider["spec"]["secretRef"] = json!({"name": "missing"}));
    cluster.edit_spec(|spec| {
        let alerts = spec["analysis"]["alerts"].as_array_mut().unwrap();
        alerts.push(json!({"name": "no-secret", "providerRef": {"name": "on-call"}}));
    });
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    inbox_has_time().await;
    assert_eq!(counted(&cluster, "unknown", "failed"), 2);
    assert_eq!(counted(&cluster, "generic", "failed"), 2);
}

#[tokio::test(start_paused = true)]
async fn the_operators_defaults_and_the_event_sink() {
    let (slack, sink) = (Inbox::start(Does::Answer(200)).await, Inbox::start(Does::Answer(202)).await);
    let mut cluster = Cluster::at_rest().await;
    cluster.alerts = AlertSettings {
        cluster_name: Some("prod-eu".into()),
        slack_url: Some(format!("{}/services/T0/B0/hunter", slack.address)),
        slack_channel: Some("releases".into()),
        event_sink: Some(format!("{}/events", sink.address)),
        ..AlertSettings::default()
    };
    cluster.restart();
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    let letters = slack.wait_for(2).await;
    assert_eq!(letters[1].body["text"], "shop/web: Advanced");
    assert_eq!(letters[1].body["channel"], "releases");
    assert!(letters[1].body.to_string().contains("prod-eu"));

    let events = sink.wait_for(2).await;
    let event = &events[1];
    assert_eq!(event.headers["content-type"], "application/cloudevents+json; charset=utf-8");
    assert_eq!(event.body["type"], "dev.serin.canary.Advanced");
    assert_eq!(event.body["source"], "/apis/serin.dev/v1beta1/namespaces/shop/canaries/web");
    assert_eq!(event.body["id"], event.headers["idempotency-key"]);
    assert_eq!(event.body["cluster"], "prod-eu");
    assert_eq!(event.body["data"]["weight"], 10);
    let canary = cluster.get(CANARIES, app::NAME);
    assert!(event.body["id"].as_str().unwrap().starts_with(canary["metadata"]["uid"].as_str().unwrap()));

    // A Canary with alerts of its own leaves the defaults alone; the sink still gets everything.
    cluster.put(ALERT_PROVIDERS, provider("quiet", &json!({"type": "generic", "address": "http://127.0.0.1:1"})));
    cluster.edit_spec(|spec| {
        spec["analysis"]["alerts"] = json!([{"name": "quiet", "severity": "error", "providerRef": {"name": "quiet"}}]);
    });
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    sink.wait_for(3).await;
    slack.wait_for(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_is_on_the_way() {
    let proxy = Inbox::start(Does::Answer(200)).await;
    let mut cluster = telling("generic", "http://chat.invalid/hook", None).await;
    cluster.edit(ALERT_PROVIDERS, "on-call", |provider| provider["spec"]["proxy"] = proxy.address.clone().into());
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    let letters = proxy.wait_for(2).await;
    assert_eq!(letters[0].path, "http://chat.invalid/hook");
}

fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap().as_str().unwrap().to_owned()
}
