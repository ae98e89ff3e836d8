//! The primary is given the analysed version, or, when that went wrong, the one before.

use super::analyse::SOON;
use super::capacity;
use super::heard::{Heard, Said};
use super::note::{Note, Reason, Waiting, count};
use super::pending::later;
use super::{Decision, News, go, news, rested, restore, stay, supersede, wake_at};
use crate::domain::{Hook, Phase, Plan, Promotion, State, TargetSeen, Weight, World};
use jiff::Timestamp;

/// One look at a promotion.
pub(super) fn promote(
    plan: &Plan,
    state: &State,
    promotion: &Promotion,
    seen: &World,
    target: &TargetSeen,
    heard: &Heard<'_>,
) -> Decision {
    match news(state, target) {
        News::Other if promotion.undo.is_some() => return supersede(plan, state, seen.now, target),
        News::Back if promotion.undo.is_some() => return restore(state, seen.now, target),
        News::Other | News::Back | News::Same | News::Unclear(_) => {}
    }
    if let Some(why) = heard.rollback() {
        return undo(plan, state, promotion, seen, &why);
    }
    let unchanged = state.target.as_ref().is_some_and(|fence| fence.is(target));
    let asked = if heard.no_rollback() { Some(seen.now) } else { promotion.asked };
    let promotion = &Promotion { asked, ..promotion.clone() };
    let state = &promoting(state, promotion.clone());
    if let Some((weight, why)) = less_traffic(plan, state, promotion.weight, unchanged, target, seen) {
        let note =
            Note::warning(Reason::Retreated, format!("canary weight {weight} while the primary is updated: {why}"));
        let next = Promotion { weight, ..promotion.clone() };
        return go(promoting(state, next), Waiting::PrimaryMissing, vec![note]);
    }
    let pods = seen.primary.as_ref().map(|primary| capacity::asked_for(primary, state.replicas)).unwrap_or_default();
    let ready = seen.primary.as_ref().is_some_and(|primary| {
        let share = next_weight(plan, promotion).primary();
        let runs = primary.revision.is_some() && primary.revision.as_ref() == state.primary_revision();
        runs && primary.pods.ready(plan.primary_ready)
            && capacity::suffices(primary, plan.primary_ready, state.replicas, share)
    });
    // A primary that has begun to take over was ready once; what it had to do in time, it did.
    let deadline = later(promotion.shifted.unwrap_or(promotion.since), plan.progress_deadline);
    let overdue = seen.now >= deadline;

    match &promotion.undo {
        None if ready && heard.hook(Hook::Rollback) == Said::Missing => {
            wake_at(go(state.clone(), Waiting::Nothing, vec![]), Some(later(seen.now, SOON)))
        }
        None if ready => take_over(plan, state, promotion, seen),
        None if overdue && promotion.shifted.is_none() => {
            let why = format!("the primary did not become ready with the analysed version: {}", count(pods));
            let note = Note::warning(Reason::PromotionFailed, format!("{why}; it gets the version before"));
            let next = Promotion { since: seen.now, undo: Some(why), ..promotion.clone() };
            go(promoting(state, next), Waiting::Nothing, vec![note])
        }
        Some(why) if ready => {
            let next = rested(state, Phase::Failed { since: seen.now, why: why.clone() });
            let note = Note::warning(Reason::RolledBack, format!("all traffic goes to the version before: {why}"));
            go(next, Waiting::RoutePending, vec![note])
        }
        None => {
            let hooks = plan.hooks.contains(&Hook::Rollback).then(|| next_question(plan, promotion, seen.now));
            let wake = [(!overdue).then_some(deadline), hooks].into_iter().flatten().min();
            wake_at(stay(state, Waiting::PrimaryNotReady { pods, overdue }), wake)
        }
        Some(_) => stay(state, Waiting::PrimaryNotReady { pods, overdue }),
    }
}

