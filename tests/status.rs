//! What is recorded is what is read back: a restart changes nothing (S7).

use jiff::{SignedDuration, Timestamp};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serin::api::{self, CanaryStatus};
use serin::domain::{
    Analysis, CanaryPods, Check, Configs, Decision, Ending, Farewell, Gate, Limits, OnInconclusive, Outcome, Percent,
    Phase, Plan, Promotion, Revision, State, Steps, Target, Unknown, Waiting, Weight,
};
use std::collections::BTreeSet;

/// The recorded numbers are those of Kubernetes.
const MOST: u32 = i32::MAX.unsigned_abs();

fn times() -> impl Strategy<Value = Timestamp> {
    let end = Timestamp::MAX.as_nanosecond();
    prop_oneof![
        (0..end).prop_map(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).unwrap()),
        (0..2_000_000_000_i64).prop_map(|seconds| Timestamp::from_second(seconds).unwrap()),
    ]
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![0..5_u32, 0..=MOST]
}

fn weights() -> impl Strategy<Value = Weight> {
    (0..=100_i64).prop_map(|percent| Weight::try_from(percent).unwrap())
}

fn revisions() -> impl Strategy<Value = Revision> {
    "[0-9a-f]{1,10}".prop_map(Revision)
}

fn phases() -> impl Strategy<Value = Phase> {
    let stages = prop::sample::select(vec![
        Farewell::Reviving,
        Farewell::HandingOver,
        Farewell::Draining,
        Farewell::Released,
        Farewell::Kept,
    ]);
    let gates = option::of(prop::sample::select(vec![Gate::TrafficIncrease, Gate::Promotion]));
    let numbers = (counts(), counts(), counts());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let analysis = (weights(), times(), times(), numbers, option::of(times()), gates, flags).prop_map(
        |(weight, set, since, (passed, failed, inconclusive), blocked, gate, flags)| {
            let (early, prepared, approved, paused, skipped) = flags;
            Analysis {
                weight,
                set,
                since,
                early,
                passed,
                failed,
                inconclusive,
                blocked,
                prepared,
                gate,
                approved,
                paused,
                skipped,
            }
        },
    );
    let promotion = (weights(), times(), option::of(".{0,20}"), option::of(times()), option::of(times()))
        .prop_map(|(weight, since, undo, shifted, asked)| Promotion { weight, since, undo, shifted, asked });
    prop_oneof![
        times().prop_map(|since| Phase::Initializing { since }),
        times().prop_map(|since| Phase::Initialized { since }),
        (times(), option::of(times())).prop_map(|(since, asked)| Phase::Waiting { since, asked }),
        analysis.prop_map(Phase::Progressing),
        promotion.prop_map(Phase::Promoting),
        times().prop_map(|since| Phase::Finalising { since }),
        times().prop_map(|since| Phase::Succeeded { since }),
        (times(), ".{0,20}").prop_map(|(since, why)| Phase::Failed { since, why }),
        (times(), stages).prop_map(|(since, stage)| Phase::Terminating { since, stage }),
    ]
}

fn states() -> impl Strategy<Value = State> {
    let configs = btree_map("(configmap|secret)/[a-z]{1,9}", "[0-9a-f]{1,16}", 0..3).prop_map(Configs);
    let target = (revisions(), revisions(), any::<i64>(), configs).prop_map(|(revision, hash, generation, configs)| {
        Target { revision, hash, generation, uid: "u".into(), configs }
    });
    let pods = prop_oneof![
        Just(CanaryPods::Up),
        Just(CanaryPods::Stale),
        times().prop_map(|since| CanaryPods::Draining { since }),
        Just(CanaryPods::Down),
    ];
    let owed = (revisions(), any::<bool>()).prop_map(|(revision, succeeded)| Ending { revision, succeeded });
    let command = option::of(prop_oneof!["approve", "retry", ".{0,20}"]);
    (phases(), option::of(target), option::of(revisions()), pods, counts(), option::of(owed), command, any::<bool>())
        .prop_map(|(phase, target, promoted, canary, replicas, owed, command, selective)| State {
            phase,
            target,
            promoted,
            canary,
            replicas,
            owed,
            selective,
            command,
        })
}

