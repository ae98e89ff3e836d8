//! A new version is analysed: rounds of checks, steps, gates, and every way back.

use super::capacity;
use super::heard::{Heard, Round, Said};
use super::note::{Note, Reason, Waiting};
use super::pending::{Pending, hindrance, later, without_traffic};
use super::{Decision, News, failed, go, is_remade, news, progressing, restore, supersede, wake_at};
use crate::domain::questions::{gate, opened};
use crate::domain::{
    Analysis, CanaryPods, Gate, Hook, OnInconclusive, Phase, Plan, Promotion, Reply, State, TargetSeen, Weight, World,
};
use jiff::{SignedDuration, Timestamp};

/// How soon is asked again what was not answered.
pub(super) const SOON: SignedDuration = SignedDuration::from_secs(1);

/// One look at an analysis. The order of the guards is the order of urgency.
pub(super) fn analyse(
    plan: &Plan,
    state: &State,
    recorded: &Analysis,
    seen: &World,
    target: &TargetSeen,
    heard: &Heard<'_>,
) -> Decision {
    let now = seen.now;
    match news(state, target) {
        News::Other => return supersede(plan, state, now, target),
        News::Back => return restore(state, now, target),
        News::Unclear(why) => return withdraw(plan, state, recorded, now, why),
        News::Same => {}
    }
    if let Some(why) = heard.rollback() {
        return failed(state, now, why);
    }
    if is_remade(state, target) {
        return replace_pods(plan, state, recorded, now);
    }
    let round = heard.round();
    let hindrance = hindrance(plan, state, recorded, seen, target);
    let blocked = hindrance.as_ref().map(|_| recorded.blocked.unwrap_or(now));
    let analysis = &Analysis { blocked, ..recorded.begun(seen) };
    let serves = analysis.weight > Weight::ZERO;
    let skipped = plan.skip_analysis || analysis.skipped;

    if serves && target.pods.lost() {
        return lose_pods(plan, state, analysis, now);
    }
    if let Round::Fail(why) = &round {
        return fail(plan, state, analysis, now, why);
    }
    if serves && state.selective != plan.selective {
        return choose_anew(plan, state, analysis, now);
    }
    if analysis.weight > plan.steps.max() {
        let note = Note::new(Reason::Advanced, format!("the plan ends at {} now", plan.steps.max()));
        return at_weight(plan, state, analysis, plan.steps.max(), now, note);
    }
    if serves && !skipped && !analysis.due(plan, now) {
        return dwell(plan, state, analysis, now);
    }
    if let (Round::Inconclusive(why), false) = (&round, skipped) {
        return inconclusive(plan, state, analysis, now, why);
    }
    if state.canary != CanaryPods::Up {
        return renew(plan, state, analysis, seen, target, heard);
    }
    if let Some(pending) = hindrance {
        return hindered(plan, state, analysis, now, pending, heard);
    }
    if skipped && analysis.paused {
        return pause(plan, state, analysis, now, heard);
    }
    if skipped && heard.hook(Hook::Rollback) == Said::Missing {
        return dwell(plan, state, analysis, now);
    }
    if skipped {
        return skip(plan, state, analysis, seen, target);
    }
    if !serves && recorded.blocked.is_some() && held_before(plan, analysis) {
        return get_ready(plan, state, analysis, now);
    }
    if !serves && held_before(plan, analysis) && !analysis.due(plan, now) {
        return dwell(plan, state, analysis, now);
    }
    if !serves && !analysis.is_prepared(plan) {
        return prepare(plan, state, analysis, now, heard);
    }
    let analysis = match (round, plan.checks_at(analysis.weight)) {
        (Round::Pass, needed) => &Analysis { passed: (analysis.passed + 1).min(needed), ..*analysis },
        (Round::None, 0) => analysis,
        _ => return dwell(plan, state, analysis, now),
    };
    go_on(plan, state, analysis, seen, target, heard)
}

