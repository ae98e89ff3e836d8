//! What the simulation found: the smallest case of each, against the API server in this process. A seed changes its
//! story whenever anything in it is changed, so what it found is kept here.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::{Cluster, Operator, STUCK, settings};
use common::configs;
use common::prometheus::Says;
use serde_json::Value;
use serin::controller::Error;
use serin_testing::{
    CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DEPLOYMENTS, Fault, GroupVersionResource, HTTP_ROUTES, SERVICES, Verb,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A cluster whose new version has its pods, and no traffic yet.
async fn before_the_first_traffic() -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    let before =
        |cluster: &Cluster| cluster.backends() == "web-primary 100, web-canary 0" && cluster.phase() == "Progressing";
    assert!(cluster.settle_until(before).await);
    cluster.react();
    cluster
}

/// A cluster whose new version has 30 % of the traffic.
async fn with_a_third_of_the_traffic() -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster
}

/// The Canary goes, with its records, and its primary stays without an owner.
fn leave_the_primary(cluster: &Cluster) {
    cluster.edit(CANARIES, NAME, |canary| canary["metadata"]["finalizers"] = Value::Null);
    cluster.delete_canary();
    cluster.edit(DEPLOYMENTS, "web-primary", |primary| primary["metadata"]["ownerReferences"] = Value::Null);
    cluster.server.collect_garbage();
}

/// The Canary is deleted, with what it owns, and another one comes under its name.
async fn come_back(cluster: &mut Cluster) {
    cluster.delete_canary();
    cluster.settle().await;
    cluster.server.collect_garbage();
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
}

/// The target is deleted and made again as it was; what it owns is still to be collected.
fn make_target_anew(cluster: &Cluster) {
    let mut target = cluster.get(DEPLOYMENTS, NAME);
    target["metadata"] = serde_json::json!({"name": NAME, "namespace": NAMESPACE});
    cluster.server.delete(DEPLOYMENTS, NAMESPACE, NAME).unwrap();
    cluster.put(DEPLOYMENTS, target);
}

/// A pass that wrote nothing forgot the write of the pass before it, and the next one acted on what the watch still showed.
#[tokio::test(start_paused = true)]
async fn s4_a_retreat_does_not_believe_a_watch_that_is_behind() {
    let mut cluster = before_the_first_traffic().await;
    cluster.operator.refresh(&cluster.server);
    // From now on the watch of routes shows nothing new.
    let canary = |cluster: &Cluster| cluster.get(CANARIES, NAME);
    cluster.operator.pass(canary(&cluster)).await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 90, web-canary 10");
    cluster.operator.pass(canary(&cluster)).await.unwrap();
    cluster.prometheus.says(Says::Value(50.0));
    cluster.wait(10).await;
    cluster.operator.pass(canary(&cluster)).await.unwrap();
    assert_eq!((cluster.phase().as_str(), cluster.backends().as_str()), ("Failed", "web-primary 100, web-canary 0"));
}

/// The answer to a raise was lost, so only a watch that was behind said what the route was, and the retreat wrote nothing.
#[tokio::test(start_paused = true)]
async fn s4_a_retreat_does_not_believe_a_watch_after_an_answer_was_lost() {
    for heard_of_a_conflict in [true, false] {
        let mut cluster = Cluster::at_rest().await;
        cluster.deploy("web:2");
        let before = |cluster: &Cluster| {
            cluster.backends() == "web-primary 100, web-canary 0" && cluster.phase() == "Progressing"
        };
        assert!(cluster.settle_until(before).await);
        cluster.react();
        cluster.operator.refresh(&cluster.server);
        // From now on the watch of routes shows nothing new.
        let canary = |cluster: &Cluster| cluster.get(CANARIES, NAME);
        cluster.server.set_faults(|request| match (request.resource.as_str(), request.verb) {
            ("httproutes", Verb::Patch) => Fault::DropAfter,
            _ => Fault::Pass,
        });
        cluster.operator.pass(canary(&cluster)).await.unwrap_err();
        cluster.server.clear_faults();
        assert_eq!(cluster.backends(), "web-primary 90, web-canary 10");
        if heard_of_a_conflict {
            cluster.operator.pass(canary(&cluster)).await.unwrap();
        }
        cluster.prometheus.says(Says::Value(50.0));
        cluster.wait(10).await;
        cluster.operator.pass(canary(&cluster)).await.unwrap();
        assert_eq!(
            (cluster.phase().as_str(), cluster.backends().as_str()),
            ("Failed", "web-primary 100, web-canary 0")
        );
    }
}

