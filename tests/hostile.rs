//! What somebody writes to do harm, or by an accident that looks like it: each ends in a sentence, and nobody waits for it.

mod common;

use common::app::{self, NAME};
use common::cluster::Cluster;
use serde_json::{Value, json};
use serin_testing::{CANARIES, DEPLOYMENTS, HTTP_ROUTES};

/// Most bytes of a status, whatever is in the spec: etcd takes an object of a megabyte and a half, spec included.
const LARGEST_STATUS: usize = 64 * 1024;

/// More than the API server would take beside anything else.
const MEGABYTE: usize = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn a_query_of_a_megabyte_is_inconclusive_and_short_in_the_status() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| {
        let query = format!("vector(1) # {}", "x".repeat(MEGABYTE));
        spec["analysis"]["metrics"] = json!([{"name": "huge", "query": query, "thresholdRange": {"max": 1}}]);
    });
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert!(cluster.condition("Ready").contains("longer than"), "{}", cluster.condition("Ready"));
    small(&cluster);
}

#[tokio::test(start_paused = true)]
async fn a_word_of_a_megabyte_is_refused_in_a_short_sentence() {
    let long = || Value::from("x".repeat(MEGABYTE));
    let mistakes: [fn(&mut Value, Value); 6] = [
        |spec, long| spec["analysis"]["interval"] = long,
        |spec, long| spec["analysis"]["metrics"][0]["name"] = long,
        |spec, long| spec["analysis"]["metrics"][0]["interval"] = long,
        |spec, long| spec["targetRef"]["kind"] = long,
        |spec, long| spec["service"]["timeout"] = long,
        |spec, long| spec["provider"] = long,
    ];
    for (place, mistake) in mistakes.into_iter().enumerate() {
        let mut cluster = Cluster::at_rest().await;
        cluster.edit_spec(|spec| mistake(spec, long()));
        cluster.settle().await;
        assert!(
            cluster.condition("Stalled").starts_with("True InvalidSpec"),
            "{place}: {}",
            cluster.condition("Stalled")
        );
        small(&cluster);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_edited_into_nonsense_is_refused_and_can_be_removed() {
    let nonsense = [
        json!({"phase": "Dancing"}),
        json!({"canaryWeight": 500}),
        json!({"canaryWeight": -1}),
        json!({"since": null}),
        json!({"canaryPods": "Upside-Down"}),
        json!({"replicas": -3}),
        json!({"phase": "Progressing", "failedChecks": -7}),
        json!({"phase": "Terminating", "stage": "Elsewhere"}),
    ];
    for edit in nonsense {
        let mut cluster = Cluster::at_rest().await;
        let before = (cluster.backends(), cluster.replicas(NAME), cluster.replicas("web-primary"));
        cluster.edit(CANARIES, NAME, |canary| {
            for (field, value) in edit.as_object().into_iter().flatten() {
                canary["status"][field] = value.clone();
            }
        });
        cluster.settle().await;
        let stalled = cluster.condition("Stalled");
        assert!(stalled.starts_with("True InvalidStatus: status."), "{edit}: {stalled}");
        assert_eq!(before, (cluster.backends(), cluster.replicas(NAME), cluster.replicas("web-primary")), "{edit}");

        cluster.edit(CANARIES, NAME, |canary| canary["status"] = Value::Null);
        cluster.settle().await;
        assert!(cluster.condition("Ready").starts_with("True"), "{edit}: {}", cluster.story());
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_from_the_end_of_time_is_survived() {
    let ends = ["9999-12-30T22:00:00Z", "-009999-01-02T01:59:59Z", "1970-01-01T00:00:00Z"];
    for phase in ["Initializing", "Progressing", "Promoting", "Finalising", "Succeeded", "Failed"] {
        for time in ends {
            let mut cluster = Cluster::at_rest().await;
            cluster.edit(CANARIES, NAME, |canary| {
                let status = &mut canary["status"];
                status["phase"] = phase.into();
                status["canaryPods"] = "Draining".into();
                for field in ["since", "weightSince", "blockedSince", "drainingSince"] {
                    status[field] = time.into();
                }
            });
            // Neither a panic nor a pass after the other for ever; what it is then is a state like any other.
            cluster.deploy("web:2");
            cluster.settle_until(|_| false).await;
            assert!(cluster.errors.is_empty(), "{phase} {time}: {:?}", cluster.errors);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_of_ten_thousand_rules_is_left_as_it_is_and_named() {
    let mut cluster = Cluster::new().await;
    cluster.put(DEPLOYMENTS, app::deployment("web:1"));
    let mut route = app::route();
    let foreign = |number: usize| {
        let path = json!({"type": "Exact", "value": format!("/{number}")});
        json!({"matches": [{"path": path}], "backendRefs": [{"name": "legacy", "port": 80}]})
    };
    route["spec"]["rules"].as_array_mut().expect("it has rules").extend((0..10_000).map(foreign));
    cluster.put(HTTP_ROUTES, route.clone());
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    let stalled = cluster.condition("Stalled");
    assert!(stalled.starts_with("True RouteUnusable") && stalled.contains("10002 rules"), "{stalled}");
    assert_eq!(cluster.get(HTTP_ROUTES, NAME)["spec"], route["spec"]);
    small(&cluster);
}

fn small(cluster: &Cluster) {
    let bytes = cluster.status().to_string().len();
    assert!(bytes < LARGEST_STATUS, "the status has {bytes} bytes");
}