/// Every check of this round passed.
fn go_on(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    seen: &World,
    target: &TargetSeen,
    heard: &Heard<'_>,
) -> Decision {
    let now = seen.now;
    let needed = plan.checks_at(analysis.weight);
    if analysis.passed < needed {
        let text = format!("check {} of {needed} passed at weight {}", analysis.passed, analysis.weight);
        let waiting = Waiting::Dwell { until: later(now, plan.interval) };
        return hold(plan, state, judged(analysis, now), now, waiting, vec![Note::new(Reason::CheckPassed, text)]);
    }
    if analysis.paused {
        return hold(plan, state, judged(analysis, now), now, Waiting::Paused, vec![]);
    }
    let gate = gate(plan, analysis);
    if plan.hooks.contains(&gate.hook()) && !opened(analysis, gate) {
        match heard.hook(gate.hook()) {
            Said::Yes => {}
            Said::No(replies) => return stand(plan, state, analysis, now, gate, replies),
            Said::Missing | Said::Nothing => return dwell(plan, state, analysis, now),
        }
    }
    let mut decision = match gate {
        Gate::TrafficIncrease if needed == 0 => advance(plan, state, analysis, now, "its pods are ready"),
        Gate::TrafficIncrease => advance(plan, state, analysis, now, "every check passed"),
        Gate::Promotion => promotion(state, analysis.weight, seen, target, "every check passed at the last step"),
    };
    if analysis.gate == Some(gate) {
        let text = format!("{} is open at weight {}", gate.hook().name(), analysis.weight);
        decision.notes.insert(0, Note::new(Reason::GateOpened, text));
    }
    decision
}

/// A gate is closed: the weight is held, the checks go on.
fn stand(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, gate: Gate, replies: &[Reply]) -> Decision {
    let waiting = Waiting::Gate { hook: gate.hook(), replies: replies.to_vec() };
    let text = format!("held at weight {}: {waiting}", analysis.weight);
    let note = (analysis.gate != Some(gate)).then(|| Note::new(Reason::GateClosed, text));
    let next = Analysis { gate: Some(gate), approved: false, ..judged(analysis, now) };
    hold(plan, state, next, now, waiting, note.into_iter().collect())
}

/// Whether pods that are ready get no traffic yet.
fn held_before(plan: &Plan, analysis: &Analysis) -> bool {
    let gate = gate(plan, analysis);
    let closed = plan.hooks.contains(&gate.hook()) && !opened(analysis, gate);
    !analysis.is_prepared(plan) || plan.checks_before > 0 || closed || analysis.paused
}

/// The pods are ready, and more stands before the first traffic: from now on they may get copies of requests.
fn get_ready(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp) -> Decision {
    let next = Analysis { early: asks_only(plan, analysis), ..judged(analysis, now) };
    let until = if next.early { later(now, SOON) } else { later(now, plan.interval) };
    let first = analysis.passed == 0 && analysis.failed == 0 && plan.checks_before > 0;
    let note = (first && analysis.is_prepared(plan)).then(|| {
        let copies = match plan.copies() {
            Weight::ZERO => String::new(),
            share => format!(", with copies of {share} % of the requests"),
        };
        let text = format!("its pods are ready; {} checks before the first traffic{copies}", plan.checks_before);
        Note::new(Reason::Checking, text)
    });
    wake_at(go(progressing(state, next), Waiting::Dwell { until }, note.into_iter().collect()), Some(until))
}

/// Whether the next round before the first traffic only asks hooks: a check needs an interval to look back on.
fn asks_only(plan: &Plan, analysis: &Analysis) -> bool {
    !analysis.is_prepared(plan) || plan.checks_before == 0
}

/// The pre-rollout hooks are asked once; a no was a failed check.
fn prepare(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, heard: &Heard<'_>) -> Decision {
    if heard.hook(Hook::PreRollout) != Said::Yes || heard.hook(Hook::Rollback) == Said::Missing {
        return dwell(plan, state, analysis, now);
    }
    let prepared = Analysis { prepared: true, ..judged(analysis, now) };
    if held_before(plan, &prepared) {
        return get_ready(plan, state, &prepared, now);
    }
    advance(plan, state, &prepared, now, "its pods are ready, and every pre-rollout webhook said yes")
}

/// Nothing is checked, so nothing has to be asked again and again.
fn pause(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, heard: &Heard<'_>) -> Decision {
    let next = if heard.no_rollback() { judged(analysis, now) } else { *analysis };
    let asked = plan.hooks.contains(&Hook::Rollback);
    let wake = asked.then(|| next_round(plan, &next, now));
    wake_at(go(progressing(state, next), Waiting::Paused, vec![]), wake)
}

/// The rest is skipped, as the plan or an order has it.
fn skip(plan: &Plan, state: &State, analysis: &Analysis, seen: &World, target: &TargetSeen) -> Decision {
    if plan.vacate_primary && analysis.weight < Weight::FULL {
        let text = format!("canary weight {}: the primary may lose its pods while it is updated", Weight::FULL);
        return at_weight(plan, state, analysis, Weight::FULL, seen.now, Note::new(Reason::Advanced, text));
    }
    promotion(state, analysis.weight, seen, target, "its pods are ready, and the analysis is skipped")
}

