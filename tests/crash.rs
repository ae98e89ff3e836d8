//! The process dies at any write, before it or after it, or the Lease ends there, and another takes its place: the end is
//! the same (S7).
//!
//! Every object that the API server stores on the way is looked at: weights add up (S1), are in the status before they
//! are in the route (S7), follow the plan step by step (S5), and go only to versions that have pods (S2). And from the
//! moment at which an instance is not sure any more that it leads, it writes nothing.
//!
//! Each scenario of the cluster has its twin here; [`STORIES`] says which, and a test that none is missing.

mod common;

use common::app::{self, NAME, STEPS};
use common::cluster::{BROKEN, Cluster, STUCK, canary_with, template};
use common::configs;
use common::daemon_set;
use common::inbox::{Does, Inbox};
use common::prometheus::Says;
use common::scalers;
use common::service::{lead_to, service_at_rest, service_canary, with_service};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use serin::controller::lease::Leadership;
use serin_testing::{
    AUTOSCALERS, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, ENDPOINTS, Fault,
    GroupVersionResource, HTTP_ROUTES, METRIC_TEMPLATES, Request, SCALED_OBJECTS, SECRETS, SERVICES,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// More writes than any of the scenarios makes.
const MANY: usize = 100;

/// Seconds after which the next process begins when it is not there at once: more than an interval, less than a deadline.
const LONG_ENOUGH: u64 = 25;

/// Passes that an instance makes which is not sure any more: more than it takes to try everything once.
const UNSURE_PASSES: usize = 3;

/// What the user does, and what it has to lead to before anything else happens.
type Act = (fn(&Cluster), Reached);

/// A rollout, or another turn in the life of a Canary.
struct Story {
    name: &'static str,
    /// The scenarios of `e2e/tests` whose twin it is, by the beginning of their names.
    like: &'static [&'static str],
    begin: fn() -> LocalBoxFuture<'static, Cluster>,
    /// What the user does, one after the other: each when the one before has led to what is named, or to rest.
    acts: &'static [Act],
    /// What the writes on the way are held against.
    looks: Looks,
}

/// What an act leads to before the next one.
type Reached = Option<fn(&Cluster) -> bool>;

/// Nothing moves any more.
const REST: Reached = None;

/// Where traffic and pods are to be seen on the way.
#[derive(Clone, Copy)]
enum Looks {
    /// In the first rule of the route, for these steps; the pods where this says.
    At(&'static [i64], Pods),
    /// The end alone: somebody else writes the weights too, or there is no one rule that says all.
    End,
}

/// Where the pods of a version are counted.
#[derive(Clone, Copy)]
enum Pods {
    Deployments,
    DaemonSets,
    Endpoints,
}

const BY_WEIGHT: Looks = Looks::At(&STEPS, Pods::Deployments);
const AT_ONCE: Looks = Looks::At(&[0, 100], Pods::Deployments);

/// When the process dies, or is not sure any more that it leads.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Never,
    Before(usize),
    After(usize),
    Unsure(usize),
}

/// Every story, by what it is about.
const STORIES: &[(&str, &[Story])] = &[
    ("initialising", INITIALISING),
    ("good", GOOD),
    ("bad", BAD),
    ("newer", NEWER),
    ("edits", EDITS),
    ("deletion", DELETION),
    ("strategies", STRATEGIES),
    ("daemon_sets", OF_DAEMON_SETS),
    ("configs", CONFIGS),
    ("autoscalers", OF_AUTOSCALERS),
    ("services", OF_SERVICES),
    ("webhooks", WEBHOOKS),
    ("orders", ORDERS),
];

