//! The smallest case of each weakness that was found by reading, or by the properties.

use super::super::traces::cluster::{Cluster, Gateway, outcome, plan, steps, weight};
use super::super::{Decision, decide};
use crate::domain::{
    Acceptance, Analysis, Answers, CanaryPods, Configs, Farewell, Led, Percent, Phase, Plan, Pods, Primary, Promotion,
    Revision, Routing, Scale, State, Target, TargetSeen, Traffic, Verdict, Weight, World, questions,
};
use jiff::{SignedDuration, Timestamp};

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

fn revision(name: &str) -> Revision {
    Revision(name.into())
}

fn pods(wanted: u32, available: u32) -> Pods {
    Pods { wanted, updated: wanted, available, total: wanted, current: true }
}

fn target(name: &str, generation: i64) -> Target {
    let (uid, configs) = ("u".into(), Configs::default());
    Target { revision: revision(name), hash: revision(name), generation, uid, configs }
}

/// `a` is promoted; `b`, of generation 2, is the target.
fn state(phase: Phase) -> State {
    let canary = CanaryPods::Up;
    State {
        phase,
        target: Some(target("b", 2)),
        promoted: Some(revision("a")),
        canary,
        replicas: 2,
        owed: None,
        selective: false,
        command: None,
    }
}

fn analysis(percent: u8) -> Analysis {
    Analysis { weight: weight(percent), blocked: None, ..Analysis::new(START) }
}

fn world(seconds: i64, state: &State) -> World {
    World {
        now: at(seconds),
        deleted: false,
        command: None,
        target: Some(TargetSeen {
            revision: revision("b"),
            template: revision("b"),
            configs: Configs::default(),
            incomplete: None,
            generation: 2,
            uid: "u".into(),
            replicas: 2,
            pods: pods(2, 2),
        }),
        primary: Some(Primary { revision: state.primary_revision().cloned(), pods: pods(2, 2), most: None }),
        apex_on_primary: true,
        routing: Routing::Split(state.weight(), Acceptance::Accepted),
        led: None,
    }
}

fn with_target(seen: World, change: impl FnOnce(&mut TargetSeen)) -> World {
    let mut target = seen.target.unwrap();
    change(&mut target);
    World { target: Some(target), ..seen }
}

fn rename(target: &mut TargetSeen, name: &str, generation: i64) {
    (target.revision, target.template, target.generation) = (revision(name), revision(name), generation);
}

#[test]
fn s2_a_threshold_of_0_percent_gives_no_traffic_to_no_pods() {
    let plan = Plan { canary_ready: Percent::try_from(0).unwrap(), ..plan() };
    let state = state(Phase::Progressing(analysis(0)));
    let seen = with_target(world(1, &state), |target| target.pods = pods(2, 0));
    assert_eq!(decide(&plan, &state, &seen, &Answers::default()).state.weight(), Weight::ZERO);
}

#[test]
fn s2_a_threshold_of_0_percent_finalises_no_primary_without_pods() {
    let plan = Plan { primary_ready: Percent::try_from(0).unwrap(), ..plan() };
    let state = state(Phase::Promoting(Promotion::new(weight(50), START)));
    let mut seen = world(1, &state);
    seen.primary.as_mut().unwrap().pods = pods(2, 0);
    assert!(matches!(decide(&plan, &state, &seen, &Answers::default()).state.phase, Phase::Promoting(_)));
}

#[test]
fn s2_suspend_holds_no_traffic_on_lost_pods() {
    let plan = Plan { suspend: true, ..plan() };
    let state = state(Phase::Progressing(analysis(50)));
    let seen = with_target(world(1, &state), |target| target.pods = pods(2, 0));
    assert_eq!(decide(&plan, &state, &seen, &Answers::default()).state.weight(), Weight::ZERO);
}