/// The target is no longer what is being analysed, and not yet a version of its own: no traffic may stay on its pods.
fn withdraw(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let waiting = Waiting::TargetIncomplete(why.to_owned());
    let blocked = Some(analysis.blocked.unwrap_or(now));
    if analysis.weight == Weight::ZERO {
        // Pods that are about to go can wait for the next version.
        let canary = if state.canary == CanaryPods::Up { CanaryPods::Up } else { CanaryPods::Stale };
        let next = State { canary, ..state.clone() };
        return blocked_until(plan, &next, &Analysis { blocked, ..*analysis }, now, Pending::on(waiting), false);
    }
    let next = without_weight(analysis, now);
    let note = Note::warning(Reason::Retreated, format!("all traffic goes to the primary: the target changed; {why}"));
    wake_at(go(progressing(state, next), waiting, vec![note]), Some(later(now, plan.progress_deadline)))
}

/// The target is another object than the one whose pods were started: nobody knows with which configs the pods of this one
/// began, and what is analysed shall be what is on record (S3).
fn replace_pods(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp) -> Decision {
    let text = "the target was made anew: its pods are replaced, and the analysis begins anew without traffic";
    let next = State { canary: CanaryPods::Stale, ..state.clone() };
    let note = Note::warning(Reason::Retreated, text.to_owned());
    hold(plan, &next, without_weight(analysis, now), now, Waiting::CanaryStale, vec![note])
}

/// The plan chooses other requests now than the recorded weight is of: as many of those were never checked (S5).
fn choose_anew(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp) -> Decision {
    let text = "all traffic goes to the primary: analysis.match came or went, and the analysis begins anew";
    let note = Note::warning(Reason::Retreated, text.to_owned());
    hold(plan, state, without_weight(analysis, now), now, Waiting::RoutePending, vec![note])
}

/// Pods that began with other configs go, once they are seen to have no traffic, and come back with those of the
/// version: what is analysed is what is on record (S3).
fn renew(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    seen: &World,
    target: &TargetSeen,
    heard: &Heard<'_>,
) -> Decision {
    if let Some(why) = &target.incomplete {
        let (next, waiting) =
            (State { canary: CanaryPods::Stale, ..state.clone() }, Waiting::TargetIncomplete(why.clone()));
        return hindered(plan, &next, analysis, seen.now, Pending::on(waiting), heard);
    }
    let pods = target.pods;
    let gone = pods.current && pods.wanted == 0 && pods.total == 0;
    let (canary, waiting, until) = match (state.canary, without_traffic(plan, seen, analysis.set)) {
        (_, Err(pending)) => (CanaryPods::Stale, pending.waiting, pending.until),
        (CanaryPods::Draining { since }, Ok(())) if seen.now < later(since, plan.drain_delay) => {
            (state.canary, Waiting::CanaryStale, Some(later(since, plan.drain_delay)))
        }
        (CanaryPods::Draining { .. }, Ok(())) if !gone => (state.canary, Waiting::CanaryStale, None),
        (CanaryPods::Draining { .. } | CanaryPods::Down, Ok(())) => {
            (CanaryPods::Up, Waiting::CanaryNotReady { pods }, None)
        }
        (CanaryPods::Up | CanaryPods::Stale, Ok(())) => {
            let canary = CanaryPods::Draining { since: seen.now };
            (canary, Waiting::CanaryStale, Some(later(seen.now, plan.drain_delay)))
        }
    };
    let pending = Pending { until, ..Pending::on(waiting) };
    hindered(plan, &State { canary, ..state.clone() }, analysis, seen.now, pending, heard)
}

fn advance(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let weight = plan.steps.after(analysis.weight).unwrap_or(analysis.weight);
    let note = Note::new(Reason::Advanced, format!("canary weight {weight}: {why}"));
    at_weight(plan, state, analysis, weight, now, note)
}

fn at_weight(plan: &Plan, state: &State, analysis: &Analysis, weight: Weight, now: Timestamp, note: Note) -> Decision {
    let serves = weight > Weight::ZERO;
    let reset = without_weight(analysis, now);
    let next = if serves { Analysis { weight, blocked: None, prepared: true, ..reset } } else { reset };
    hold(plan, state, next, now, Waiting::Dwell { until: later(now, plan.interval) }, vec![note])
}

/// The same analysis with no traffic, and nothing said about it yet.
fn without_weight(analysis: &Analysis, now: Timestamp) -> Analysis {
    Analysis {
        weight: Weight::ZERO,
        set: now,
        passed: 0,
        inconclusive: 0,
        blocked: Some(now),
        gate: None,
        approved: false,
        ..judged(analysis, now)
    }
}

/// The same analysis after a round: the interval begins anew.
fn judged(analysis: &Analysis, now: Timestamp) -> Analysis {
    Analysis { since: now, early: false, inconclusive: 0, ..*analysis }
}

