//! What always holds, whatever happens (`DESIGN.md`, section 5).

mod found;
mod script;

use super::{Decision, Reason, decide};
use crate::domain::{
    Acceptance, Answers, CanaryPods, Farewell, Gate, Hook, Phase, Promotion, Revision, Scale, Split, State, Steps,
    Traffic, Verdict, Weight, questions,
};
use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use script::{Cluster, Pass, scripts};

/// Enough for every step, every failed and inconclusive check, a promotion there and back, and the draining; twice,
/// because a promotion may end with a target that has moved on.
const ENOUGH: usize = 250;

/// `PROPTEST_CASES` makes it more.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn s1_the_weights_sum_to_a_hundred(script in scripts()) {
        for pass in script.play().0 {
            let weight = pass.weight();
            prop_assert_eq!(weight.primary() + weight.canary(), 100);
            if let Traffic::Split(split) = pass.decision.state.traffic(&pass.plan) {
                prop_assert_eq!(split.weight, weight);
            } else {
                prop_assert_eq!(weight, Weight::ZERO);
            }
        }
    }

    #[test]
    fn s5_a_weight_is_never_of_other_requests_than_were_checked(script in scripts()) {
        for pass in script.play().0.iter().filter(|pass| pass.weight() > Weight::ZERO) {
            let primary_serves = pass.seen.primary.as_ref().is_some_and(|primary| !primary.pods.lost());
            let kept = matches!(pass.decision.state.phase, Phase::Promoting(_)) && !primary_serves;
            prop_assert!(kept || pass.decision.state.selective == pass.plan.selective, "{:#?}", pass);
            let rose = pass.before.weight() == Weight::ZERO;
            prop_assert!(rose || pass.decision.state.selective == pass.before.selective, "{:#?}", pass);
        }
    }

    #[test]
    fn s2_no_traffic_to_a_canary_without_pods(script in scripts()) {
        for pass in script.active().iter().filter(|pass| pass.weight() > Weight::ZERO) {
            let available = pass.seen.target.as_ref().map_or(0, |target| target.pods.available);
            prop_assert!(available > 0, "{:#?}", pass);
        }
    }

    #[test]
    fn s2_only_what_has_had_no_traffic_for_the_drain_delay_is_scaled_down(script in scripts()) {
        let mut quiet: Vec<jiff::Timestamp> = vec![];
        let mut down = false;
        for pass in script.active().iter().filter(|pass| pass.seen.target.is_some()) {
            let (now, delay) = (pass.seen.now, pass.plan.drain_delay);
            if pass.shows_no_traffic() { quiet.push(now) } else { quiet.clear() }
            let zero = pass.decision.state.scale(&pass.plan, now) == Scale::Zero;
            if zero && !down {
                prop_assert!(quiet.iter().any(|since| *since + delay <= now), "{:#?}", pass);
            }
            down = pass.decision.state.canary == CanaryPods::Down;
            prop_assert!(!down || zero, "{:#?}", pass);
        }
    }

    #[test]
    fn s2_the_app_is_handed_over_to_ready_pods_of_the_promoted_version_only(script in scripts()) {
        let of = |state: &State| match state.phase {
            Phase::Terminating { stage, .. } => Some(stage),
            _ => None,
        };
        for pass in script.play().0 {
            let Some(target) = &pass.seen.target else { continue };
            let stages = (of(&pass.before), of(&pass.decision.state));
            if stages == (Some(Farewell::Reviving), Some(Farewell::HandingOver)) {
                prop_assert!(target.pods.ready(pass.plan.canary_ready));
                prop_assert!(!pass.shows_news(), "{:#?}", pass);
                let back = pass.before.promoted.as_ref() == Some(&target.revision);
                prop_assert!(back || pass.before.candidate().is_none(), "{:#?}", pass);
            }
            let released = stages.1 == Some(Farewell::Released) && stages.0 != stages.1;
            if released && !matches!(pass.before.phase, Phase::Initializing { .. }) {
                prop_assert_eq!(stages.0, Some(Farewell::Draining), "{:#?}", pass);
                let Phase::Terminating { since, .. } = pass.before.phase else { unreachable!() };
                prop_assert!(pass.seen.now >= since + pass.plan.drain_delay, "{:#?}", pass);
            }
        }
    }

    #[test]
    fn s3_only_what_was_analysed_to_the_end_is_promoted(script in scripts()) {
        let mut analysed: Option<Revision> = None;
        for pass in script.play().0 {
            let (before, after) = (&pass.before, &pass.decision.state);
            if let (Phase::Progressing(analysis), Phase::Promoting(_)) = (&before.phase, &after.phase) {
                let needed = pass.plan.checks_at(analysis.weight);
                let checked = needed == 0 || (pass.good() && analysis.passed + 1 >= needed);
                let passed = checked && pass.plan.steps.after(analysis.weight).is_none();
                prop_assert!(passed || pass.skipped(), "{:#?}", pass);
                let served = analysis.weight > Weight::ZERO || pass.plan.steps == Steps::none();
                prop_assert!(served || pass.skipped(), "{:#?}", pass);
                let vacated = !pass.plan.vacate_primary || analysis.weight == Weight::FULL;
                prop_assert!(vacated, "{:#?}", pass);
                analysed = before.candidate().cloned();
            }
            let first = matches!(before.phase, Phase::Initializing { .. });
            if after.promoted != before.promoted && !first {
                prop_assert!(matches!(before.phase, Phase::Promoting(Promotion { undo: None, .. })), "{:#?}", pass);
                prop_assert_eq!(&after.promoted, &analysed);
            }
            let forward = matches!(after.phase, Phase::Promoting(Promotion { undo: None, .. }));
            let wanted = if forward { &analysed } else { &after.promoted };
            prop_assert_eq!(after.primary_revision(), wanted.as_ref());
        }
    }

    #[test]
    fn s3_pods_that_began_with_other_configs_go_before_there_is_traffic(script in scripts()) {
        let mut stale = false;
        for pass in script.play().0 {
            let (Some(target), after) = (&pass.seen.target, &pass.decision.state) else { continue };
            let fences = pass.before.target.as_ref().zip(after.target.as_ref()).filter(|(before, after)| before != after);
            if let (Some((before, now)), Phase::Progressing(_)) = (fences, &after.phase) {
                // Another template brings other pods by itself, but those that were to go may be the ones that it brought.
                stale |= !before.configs.agree(&now.configs);
                stale &= target.replicas > 0 || target.pods.total > 0;
            }
            let gone = target.pods.current && target.pods.wanted == 0 && target.pods.total == 0;
            stale &= matches!(after.phase, Phase::Progressing(_)) && !gone;
            prop_assert!(!stale || pass.weight() == Weight::ZERO, "{:#?}", pass);
        }
    }

    #[test]
    fn s6_what_is_incomplete_is_no_version(script in scripts()) {
        for pass in script.play().0 {
            let Some(target) = pass.seen.target.as_ref().filter(|target| target.incomplete.is_some()) else { continue };
            let version = |state: &State| state.target.clone().map(|fence| (fence.revision, fence.configs));
            // A primary that was found is a version too.
            let chosen = pass.before.target.is_none() && pass.seen.primary.is_some();
            prop_assert!(chosen || version(&pass.decision.state) == version(&pass.before), "{:#?}", pass);
            let same = pass.before.target.as_ref().is_some_and(|fence| fence.is(target));
            let held = matches!(pass.before.phase, Phase::Progressing(_) | Phase::Promoting(_)) && !pass.plan.suspend;
            prop_assert!(same || !held || pass.seen.deleted || pass.weight() == Weight::ZERO, "{:#?}", pass);
            prop_assert!(pass.weight() <= pass.before.weight(), "{:#?}", pass);
        }
    }

    #[test]
    fn s6_to_follow_a_config_or_not_is_no_version(script in scripts()) {
        let (_, mut cluster) = script.play();
        settle(&mut cluster, &Acceptance::Accepted)?;
        if cluster.deleted {
            return Ok(());
        }
        let before = cluster.state.clone();
        cluster.follow(!cluster.follows());
        settle(&mut cluster, &Acceptance::Accepted)?;
        prop_assert_eq!(cluster.state.phase, before.phase);
        prop_assert_eq!(cluster.state.promoted, before.promoted);
    }

    #[test]
    fn s3_the_gateway_shows_the_last_step_before_a_promotion(script in scripts()) {
        for pass in script.play().0 {
            let (Phase::Progressing(analysis), Phase::Promoting(_)) = (&pass.before.phase, &pass.decision.state.phase)
            else { continue };
            let shown = matches!(&pass.seen.routing, crate::domain::Routing::Split(weight, _) if *weight == analysis.weight);
            prop_assert!(shown, "{:#?}", pass);
        }
    }

    #[test]
    fn s4_after_a_rollback_the_weight_stays_0_until_there_is_another_version(script in scripts()) {
        let mut failed = false;
        for pass in script.play().0 {
            if failed && pass.shows_news() && !pass.plan.suspend && !pass.seen.deleted {
                failed = false;
            }
            if pass.ordered("retry") {
                failed = false;
            }
            failed |= pass.decision.notes.iter().any(|note| note.reason == Reason::RolledBack);
            prop_assert!(!failed || pass.weight() == Weight::ZERO, "{:#?}", pass);
            prop_assert!(!failed || !matches!(pass.decision.state.phase, Phase::Progressing(_)), "{:#?}", pass);
        }
    }

    #[test]
    fn s4_a_failed_check_at_the_threshold_takes_all_traffic_in_the_same_pass(script in scripts()) {
        for pass in script.active().iter().filter(|pass| pass.bad() && !pass.rolled_back() && !pass.ordered("abort")) {
            let (Phase::Progressing(before), after) = (&pass.before.phase, &pass.decision.state) else { continue };
            match &after.phase {
                Phase::Failed { .. } => prop_assert!(before.failed + 1 >= pass.plan.threshold, "{:#?}", pass),
                Phase::Progressing(after) => {
                    prop_assert_eq!(after.failed, before.failed + 1);
                    prop_assert!(after.failed < pass.plan.threshold && after.weight <= before.weight, "{:#?}", pass);
                }
                _ => prop_assert!(false, "{:#?}", pass),
            }
        }
    }

    #[test]
    fn s5_the_weight_rises_by_one_step_and_for_a_reason(script in scripts()) {
        for pass in script.play().0 {
            let (before, after) = (pass.before.weight(), pass.weight());
            if after <= before {
                continue;
            }
            let ready = pass.seen.target.as_ref().is_some_and(|target| target.pods.ready(pass.plan.canary_ready));
            let Some(analysis) = pass.analysis() else { return Err(TestCaseError::fail(format!("{pass:#?}"))) };
            prop_assert!(ready && !pass.plan.suspend && !pass.seen.deleted, "{:#?}", pass);
            if pass.plan.vacate_primary && pass.skipped() {
                prop_assert_eq!(after, Weight::FULL);
                continue;
            }
            let needed = pass.plan.checks_at(before);
            prop_assert_eq!(Some(after), pass.plan.steps.after(before));
            prop_assert!(needed == 0 || (pass.good() && analysis.passed + 1 >= needed), "{:#?}", pass);
            let prepared = before > Weight::ZERO || analysis.prepared || pass.open(Hook::PreRollout);
            prop_assert!(prepared, "{:#?}", pass);
        }
    }

    #[test]
    fn s3_checks_that_count_have_passed(script in scripts()) {
        for pass in script.play().0 {
            let (Some(before), Phase::Progressing(after)) = (pass.analysis(), &pass.decision.state.phase) else { continue };
            if after.passed > before.passed {
                prop_assert_eq!((after.passed, after.weight), (before.passed + 1, before.weight));
                prop_assert!(pass.good(), "{:#?}", pass);
            }
            prop_assert!(after.weight == before.weight || after.passed == 0, "{:#?}", pass);
        }
    }

    #[test]
    fn a_gate_that_never_said_yes_and_was_never_approved_is_never_passed(script in scripts()) {
        for pass in script.play().0 {
            let after = &pass.decision.state;
            if !matches!(pass.before.phase, Phase::Progressing(_)) && matches!(after.phase, Phase::Progressing(_)) {
                let waited = matches!(pass.before.phase, Phase::Waiting { .. });
                prop_assert!(waited || !pass.plan.hooks.contains(&Hook::ConfirmRollout), "{:#?}", pass);
                let opened = pass.open(Hook::ConfirmRollout) || pass.ordered("approve") || pass.ordered("promote");
                prop_assert!(opened, "{:#?}", pass);
            }
            let Some(analysis) = pass.analysis() else { continue };
            let gate = if after.weight() > analysis.weight {
                Gate::TrafficIncrease
            } else if matches!(after.phase, Phase::Promoting(_)) {
                Gate::Promotion
            } else {
                continue;
            };
            let approved = analysis.gate == Some(gate) && (analysis.approved || pass.ordered("approve"));
            prop_assert!(pass.open(gate.hook()) || approved || pass.skipped(), "{:#?}", pass);
        }
    }

    #[test]
    fn an_approval_is_for_one_gate(script in scripts()) {
        for pass in script.play().0 {
            let (Some(before), Phase::Progressing(after)) = (pass.analysis(), &pass.decision.state.phase) else { continue };
            prop_assert!(!after.approved || before.approved || pass.ordered("approve"), "{:#?}", pass);
            prop_assert!(after.weight <= before.weight || !after.approved, "{:#?}", pass);
        }
    }

    #[test]
    fn what_is_paused_does_not_rise(script in scripts()) {
        for pass in script.play().0 {
            let Some(before) = pass.analysis() else { continue };
            let released = pass.ordered("resume") || pass.ordered("promote");
            if pass.ordered("pause") || (before.paused && !released) {
                prop_assert!(pass.weight() <= before.weight, "{:#?}", pass);
                prop_assert!(!matches!(pass.decision.state.phase, Phase::Promoting(_)), "{:#?}", pass);
            }
        }
    }

    #[test]
    fn an_order_is_taken_exactly_once(script in scripts()) {
        for pass in script.play().0 {
            let found = pass.seen.command.as_ref().map(|command| &command.written);
            let new = found.is_some() && found != pass.before.command.as_ref();
            let answers = pass.decision.notes.iter().filter(|it| matches!(it.reason, Reason::Ordered | Reason::OrderRefused));
            prop_assert_eq!(answers.count(), usize::from(new), "{:#?}", pass);
            prop_assert_eq!(pass.decision.state.command.as_ref(), found);
        }
    }

    #[test]
    fn a_rollback_hook_takes_the_version_back_in_the_same_pass(script in scripts()) {
        for pass in script.play().0.iter().filter(|pass| pass.rolled_back()) {
            match &pass.decision.state.phase {
                Phase::Failed { .. } => {}
                Phase::Promoting(Promotion { undo: Some(_), weight, .. }) => {
                    let lost = pass.seen.primary.as_ref().is_none_or(|primary| primary.pods.lost());
                    prop_assert!(*weight == Weight::ZERO || lost || pass.plan.vacate_primary, "{:#?}", pass);
                }
                // What was approved in the very pass is not yet to be taken back; it has no pods.
                Phase::Progressing(_) => {
                    let begun = matches!(pass.before.phase, Phase::Waiting { .. });
                    let ordered = pass.ordered("approve") || pass.ordered("promote");
                    prop_assert!(begun && ordered, "{:#?}", pass);
                }
                _ => prop_assert!(false, "{:#?}", pass),
            }
        }
    }

    #[test]
    fn s2_copies_go_to_ready_pods_of_the_analysed_version_before_the_first_step_only(script in scripts()) {
        for pass in script.play().0 {
            let after = &pass.decision.state;
            let Traffic::Split(Split { weight, mirror }) = after.traffic(&pass.plan) else { continue };
            if mirror == Weight::ZERO {
                continue;
            }
            let target = after.target.as_ref().zip(pass.seen.target.as_ref()).filter(|(fence, seen)| fence.is(seen));
            prop_assert!(target.is_some_and(|(_, seen)| seen.pods.ready(pass.plan.canary_ready)), "{:#?}", pass);
            let Phase::Progressing(analysis) = &after.phase else { return Err(TestCaseError::fail(format!("{pass:#?}"))) };
            prop_assert!(analysis.prepared || !pass.plan.hooks.contains(&Hook::PreRollout), "{:#?}", pass);
            prop_assert_eq!((weight, mirror), (Weight::ZERO, pass.plan.mirror));
            prop_assert!(!pass.plan.suspend && pass.plan.checks_before > 0, "{:#?}", pass);
        }
    }

    #[test]
    fn an_end_that_is_owed_is_told(script in scripts()) {
        for pass in script.play().0 {
            let (before, after) = (&pass.before.owed, &pass.decision.state.owed);
            let hooks = pass.plan.hooks.contains(&Hook::PostRollout);
            let told = pass.hook(Hook::PostRollout).is_some();
            let over = |reason| reason == Reason::RolledBack || reason == Reason::Succeeded;
            if hooks && pass.decision.notes.iter().any(|note| over(note.reason)) {
                prop_assert!(after.is_some(), "{:#?}", pass);
            }
            if before.is_some() && after.is_none() {
                prop_assert!(told || !hooks, "{:#?}", pass);
            }
            if before.is_some() && hooks {
                prop_assert!(pass.asked.hooks.contains(&Hook::PostRollout), "{:#?}", pass);
            }
        }
    }

    #[test]
    fn what_is_missing_is_no_yes(script in scripts()) {
        for pass in script.play().0.iter().filter(|pass| pass.analysis().is_some()) {
            if pass.asked.hooks.contains(&Hook::Rollback) && pass.hook(Hook::Rollback).is_none() {
                prop_assert!(!matches!(pass.decision.state.phase, Phase::Promoting(_)), "{:#?}", pass);
                prop_assert!(pass.weight() <= pass.before.weight(), "{:#?}", pass);
            }
            if pass.asked.hooks.contains(&Hook::Rollout) && pass.hook(Hook::Rollout).is_none() && !pass.skipped() {
                prop_assert!(!matches!(pass.decision.state.phase, Phase::Promoting(_)), "{:#?}", pass);
                prop_assert!(pass.weight() <= pass.before.weight(), "{:#?}", pass);
            }
        }
    }

    #[test]
    fn s5_a_step_lasts_an_interval(script in scripts()) {
        for pass in script.play().0 {
            let (Phase::Progressing(before), Phase::Progressing(after)) = (&pass.before.phase, &pass.decision.state.phase)
            else { continue };
            if before.weight > Weight::ZERO && after.weight > before.weight && !pass.skipped() && !before.early {
                let approved = pass.ordered("approve");
                prop_assert!(approved || pass.seen.now >= before.since + pass.plan.interval, "{:#?}", pass);
            }
        }
    }

    #[test]
    fn s5_the_weight_of_an_analysis_is_never_above_the_plans(script in scripts()) {
        for pass in script.active().iter().filter(|pass| matches!(pass.decision.state.phase, Phase::Progressing(_))) {
            prop_assert!( pass.weight() <= pass.plan.steps.max(), "{:#?}", pass);
        }
    }

    #[test]
    fn s6_every_new_version_is_seen_and_loses_its_traffic(script in scripts()) {
        for pass in script.active().iter().filter(|pass| pass.shows_news() && !pass.seen.deleted && !pass.ordered("abort")) {
            let after = &pass.decision.state;
            let seen = pass.seen.target.as_ref().map(|target| &target.revision);
            match &pass.before.phase {
                Phase::Initialized { .. } | Phase::Succeeded { .. } | Phase::Failed { .. } | Phase::Waiting { .. } | Phase::Progressing(_) => {
                    prop_assert!(matches!(after.phase, Phase::Waiting { .. } | Phase::Progressing(_)), "{:#?}", pass);
                    prop_assert_eq!(after.target.as_ref().map(|target| &target.revision), seen);
                    let waits = matches!(after.phase, Phase::Waiting { .. }) && after.canary == CanaryPods::Down;
                    prop_assert!(waits || matches!(after.canary, CanaryPods::Up | CanaryPods::Stale), "{:#?}", pass);
                }
                Phase::Initializing { .. } | Phase::Promoting(_) | Phase::Finalising { .. } | Phase::Terminating { .. } => {}
            }
            prop_assert_eq!(pass.weight(), Weight::ZERO);
        }
    }

    #[test]
    fn s8_what_cannot_be_seen_never_advances(script in scripts()) {
        for pass in script.play().0.iter().filter(|pass| pass.verdict() == Some(Verdict::Inconclusive) && !pass.skipped()) {
            prop_assert!(pass.weight() <= pass.before.weight(), "{:#?}", pass);
            prop_assert!(!matches!(pass.decision.state.phase, Phase::Promoting(_)), "{:#?}", pass);
        }
    }

    #[test]
    fn s8_what_was_not_asked_is_not_heard(script in scripts()) {
        for pass in script.play().0 {
            let mut answers = pass.answers.clone();
            answers.outcome = answers.outcome.filter(|_| pass.asked.metrics);
            answers.hooks.retain(|hook, _| pass.asked.hooks.contains(hook));
            prop_assert_eq!(&decide(&pass.plan, &pass.before, &pass.seen, &answers), &pass.decision);
        }
    }

    #[test]
    fn s9_only_a_canary_with_traffic_is_asked_about_and_not_before_its_time(script in scripts()) {
        for pass in script.play().0 {
            let target = pass.before.target.as_ref().zip(pass.seen.target.as_ref());
            let same = target.is_some_and(|(fence, seen)| fence.is(seen));
            let held = pass.plan.suspend || pass.seen.deleted || !same;
            let again = |asked: Option<jiff::Timestamp>| asked.is_none_or(|asked| pass.seen.now >= asked + pass.plan.interval);
            let due = match &pass.before.phase {
                Phase::Progressing(analysis) => analysis.early || pass.seen.now >= analysis.since + pass.plan.interval,
                Phase::Waiting { asked, .. } | Phase::Promoting(Promotion { undo: None, asked, .. }) => again(*asked),
                _ => false,
            };
            let seen = match &pass.before.phase {
                Phase::Progressing(analysis) if !pass.plan.skip_analysis => {
                    let serves = analysis.weight > Weight::ZERO;
                    let copies = pass.plan.checks_before > 0 && analysis.blocked.is_none() && analysis.is_prepared(&pass.plan);
                    let ready = pass.seen.target.as_ref().is_some_and(|it| it.pods.ready(pass.plan.canary_ready));
                    if serves { true } else if copies && ready { pass.asked.metrics } else { false }
                }
                _ => false,
            };
            prop_assert_eq!(pass.asked.metrics, due && seen && !held, "{:#?}", pass);
            let others = pass.asked.hooks.iter().any(|hook| *hook != Hook::PostRollout);
            prop_assert!(!others || (due && !held), "{:#?}", pass);
        }
    }

    #[test]
    fn s9_nothing_happens_when_nothing_happens(script in scripts()) {
        let (_, mut cluster) = script.play();
        settle(&mut cluster, &Acceptance::Accepted)?;
        for later in [0, 1, 60, 86_400] {
            let mut seen = cluster.world(&Acceptance::Accepted);
            seen.now += SignedDuration::from_secs(later);
            prop_assert!(questions(&cluster.plan, &cluster.state, &seen).is_empty());
            let Decision { state, notes, waiting, wake } = decide(&cluster.plan, &cluster.state, &seen, &Answers::default());
            prop_assert_eq!(&state, &cluster.state);
            prop_assert_eq!((wake, notes), (None, vec![]));
            prop_assert_eq!(waiting.and_then(|waiting| waiting.reason()), None);
        }
    }

    #[test]
    fn the_same_pass_decides_the_same(script in scripts()) {
        prop_assert_eq!(format!("{:?}", script.play()), format!("{:?}", script.play()));
    }

    #[test]
    fn deciding_again_comes_to_rest(script in scripts()) {
        for pass in script.play().0 {
            let again = |state: &State| decide(&pass.plan, state, &pass.seen, &Answers::default()).state;
            let states: Vec<_> = std::iter::successors(Some(pass.decision.state.clone()), |state| Some(again(state))).take(10).collect();
            prop_assert_eq!(&states[8], &states[9], "{:#?}", states);
        }
    }

    #[test]
    fn somebody_wakes_what_waits_for_time(script in scripts()) {
        for pass in script.active().iter().filter(|pass| !pass.missing()) {
            let Decision { state, wake, .. } = &pass.decision;
            let (now, missing) = (pass.seen.now, pass.seen.target.is_none());
            if *state != pass.before || pass.seen.deleted || missing {
                continue;
            }
            prop_assert!(wake.is_none_or(|wake| wake > now), "in the past: {:#?}", pass);
            match &state.phase {
                Phase::Progressing(analysis) => {
                    let next = analysis.since + pass.plan.interval;
                    let checked = analysis.weight > Weight::ZERO && !pass.plan.skip_analysis && !analysis.early;
                    if pass.plan.skip_analysis && analysis.paused && analysis.blocked.is_none() {
                        continue;
                    }
                    prop_assert!(wake.is_some_and(|wake| !checked || wake <= next), "{:#?}", pass);
                }
                Phase::Waiting { .. } => {
                    // What is missing wakes it.
                    let incomplete = pass.seen.target.as_ref().is_some_and(|target| target.incomplete.is_some());
                    prop_assert!(incomplete || wake.is_some(), "{:#?}", pass);
                }
                Phase::Promoting(Promotion { undo: None, shifted: None, .. }) => {
                    prop_assert!(wake.is_some(), "{:#?}", pass);
                }
                _ => {}
            }
            if let CanaryPods::Draining { since } = state.canary {
                let over = since + pass.plan.drain_delay;
                // In an analysis the progress deadline may come first.
                prop_assert!(now >= over || wake.is_some_and(|wake| wake <= over), "{:#?}", pass);
            }
        }
    }

    #[test]
    fn every_rollout_ends_when_the_world_is_friendly(script in scripts()) {
        let (_, mut cluster) = script.play();
        settle(&mut cluster, &Acceptance::Accepted)?;
    }

    #[test]
    fn every_rollout_ends_with_a_gateway_that_never_says_anything(script in scripts()) {
        let (_, mut cluster) = script.play();
        cluster.plan.route_grace = cluster.plan.route_grace.min(cluster.plan.interval);
        settle(&mut cluster, &Acceptance::Silent)?;
    }
}