const INITIALISING: &[Story] = &[
    Story {
        name: "initialise",
        like: &["e01"],
        begin: || Cluster::with_app().boxed_local(),
        acts: &[(apply, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "initialise from nothing",
        like: &[],
        begin: || bare().boxed_local(),
        acts: &[(apply, REST)],
        looks: BY_WEIGHT,
    },
];

const GOOD: &[Story] = &[
    Story {
        name: "good",
        like: &["e02", "s11"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "templates",
        like: &["s11", "s12"],
        begin: || with_template().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_30)), (errors, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "own steps, and back in steps",
        like: &["s18_s31"],
        begin: || at_rest(json!({"stepWeightPromotion": 25}), vec![]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: Looks::End,
    },
    Story {
        name: "without an analysis",
        like: &["s07_s08"],
        begin: || skipping().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST), (|cluster| cluster.deploy(BROKEN), REST)],
        looks: AT_ONCE,
    },
    Story {
        name: "suspended",
        like: &[],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[
            (|cluster| cluster.deploy("web:2"), Some(at_30)),
            (|cluster| suspend(cluster, true), REST),
            (|cluster| suspend(cluster, false), REST),
        ],
        looks: BY_WEIGHT,
    },
];

const BAD: &[Story] = &[
    Story {
        name: "bad",
        like: &["e03", "e04", "s12"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_10)), (errors, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "bad at once",
        like: &["e03"],
        begin: || failing().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "never ready",
        like: &["e11"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy(BROKEN), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "a primary that cannot run it",
        like: &[],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy(STUCK), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "without Prometheus",
        like: &["e09"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[
            (|cluster| cluster.deploy("web:2"), Some(at_30)),
            (|cluster| cluster.prometheus.says(Says::Broken), REST),
        ],
        looks: BY_WEIGHT,
    },
    Story {
        name: "no samples for a while",
        like: &["e09", "e10"],
        begin: || at_rest(json!({"onInconclusive": "Hold"}), vec![]).boxed_local(),
        acts: &[
            (silence, REST),
            (|cluster| cluster.deploy("web:2"), Some(inconclusive)),
            (|cluster| cluster.prometheus.says(Says::Value(100.0)), REST),
        ],
        looks: BY_WEIGHT,
    },
    Story {
        name: "fails twice, and is mended",
        like: &["s21_to_s24"],
        begin: || failing().boxed_local(),
        acts: &[
            (|cluster| cluster.deploy("web:2"), REST),
            (|cluster| order(cluster, "retry"), Some(analysed_again)),
            (|cluster| cluster.prometheus.says(Says::Value(100.0)), REST),
        ],
        looks: BY_WEIGHT,
    },
];

const NEWER: &[Story] = &[
    Story {
        name: "superseded",
        like: &["e05"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_30)), (|cluster| cluster.deploy("web:3"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "set back",
        like: &["e06"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_30)), (|cluster| cluster.deploy("web:1"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "superseded while it is promoted",
        like: &[],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(promoting)), (|cluster| cluster.deploy("web:3"), REST)],
        looks: BY_WEIGHT,
    },
];

const EDITS: &[Story] = &[
    Story {
        name: "overwritten weights",
        like: &["e08"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_30)), (overwrite, REST)],
        looks: Looks::End,
    },
    Story {
        name: "an invalid spec, and a valid one again",
        like: &["e12", "copies_are_refused"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[
            (|cluster| cluster.deploy("web:2"), Some(at_30)),
            (|cluster| cluster.edit_spec(|spec| spec["analysis"]["threshold"] = (-1).into()), REST),
            (|cluster| cluster.edit_spec(|spec| spec["analysis"]["threshold"] = 1.into()), REST),
        ],
        looks: BY_WEIGHT,
    },
];

const DELETION: &[Story] = &[
    Story {
        name: "deleted",
        like: &["e13_deleted_canary_leaves"],
        begin: || bare_at_rest(false).boxed_local(),
        acts: &[(Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "deleted with revert",
        like: &["e13_deleted_canary_with_revert"],
        begin: || bare_at_rest(true).boxed_local(),
        acts: &[(Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "adopted, and deleted with revert",
        like: &["e13_deleted_canary_with_revert"],
        begin: || reverting().boxed_local(),
        acts: &[(Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "deleted while a version is analysed",
        like: &[],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_30)), (Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "deleted with an unpromoted version",
        like: &[],
        begin: || unpromoted(bare_at_rest(false).boxed_local(), |cluster| cluster.deploy("web:2")).boxed_local(),
        acts: &[(Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
];

const STRATEGIES: &[Story] = &[
    Story {
        name: "blue/green",
        like: &["s03_s13"],
        begin: || at_rest(json!({"stepWeights": null, "iterations": 2}), vec![]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: AT_ONCE,
    },
    Story {
        name: "blue/green with copies",
        like: &[],
        begin: || copying().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: AT_ONCE,
    },
    Story {
        name: "A/B",
        like: &["s04_s14_s20"],
        begin: || at_rest(insiders(), vec![]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: AT_ONCE,
    },
    Story {
        name: "A/B, bad",
        like: &["s04_s14_s20"],
        begin: || at_rest(insiders(), vec![]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(all_of_it)), (errors, REST)],
        looks: AT_ONCE,
    },
    Story {
        name: "A/B, deleted",
        like: &["s05"],
        begin: || at_rest(insiders(), vec![("revertOnDeletion", json!(true))]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(all_of_it)), (Cluster::delete_canary, REST)],
        looks: Looks::End,
    },
    Story {
        name: "session affinity",
        like: &["s10_s15"],
        begin: || at_rest(affinity(), vec![]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST), (|cluster| cluster.deploy("web:3"), REST)],
        looks: Looks::End,
    },
    Story {
        name: "session affinity ends",
        like: &["s10_s15"],
        begin: || at_rest(affinity(), vec![]).boxed_local(),
        acts: &[
            (|cluster| cluster.deploy("web:2"), Some(at_30)),
            (|cluster| cluster.edit_spec(|spec| spec["analysis"]["sessionAffinity"] = Value::Null), REST),
        ],
        looks: Looks::End,
    },
    Story {
        name: "without a gateway",
        like: &["s35_without_a_gateway"],
        begin: || switched(false).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: Looks::End,
    },
    Story {
        name: "the Service moves",
        like: &["s35_the_service_itself"],
        begin: || switched(true).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST), (Cluster::delete_canary, REST)],
        looks: Looks::End,
    },
];

const OF_DAEMON_SETS: &[Story] = &[
    Story {
        name: "DaemonSet",
        like: &["s36"],
        begin: || daemon_set::at_rest().boxed_local(),
        acts: &[(|cluster| daemon_set::deploy(cluster, "web:2"), REST), (Cluster::delete_canary, REST)],
        looks: Looks::At(&STEPS, Pods::DaemonSets),
    },
    Story {
        name: "initialise a DaemonSet",
        like: &["s36"],
        begin: || daemon_set::with_daemon_set().boxed_local(),
        acts: &[(|cluster| drop(cluster.put(CANARIES, daemon_set::canary())), REST)],
        looks: Looks::At(&STEPS, Pods::DaemonSets),
    },
];

const CONFIGS: &[Story] = &[
    Story {
        name: "initialise with configs",
        like: &["configs"],
        begin: || configs::with_configs().boxed_local(),
        acts: &[(apply, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "configs",
        like: &["configs"],
        begin: || configs::at_rest().boxed_local(),
        acts: &[(|cluster| paint(cluster, "green"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "configs, superseded",
        like: &[],
        begin: || configs::at_rest().boxed_local(),
        acts: &[(|cluster| paint(cluster, "green"), Some(at_30)), (|cluster| paint(cluster, "red"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "configs, bad",
        like: &["configs"],
        begin: || configs::at_rest().boxed_local(),
        acts: &[(|cluster| paint(cluster, "red"), Some(at_30)), (errors, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "configs, deleted unpromoted",
        like: &[],
        begin: || unpromoted(configs::at_rest().boxed_local(), |cluster| paint(cluster, "red")).boxed_local(),
        acts: &[(Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
];

const OF_AUTOSCALERS: &[Story] = &[
    Story {
        name: "initialise with an HPA",
        like: &["s37"],
        begin: || scalers::with_hpa().boxed_local(),
        acts: &[(|cluster| drop(cluster.put(CANARIES, scalers::canary("HorizontalPodAutoscaler"))), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "HPA",
        like: &["s37"],
        begin: || scalers::at_rest("HorizontalPodAutoscaler").boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_30)), (|cluster| scalers::autoscale(cluster, 5, 2), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "initialise with a ScaledObject",
        like: &["s38"],
        begin: || scalers::with_scaled_object().boxed_local(),
        acts: &[(|cluster| drop(cluster.put(CANARIES, scalers::canary("ScaledObject"))), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "ScaledObject",
        like: &["s38"],
        begin: || scalers::at_rest("ScaledObject").boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "ScaledObject, deleted",
        like: &["s38"],
        begin: || scalers::at_rest("ScaledObject").boxed_local(),
        acts: &[(Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "ScaledObject, deleted unpromoted",
        like: &[],
        begin: || {
            unpromoted(scalers::at_rest("ScaledObject").boxed_local(), |cluster| cluster.deploy("web:2")).boxed_local()
        },
        acts: &[(Cluster::delete_canary, REST)],
        looks: BY_WEIGHT,
    },
];

const OF_SERVICES: &[Story] = &[
    Story {
        name: "initialise a Service",
        like: &[],
        begin: || with_service().boxed_local(),
        acts: &[(|cluster| drop(cluster.put(CANARIES, service_canary())), REST)],
        looks: Looks::At(&STEPS, Pods::Endpoints),
    },
    Story {
        name: "Service",
        like: &[],
        begin: || service_at_rest().boxed_local(),
        acts: &[(|cluster| lead_to(cluster, "v2"), REST)],
        looks: Looks::At(&STEPS, Pods::Endpoints),
    },
    Story {
        name: "Service, bad",
        like: &[],
        begin: || service_at_rest().boxed_local(),
        acts: &[(|cluster| lead_to(cluster, "v2"), Some(at_30)), (errors, REST)],
        looks: Looks::At(&STEPS, Pods::Endpoints),
    },
    Story {
        name: "Service, superseded",
        like: &[],
        begin: || service_at_rest().boxed_local(),
        acts: &[(|cluster| lead_to(cluster, "v2"), Some(at_30)), (|cluster| lead_to(cluster, "v4"), REST)],
        looks: Looks::At(&STEPS, Pods::Endpoints),
    },
    Story {
        name: "Service, deleted",
        like: &[],
        begin: || service_at_rest().boxed_local(),
        acts: &[(Cluster::delete_canary, REST)],
        looks: Looks::At(&STEPS, Pods::Endpoints),
    },
];

const WEBHOOKS: &[Story] = &[
    Story {
        name: "webhooks of every kind",
        like: &["s04_hooks"],
        begin: || with_webhooks(&[]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "a rollback webhook",
        like: &["a_rollback_webhook_and_an_order"],
        begin: || with_webhooks(&["rollback"]).boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "gates that a person opens",
        like: &["s35_a_rollout_waits"],
        begin: || with_webhooks(&["confirm-rollout", "confirm-promotion"]).boxed_local(),
        acts: &[
            (|cluster| cluster.deploy("web:2"), Some(at_the_gate)),
            (|cluster| order(cluster, "approve"), Some(at_the_last_gate)),
            (|cluster| order(cluster, "approve"), REST),
        ],
        looks: BY_WEIGHT,
    },
];

const ORDERS: &[Story] = &[
    Story {
        name: "abort",
        like: &["a_rollback_webhook_and_an_order"],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_30)), (|cluster| order(cluster, "abort"), REST)],
        looks: BY_WEIGHT,
    },
    Story {
        name: "pause and resume",
        like: &[],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[
            (|cluster| cluster.deploy("web:2"), Some(at_30)),
            (|cluster| order(cluster, "pause"), Some(paused)),
            (|cluster| order(cluster, "resume"), REST),
        ],
        looks: BY_WEIGHT,
    },
    Story {
        name: "promote",
        like: &[],
        begin: || Cluster::at_rest().boxed_local(),
        acts: &[(|cluster| cluster.deploy("web:2"), Some(at_10)), (|cluster| order(cluster, "promote"), REST)],
        looks: BY_WEIGHT,
    },
];

#[tokio::test(start_paused = true)]
async fn a_crash_while_initialising_changes_nothing() {
    check(INITIALISING).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_good_rollout_changes_nothing() {
    check(GOOD).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_bad_rollout_changes_nothing() {
    check(BAD).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_a_newer_version_changes_nothing() {
    check(NEWER).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_an_edit_changes_nothing() {
    check(EDITS).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_deletion_changes_nothing() {
    check(DELETION).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_any_strategy_changes_nothing() {
    check(STRATEGIES).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_daemon_set_is_rolled_out_changes_nothing() {
    check(OF_DAEMON_SETS).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_configs_are_rolled_out_changes_nothing() {
    check(CONFIGS).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_an_autoscaler_is_held_changes_nothing() {
    check(OF_AUTOSCALERS).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_service_is_rolled_out_changes_nothing() {
    check(OF_SERVICES).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_rollout_with_webhooks_changes_nothing() {
    check(WEBHOOKS).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_an_order_changes_nothing() {
    check(ORDERS).await;
}

#[tokio::test(start_paused = true)]
async fn the_watch_of_the_writes_finds_what_is_wrong() {
    let watch = Watch { steps: &STEPS, ..Watch::default() };
    watch.saw(Stored::Committed(10));
    watch.saw(Stored::Available(NAME.into(), 3));
    watch.saw(Stored::Available("web-primary".into(), 3));
    watch.saw(Stored::Routed(90, 10));
    assert_eq!(watch.faults(), Vec::<String>::new());
    watch.saw(Stored::Routed(70, 30));
    watch.saw(Stored::Committed(60));
    watch.saw(Stored::Routed(40, 50));
    watch.saw(Stored::Routed(40, 60));
    watch.saw(Stored::Available(NAME.into(), 0));
    watch.saw(Stored::Routed(40, 60));
    insta::assert_snapshot!(watch.faults().join("\n"), @r#"
    S7: 30 was applied, but 10 is on record
    S1: 40 and 50 are not a hundred
    S7: 50 was applied, but 60 is on record
    S5: 50 does not follow 30
    S2: no pods are left for a weight of 60
    "#);
}

/// A scenario that is added to the cluster's needs its twin; what has none, says why.
#[test]
fn every_scenario_of_the_cluster_has_its_twin() {
    let without = BTreeMap::from([
        ("e00", "Serin has no part in it"),
        ("e07", "it is what all of this file is about"),
        ("e14", "nothing is written"),
        ("examples", "nothing is rolled out"),
        ("leader", "it is about two processes: tests/handover.rs"),
    ]);
    let stories = STORIES.iter().flat_map(|(_, stories)| *stories);
    let named: BTreeSet<_> = stories.flat_map(|story| story.like.iter().copied()).chain(without.into_keys()).collect();
    let scenarios = scenarios();
    assert!(scenarios.len() > 30, "{scenarios:?}");
    let twin = |scenario: &str| named.iter().any(|name| scenario.starts_with(name));
    let missing: Vec<_> = scenarios.iter().filter(|scenario| !twin(scenario)).collect();
    assert!(missing.is_empty(), "without a twin: {missing:#?}");
    let is_there = |name: &&str| scenarios.iter().any(|scenario| scenario.starts_with(name));
    let gone: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(gone.is_empty(), "no scenario begins like this any more: {gone:?}");
}

/// The tests of `e2e/tests` that need the cluster.
fn scenarios() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/tests");
    let files =
        std::fs::read_dir(directory).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let names = files.flat_map(|text| {
        let after = text.split("#[ignore = \"needs the cluster").skip(1).map(str::to_owned).collect::<Vec<_>>();
        after.into_iter().filter_map(|text| Some(text.split_once("async fn ")?.1.split_once('(')?.0.to_owned()))
    });
    names.collect()
}

/// Plays each story once for every write and each kind of crash.
async fn check(stories: &[Story]) {
    for story in stories {
        let (expected, writes) = play(story, Crash::Never).await;
        assert!((1..MANY).contains(&writes.len()), "{}: {} writes", story.name, writes.len());
        let mut crashes = 0;
        for n in 1..=writes.len() {
            for crash in crashes_at(n) {
                let (end, _) = play(story, crash).await;
                assert_eq!(end, expected, "{}, {crash:?}: {}", story.name, writes[n - 1]);
                crashes += 1;
            }
        }
        println!("{}: {} writes, {crashes} crashes", story.name, writes.len());
    }
}

/// What happens at a write: one of the three in turn, the turn changing with the day's number in `SERIN_CRASHES`; or all of
/// them when that is `all`.
fn crashes_at(n: usize) -> Vec<Crash> {
    let all = [Crash::Before(n), Crash::After(n), Crash::Unsure(n)];
    match std::env::var("SERIN_CRASHES").as_deref() {
        Ok("all") => all.into(),
        Ok(turn) => vec![all[(n + turn.parse::<usize>().expect("a number, or all")) % 3]],
        Err(_) => vec![all[n % 3]],
    }
}

/// A story from its beginning to its end; answers how things are then, and the writes of the process.
async fn play(story: &Story, crash: Crash) -> (Value, Vec<String>) {
    let name = story.name;
    let mut cluster = (story.begin)().await;
    cluster.forget();
    let watch = match story.looks {
        Looks::At(steps, pods) => Watch::over(&cluster, steps, pods),
        Looks::End => Watch::default(),
    };
    let fate = Fate::awaits(&mut cluster, crash);
    for (place, (act, reached)) in story.acts.iter().enumerate() {
        act(&cluster);
        while !settle(&mut cluster, &fate, |cluster| reached.is_some_and(|reached| reached(cluster))).await {
            fate.is_fulfilled(&mut cluster, name).await;
        }
        let is_there = reached.is_none_or(|reached| reached(&cluster));
        assert!(is_there, "{name}, {crash:?}: act {place}\n{}", cluster.story());
    }
    cluster.server.collect_garbage();
    let faults = watch.faults();
    assert!(faults.is_empty(), "{name}, {crash:?}:\n{}\n{}", faults.join("\n"), cluster.story());
    let writes = cluster.server.writes().iter().map(common::story::line).collect();
    (end(&cluster), writes)
}

/// Whether it came to rest, or where it should, without a crash.
async fn settle(cluster: &mut Cluster, fate: &Fate, reached: impl Fn(&Cluster) -> bool) -> bool {
    let ended = cluster.settle_until(|cluster| fate.has_struck() || reached(cluster)).await;
    assert!(ended, "nothing comes to rest:\n{}\n{:?}", cluster.story(), cluster.errors);
    !fate.has_struck()
}

/// What becomes of the process at the chosen write.
struct Fate {
    crash: Crash,
    struck: Arc<AtomicBool>,
    /// What was written by an instance that was not sure any more.
    unsure: Arc<Mutex<Vec<String>>>,
}

impl Fate {
    fn awaits(cluster: &mut Cluster, crash: Crash) -> Self {
        let fate = Self { crash, struck: Arc::default(), unsure: Arc::default() };
        let lease = watch::Sender::new(Some(Instant::now() + Duration::from_hours(24)));
        if let Crash::Unsure(_) = crash {
            cluster.leadership = Leadership::told_by(lease.subscribe());
            cluster.restart();
        }
        let (struck, unsure) = (Arc::clone(&fate.struck), Arc::clone(&fate.unsure));
        let mut writes = 0;
        cluster.server.set_faults(move |request: &Request| {
            let is_struck = struck.load(Ordering::SeqCst);
            if !request.is_write() {
                return if is_struck && !matches!(crash, Crash::Unsure(_)) { Fault::DropBefore } else { Fault::Pass };
            }
            writes += 1;
            let (n, fault) = match crash {
                Crash::Never => return Fault::Pass,
                Crash::Before(n) => (n, Fault::DropBefore),
                Crash::After(n) => (n, Fault::DropAfter),
                Crash::Unsure(n) => (n, Fault::Pass),
            };
            match crash {
                // What was sent together with it is on its way.
                Crash::Unsure(_) if is_struck && request.resource != "events" => {
                    unsure.lock().expect("no test panics in here").push(common::story::line(request));
                }
                _ if is_struck => return Fault::DropBefore,
                _ if writes == n => {
                    lease.send_replace(Some(Instant::now()));
                    struck.store(true, Ordering::SeqCst);
                    return fault;
                }
                _ => {}
            }
            Fault::Pass
        });
        fate
    }

    fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    /// Another process takes the place of the one that is gone.
    async fn is_fulfilled(&self, cluster: &mut Cluster, name: &str) {
        if let Crash::Unsure(_) = self.crash {
            let writes = cluster.server.write_count();
            for _ in 0..UNSURE_PASSES {
                // It fails, or has nothing to do.
                let _ = cluster.pass().await;
            }
            let written = self.unsure.lock().expect("no test panics in here").join("\n");
            let more = cluster.server.write_count() - writes;
            assert!(written.is_empty() && more == 0, "{name}, {:?}: {more} more\n{written}", self.crash);
        }
        cluster.server.clear_faults();
        self.struck.store(false, Ordering::SeqCst);
        if !matches!(self.crash, Crash::Before(_)) {
            cluster.wait(LONG_ENOUGH).await;
        }
        cluster.leadership = Leadership::lasting(Duration::from_hours(24));
        cluster.restart();
    }
}

// ---- how it begins ----

async fn bare() -> Cluster {
    let cluster = Cluster::new().await;
    cluster.put(DEPLOYMENTS, app::deployment("web:1"));
    cluster
}

/// Everything but the app itself is Serin's.
async fn bare_at_rest(reverts: bool) -> Cluster {
    let mut cluster = bare().await;
    cluster.put(CANARIES, app::canary());
    cluster.edit_spec(|spec| spec["revertOnDeletion"] = reverts.into());
    cluster.settle().await;
    cluster
}

/// The app with a Canary whose analysis, and whose spec, say more.
async fn at_rest(analysis: Value, spec: Vec<(&str, Value)>) -> Cluster {
    let mut cluster = Cluster::with_app().await;
    cluster.put(CANARIES, canary_with(&analysis));
    cluster.edit_spec(|canary| spec.iter().for_each(|(field, value)| canary[*field] = value.clone()));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized", "{}", cluster.status());
    cluster
}

async fn reverting() -> Cluster {
    at_rest(json!({}), vec![("revertOnDeletion", json!(true))]).await
}

async fn skipping() -> Cluster {
    at_rest(json!({}), vec![("skipAnalysis", json!(true))]).await
}

async fn failing() -> Cluster {
    let cluster = Cluster::at_rest().await;
    errors(&cluster);
    cluster
}

/// A version that was not promoted is what the app holds.
async fn unpromoted(cluster: LocalBoxFuture<'static, Cluster>, change: fn(&Cluster)) -> Cluster {
    let mut cluster = cluster.await;
    errors(&cluster);
    change(&cluster);
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    cluster
}

async fn with_template() -> Cluster {
    let cluster = Cluster::with_app().await;
    cluster.put(METRIC_TEMPLATES, template("errors", &cluster.prometheus.address, None));
    let metric = json!({"name": "errors", "templateRef": {"name": "errors"}, "thresholdRange": {"min": 99}});
    cluster.put(CANARIES, canary_with(&json!({"metrics": [metric]})));
    let mut cluster = cluster;
    cluster.settle().await;
    cluster
}

fn insiders() -> Value {
    json!({"stepWeights": null, "iterations": 2, "match": [{"headers": {"x-user": {"exact": "insider"}}}]})
}

fn affinity() -> Value {
    json!({"sessionAffinity": {"cookieName": "web-version", "primaryCookieName": "web-stable"}})
}

/// Copies go where the gateway can make them.
async fn copying() -> Cluster {
    let mut cluster = Cluster::with_app().await;
    cluster.always(|settings| "application".clone_into(&mut settings.gateway_metrics));
    cluster
        .put(CANARIES, canary_with(&json!({"stepWeights": null, "iterations": 2, "mirror": true, "mirrorWeight": 25})));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized", "{}", cluster.status());
    cluster
}

/// Provider `kubernetes`, with the app's Service moving to the canary, or without.
async fn switched(moves: bool) -> Cluster {
    let analysis = json!({"stepWeights": null, "iterations": 2, "switchTraffic": moves});
    let service = json!({"port": 80, "targetPort": 8080});
    at_rest(analysis, vec![("provider", json!("kubernetes")), ("service", service)]).await
}

/// A cluster at rest whose rollouts ask webhooks of every kind; these say the other thing.
async fn with_webhooks(others: &[&str]) -> Cluster {
    let kinds = [
        "confirm-rollout",
        "pre-rollout",
        "rollout",
        "confirm-traffic-increase",
        "confirm-promotion",
        "rollback",
        "post-rollout",
    ];
    let inbox = Inbox::start(Does::Answer(200)).await;
    for kind in kinds {
        let says_no = (kind == "rollback") != others.contains(&kind);
        inbox.at(&format!("/{kind}"), Does::Answer(if says_no { 403 } else { 200 }));
    }
    let webhook = |kind| json!({"type": kind, "name": kind, "url": format!("{}/{kind}", inbox.address)});
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["analysis"]["webhooks"] = kinds.map(webhook).into_iter().collect());
    cluster.settle().await;
    cluster
}

// ---- what the user does, and what that leads to ----

fn apply(cluster: &Cluster) {
    cluster.put(CANARIES, app::canary());
}

/// From now on, half of the requests fail.
fn errors(cluster: &Cluster) {
    cluster.prometheus.says(Says::Value(50.0));
}

/// From now on, nobody knows.
fn silence(cluster: &Cluster) {
    cluster.prometheus.says(Says::Nothing);
}

fn suspend(cluster: &Cluster, suspended: bool) {
    cluster.edit_spec(|spec| spec["suspend"] = suspended.into());
}

fn order(cluster: &Cluster, written: &str) {
    cluster.edit(CANARIES, NAME, |canary| canary["metadata"]["annotations"]["serin.dev/command"] = written.into());
}

/// The user changes a ConfigMap and a Secret.
fn paint(cluster: &Cluster, color: &str) {
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = color.into());
    cluster.edit(SECRETS, "token", |token| token["data"]["color"] = color.into());
}

/// Somebody sends everything to the canary.
fn overwrite(cluster: &Cluster) {
    cluster.edit(HTTP_ROUTES, NAME, |route| {
        for backend in route["spec"]["rules"][0]["backendRefs"].as_array_mut().into_iter().flatten() {
            backend["weight"] = (if backend["name"] == "web-canary" { 100 } else { 0 }).into();
        }
    });
}

fn status(cluster: &Cluster, field: &str) -> Value {
    cluster.find(CANARIES, NAME).map(|canary| canary["status"][field].clone()).unwrap_or_default()
}

fn at_10(cluster: &Cluster) -> bool {
    status(cluster, "canaryWeight") == 10
}

fn at_30(cluster: &Cluster) -> bool {
    status(cluster, "canaryWeight") == 30
}

fn all_of_it(cluster: &Cluster) -> bool {
    status(cluster, "canaryWeight") == 100
}

fn promoting(cluster: &Cluster) -> bool {
    status(cluster, "phase") == "Promoting"
}

fn inconclusive(cluster: &Cluster) -> bool {
    status(cluster, "waiting")["reason"] == "Inconclusive"
}

fn analysed_again(cluster: &Cluster) -> bool {
    status(cluster, "phase") == "Progressing" && status(cluster, "command") == Value::Null
}

fn at_the_gate(cluster: &Cluster) -> bool {
    status(cluster, "waiting")["reason"] == "Gate"
}

fn at_the_last_gate(cluster: &Cluster) -> bool {
    status(cluster, "phase") == "WaitingPromotion"
}

fn paused(cluster: &Cluster) -> bool {
    status(cluster, "paused") == true && status(cluster, "command") == Value::Null
}

// ---- how it ends ----

/// How things are, without what depends on when and how often they were written.
fn end(cluster: &Cluster) -> Value {
    let mut all = BTreeMap::new();
    let kinds = [
        AUTOSCALERS,
        SCALED_OBJECTS,
        CANARIES,
        CONFIG_MAPS,
        CONTROLLER_REVISIONS,
        DAEMON_SETS,
        DEPLOYMENTS,
        HTTP_ROUTES,
        SECRETS,
        SERVICES,
    ];
    for kind in kinds {
        for mut object in cluster.server.list(kind, None) {
            let name = format!("{}/{}", kind.plural, object["metadata"]["name"].as_str().unwrap_or_default());
            timeless(&mut object);
            all.insert(name, object);
        }
    }
    // Each play has a Prometheus of its own.
    let text = json!(all).to_string().replace(&cluster.prometheus.address, "http://prometheus");
    serde_json::from_str(&text).expect("it was JSON")
}

fn timeless(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| {
                let of_when = [
                    "resourceVersion",
                    "generation",
                    "observedGeneration",
                    "uid",
                    "creationTimestamp",
                    "lastTransitionTime",
                    "lastUpdateTime",
                    "since",
                    "drainingSince",
                    "time",
                    "url",
                ];
                !of_when.contains(&key.as_str())
            });
            map.values_mut().for_each(timeless);
        }
        Value::Array(list) => list.iter_mut().for_each(timeless),
        _ => {}
    }
}

// ---- what is looked at on the way ----

/// Something that the API server is about to store.
#[derive(Clone, Debug, PartialEq)]
enum Stored {
    /// The weight in the Canary's status.
    Committed(i64),
    /// The weights of primary and canary in the route.
    Routed(i64, i64),
    /// The available pods of a Deployment.
    Available(String, i64),
}

/// What was stored, in order, and the steps of the plan.
#[derive(Clone, Default)]
struct Watch {
    stored: Arc<Mutex<Vec<Stored>>>,
    steps: &'static [i64],
}

impl Watch {
    /// Looks at everything that the server stores from now on; what is there now counts as stored.
    fn over(cluster: &Cluster, steps: &'static [i64], pods: Pods) -> Self {
        let watch = Self { steps, ..Self::default() };
        let pods: (GroupVersionResource, fn(&Value) -> Option<Stored>) = match pods {
            Pods::Deployments => (DEPLOYMENTS, available),
            Pods::DaemonSets => (DAEMON_SETS, running),
            Pods::Endpoints => (ENDPOINTS, answering),
        };
        for (kind, read) in [(CANARIES, committed as fn(&Value) -> Option<Stored>), pods, (HTTP_ROUTES, routed)] {
            cluster.server.list(kind, None).iter().filter_map(read).for_each(|stored| watch.saw(stored));
            let watch = watch.clone();
            cluster
                .server
                .add_defaults(kind, move |object| read(object).into_iter().for_each(|stored| watch.saw(stored)));
        }
        watch
    }

    fn saw(&self, stored: Stored) {
        self.stored.lock().expect("no test panics in here").push(stored);
    }

    /// What was wrong with it.
    fn faults(&self) -> Vec<String> {
        let stored = self.stored.lock().expect("no test panics in here");
        let mut faults = vec![];
        let mut committed = 0;
        let mut available: BTreeMap<&str, i64> = BTreeMap::new();
        let mut shown = 0;
        let mut routed = None;
        for stored in stored.iter() {
            match stored {
                Stored::Committed(weight) => committed = *weight,
                Stored::Available(name, pods) => {
                    available.insert(name, *pods);
                    if name == NAME && *pods == 0 && shown > 0 {
                        faults.push(format!("S2: no pods are left for a weight of {shown}"));
                    }
                }
                // Its gateway writes to the route too.
                Stored::Routed(_, canary) if routed == Some(stored) && *canary == shown => {}
                Stored::Routed(primary, canary) => {
                    routed = Some(stored);
                    if primary + canary != 100 {
                        faults.push(format!("S1: {primary} and {canary} are not a hundred"));
                    }
                    if *canary != committed {
                        faults.push(format!("S7: {canary} was applied, but {committed} is on record"));
                    }
                    if *canary > shown && self.next_step(shown) != Some(*canary) {
                        faults.push(format!("S5: {canary} does not follow {shown}"));
                    }
                    for (name, weight) in [("web-primary", *primary), (NAME, *canary)] {
                        if weight > 0 && available.get(name).is_none_or(|pods| *pods == 0) {
                            faults.push(format!("S2: {weight} percent go to {name}, which has no pods"));
                        }
                    }
                    shown = *canary;
                }
            }
        }
        faults
    }

    fn next_step(&self, weight: i64) -> Option<i64> {
        self.steps.iter().copied().find(|step| *step > weight)
    }
}

fn committed(canary: &Value) -> Option<Stored> {
    canary["status"]["canaryWeight"].as_i64().map(Stored::Committed)
}

fn available(deployment: &Value) -> Option<Stored> {
    let name = deployment["metadata"]["name"].as_str()?.to_owned();
    Some(Stored::Available(name, deployment["status"]["availableReplicas"].as_i64().unwrap_or_default()))
}

fn running(daemon_set: &Value) -> Option<Stored> {
    let name = daemon_set["metadata"]["name"].as_str()?.to_owned();
    Some(Stored::Available(name, daemon_set["status"]["numberAvailable"].as_i64().unwrap_or_default()))
}

/// The ready addresses of one version's Service.
fn answering(endpoints: &Value) -> Option<Stored> {
    let name = match endpoints["metadata"]["name"].as_str()? {
        "web-canary" => NAME,
        "web-primary" => "web-primary",
        _ => return None,
    };
    let addresses = endpoints.pointer("/subsets/0/addresses").and_then(Value::as_array).map_or(0, Vec::len);
    Some(Stored::Available(name.to_owned(), i64::try_from(addresses).ok()?))
}

/// Nothing for a route that is not split.
fn routed(route: &Value) -> Option<Stored> {
    let backends = route.pointer("/spec/rules/0/backendRefs")?.as_array()?;
    let weight = |name: &str| backends.iter().find(|backend| backend["name"] == name)?["weight"].as_i64();
    Some(Stored::Routed(weight("web-primary")?, weight("web-canary")?))
}
