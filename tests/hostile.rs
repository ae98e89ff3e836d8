//! What somebody writes to do harm, or by an accident that looks like it: each ends in a sentence, and nobody waits for it.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::Cluster;
use common::process::{Processes, Replica, phase, rests};
use serde_json::{Value, json};
use serin_testing::{ApiServer, CANARIES, DEPLOYMENTS, HTTP_ROUTES};
use std::time::Duration;
use tokio::time::{Instant, sleep};

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

/// What is wrong with one Canary: it is called `bad`, and lies beside a good one called `web`.
struct Harm {
    what: &'static str,
    does: fn(&Processes),
    /// How the condition that says so begins.
    says: &'static str,
}

const HARM: [Harm; 6] = [
    Harm {
        what: "a spec of a megabyte",
        does: |cluster| spec(cluster, |spec| spec["analysis"]["interval"] = "x".repeat(MEGABYTE).into()),
        says: "Stalled True InvalidSpec",
    },
    Harm {
        what: "a list of a hundred thousand steps",
        does: |cluster| spec(cluster, |spec| spec["analysis"]["stepWeights"] = json!(vec![1; 100_000])),
        says: "Stalled True InvalidSpec",
    },
    Harm {
        what: "annotations of a megabyte",
        does: |cluster| canary(cluster, |canary| canary["metadata"]["annotations"]["x"] = "x".repeat(MEGABYTE).into()),
        says: "Ready True",
    },
    Harm {
        what: "an order of a megabyte",
        does: |cluster| {
            canary(cluster, |canary| {
                canary["metadata"]["annotations"]["serin.dev/command"] = "x".repeat(MEGABYTE).into();
            });
        },
        says: "Ready True",
    },
    Harm {
        what: "a status of nonsense",
        does: |cluster| canary(cluster, |canary| canary["status"]["canaryWeight"] = (-7).into()),
        says: "Stalled True InvalidStatus",
    },
    Harm {
        what: "a history of a megabyte",
        does: |cluster| {
            let time = "2026-01-01T00:00:00Z";
            let entry = json!({"time": time, "weight": 0, "step": 0, "reason": "x", "message": "x".repeat(1000)});
            canary(cluster, |canary| canary["status"]["history"] = json!(vec![entry.clone(); 1000]));
        },
        says: "Ready True",
    },
];

fn canary(cluster: &Processes, edit: impl FnMut(&mut Value)) {
    cluster.server.update(CANARIES, NAMESPACE, "bad", edit).expect("the Canary is there");
}

fn spec(cluster: &Processes, mut edit: impl FnMut(&mut Value)) {
    canary(cluster, |canary| edit(&mut canary["spec"]));
}

/// Passes of one Canary that nobody else waits for: it may be looked at when something changes, and not all the time.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_one_canary_is_said_and_costs_nobody_else_anything() {
    for Harm { what, does, says } in HARM {
        let cluster = Processes::new(&json!({})).await;
        cluster.adopt("bad", &json!({}));
        let serin = cluster.replica("only");
        let at_rest = |name: &str| {
            cluster.server.get(CANARIES, NAMESPACE, name).is_some_and(|it| it["status"]["canaryPods"] == "Down")
        };
        cluster.until("both are at rest", |_| at_rest(NAME) && at_rest("bad")).await;

        does(&cluster);
        cluster.until(&format!("it is said: {what}"), |_| conditions(&cluster, "bad").contains(says)).await;
        sleep(Duration::from_secs(30)).await;
        let (passes, writes) = (passes(&serin), serin.wire.writes().len());
        sleep(Duration::from_mins(10)).await;
        let more = (self::passes(&serin) - passes, serin.wire.writes().len() - writes);
        assert_eq!(more, (0, 0), "{what}: passes and writes, when nothing happens any more");

        let began = Instant::now();
        cluster.deploy("web:2");
        cluster.until("the good one is promoted", |server| phase(server) == "Succeeded").await;
        // Three steps of ten seconds each.
        assert!(began.elapsed() < Duration::from_secs(32), "{what}: the good one took {:?}", began.elapsed());
        cluster.until("the good one is at rest", rests).await;
        assert!(conditions(&cluster, "bad").contains(says), "{what}");
        if says == "Ready True" {
            // What somebody has put into a status stays until there is something new to say.
            cluster.deploy_to("bad", "web:2");
            let succeeded = |server: &ApiServer| {
                let bad = server.get(CANARIES, NAMESPACE, "bad");
                bad.is_some_and(|bad| bad["status"]["phase"] == "Succeeded" && bad["status"]["canaryPods"] == "Down")
            };
            cluster.until("the bad one is promoted, too", succeeded).await;
        }
        let bytes = cluster.server.get(CANARIES, NAMESPACE, "bad").expect("it is there")["status"].to_string().len();
        assert!(bytes < LARGEST_STATUS, "{what}: the status has {bytes} bytes");
    }
}

/// Each condition as `type status reason`.
fn conditions(cluster: &Processes, name: &str) -> String {
    let canary = cluster.server.get(CANARIES, NAMESPACE, name).unwrap_or_default();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    let all = canary["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let told = |condition: &Value| ["type", "status", "reason"].map(|field| text(condition, field)).join(" ");
    all.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn passes(serin: &Replica) -> u64 {
    let text = serin.metrics.encode();
    let counts = text.lines().filter(|line| line.starts_with("serin_pass_duration_seconds_count"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