/// The pass that tried the retreat again made the record first, and got no further.
#[tokio::test(start_paused = true)]
async fn s4_a_retreat_that_is_tried_again_needs_no_record_either() {
    let mut cluster = with_a_third_of_the_traffic().await;
    let mut lost = false;
    cluster.server.set_faults(move |request| match (request.resource.as_str(), request.verb) {
        ("httproutes", Verb::Patch) if !std::mem::replace(&mut lost, true) => Fault::DropBefore,
        ("controllerrevisions", _) => Fault::Fail(403, "Forbidden"),
        _ => Fault::Pass,
    });
    cluster.deploy("web:3");
    for _ in 0..2 {
        cluster.pass().await.unwrap_err();
    }
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

/// Seeds 285 and 308: the pass that tried the retreat again asked first whether its record was the newest, and nobody answered.
#[tokio::test(start_paused = true)]
async fn s4_a_retreat_that_is_tried_again_needs_no_answer_about_its_record() {
    let mut cluster = with_a_third_of_the_traffic().await;
    let mut refused = false;
    cluster.server.set_faults(move |request| match (request.resource.as_str(), request.verb) {
        ("httproutes", Verb::Patch) if !std::mem::replace(&mut refused, true) => Fault::Fail(500, "InternalError"),
        ("canaries", Verb::Get) => Fault::Fail(500, "InternalError"),
        _ => Fault::Pass,
    });
    cluster.prometheus.says(Says::Value(50.0));
    cluster.wait(10).await;
    cluster.pass().await.unwrap_err();
    assert_eq!((cluster.phase().as_str(), cluster.backends().as_str()), ("Failed", "web-primary 70, web-canary 30"));
    let _ = cluster.pass().await;
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

/// Seed 10005113: the pass whose retreat had failed put the next version on record before it was tried again.
#[tokio::test(start_paused = true)]
async fn s4_a_retreat_that_failed_is_tried_again_before_anything_else_is_written() {
    let mut cluster = with_a_third_of_the_traffic().await;
    let mut lost = false;
    cluster.server.set_faults(move |request| match (request.resource.as_str(), request.verb) {
        ("httproutes", Verb::Patch) if !std::mem::replace(&mut lost, true) => Fault::DropBefore,
        _ => Fault::Pass,
    });
    let records = |cluster: &Cluster| cluster.server.list(CONTROLLER_REVISIONS, None).len();
    let before = records(&cluster);
    cluster.deploy("web:3");
    cluster.pass().await.unwrap_err();
    assert_eq!((cluster.backends().as_str(), records(&cluster)), ("web-primary 70, web-canary 30", before));
    cluster.pass().await.unwrap();
    assert_eq!((cluster.backends().as_str(), records(&cluster)), ("web-primary 100, web-canary 0", before + 1));
}

/// Seed 500008741: a check was due, and then a lower weight was written with which its interval began anew: what Prometheus said was
/// not heard, though it was bad.
#[tokio::test(start_paused = true)]
async fn s4_nothing_is_asked_whose_answer_would_not_be_heard() {
    let mut cluster = with_a_third_of_the_traffic().await;
    cluster.server.set_faults(|request| match (request.resource.as_str(), request.verb) {
        ("httproutes", Verb::Patch) => Fault::Fail(500, "InternalError"),
        _ => Fault::Pass,
    });
    cluster.edit(CANARIES, NAME, |canary| canary["spec"]["analysis"]["stepWeights"] = serde_json::json!([10, 20]));
    cluster.pass().await.unwrap_err();
    assert_eq!(
        (cluster.status()["canaryWeight"].clone(), cluster.backends().as_str()),
        (20.into(), "web-primary 70, web-canary 30")
    );
    cluster.server.set_faults(|_| Fault::Pass);
    cluster.restart();
    cluster.wait(10).await;
    cluster.prometheus.says(Says::Value(50.0));
    cluster.prometheus.asked();
    cluster.pass().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 80, web-canary 20");
    assert!(cluster.prometheus.asked().is_empty());
    cluster.wait(10).await;
    cluster.pass().await.unwrap();
    assert_eq!((cluster.phase().as_str(), cluster.backends().as_str()), ("Failed", "web-primary 100, web-canary 0"));
}

/// A record that does not change is written by nobody, so no conflict told an instance with an old one.
#[tokio::test(start_paused = true)]
async fn s7_an_instance_with_an_old_record_undoes_nothing() {
    let mut cluster = Cluster::at_rest().await;
    let mut other = Operator::with(
        &cluster.server,
        settings(&cluster.prometheus.address),
        cluster.clock,
        cluster.leadership.clone(),
    );
    cluster.deploy(STUCK);
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    for _ in 0..2 {
        cluster.pass().await.unwrap();
    }
    assert_eq!(cluster.backends(), "web-primary 40, web-canary 60");
    // This is what the other one's watch of Canaries shows from now on.
    let old = cluster.get(CANARIES, NAME);
    cluster.deploy("web:3");
    cluster.pass().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    cluster.deploy(STUCK);
    cluster.react();
    cluster.forget();
    other.refresh(&cluster.server);
    let error = other.pass(old.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert_eq!(cluster.server.writes(), [], "the old record says that nothing is to be recorded");
    // Seed 1000485: it asked that again and again, until its watch showed the new record.
    other.pass(old).await.unwrap();
}

/// A new Canary has no status, so what was decided on its predecessor was recorded in it.
#[tokio::test(start_paused = true)]
async fn s7_what_is_recorded_of_a_canary_is_not_recorded_of_its_successor() {
    let mut cluster = Cluster::at_rest().await;
    let old = cluster.get(CANARIES, NAME);
    cluster.edit(CANARIES, NAME, |canary| canary["metadata"]["finalizers"] = Value::Null);
    cluster.delete_canary();
    cluster.put(CANARIES, app::canary());
    cluster.deploy("web:2");
    cluster.react();
    cluster.operator.refresh(&cluster.server);
    let error = cluster.operator.pass(old).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert_eq!(cluster.status(), Value::Null);
}

/// A conflict with a quota has the same code as "it is there already".
#[tokio::test(start_paused = true)]
async fn s3_a_conflict_with_something_else_is_no_record() {
    for kind in [CONTROLLER_REVISIONS, CONFIG_MAPS] {
        let mut cluster = configs::with_configs().await;
        cluster.put(CANARIES, app::canary());
        cluster.server.set_faults(move |request| match request.verb {
            Verb::Create if request.resource == kind.plural => Fault::Fail(409, "Conflict"),
            _ => Fault::Pass,
        });
        let error = cluster.pass().await.unwrap_err();
        assert!(error.is_conflict(), "{error}");
        assert_eq!(cluster.status(), Value::Null, "{kind:?}: what is not on record cannot be recorded as what serves");
        cluster.server.clear_faults();
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Initialized");
    }
}

/// Seeds 11177 and 11894: the process stood still while the target changed, and was told of the new pods what it had asked
/// of those before, which it promoted.
#[tokio::test(start_paused = true)]
async fn s3_what_is_said_of_other_pods_promotes_nothing() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 60).await);
    cluster.react();
    cluster.operator.refresh(&cluster.server);
    // From now on the watches show nothing new.
    let canary = cluster.get(CANARIES, NAME);
    cluster.deploy("web:3");
    cluster.react();
    cluster.wait(10).await;
    let error = cluster.operator.pass(canary.clone()).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert_eq!(
        (cluster.phase().as_str(), cluster.backends().as_str()),
        ("Progressing", "web-primary 40, web-canary 60")
    );
    cluster.operator.pass(canary).await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0", "what was read is remembered");
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), cluster.image("web-primary").as_str()), ("Succeeded", "web:3"));
}