fn fail(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let count = analysis.failed + 1;
    let text = format!("{why} (failed check {count} of {})", plan.threshold);
    if count >= plan.threshold {
        return failed(state, now, text);
    }
    // A weight that is of other requests now cannot be held.
    let most = if state.selective == plan.selective { plan.steps.max() } else { Weight::ZERO };
    let kept = if analysis.weight > most { lowered(analysis, most, now) } else { judged(analysis, now) };
    let next = Analysis { failed: count, ..kept };
    let note = Note::warning(Reason::CheckFailed, format!("held at weight {}: {text}", next.weight));
    hold(plan, state, next, now, Waiting::CheckFailed(text), vec![note])
}

/// What was passed at a higher weight says nothing of a lower one.
fn lowered(analysis: &Analysis, weight: Weight, now: Timestamp) -> Analysis {
    let blocked = if weight == Weight::ZERO { Some(now) } else { analysis.blocked };
    Analysis { weight, blocked, ..without_weight(analysis, now) }
}

fn inconclusive(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let count = analysis.inconclusive + 1;
    let text = format!("{why} (inconclusive check {count} of {})", plan.inconclusive_limit);
    if count >= plan.inconclusive_limit && plan.on_inconclusive == OnInconclusive::Rollback {
        return failed(state, now, text);
    }
    let next = Analysis { inconclusive: count.min(plan.inconclusive_limit), ..judged(analysis, now) };
    let waiting = Waiting::Inconclusive(text.clone());
    if count > plan.inconclusive_limit {
        return hold(plan, state, next, now, waiting, vec![]);
    }
    let note = Note::warning(Reason::Inconclusive, format!("held at weight {}: {text}", analysis.weight));
    hold(plan, state, next, now, waiting, vec![note])
}

/// Not one pod is left to answer: no traffic may stay there (S2). The analysis starts again if the threshold allows.
fn lose_pods(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp) -> Decision {
    let count = analysis.failed + 1;
    let text = format!("no canary pod is available (failed check {count} of {})", plan.threshold);
    if count >= plan.threshold {
        return failed(state, now, text);
    }
    let next = Analysis { failed: count, ..without_weight(analysis, now) };
    let note = Note::warning(Reason::Retreated, format!("all traffic goes to the primary: {text}"));
    hold(plan, state, next, now, Waiting::CheckFailed(text), vec![note])
}

/// Pods or route are not as asked: nothing moves, until the progress deadline ends it.
fn hindered(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    now: Timestamp,
    pending: Pending,
    heard: &Heard<'_>,
) -> Decision {
    let told = !matches!(heard.round(), Round::None | Round::Missing) || heard.no_rollback();
    let next = if told { Analysis { inconclusive: analysis.inconclusive, ..judged(analysis, now) } } else { *analysis };
    let checked = analysis.weight > Weight::ZERO && !plan.skip_analysis;
    blocked_until(plan, state, &next, now, pending, checked || plan.hooks.contains(&Hook::Rollback))
}

fn blocked_until(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    now: Timestamp,
    pending: Pending,
    asked: bool,
) -> Decision {
    let deadline = later(analysis.blocked.unwrap_or(now), plan.progress_deadline);
    if now >= deadline {
        let seconds = plan.progress_deadline.as_secs();
        return failed(state, now, format!("{} after the progress deadline of {seconds}s", pending.waiting));
    }
    let wake = [Some(deadline), pending.until, asked.then(|| next_round(plan, analysis, now))];
    wake_at(go(progressing(state, *analysis), pending.waiting, vec![]), wake.into_iter().flatten().min())
}

fn dwell(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp) -> Decision {
    Decision { state: state.clone(), notes: vec![], waiting: None, wake: Some(next_round(plan, analysis, now)) }
}

/// When the next round is due; soon, if what was asked in this one was not answered.
fn next_round(plan: &Plan, analysis: &Analysis, now: Timestamp) -> Timestamp {
    if analysis.due(plan, now) { later(now, SOON) } else { later(analysis.since, plan.interval) }
}

fn promotion(state: &State, weight: Weight, seen: &World, target: &TargetSeen, why: &str) -> Decision {
    let revision = state.candidate().map(ToString::to_string).unwrap_or_default();
    let next = Promotion::new(weight, seen.now);
    let note = Note::new(Reason::Promoting, format!("the primary is given revision {revision}: {why}"));
    let replicas = capacity::needed(seen.primary.as_ref(), target.replicas, weight);
    go(State { phase: Phase::Promoting(next), replicas, ..state.clone() }, Waiting::PrimaryMissing, vec![note])
}

fn hold(plan: &Plan, state: &State, next: Analysis, now: Timestamp, waiting: Waiting, notes: Vec<Note>) -> Decision {
    wake_at(go(progressing(state, next), waiting, notes), Some(later(now, plan.interval)))
}
