//! Two replicas of Serin and one Lease: who is not sure that it leads writes nothing and asks nobody, and after a clean
//! stop the other one goes on at once.

mod common;

use common::app::NAMESPACE;
use common::inbox::{Does, Inbox};
use common::process::{Processes, Replica, phase, rests, weights};
use serde_json::json;
use serin::controller::Ended;
use serin_testing::{ApiServer, CANARIES, LEASES};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What is promised of a clean stop.
const HAND_OVER: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_clean_stop_hands_over_in_the_middle_of_a_rollout_within_five_seconds() {
    // At different moments between two looks of the standby, and between two renewals of the leader.
    for turn in 0..3 {
        let cluster = Processes::new(&json!({})).await;
        let [first, second] = cluster.two().await;
        cluster.deploy("web:2");
        cluster.until_weight(30).await;
        sleep(Duration::from_millis(1700 * turn)).await;

        let stopped = first.stop();
        cluster.overwrite_weights();
        cluster.until("the weights are put right", |server| weights(server) == [70, 30]).await;
        assert!(stopped.elapsed() < HAND_OVER, "{:?}", stopped.elapsed());
        assert_eq!(cluster.holder(), "second");
        first.ends().await.expect("it was asked to");

        cluster.until("it is promoted", |server| phase(server) == "Succeeded").await;
        assert_eq!(cluster.weights_on_record(), [0, 10, 30, 60, 0], "no step is skipped, and none is taken twice");
        one_after_the_other(&first, &second);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_neither_for_a_metric_nor_for_a_webhook_that_hangs() {
    let nowhere = Inbox::start(Does::Hang).await;
    let metric = json!([{"name": "m", "query": "up", "thresholdRange": {"min": 1}}]);
    let webhook = json!([{"name": "gate", "type": "rollout", "url": nowhere.address, "timeout": "1m"}]);
    for analysis in
        [json!({"metrics": metric}), json!({"webhooks": webhook}), json!({"metrics": metric, "webhooks": webhook})]
    {
        let mut cluster = Processes::new(&analysis).await;
        cluster.settings.metrics_server = nowhere.address.clone();
        cluster.settings.query_timeout = Duration::from_secs(20);
        let [first, second] = cluster.two().await;
        nowhere.take();
        cluster.deploy("web:2");
        cluster.until("somebody is asked", |_| !nowhere.arrived().is_empty()).await;

        let stopped = first.stop();
        cluster.until("the other one leads", |_| cluster.holder() == "second").await;
        assert!(stopped.elapsed() < HAND_OVER, "{analysis}: {:?}", stopped.elapsed());
        first.ends().await.expect("it was asked to");
        drop(second);
    }
}

/// As many passes as may be made at once hang, and all the others wait for their turn.
#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_pass_that_has_not_begun() {
    const MANY: usize = 20;
    let nowhere = Inbox::start(Does::Hang).await;
    let mut cluster = Processes::new(&json!({})).await;
    cluster.settings.concurrency = 1;
    cluster.settings.query_timeout = Duration::from_secs(3);
    cluster.settings.metrics_server = nowhere.address.clone();
    let metric = json!([{"name": "m", "query": "up", "thresholdRange": {"min": 1}}]);
    let names: Vec<_> = (0..MANY).map(|number| format!("web-{number}")).collect();
    for name in &names {
        cluster.adopt(name, &json!({"metrics": metric}));
    }
    let [first, second] = cluster.two().await;
    let rests = |server: &ApiServer, name: &String| {
        server.get(CANARIES, NAMESPACE, name).is_some_and(|canary| canary["status"]["canaryPods"] == "Down")
    };
    cluster.until("all are at rest", |server| names.iter().all(|name| rests(server, name))).await;
    for name in &names {
        cluster.deploy_to(name, "web:2");
    }
    cluster.until("somebody is asked", |_| !nowhere.arrived().is_empty()).await;
    sleep(Duration::from_secs(5)).await;

    let stopped = first.stop();
    first.ends().await.expect("it was asked to");
    cluster.until("the other one leads", |_| cluster.holder() == "second").await;
    assert!(stopped.elapsed() < HAND_OVER, "{:?}", stopped.elapsed());
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_writes_nothing_when_the_wire_is_back() {
    let cluster = Processes::new(&json!({})).await;
    let [first, second] = cluster.two().await;
    cluster.deploy("web:2");
    cluster.until_weight(10).await;
    first.wire.cut.send_replace(true);
    cluster.server.close_watches();
    let began = Instant::now();
    cluster.until("the other one leads", |_| cluster.holder() == "second").await;
    // The Lease of fifteen seconds was renewed five seconds ago at most, and the standby looks every two.
    assert!(began.elapsed() < Duration::from_secs(18), "{:?}", began.elapsed());
    first.wire.cut.send_replace(false);
    assert!(matches!(first.ends().await, Err(Ended::Keep(_))));

    cluster.until("it is promoted", |server| phase(server) == "Succeeded").await;
    assert_eq!(cluster.weights_on_record(), [0, 10, 30, 60, 0]);
    one_after_the_other(&first, &second);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stood_still_writes_nothing_and_asks_nobody_when_it_goes_on() {
    let inbox = Inbox::start(Does::Answer(200)).await;
    let webhooks = json!([{"name": "load", "type": "rollout", "url": inbox.address}]);
    for (still, led) in [(Duration::from_secs(4), "first"), (Duration::from_secs(40), "second")] {
        let cluster = Processes::new(&json!({"webhooks": webhooks})).await;
        let [first, second] = cluster.two().await;
        cluster.deploy("web:2");
        cluster.until_weight(10).await;
        first.paused.send_replace(true);
        sleep(still).await;
        assert_eq!(cluster.holder(), led);
        let asked = inbox.arrived().len();
        first.paused.send_replace(false);
        sleep(Duration::from_secs(1)).await;
        if led == "second" {
            assert!(matches!(first.ends().await, Err(Ended::Keep(_))));
            assert_eq!(inbox.arrived().len(), asked, "who is not sure asks nobody");
        }
        cluster.until("it is promoted", |server| phase(server) == "Succeeded").await;
        assert_eq!(cluster.weights_on_record(), [0, 10, 30, 60, 0]);
        match led {
            "first" => assert_eq!(second.wire.writes(), [], "a moment is no reason to take over"),
            _ => one_after_the_other(&first, &second),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_stolen_writes_nothing_more() {
    let cluster = Processes::new(&json!({})).await;
    let only = cluster.replica("only");
    cluster.until("it is at rest", rests).await;
    cluster.deploy("web:2");
    cluster.until_weight(10).await;
    cluster
        .server
        .update(LEASES, "serin-system", "serin", |lease| lease["spec"]["holderIdentity"] = "thief".into())
        .expect("the Lease is there");
    assert!(matches!(only.ends().await, Err(Ended::Keep(_))));
    let written = only.wire.writes().len();
    cluster.overwrite_weights();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(only.wire.writes().len(), written);
}

#[tokio::test(start_paused = true)]
async fn a_standby_watches_and_writes_nothing_and_leaves_when_it_is_asked_to() {
    let cluster = Processes::new(&json!({})).await;
    let [first, second] = cluster.two().await;
    cluster.deploy("web:2");
    cluster.until("it is promoted", |server| phase(server) == "Succeeded").await;
    assert!(second.readiness.is_ready(), "its caches are full");
    assert_eq!(second.wire.writes(), []);
    second.stop();
    second.ends().await.expect("it was asked to");
    assert_eq!((cluster.holder().as_str(), second.wire.writes()), ("first", vec![]));
    drop(first);
}

/// What one wrote came before all that the other one wrote.
fn one_after_the_other(first: &Replica, second: &Replica) {
    let (before, after) = (first.wire.writes(), second.wire.writes());
    let (last, next) = (before.last().expect("it led"), after.first().expect("it led too"));
    assert!(last.0 < next.0, "{last:?} comes after {next:?}");
}