/// The same with a target that is gone: nobody knows what was asked about.
#[tokio::test(start_paused = true)]
async fn s3_nothing_is_promoted_of_a_target_that_is_gone() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 60).await);
    cluster.react();
    cluster.operator.refresh(&cluster.server);
    let canary = cluster.get(CANARIES, NAME);
    cluster.server.delete(DEPLOYMENTS, NAMESPACE, NAME).unwrap();
    cluster.wait(10).await;
    let error = cluster.operator.pass(canary).await.unwrap_err();
    assert!(matches!(error, Error::Lag(_)), "{error}");
    assert_eq!(cluster.phase(), "Progressing");
}

/// Seed 12375: a primary that was left behind, and edited, was put on record under the name of what it once was given.
#[tokio::test(start_paused = true)]
async fn s3_a_primary_that_was_edited_is_not_what_it_was_given() {
    let mut cluster = Cluster::at_rest().await;
    let promoted = |cluster: &Cluster| cluster.status()["promoted"]["revision"].clone();
    let given = promoted(&cluster);
    leave_the_primary(&cluster);
    cluster.edit(DEPLOYMENTS, "web-primary", |primary| {
        primary["spec"]["template"]["spec"]["containers"][0]["image"] = "web:evil".into();
    });
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    let records = cluster.server.list(CONTROLLER_REVISIONS, None);
    let image_of = |revision: &Value| {
        let name = format!("{NAME}-{}", revision.as_str().unwrap_or_default());
        let record = records.iter().find(|record| record["metadata"]["name"] == name.as_str());
        record.map(|record| record["data"]["template"]["spec"]["containers"][0]["image"].clone())
    };
    assert_eq!(image_of(&given), Some("web:1".into()), "the target, which is analysed");
    assert_eq!((cluster.phase().as_str(), promoted(&cluster)), ("Succeeded", given));
    let all: Vec<_> =
        records.iter().map(|record| record["data"]["template"]["spec"]["containers"][0]["image"].clone()).collect();
    assert!(all.contains(&"web:evil".into()), "it served, by a name of its own: {all:?}");
}

/// Seed 10007841: a primary that somebody had edited while it was given a version became ready with something else, and the
/// promotion was over.
#[tokio::test(start_paused = true)]
async fn s3_a_primary_that_is_edited_during_its_promotion_does_not_run_the_version() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    cluster.edit(DEPLOYMENTS, "web-primary", |primary| {
        primary["spec"]["template"]["spec"]["containers"][0]["image"] = "web:evil".into();
    });
    cluster.react();
    cluster.pass().await.unwrap();
    assert_eq!((cluster.phase().as_str(), cluster.image("web-primary").as_str()), ("Promoting", "web:2"));
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), cluster.image("web-primary").as_str()), ("Succeeded", "web:2"));
}

