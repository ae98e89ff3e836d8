//! Servers that mean harm, over real connections: a Prometheus, a webhook and a chat that flood, drip, lead elsewhere or
//! explode. Each is cut off by a limit, with a short sentence, and nobody else waits for it.

mod common;

use common::app::NAMESPACE;
use common::cluster::Cluster;
use common::inbox::{Does, Inbox};
use common::rogue::{ALL, Harm, Rogue};
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::controller::{AllowedHosts, Egress, send};
use serin::domain::Unknown;
use serin::metrics::Query;
use serin_testing::ALERT_PROVIDERS;
use std::time::{Duration, Instant};

/// More than any of these servers gets rid of before it is hung up on: what is read, and what the buffers of a socket on
/// the loopback take.
const READ_AT_MOST: usize = 24 * 1024 * 1024;

/// How long one of them is waited for.
const LIMIT: Duration = Duration::from_secs(2);

/// On several threads, as `serin run` is: who keeps one of them busy is cut off by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_prometheus_that_means_harm_is_cut_off() {
    let asked = ALL.map(async |harm| {
        let rogue = Rogue::start(harm.clone(), 200);
        let began = Instant::now();
        let answer = send(&http(), &query(&rogue.address), LIMIT).await;
        // The other tests want the processor, too.
        assert!(began.elapsed() < LIMIT * 30, "{harm:?} took {:?}", began.elapsed());
        let why = answer.expect_err("none of them gives a number").to_string();
        assert!(why.len() < 400 && why.contains(&rogue.address), "{harm:?}: {why}");
        assert!(is_cut_off(&harm, &rogue, 1), "{harm:?}: {} bytes", rogue.sent());
    });
    join_all(asked).await;
}

/// Whether no more was read than the limits allow. Interim answers (1xx) are skipped by the HTTP library without a count: they
/// are cut off by time alone, and nothing of them is kept.
fn is_cut_off(harm: &Harm, rogue: &Rogue, attempts: usize) -> bool {
    matches!(harm, Harm::Interim) || rogue.sent() < READ_AT_MOST * attempts
}

#[tokio::test]
async fn a_prometheus_that_leads_elsewhere_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Rogue::start(Harm::Cut, 200);
        let rogue = Rogue::start(Harm::Redirect(status, elsewhere.address.clone()), 200);
        let answer = send(&http(), &query(&rogue.address), LIMIT).await;
        assert!(matches!(&answer, Err(Unknown::Refused(..))), "{answer:?}");
        assert_eq!((rogue.connections(), elsewhere.connections()), (1, 0), "{status}");
    }
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Egress::new(AllowedHosts::default()).unwrap().to("http://127.0.0.1", false).unwrap().clone()
}

fn query(address: &str) -> Query {
    Query {
        address: address.into(),
        text: "up".into(),
        headers: vec![],
        insecure_skip_verify: false,
        credentials: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_means_harm_is_cut_off() {
    for harm in ALL {
        let rogue = Rogue::start(harm.clone(), 403);
        let mut cluster = gated(&rogue.address).await;
        cluster.deploy("web:2");
        assert!(cluster.settle_until(|cluster| cluster.phase() == "Waiting").await);
        let took = cluster.pass_in_time().await;
        assert!(took < SignedDuration::from_secs(3), "{harm:?} took {took:?}");
        let status = cluster.status();
        let waiting = status["waiting"]["message"].as_str().unwrap_or_default();
        assert!(waiting.contains("gate") && waiting.len() < 600, "{harm:?}: {waiting}");
        assert!(is_cut_off(&harm, &rogue, 1), "{harm:?}: {} bytes", rogue.sent());
        assert_eq!(status["canaryWeight"], 0, "{harm:?} opens no gate");
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_leads_elsewhere_is_not_followed() {
    let elsewhere = Inbox::start(Does::Answer(200)).await;
    for status in [301, 302, 303, 307, 308] {
        let rogue = Rogue::start(Harm::Redirect(status, elsewhere.address.clone()), 200);
        let mut cluster = gated(&rogue.address).await;
        cluster.deploy("web:2");
        assert!(cluster.settle_until(|cluster| cluster.phase() == "Waiting").await);
        cluster.pass_in_time().await;
        assert_eq!(cluster.phase(), "Waiting", "{status} opens no gate");
        assert_eq!((rogue.connections(), elsewhere.arrived().len()), (1, 0), "{status}");
    }
}

/// A cluster at rest with a webhook that has to agree to a rollout.
async fn gated(address: &str) -> Cluster {
    let gate = json!({"type": "confirm-rollout", "name": "gate", "url": address, "timeout": "2s"});
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["analysis"]["webhooks"] = json!([gate]));
    cluster.settle().await;
    cluster.forget();
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_means_harm_is_cut_off_and_delays_nobody() {
    let elsewhere = Inbox::start(Does::Answer(200)).await;
    let redirects = [302, 307].map(|status| Harm::Redirect(status, elsewhere.address.clone()));
    for harm in ALL.into_iter().chain(redirects) {
        let rogue = Rogue::start(harm.clone(), 503);
        let mut cluster = telling(&rogue.address).await;
        cluster.deploy("web:2");
        assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await, "{harm:?}");
        let began = cluster.clock.now();
        while !is_told(&cluster) {
            real_time(Duration::from_millis(5)).await;
            tokio::time::advance(Duration::from_millis(500)).await;
            // Three alerts, each with three attempts of five seconds, and five seconds between them.
            let took = cluster.clock.now().duration_since(began);
            assert!(took < SignedDuration::from_secs(3 * 21), "{harm:?} took {took:?}");
        }
        let attempts = rogue.connections();
        assert!((3..=9).contains(&attempts), "{harm:?}: {attempts} attempts");
        assert!(is_cut_off(&harm, &rogue, attempts), "{harm:?}: {} bytes", rogue.sent());
    }
    assert_eq!(elsewhere.arrived().len(), 0, "no redirect is followed");
}

/// A cluster at rest whose alerts go to this address, and for which time goes on while they are on their way.
async fn telling(address: &str) -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    cluster.put(ALERT_PROVIDERS, provider(address));
    cluster.edit_spec(|spec| spec["analysis"]["alerts"] = json!([{"name": "chat", "providerRef": {"name": "chat"}}]));
    cluster.settle().await;
    cluster.forget();
    cluster.listens = false;
    cluster
}

fn provider(address: &str) -> Value {
    json!({
        "apiVersion": "serin.dev/v1beta1", "kind": "AlertProvider",
        "metadata": {"name": "chat", "namespace": NAMESPACE},
        "spec": {"type": "slack", "address": address},
    })
}

fn is_told(cluster: &Cluster) -> bool {
    cluster.operator.context.metrics.encode().lines().any(|line| line == "serin_alerts_waiting 0")
}

/// Waits while paused time stands still.
async fn real_time(wait: Duration) {
    tokio::task::spawn_blocking(move || std::thread::sleep(wait)).await.expect("a sleep ends");
}