#[test]
fn s2_suspend_holds_no_traffic_on_a_version_that_came_later() {
    let plan = Plan { suspend: true, ..plan() };
    let state = state(Phase::Progressing(analysis(50)));
    let seen = with_target(world(1, &state), |target| rename(target, "c", 3));
    assert_eq!(decide(&plan, &state, &seen, &Answers::default()).state.weight(), Weight::ZERO);
    let seen = World { target: None, ..world(1, &state) };
    assert_eq!(decide(&plan, &state, &seen, &Answers::default()).state.weight(), Weight::ZERO);
}

#[test]
fn s2_suspend_scales_down_nothing_that_is_seen_to_have_traffic() {
    let plan = Plan { suspend: true, ..plan() };
    let mut state = state(Phase::Failed { since: START, why: String::new() });
    state.canary = CanaryPods::Draining { since: START };
    let seen = World { routing: Routing::Split(weight(50), Acceptance::Accepted), ..world(60, &state) };
    let decision = decide(&plan, &state, &seen, &Answers::default());
    assert_ne!(decision.state.scale(&plan, seen.now), Scale::Zero);
}

#[test]
fn s2_the_primary_is_not_released_before_the_gateway_takes_the_route() {
    let state = state(Phase::Terminating { since: START, stage: Farewell::HandingOver });
    let seen = World {
        deleted: true,
        apex_on_primary: false,
        routing: Routing::Whole(Acceptance::Pending),
        ..world(1, &state)
    };
    let Phase::Terminating { stage, .. } = decide(&plan(), &state, &seen, &Answers::default()).state.phase else {
        panic!()
    };
    assert_eq!(stage, Farewell::HandingOver);
}

#[test]
fn s2_a_left_over_primary_with_the_traffic_is_not_released_for_a_target_without_pods() {
    let mut state = state(Phase::Initializing { since: START });
    state.target = Some(Target { generation: 0, ..target("a", 0) });
    let mut seen =
        World { deleted: true, routing: Routing::Split(Weight::ZERO, Acceptance::Accepted), ..world(1, &state) };
    seen = with_target(seen, |target| (target.replicas, target.pods) = (0, pods(0, 0)));
    assert_ne!(decide(&plan(), &state, &seen, &Answers::default()).state.traffic(&plan()), Traffic::Target);
}

#[test]
fn s2_an_app_that_was_to_be_given_back_to_nobody_waits_for_the_pods_of_a_target_that_is_there_again() {
    let state = State {
        promoted: Some(revision("b")),
        ..state(Phase::Terminating { since: START, stage: Farewell::Released })
    };
    let seen = World { deleted: true, ..world(1, &state) };
    let seen = with_target(seen, |target| target.pods = pods(2, 0));
    let next = decide(&plan(), &state, &seen, &Answers::default()).state;
    assert!(matches!(next.phase, Phase::Terminating { stage: Farewell::Reviving, .. }), "{:?}", next.phase);
    assert_ne!(next.traffic(&plan()), Traffic::Target);
}

#[test]
fn s3_a_left_over_primary_keeps_its_version_when_the_target_changes_before_it_is_ready() {
    let plan = plan();
    let mut seen = world(0, &State::new(START));
    seen.primary = Some(Primary { revision: Some(revision("b")), pods: pods(2, 1), most: None });
    let state = decide(&plan, &State::new(START), &seen, &Answers::default()).state;
    let changed = with_target(seen, |target| rename(target, "c", 3));
    let state = decide(&plan, &state, &changed, &Answers::default()).state;
    assert_eq!(state.primary_revision(), Some(&revision("b")));
}

#[test]
fn s3_a_left_over_primary_that_is_gone_is_not_made_again() {
    let plan = plan();
    let mut seen = world(0, &State::new(START));
    seen.primary = Some(Primary { revision: Some(revision("a")), pods: pods(2, 2), most: None });
    let state = decide(&plan, &State::new(START), &seen, &Answers::default()).state;
    assert_eq!(state.primary_revision(), Some(&revision("a")));
    seen.primary = None;
    let state = decide(&plan, &state, &seen, &Answers::default()).state;
    assert_eq!(state.primary_revision(), Some(&revision("b")), "the app is adopted as if there had been none");
}