/// Seed 40027933: a primary that was left behind was gone, with its configs, and the watch did not show it: its version was
/// put on record, could not run, and was what every other version went back to.
#[tokio::test(start_paused = true)]
async fn s3_a_primary_that_is_gone_is_not_taken_over() {
    let mut cluster = Cluster::at_rest().await;
    leave_the_primary(&cluster);
    cluster.put(CANARIES, app::canary());
    cluster.operator.refresh(&cluster.server);
    cluster.server.delete(DEPLOYMENTS, NAMESPACE, "web-primary").unwrap();
    let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Lag(_)), "{error}");
    assert_eq!(cluster.status(), Value::Null);
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), cluster.image("web-primary").as_str()), ("Initialized", "web:1"));
}

/// Seed 800037400: a primary that had been left to a target that was gone was taken over just before it was collected, with its
/// configs, and made again without them.
#[tokio::test(start_paused = true)]
async fn s3_a_primary_that_was_left_and_is_gone_is_not_made_again() {
    let mut cluster = configs::at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.deploy("web:2");
    cluster.settle().await;
    cluster.delete_canary();
    cluster.settle().await;
    make_target_anew(&cluster);
    cluster.put(CANARIES, app::canary());
    cluster.server.set_faults(|request| match (request.resource.as_str(), request.verb) {
        ("services", Verb::Patch) => Fault::DropBefore,
        _ => Fault::Pass,
    });
    cluster.pass().await.unwrap_err();
    cluster.server.clear_faults();
    assert_eq!((cluster.phase().as_str(), cluster.image("web-primary").as_str()), ("Initializing", "web:1"));
    cluster.server.collect_garbage();
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), cluster.image("web-primary").as_str()), ("Initialized", "web:2"));
}