fn outcomes() -> impl Strategy<Value = Option<Outcome>> {
    let answers =
        prop_oneof![any::<f64>().prop_map(Ok), Just(Err(Unknown::NoSamples)), Just(Err(Unknown::ManySeries(2)))];
    let limits = Limits { min: Some(99.0), max: None };
    let check = answers.prop_map(move |answer| Check { metric: "request-success-rate".into(), limits, answer });
    option::of(vec(check, 0..3).prop_map(Outcome))
}

fn plan() -> Plan {
    let second = SignedDuration::from_secs(1);
    Plan {
        steps: Steps::new([10, 50].map(|percent| Weight::try_from(percent).unwrap()).to_vec()).unwrap(),
        selective: false,
        checks_before: 0,
        checks_per_step: 1,
        mirror: Weight::ZERO,
        promotion_step: None,
        hooks: BTreeSet::new(),
        interval: second,
        threshold: 1,
        inconclusive_limit: 1,
        on_inconclusive: OnInconclusive::Rollback,
        metrics: vec![],
        progress_deadline: second,
        canary_ready: Percent::ALL,
        primary_ready: Percent::ALL,
        drain_delay: second,
        route_grace: second,
        skip_analysis: false,
        suspend: false,
        vacate_primary: false,
    }
}

fn through_json(status: &CanaryStatus) -> CanaryStatus {
    serde_json::from_str(&serde_json::to_string(status).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was recorded before: nothing of an older state is left in a newer one.
    #[test]
    fn s7_what_is_recorded_is_what_is_read(
        rounds in vec((states(), outcomes(), option::of(Just(Waiting::RoutePending)), times()), 1..6),
    ) {
        let mut status: Option<CanaryStatus> = None;
        for (state, outcome, waiting, now) in rounds {
            let decision = Decision { state: state.clone(), notes: vec![], waiting, wake: None };
            let recorded = api::record(status.as_ref(), &plan(), &decision, outcome.as_ref(), Some(1), now);
            let read = through_json(&recorded);
            prop_assert_eq!(api::state(Some(&read), now), Ok(state));
            // S9: a pass that decides the same writes nothing.
            let later = now.saturating_add(SignedDuration::from_secs(9)).unwrap();
            prop_assert_eq!(&api::record(Some(&read), &plan(), &decision, None, Some(1), later), &read);
            status = Some(read);
        }
    }

    /// A spec that is refused for a while loses nothing either.
    #[test]
    fn s7_a_refused_spec_keeps_what_was_recorded(state in states(), now in times()) {
        let decision = Decision { state: state.clone(), notes: vec![], waiting: None, wake: None };
        let recorded = api::record(None, &plan(), &decision, None, Some(1), now);
        let refused = api::refused(Some(&through_json(&recorded)), "InvalidSpec", "no steps", Some(2), now);
        prop_assert_eq!(api::state(Some(&through_json(&refused)), now), Ok(state));
    }
}

#[test]
fn a_canary_without_a_status_begins() {
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(api::state(None, now), Ok(State::new(now)));
    assert_eq!(api::state(Some(&through_json(&CanaryStatus::default())), now), Ok(State::new(now)));
}

/// A status that was written before there were gates, hooks and orders.
#[test]
fn an_older_status_is_read() {
    let now = Timestamp::UNIX_EPOCH;
    let old = |phase: &str| {
        serde_json::from_value::<CanaryStatus>(serde_json::json!({
            "phase": phase, "since": "1970-01-01T00:00:00Z", "canaryWeight": 20, "step": 1, "iterations": 0,
            "failedChecks": 1, "inconclusiveChecks": 0, "canaryPods": "Up", "replicas": 2,
        }))
        .unwrap()
    };
    let analysis = Analysis { weight: Weight::try_from(20).unwrap(), failed: 1, blocked: None, ..Analysis::new(now) };
    assert_eq!(api::state(Some(&old("Progressing")), now).unwrap().phase, Phase::Progressing(analysis));
    let promotion = Promotion::new(Weight::try_from(20).unwrap(), now);
    assert_eq!(api::state(Some(&old("Promoting")), now).unwrap().phase, Phase::Promoting(promotion));
}