#[test]
fn s6_a_target_that_was_made_anew_is_seen() {
    let mut state = state(Phase::Failed { since: START, why: "the target was deleted".into() });
    state.target = Some(target("b", 1));
    let seen = with_target(world(60, &state), |target| {
        rename(target, "c", 1);
        target.uid = "another".into();
    });
    assert!(matches!(decide(&plan(), &state, &seen, &Answers::default()).state.phase, Phase::Progressing(_)));
}

#[test]
fn s3_pods_of_a_target_that_was_made_anew_are_replaced_before_they_are_analysed() {
    let mut cluster = Cluster::new();
    cluster.config = "1";
    cluster.settle();
    cluster.deploy("b");
    cluster.until(|state| state.weight().canary() == 20);
    let seen = with_target(cluster.world(), |target| target.uid = "another".into());
    let next = decide(&cluster.plan, &cluster.state, &seen, &Answers::default()).state;
    assert_eq!((next.weight(), next.canary), (Weight::ZERO, CanaryPods::Stale));
    assert_eq!(next.target.unwrap().uid, "another", "it is known from now on");
}

/// Seed 10006168: the template that superseded was seen late, and its pods had begun with the configs of before.
#[test]
fn s3_pods_that_were_to_go_go_even_if_the_template_is_another_one_now() {
    let mut cluster = Cluster::new();
    cluster.config = "1";
    cluster.settle();
    cluster.deploy("b");
    cluster.until(|state| state.weight().canary() == 20);
    cluster.configure("2");
    cluster.until(|state| matches!(state.canary, CanaryPods::Draining { .. }));
    let seen = with_target(cluster.world(), |target| rename(target, "c", target.generation + 1));
    let next = decide(&cluster.plan, &cluster.state, &seen, &Answers::default()).state;
    assert_eq!((next.target.unwrap().revision, next.canary), (revision("c"), CanaryPods::Stale));
}

#[test]
fn s2_an_app_that_is_handed_back_goes_to_no_primary_without_pods() {
    let state = State {
        target: Some(target("a", 2)),
        phase: Phase::Terminating { since: START, stage: Farewell::HandingOver },
        ..state(Phase::Initialized { since: START })
    };
    let deleted = World { deleted: true, ..world(5, &state) };
    let none = with_target(deleted, |target| {
        rename(target, "a", 2);
        target.pods = pods(2, 0);
    });
    let next = |seen: &World| decide(&plan(), &state, seen, &Answers::default()).state.phase;
    assert!(matches!(next(&none), Phase::Terminating { stage: Farewell::Reviving, .. }));
    let primary = none.primary.clone().map(|primary| Primary { pods: pods(2, 0), ..primary });
    assert_eq!(next(&World { primary, ..none }), state.phase);
}

#[test]
fn s2_a_drain_begins_anew_when_traffic_had_to_be_led_away_again() {
    let state = State { canary: CanaryPods::Draining { since: at(10) }, ..state(Phase::Initialized { since: START }) };
    let written = |seconds| World { led: Some(Led { since: START, written: at(seconds) }), ..world(14, &state) };
    let next = |seen: &World| decide(&plan(), &state, seen, &Answers::default()).state.canary;
    assert_eq!(next(&written(9)), state.canary);
    assert_eq!(next(&written(13)), CanaryPods::Draining { since: at(14) });
    assert_eq!(
        next(&written(20)),
        state.canary,
        "seed 40017079: the clock was set back, and it began anew in every pass"
    );
}