/// An instance that does not see a primary which another one has taken over must not give its app another version.
#[tokio::test(start_paused = true)]
async fn s3_a_primary_that_was_taken_over_is_not_given_up_because_a_watch_does_not_show_it() {
    let mut cluster = Cluster::at_rest().await;
    leave_the_primary(&cluster);
    cluster.deploy("web:2");
    let mut primary = cluster.get(DEPLOYMENTS, "web-primary");
    primary["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    cluster.server.delete(DEPLOYMENTS, NAMESPACE, "web-primary").unwrap();
    let behind = behind(&cluster);
    cluster.put(DEPLOYMENTS, primary);
    cluster.put(CANARIES, app::canary());
    cluster.server.set_faults(|request| match (request.resource.as_str(), request.verb) {
        ("deployments", Verb::Patch) => Fault::DropBefore,
        _ => Fault::Pass,
    });
    cluster.pass().await.unwrap_err();
    cluster.server.clear_faults();
    let recorded = cluster.status();
    assert_eq!(recorded["phase"], "Initializing");
    let error = behind.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert_eq!(cluster.status(), recorded);
}

/// Seed 50012325: the copies of a primary that stayed were given to a target that was gone, and went with it.
#[tokio::test(start_paused = true)]
async fn s3_nothing_is_given_to_a_target_that_is_gone() {
    let mut cluster = configs::at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    cluster.operator.refresh(&cluster.server);
    make_target_anew(&cluster);
    cluster.delete_canary();
    let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    cluster.settle().await;
    cluster.server.collect_garbage();
    assert_eq!(cluster.find(CANARIES, NAME), None);
    let maps = cluster.server.list(CONFIG_MAPS, None);
    let is_copy = |map: &&Value| map["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("settings-"));
    assert_eq!(maps.iter().filter(is_copy).count(), 1, "the primary goes on with it");
}

/// Seed 100009200: an instance that still saw the record of a deleted Canary of the same name gave the primary the copies that the
/// record names, which were gone.
#[tokio::test(start_paused = true)]
async fn s3_nothing_is_made_of_a_record_that_a_deleted_canary_left() {
    let mut cluster = configs::at_rest().await;
    let behind = behind(&cluster);
    come_back(&mut cluster).await;
    assert_eq!(cluster.phase(), "Initialized");
    let template = |cluster: &Cluster| cluster.get(DEPLOYMENTS, "web-primary")["spec"]["template"].clone();
    let given = template(&cluster);
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Progressing").await);
    for kind in [DEPLOYMENTS, SERVICES] {
        cluster.server.list(kind, None).into_iter().for_each(behind.watch(kind));
    }
    behind.pass(cluster.get(CANARIES, NAME)).await.unwrap();
    assert_eq!(template(&cluster), given);
}

/// Seed 100006477: an instance that saw neither the record of what was promoted nor the primary made of it deleted the copies that
/// both use, because no other version did.
#[tokio::test(start_paused = true)]
async fn s3_no_copy_is_deleted_while_a_record_in_use_is_not_shown() {
    let mut cluster = configs::at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    let behind = behind(&cluster);
    cluster.prometheus.says(Says::Value(100.0));
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    behind.watch(DEPLOYMENTS)(cluster.get(DEPLOYMENTS, NAME));
    behind.pass(cluster.get(CANARIES, NAME)).await.unwrap();
    let copies = cluster.server.list(CONFIG_MAPS, None);
    let is_in_use = |copy: &Value| copy["data"]["color"] == "green" && copy["metadata"]["name"] != "settings";
    assert!(copies.iter().any(is_in_use), "{copies:#?}");
}

/// Seed 300004888: a primary that was left to its target, with its copies, was taken over by the next Canary without them; they went
/// with the target when that was made anew.
#[tokio::test(start_paused = true)]
async fn s3_who_takes_a_primary_over_takes_its_copies_too() {
    let mut cluster = configs::at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.deploy("web:2");
    cluster.settle().await;
    come_back(&mut cluster).await;
    assert_eq!((cluster.phase().as_str(), cluster.image("web-primary").as_str()), ("Failed", "web:1"));
    make_target_anew(&cluster);
    cluster.server.collect_garbage();
    let template = cluster.get(DEPLOYMENTS, "web-primary")["spec"]["template"].to_string();
    let maps = cluster.server.list(CONFIG_MAPS, None);
    let is_used = |map: &Value| {
        let name = map["metadata"]["name"].as_str().filter(|name| *name != "settings");
        name.is_some_and(|name| template.contains(name))
    };
    assert!(maps.iter().any(is_used), "{template}");
}

/// Seed 500007421: a Service and a route that Serin had made were left to the target with the primary, and went with it when it was
/// made anew, though another Canary had the app by then.
#[tokio::test(start_paused = true)]
async fn s2_what_traffic_goes_through_does_not_go_with_a_target() {
    let mut cluster = Cluster::with_app().await;
    cluster.server.delete(SERVICES, NAMESPACE, NAME).unwrap();
    cluster.server.delete(HTTP_ROUTES, NAMESPACE, NAME).unwrap();
    for revert in [true, false] {
        let mut canary = app::canary();
        canary["spec"]["revertOnDeletion"] = revert.into();
        canary["spec"]["service"]["gatewayRefs"] = serde_json::json!([{"name": "public", "namespace": "gateways"}]);
        cluster.put(CANARIES, canary);
        cluster.settle().await;
        cluster.prometheus.says(Says::Value(0.0));
        cluster.deploy(if revert { "web:2" } else { "web:3" });
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Failed");
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None);
        cluster.server.collect_garbage();
        for kind in [SERVICES, HTTP_ROUTES] {
            let object = cluster.get(kind, NAME);
            assert_eq!(
                object["metadata"].get("ownerReferences").filter(|owners| **owners != serde_json::json!([])),
                None
            );
        }
        assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    }
}

/// Seed 1001311: beside a primary that was left behind, the target's pods had begun with other configs than those on record,
/// and nobody knew.
#[tokio::test(start_paused = true)]
async fn s3_pods_beside_a_primary_that_was_left_are_started_anew() {
    let mut cluster = configs::with_configs().await;
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    leave_the_primary(&cluster);
    cluster.edit(DEPLOYMENTS, NAME, |target| target["spec"]["replicas"] = 3.into());
    cluster.put(CANARIES, app::canary());
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Progressing").await);
    assert_eq!(cluster.status()["canaryPods"], "Stale");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
}

/// Seeds 1002039 and 1002708: pods that somebody else had started with the configs of before were analysed as if they had
/// those on record, because the watch did not show these pods yet.
#[tokio::test(start_paused = true)]
async fn s3_no_pods_are_taken_for_new_that_a_watch_does_not_show_yet() {
    let mut cluster = configs::at_rest().await;
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    cluster.operator.refresh(&cluster.server);
    cluster.edit(DEPLOYMENTS, NAME, |target| target["spec"]["replicas"] = 3.into());
    cluster.react();
    let canary = cluster.get(CANARIES, NAME);
    let error = cluster.operator.pass(canary).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert_eq!(cluster.phase(), "Initialized");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Progressing").await);
    assert_eq!(cluster.status()["canaryPods"], "Stale");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
}

/// Seed 40007946: the watch of ConfigMaps was behind, so the version was put on record with the content of before, and analysed
/// with that of now.
#[tokio::test(start_paused = true)]
async fn s3_no_version_is_started_by_a_config_that_is_another_one_now() {
    let mut cluster = configs::at_rest().await;
    cluster.deploy("web:2");
    cluster.react();
    cluster.operator.refresh(&cluster.server);
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert_eq!(cluster.phase(), "Initialized");
    cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap();
    assert_eq!(cluster.phase(), "Progressing", "what was read is remembered");
    let copies = cluster.server.list(CONFIG_MAPS, None);
    let is_green = |copy: &&Value| copy["data"]["color"] == "green" && copy["metadata"]["name"] != "settings";
    assert_eq!(copies.iter().filter(is_green).count(), 1);
}

/// Another instance, whose watches show what there is now and nothing that comes after.
fn behind(cluster: &Cluster) -> Operator {
    let own = settings(&cluster.prometheus.address);
    let mut behind = Operator::with(&cluster.server, own, cluster.clock, cluster.leadership.clone());
    behind.refresh(&cluster.server);
    behind
}

/// Seed 600078536: a ConfigMap changed between the look at it and the start of the pods, and its watch was cut: the version was
/// promoted with the content of before, and had been analysed with that of now.
#[tokio::test(start_paused = true)]
async fn s3_nothing_is_promoted_whose_configs_changed_as_its_pods_were_started() {
    let mut cluster = configs::at_rest().await;
    cluster.operator.refresh(&cluster.server);
    cluster.deploy("web:2");
    let (server, mut changed) = (cluster.server.clone(), false);
    cluster.server.set_faults(move |request| {
        let starts = request.verb == Verb::Patch && request.name.as_deref() == Some(NAME);
        if starts && request.resource == DEPLOYMENTS.plural && !std::mem::replace(&mut changed, true) {
            let edit = |settings: &mut Value| settings["data"]["color"] = "green".into();
            server.update(CONFIG_MAPS, NAMESPACE, "settings", edit).expect("the user edits it");
        }
        Fault::Pass
    });
    let mut refused = false;
    for _ in 0..30 {
        cluster.react();
        for kind in [DEPLOYMENTS, SERVICES, HTTP_ROUTES, CONTROLLER_REVISIONS] {
            cluster.server.list(kind, None).into_iter().for_each(cluster.operator.watch(kind));
        }
        let outcome = cluster.operator.pass(cluster.get(CANARIES, NAME)).await;
        assert_ne!(cluster.phase(), "Promoting");
        refused |= matches!(outcome, Err(Error::Supersede(_)));
        if refused {
            break;
        }
        cluster.wait(5).await;
    }
    assert!(refused, "{}", cluster.status());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    let copies = cluster.server.list(CONFIG_MAPS, None);
    let is_green = |copy: &&Value| copy["data"]["color"] == "green" && copy["metadata"]["name"] != "settings";
    assert_eq!(copies.iter().filter(is_green).count(), 1);
}

/// A cluster whose version has 10 % of the traffic, and an instance whose watches of everything but Canaries are behind: they
/// show the route as it was before.
async fn with_one_that_is_behind() -> (Cluster, Operator) {
    let mut cluster = before_the_first_traffic().await;
    let behind = behind(&cluster);
    cluster.operator.refresh(&cluster.server);
    cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 90, web-canary 10");
    cluster.prometheus.says(Says::Value(50.0));
    cluster.wait(10).await;
    (cluster, behind)
}

/// Seed 100016415: an instance that stood still since before the app was adopted saw no primary, and led the app back to its
/// target, which had no pods.
#[tokio::test(start_paused = true)]
async fn s2_no_app_is_led_back_because_a_watch_shows_no_primary_yet() {
    let mut cluster = Cluster::with_app().await;
    let behind = behind(&cluster);
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    for _ in 0..4 {
        // Whatever comes of it.
        let _ = behind.pass(cluster.get(CANARIES, NAME)).await;
    }
    assert_eq!(cluster.phase(), "Initialized");
    assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"]["app"], "web-primary");
}

/// A cluster whose version has failed, and whose Canary is being deleted, at a moment at which the app's Service and route have just
/// been put back; no watch shows that yet.
async fn that_is_put_back_while_it_goes() -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    cluster.operator.refresh(&cluster.server);
    cluster.delete_canary();
    cluster.edit(SERVICES, NAME, |service| service["spec"]["selector"]["app"] = "web".into());
    cluster.edit(HTTP_ROUTES, NAME, |route| {
        route["spec"]["rules"][0]["backendRefs"] = serde_json::json!([{"name": "web", "port": 80}]);
    });
    cluster
}