/// Passes in a friendly world until nothing changes; then everything must be as it should.
fn settle(cluster: &mut Cluster, acceptance: &Acceptance) -> TestCaseResult {
    cluster.plan.suspend = false;
    cluster.command = None;
    if let Phase::Progressing(analysis) = &mut cluster.state.phase {
        analysis.paused = false;
    }
    let mut told: Vec<Pass> = vec![];
    for _ in 0..ENOUGH {
        let (pass, moved) = cluster.friendly(acceptance);
        let ended = !moved && pass.decision.wake.is_none();
        told.push(pass);
        if ended {
            return as_it_should(cluster);
        }
    }
    let last = told.iter().rev().take(6).collect::<Vec<_>>();
    prop_assert!(false, "no end: {:#?}", last);
    Ok(())
}

fn as_it_should(cluster: &Cluster) -> TestCaseResult {
    let state = &cluster.state;
    let seen = cluster.world(&Acceptance::Accepted).target;
    let is_targets = state.target.as_ref().zip(seen.as_ref()).is_some_and(|(fence, seen)| fence.is(seen));
    let promoted = state.candidate().is_none();
    match &state.phase {
        Phase::Terminating { stage, .. } => {
            prop_assert!(matches!(stage, Farewell::Released | Farewell::Kept), "{:#?}", cluster);
            return Ok(());
        }
        Phase::Initialized { .. } | Phase::Succeeded { .. } => prop_assert!(is_targets && promoted, "{:#?}", cluster),
        Phase::Failed { .. } => prop_assert!(is_targets && !promoted, "{:#?}", cluster),
        Phase::Initializing { .. }
        | Phase::Waiting { .. }
        | Phase::Progressing(_)
        | Phase::Promoting(_)
        | Phase::Finalising { .. } => {
            prop_assert!(false, "{:#?}", cluster);
        }
    }
    prop_assert_eq!(state.canary, CanaryPods::Down);
    prop_assert_eq!(seen.map(|seen| seen.replicas), Some(0));
    Ok(())
}