/// The primary runs the analysed version: it gets the traffic, at once or in steps.
fn take_over(plan: &Plan, state: &State, promotion: &Promotion, seen: &World) -> Decision {
    let now = seen.now;
    let left = next_weight(plan, promotion);
    if promotion.weight > Weight::ZERO && plan.promotion_step.is_some() {
        let due = |shifted| later(seen.begun(shifted), plan.interval);
        if let Some((shifted, due)) =
            promotion.shifted.map(|shifted| (shifted, due(shifted))).filter(|(_, due)| now < *due)
        {
            let hooks = plan.hooks.contains(&Hook::Rollback).then(|| next_question(plan, promotion, now));
            let waiting = Waiting::Dwell { until: later(shifted, plan.interval) };
            return wake_at(stay(state, waiting), Some(hooks.map_or(due, |hooks| hooks.min(due))));
        }
    }
    if left > Weight::ZERO {
        let next = Promotion { weight: left, shifted: Some(now), ..promotion.clone() };
        let text = format!("primary weight {}: it runs the analysed version", left.primary());
        let until = later(now, plan.interval);
        let note = Note::new(Reason::Shifted, text);
        return wake_at(go(promoting(state, next), Waiting::Dwell { until }, vec![note]), Some(until));
    }
    let next = State { promoted: state.primary_revision().cloned(), ..state.clone() };
    let note = Note::new(Reason::Finalising, "the primary runs the analysed version; it gets all traffic".into());
    go(State { phase: Phase::Finalising { since: now }, ..next }, Waiting::RoutePending, vec![note])
}

/// The canary's share after the next step of a promotion.
fn next_weight(plan: &Plan, promotion: &Promotion) -> Weight {
    let step = plan.promotion_step.filter(|_| promotion.undo.is_none());
    step.map_or(Weight::ZERO, |step| promotion.weight.less(step))
}

/// The version is taken back while the primary is given it.
pub(super) fn undo(plan: &Plan, state: &State, promotion: &Promotion, seen: &World, why: &str) -> Decision {
    let available = seen.primary.as_ref().is_some_and(|primary| !primary.pods.lost());
    // A primary that loses its pods while it is changed cannot be given the traffic before it is changed back.
    let safe = available && !plan.vacate_primary;
    let fence = state.target.as_ref();
    let serves = seen.target.as_ref().is_some_and(|it| !it.pods.lost() && fence.is_some_and(|fence| fence.is(it)));
    let weight = if safe || !serves { Weight::ZERO } else { promotion.weight };
    let next = Promotion { undo: Some(why.to_owned()), ..Promotion::new(weight, seen.now) };
    let text = format!("canary weight {weight}, and the primary gets the version before: {why}");
    go(promoting(state, next), Waiting::PrimaryMissing, vec![Note::warning(Reason::Retreated, text)])
}

fn next_question(plan: &Plan, promotion: &Promotion, now: Timestamp) -> Timestamp {
    let due = promotion.asked.map_or(now, |asked| later(asked, plan.interval));
    due.max(later(now, SOON))
}

fn promoting(state: &State, promotion: Promotion) -> State {
    State { phase: Phase::Promoting(promotion), ..state.clone() }
}

/// How much less traffic the canary can have during a promotion, and why.
fn less_traffic(
    plan: &Plan,
    state: &State,
    weight: Weight,
    unchanged: bool,
    target: &TargetSeen,
    seen: &World,
) -> Option<(Weight, &'static str)> {
    let other_requests = state.selective != plan.selective;
    let primary_serves = seen.primary.as_ref().is_some_and(|primary| !primary.pods.lost());
    let (most, why) = if !unchanged {
        (Weight::ZERO, "the target changed, and its new pods were not analysed")
    } else if target.pods.lost() {
        (Weight::ZERO, "not one of its pods is available")
    } else if other_requests && primary_serves {
        (Weight::ZERO, "analysis.match came or went, and other requests were not analysed")
    } else {
        (plan.steps.max(), "the plan ends there now")
    };
    (weight > most).then_some((most, why))
}