async fn is_let_go_to_the_primary(cluster: &mut Cluster) {
    cluster.settle().await;
    assert_eq!(cluster.find(CANARIES, NAME), None);
    assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"]["app"], "web-primary");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

/// Seed 100018861: somebody put the app's Service and route back, which no watch showed in time; the Canary was let go, and all traffic
/// stayed on a version that had failed.
#[tokio::test(start_paused = true)]
async fn s3_no_app_is_let_go_by_routes_that_are_others_now() {
    let mut cluster = that_is_put_back_while_it_goes().await;
    let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    is_let_go_to_the_primary(&mut cluster).await;
}

/// Seed 300005142: the same, when the watch shows it after the pass has looked, and before it lets the Canary go.
#[tokio::test(start_paused = true)]
async fn s3_no_app_is_let_go_by_routes_that_came_after_the_look() {
    let mut cluster = that_is_put_back_while_it_goes().await;
    let shows = [SERVICES, HTTP_ROUTES].map(|kind| (cluster.operator.watch(kind), cluster.get(kind, NAME)));
    cluster.server.set_faults(move |request| {
        if request.verb == Verb::Get && request.resource == DEPLOYMENTS.plural {
            for (show, object) in &shows {
                show(object.clone());
            }
        }
        Fault::Pass
    });
    let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    is_let_go_to_the_primary(&mut cluster).await;
}

/// Seeds 900024179 and 1110004729: an app was to be given back to nobody, because its target was deleted, and was led to the next one
/// before that had any pods.
#[tokio::test(start_paused = true)]
async fn s2_an_app_is_not_led_to_a_target_that_was_made_anew_before_it_has_pods() {
    for crashes in [true, false] {
        let mut cluster = Cluster::at_rest().await;
        cluster.delete_canary();
        cluster.pass().await.unwrap();
        cluster.operator.refresh(&cluster.server);
        let mut target = cluster.get(DEPLOYMENTS, NAME);
        target["metadata"] = serde_json::json!({"name": NAME, "namespace": NAMESPACE});
        cluster.server.delete(DEPLOYMENTS, NAMESPACE, NAME).unwrap();
        if crashes {
            cluster.server.set_faults(|request| match (request.resource.as_str(), request.verb) {
                ("httproutes" | "canaries", Verb::Patch) => Fault::DropBefore,
                _ => Fault::Pass,
            });
            cluster.pass().await.unwrap_err();
            cluster.server.clear_faults();
            cluster.put(DEPLOYMENTS, target);
        } else {
            // The watch shows that it was deleted, and not yet that it is there again.
            cluster.operator.refresh(&cluster.server);
            cluster.put(DEPLOYMENTS, target);
            let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
            assert!(matches!(error, Error::Supersede(_)), "{error}");
        }
        assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
        // Its pods are still to come.
        cluster.pass_over_what_is_there().await.unwrap();
        assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
        assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"]["app"], "web-primary");
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None);
        assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"]["app"], "web");
    }
}