/// Seed 40003387: the record that the primary serves came long after it had been sent, and by then the primary had no pods.
#[test]
fn s2_nothing_is_led_to_a_primary_that_has_lost_its_pods_since_it_was_ready() {
    let state = State { target: Some(target("a", 2)), ..state(Phase::Initialized { since: START }) };
    let untouched = World { routing: Routing::Whole(Acceptance::Accepted), apex_on_primary: false, ..world(5, &state) };
    let seen = with_target(untouched, |target| rename(target, "a", 2));
    let next = |seen: &World, available: u32| {
        let primary = seen.primary.clone().map(|primary| Primary { pods: pods(2, available), ..primary });
        decide(&plan(), &state, &World { primary, ..seen.clone() }, &Answers::default()).state
    };
    assert!(matches!(next(&seen, 0).phase, Phase::Initializing { .. }));
    assert_eq!(next(&seen, 0).traffic(&plan()), Traffic::Untouched);
    assert_eq!(next(&seen, 1).phase, state.phase);
    assert_eq!(next(&World { apex_on_primary: true, ..seen }, 0).phase, state.phase, "it is led already");
}

/// Seed 30005420: the gateway refused to take the route back, and the app was led to a primary whose pods had all crashed.
#[test]
fn s2_an_app_that_the_gateway_does_not_take_back_stays_where_there_are_pods() {
    let state = State {
        target: Some(target("a", 2)),
        phase: Phase::Terminating { since: START, stage: Farewell::HandingOver },
        ..state(Phase::Initialized { since: START })
    };
    let overdue = plan().progress_deadline.as_secs() + 1;
    let refused = Routing::Whole(Acceptance::Refused("no".into()));
    let deleted = World { deleted: true, routing: refused, apex_on_primary: false, ..world(overdue, &state) };
    let seen = with_target(deleted, |target| rename(target, "a", 2));
    let leaves = |available: u32| {
        let primary = seen.primary.clone().map(|primary| Primary { pods: pods(2, available), ..primary });
        decide(&plan(), &state, &World { primary, ..seen.clone() }, &Answers::default()).state.phase
    };
    assert_eq!(leaves(0), state.phase);
    assert!(matches!(leaves(2), Phase::Terminating { stage: Farewell::Kept, .. }));
}

#[test]
fn s4_an_upgrade_of_the_hashing_soon_after_a_rollback_does_not_bring_the_bad_version_back() {
    let mut cluster = Cluster::at_weight(20);
    cluster.answer([Verdict::Fail]);
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
    cluster.passes(1);
    cluster.hashing = "2";
    cluster.settle();
    assert!(matches!(cluster.state.phase, Phase::Failed { .. }), "{}", cluster.log());
}

#[test]
fn a_silent_gateway_with_a_grace_period_above_the_interval_is_believed_too() {
    let mut cluster = Cluster::at_rest();
    cluster.plan.route_grace = SignedDuration::from_secs(15);
    cluster.gateway = Gateway::Silent;
    cluster.deploy("b");
    cluster.settle();
    assert!(matches!(cluster.state.phase, Phase::Succeeded { .. }), "{}", cluster.log());
}

#[test]
fn a_check_that_was_due_between_two_looks_is_asked_soon() {
    let blocked = Analysis { blocked: Some(START), ..analysis(20) };
    let state = state(Phase::Progressing(blocked));
    let seen = with_target(world(10, &state), |target| target.pods = pods(2, 1));
    let Decision { state: after, wake, .. } = decide(&plan(), &state, &seen, &Answers::default());
    assert_eq!(after, state);
    assert!(wake.unwrap() <= at(20), "{wake:?}");
}

#[test]
fn s5_a_lower_maximum_lowers_the_weight_of_a_promotion() {
    let plan = Plan { steps: steps(&[10]), ..plan() };
    let state = state(Phase::Promoting(Promotion::new(weight(50), START)));
    let mut seen = world(1, &state);
    seen.primary.as_mut().unwrap().pods = pods(2, 1);
    assert!(decide(&plan, &state, &seen, &Answers::default()).state.weight() <= weight(10));
}