/// Seed 600090856: an instance that still saw what a Canary before had owned took the app for another's, and let the Canary go, with
/// its primary, and without handing anything back.
#[tokio::test(start_paused = true)]
async fn s2_no_canary_gives_way_by_what_a_watch_shows_of_the_one_before() {
    let mut cluster = Cluster::at_rest().await;
    let behind = behind(&cluster);
    come_back(&mut cluster).await;
    assert_eq!(cluster.phase(), "Initialized");
    cluster.delete_canary();
    let error = behind.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    cluster.settle().await;
    assert_eq!(cluster.find(CANARIES, NAME), None);
    assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"]["app"], "web");
    assert_eq!(cluster.get(DEPLOYMENTS, NAME)["spec"]["replicas"], 3);
}

/// Seed 2809: after another instance's raise, one whose watch of routes was behind recorded a retreat and wrote nothing.
#[tokio::test(start_paused = true)]
async fn s4_a_retreat_from_another_leaders_weight_does_not_believe_a_watch() {
    let (cluster, behind) = with_one_that_is_behind().await;
    behind.pass(cluster.get(CANARIES, NAME)).await.unwrap();
    assert_eq!((cluster.phase().as_str(), cluster.backends().as_str()), ("Failed", "web-primary 100, web-canary 0"));
}

/// Seeds 2809 and 1000592: the drain delay counted from a moment at which the gateway had not taken the traffic away yet.
#[tokio::test(start_paused = true)]
async fn s2_no_drain_begins_by_a_route_that_is_another_one_now() {
    let (mut cluster, behind) = with_one_that_is_behind().await;
    cluster.operator.refresh(&cluster.server);
    cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap();
    assert_eq!((cluster.phase().as_str(), cluster.backends().as_str()), ("Failed", "web-primary 100, web-canary 0"));
    let error = behind.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert_eq!(cluster.status()["canaryPods"], "Up", "the gateway has not said yet that it does what the route says");
    behind.pass(cluster.get(CANARIES, NAME)).await.unwrap();
    assert_eq!(cluster.status()["canaryPods"], "Up", "what was read is remembered");
}

/// Seed 20014132: the same, after the instance that was behind had written the route itself before another one did.
#[tokio::test(start_paused = true)]
async fn s2_no_drain_begins_by_a_route_that_another_leader_has_written_since() {
    let mut cluster = before_the_first_traffic().await;
    cluster.operator.refresh(&cluster.server);
    let own = settings(&cluster.prometheus.address);
    let mut other = Operator::with(&cluster.server, own, cluster.clock, cluster.leadership.clone());
    for (answer, backends) in [(100.0, "web-primary 90, web-canary 10"), (50.0, "web-primary 100, web-canary 0")] {
        cluster.prometheus.says(Says::Value(answer));
        other.refresh(&cluster.server);
        other.pass(cluster.get(CANARIES, NAME)).await.unwrap();
        assert_eq!(cluster.backends(), backends);
        cluster.wait(10).await;
    }
    let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert_eq!(cluster.status()["canaryPods"], "Up", "the gateway has not said yet that it does what the route says");
}

/// Seed 400010501: an instance whose watch of Canaries was behind tried the same record again every 50 ms, though it had read each
/// time that there was a newer one.
#[tokio::test(start_paused = true)]
async fn s7_a_newer_record_that_was_read_after_a_conflict_is_remembered() {
    let mut cluster = with_a_third_of_the_traffic().await;
    let (behind, old) = (behind(&cluster), cluster.get(CANARIES, NAME));
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 40).await);
    cluster.forget();
    for _ in 0..3 {
        // Whatever comes of it.
        let _ = behind.pass(old.clone()).await;
    }
    let is_refused = |request: &&serin_testing::Request| request.verb == Verb::Update && request.status == Some(409);
    assert_eq!(cluster.server.requests().iter().filter(is_refused).count(), 1);
}

/// At the moment at which this object is read, another leader records something newer, and then writes the object.
fn meets_another_leader(cluster: &Cluster, kind: GroupVersionResource, name: &'static str, write: fn(&mut Value)) {
    let server = cluster.server.clone();
    let mut met = false;
    cluster.server.set_faults(move |request| {
        let reads = request.verb == Verb::Get && request.resource == kind.plural;
        if reads && request.name.as_deref() == Some(name) && !std::mem::replace(&mut met, true) {
            let record = |canary: &mut Value| canary["status"]["failedChecks"] = 1.into();
            server.update(CANARIES, NAMESPACE, NAME, record).expect("the other leader records");
            server.update(kind, NAMESPACE, name, write).expect("the other leader writes");
        }
        Fault::Pass
    });
}

/// Seed 2114: after a conflict it was asked whether the record is the newest, and then the object was read: what another
/// leader had recorded and written in between was undone.
#[tokio::test(start_paused = true)]
async fn s7_after_a_conflict_an_object_is_read_before_the_record() {
    let mut cluster = before_the_first_traffic().await;
    let annotate = |route: &mut Value| route["metadata"]["annotations"]["by"] = "somebody".into();
    cluster.operator.refresh(&cluster.server);
    cluster.edit(HTTP_ROUTES, NAME, annotate);
    meets_another_leader(&cluster, HTTP_ROUTES, NAME, annotate);
    let error = cluster.operator.pass(cluster.get(CANARIES, NAME)).await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0", "no traffic by a record that is old");
}

/// The same with an object of which nobody knew whether it was written, in a pass that had asked about its record before.
#[tokio::test(start_paused = true)]
async fn s7_an_object_in_doubt_is_read_before_the_record() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    cluster.server.set_faults(|request| match (request.verb, request.name.as_deref()) {
        (Verb::Patch, Some("web-primary")) => Fault::DropBefore,
        _ => Fault::Pass,
    });
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    cluster.server.delete(SERVICES, NAMESPACE, "web-canary").unwrap();
    meets_another_leader(&cluster, DEPLOYMENTS, "web-primary", |primary| primary["spec"]["paused"] = true.into());
    let error = cluster.pass().await.unwrap_err();
    assert!(matches!(error, Error::Supersede(_)), "{error}");
    assert!(cluster.find(SERVICES, "web-canary").is_some(), "it was asked about the record before");
    assert_eq!(cluster.image("web-primary"), "web:1", "nothing is promoted by a record that is old");
}

/// Seed 20005088: a Canary that was read after a conflict was taken for the newest, though another leader had recorded and
/// written before the objects were looked at.
#[tokio::test(start_paused = true)]
async fn s7_a_record_that_was_read_before_the_objects_is_not_the_newest() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy(STUCK);
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    let own = settings(&cluster.prometheus.address);
    let mut late = Operator::with(&cluster.server, own, cluster.clock, cluster.leadership.clone());
    let old = cluster.get(CANARIES, NAME);
    cluster.edit(DEPLOYMENTS, "web-primary", |primary| primary["status"]["updatedReplicas"] = 2.into());
    cluster.pass_over_what_is_there().await.unwrap();
    assert_ne!(cluster.get(CANARIES, NAME), old, "the other leader has said something, and decided nothing");
    assert_eq!(cluster.phase(), "Promoting");

    late.refresh(&cluster.server);
    let is_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_asked);
    cluster.server.set_faults(move |request| {
        let reads = request.verb == Verb::Get && request.resource == "canaries";
        if reads && !asked.swap(true, Ordering::Relaxed) {
            Fault::DelayAnswer(Duration::from_secs(1))
        } else {
            Fault::Pass
        }
    });
    let other_leader = async {
        while !is_asked.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        cluster.edit(CANARIES, NAME, |canary| canary["status"]["canaryWeight"] = 0.into());
        cluster.edit(HTTP_ROUTES, NAME, |route| {
            for (backend, weight) in [(0, 100), (1, 0)] {
                route["spec"]["rules"][0]["backendRefs"][backend]["weight"] = weight.into();
            }
        });
        late.show(&cluster.server);
        tokio::time::advance(Duration::from_secs(2)).await;
    };
    let (outcome, ()) = tokio::join!(late.pass(old), other_leader);
    assert!(matches!(outcome, Err(Error::Supersede(_))), "{outcome:?}");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0", "no traffic by a record that is old");
}

/// Seed 20008037: traffic was led to the target's pods while they drained, and away again, and the drain delay was counted from
/// before.
#[tokio::test(start_paused = true)]
async fn s2_a_drain_begins_anew_when_traffic_had_to_be_led_away_again() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryPods"] == "Draining").await);
    cluster.wait(3).await;
    cluster.edit(HTTP_ROUTES, NAME, |route| route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 50.into());
    // The gateway is as quick as the API server's answer, so no pass sees that it has anything to do.
    cluster.server.set_faults(|request| match (request.resource.as_str(), request.verb) {
        ("httproutes", Verb::Patch) => Fault::DelayAnswer(Duration::from_secs(1)),
        _ => Fault::Pass,
    });
    cluster.pass_during(Duration::from_millis(500), |_| {}).await;
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    cluster.wait(4).await;
    cluster.pass().await.unwrap();
    assert!(cluster.replicas(NAME) > 0, "the last request came four seconds ago, and the delay is five");
    cluster.settle().await;
    assert_eq!((cluster.status()["canaryPods"].as_str(), cluster.replicas(NAME)), (Some("Down"), 0));
}