#[test]
fn s5_a_lower_maximum_lowers_the_weight_even_when_a_check_fails() {
    let plan = Plan { steps: steps(&[10]), threshold: 2, ..plan() };
    let state = state(Phase::Progressing(analysis(50)));
    let decision = decide(&plan, &state, &world(10, &state), &Answers::of(Some(outcome(Verdict::Fail))));
    assert!(decision.state.weight() <= weight(10));
}

#[test]
fn s8_what_cannot_be_seen_is_taken_back_even_if_a_pod_is_not_ready() {
    let plan = plan();
    let mut state = state(Phase::Progressing(analysis(20)));
    for round in 1..=i64::from(plan.inconclusive_limit) {
        let seen = with_target(world(10 * round, &state), |target| target.pods = pods(2, 1));
        state = decide(&plan, &state, &seen, &Answers::of(Some(outcome(Verdict::Inconclusive)))).state;
    }
    assert!(matches!(state.phase, Phase::Failed { .. }), "{state:?}");
}

#[test]
fn a_target_that_is_scaled_up_during_an_analysis_scales_the_primary_up() {
    let mut cluster = Cluster::at_weight(20);
    cluster.target.as_mut().unwrap().change("b", 5);
    cluster.settle();
    assert_eq!(cluster.primary.unwrap().replicas, 5);
}

#[test]
fn a_target_that_is_set_back_at_rest_starts_no_pods() {
    let mut cluster = Cluster::at_weight(20);
    cluster.answer([Verdict::Fail]);
    cluster.settle();
    cluster.deploy("a");
    cluster.passes(1);
    assert_eq!(cluster.target.unwrap().replicas, 0);
}

#[test]
fn a_silent_gateway_is_believed_once_per_weight() {
    let mut cluster = Cluster::at_rest();
    cluster.gateway = Gateway::Silent;
    cluster.deploy("b");
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    cluster.passes(1);
    assert!(matches!(cluster.state.canary, CanaryPods::Draining { .. }), "{}", cluster.log());
}

#[test]
fn deciding_is_total() {
    let plan = Plan { progress_deadline: SignedDuration::MAX, ..plan() };
    let state = state(Phase::Progressing(analysis(0)));
    let seen = with_target(world(1, &state), |target| target.pods = pods(2, 1));
    let _ = decide(&plan, &state, &seen, &Answers::default());
    let seen = with_target(world(1, &state), |target| target.pods = pods(u32::MAX, 1));
    let _ = decide(&plan, &state, &seen, &Answers::default());
}

#[test]
fn an_analysis_that_is_skipped_from_now_on_does_not_spin_while_it_waits() {
    let plan = Plan { skip_analysis: true, ..plan() };
    let blocked = Analysis { blocked: Some(START), ..analysis(20) };
    let state = state(Phase::Progressing(blocked));
    let seen = World { routing: Routing::Missing, ..world(30, &state) };
    let Decision { wake, .. } = decide(&plan, &state, &seen, &Answers::default());
    assert!(wake.unwrap() > at(30), "{wake:?}");
}

#[test]
fn s5_an_interval_does_not_begin_before_the_traffic_is_led() {
    let plan = plan();
    let state = state(Phase::Progressing(Analysis { prepared: true, ..analysis(50) }));
    let interval = plan.interval.as_secs();
    let seen = |seconds| World { led: Some(Led { since: at(5), written: at(5) }), ..world(seconds, &state) };
    for (early, asks) in [(interval, false), (interval + 4, false), (interval + 5, true)] {
        assert_eq!(questions(&plan, &state, &seen(early)).metrics, asks, "{early} s after the record");
    }
    let early = decide(&plan, &state, &seen(interval), &Answers::default());
    assert_eq!((early.state, early.wake), (state.clone(), Some(at(interval + 5))), "nothing is recorded for it");
    assert!(questions(&plan, &state, &world(interval, &state)).metrics, "it is not known when it was led");
}
