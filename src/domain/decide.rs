//! What to do next: the whole state machine, one function a phase.
//!
//! Invariant: [`decide`] is total and deterministic. It never raises the canary's weight but by one step, after as many
//! rounds in which everything passed as the plan asks for, or by order; and it lowers it in the pass that has a reason to.

mod analyse;
mod capacity;
mod heard;
mod leave;
mod note;
mod orders;
mod pending;
mod promote;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod traces;
mod wait;

pub use note::{Note, Reason, Waiting};

use super::{
    Analysis, Answers, CanaryPods, Configs, Ending, Hook, Phase, Plan, Primary, Promotion, Routing, State, Target,
    TargetSeen, Weight, World, questions,
};
use heard::Heard;
use jiff::Timestamp;
use pending::{Pending, later, without_traffic};

/// The whole outcome of a pass: data, so that it can be logged, tested and replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The state to record, and then to render.
    pub state: State,
    /// What is worth telling.
    pub notes: Vec<Note>,
    /// What is waited for; `None` means as before.
    pub waiting: Option<Waiting>,
    /// When to look again even if nothing changes; `None` means never.
    pub wake: Option<Timestamp>,
}

/// The next state of a rollout, from its recorded state, what was seen, and what was answered if it was asked (see
/// [`super::questions`]).
///
/// First what is owed to hooks is settled, then an order is taken, then the phase decides.
#[must_use]
pub fn decide(plan: &Plan, recorded: &State, seen: &World, answers: &Answers) -> Decision {
    let recorded = &exposed_since(recorded, seen);
    let (settled, told) = settle(plan, recorded, seen, answers);
    let orders::Taken { state, notes, decision } = orders::take(plan, &settled, seen);
    let heard = Heard::new(plan, recorded, &state, seen, answers);
    let mut decision = match (decision, &seen.target) {
        _ if seen.deleted => leave::leave(plan, &state, seen),
        (Some(ordered), _) => ordered,
        (None, None) => held(plan, &state, without_target(&state, seen)),
        (None, Some(target)) => {
            let next = transition(plan, &state, seen, target, &heard);
            held(plan, &state, followed(&state, target, next))
        }
    };
    decision.notes.splice(0..0, told.into_iter().chain(notes));
    let rises = state.weight() == Weight::ZERO;
    decision.state.selective =
        decision.state.weight() > Weight::ZERO && if rises { plan.selective } else { state.selective };
    owe(plan, &state, &mut decision);
    if decision.state.owed.is_some() {
        let soon = later(seen.now, analyse::SOON);
        decision.wake = Some(decision.wake.map_or(soon, |wake| wake.min(soon)));
    }
    decision
}

/// Pods that were seen to have no traffic, but had to have it led away since, are as if that had not been seen: the drain
/// delay begins anew (S2).
fn exposed_since(state: &State, seen: &World) -> State {
    // What will be written by a clock that was set back says nothing.
    let is_later = |since| seen.led.is_some_and(|led| led.written > since && led.written <= seen.now);
    let canary = match state.canary {
        CanaryPods::Draining { since } if is_later(since) => CanaryPods::Stale,
        canary => canary,
    };
    State { canary, ..state.clone() }
}

fn transition(plan: &Plan, state: &State, seen: &World, target: &TargetSeen, heard: &Heard<'_>) -> Decision {
    match &state.phase {
        Phase::Initializing { since } => initialize(plan, state, *since, seen, target),
        Phase::Initialized { .. } if is_too_late(state, seen) => {
            let again = State { phase: Phase::Initializing { since: seen.now }, ..state.clone() };
            go(again, Waiting::PrimaryMissing, vec![])
        }
        Phase::Initialized { since } | Phase::Succeeded { since } | Phase::Failed { since, .. } => {
            rest(plan, state, *since, seen, target)
        }
        Phase::Waiting { since, asked } => wait::wait(plan, state, (*since, *asked), seen, target, heard),
        Phase::Progressing(analysis) => analyse::analyse(plan, state, analysis, seen, target, heard),
        Phase::Promoting(promotion) => promote::promote(plan, state, promotion, seen, target, heard),
        Phase::Finalising { since } => finalise(plan, state, *since, seen, target),
        Phase::Terminating { .. } => stay(state, Waiting::Nothing),
    }
}

/// What is suspended gains no traffic and starts nothing; traffic that must leave the canary leaves all the same.
fn held(plan: &Plan, state: &State, decision: Decision) -> Decision {
    let finished = matches!(decision.state.phase, Phase::Finalising { .. });
    if plan.suspend && (decision.state.weight() >= state.weight() || finished) {
        return stay(state, Waiting::Suspended);
    }
    decision
}

/// The primary is made from the target, and gets the traffic once it is ready for it.
fn initialize(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    let Some((promoted, fence)) = state.promoted.as_ref().zip(state.target.as_ref()) else {
        let first = seen.primary.as_ref().and_then(|primary| take_over(state, primary));
        return first.map_or_else(|| trust(state, target), |first| go(first, Waiting::PrimaryMissing, vec![]));
    };
    // A primary that was left, and is gone, may have taken its configs with it: what it ran cannot be made again.
    let found = if fence.generation == LEFT_OVER { seen.primary.is_some() } else { fence.is(target) };
    if !found {
        return trust(state, target);
    }
    if let Routing::Unusable(why) = &seen.routing {
        return stay(state, Waiting::RouteUnusable(why.clone()));
    }
    match &seen.primary {
        None => stay(state, Waiting::PrimaryMissing),
        Some(primary) if primary.revision.as_ref() == Some(promoted) && primary.pods.ready(plan.primary_ready) => {
            let note =
                Note::new(Reason::Initialized, format!("revision {promoted} is the primary; it gets all traffic"));
            go(rested(state, Phase::Initialized { since: seen.now }), Waiting::RoutePending, vec![note])
        }
        Some(primary) => {
            let deadline = later(since, plan.progress_deadline);
            let waiting = Waiting::PrimaryNotReady { pods: primary.pods, overdue: seen.now >= deadline };
            wake_at(stay(state, waiting), (seen.now < deadline).then_some(deadline))
        }
    }
}

/// Whether the primary has lost its pods before anything was led to it, as the record says: the target still serves.
fn is_too_late(state: &State, seen: &World) -> bool {
    let is_led = seen.apex_on_primary || matches!(seen.routing, Routing::Split(..) | Routing::Mixed);
    let serves = seen.primary.as_ref().is_some_and(|primary| !primary.pods.lost());
    !is_led && !serves && state.canary == CanaryPods::Up
}

/// Nothing is being rolled out: look for a new version, and stop the pods that have no traffic.
fn rest(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    match news(state, target) {
        News::Other => return begin(plan, state, seen.now, target),
        News::Back if matches!(state.phase, Phase::Failed { .. }) => return restore(state, seen.now, target),
        News::Back | News::Same | News::Unclear(_) => {}
    }
    let (next, idle) = idle(plan, state, since, seen, target, CanaryPods::Up);
    wake_at(go(next, idle.waiting, vec![]), idle.until)
}

/// Pods that no rollout needs are stopped once they are seen to have no traffic, which was asked for at `since`; those
/// that may have some are `kept`.
fn idle(
    plan: &Plan,
    state: &State,
    since: Timestamp,
    seen: &World,
    target: &TargetSeen,
    kept: CanaryPods,
) -> (State, Pending) {
    let at = |canary| State { canary, ..state.clone() };
    let nothing = || Pending::on(target.incomplete.clone().map_or(Waiting::Nothing, Waiting::TargetIncomplete));
    let until = |until| Pending { until: Some(until), ..nothing() };
    match (state.canary, without_traffic(plan, seen, since)) {
        (CanaryPods::Up | CanaryPods::Stale, Err(pending)) => (at(kept), pending),
        (CanaryPods::Up | CanaryPods::Stale, Ok(())) => {
            (at(CanaryPods::Draining { since: seen.now }), until(later(seen.now, plan.drain_delay)))
        }
        // Somebody leads traffic to the pods again: what was observed of them is no longer true.
        (CanaryPods::Draining { .. }, Err(pending)) if !pending.silent => {
            (at(kept), Pending { until: None, ..pending })
        }
        (CanaryPods::Down, Err(pending)) if !pending.silent && target.replicas > 0 => {
            (at(kept), Pending { until: None, ..pending })
        }
        (CanaryPods::Draining { since }, _) if seen.now < later(since, plan.drain_delay) => {
            (state.clone(), until(later(since, plan.drain_delay)))
        }
        (CanaryPods::Draining { .. }, _) if target.replicas > 0 => (state.clone(), nothing()),
        (CanaryPods::Draining { .. } | CanaryPods::Down, _) => (stopped(state, target), nothing()),
    }
}

/// The promotion is over when the gateway shows it.
fn finalise(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    if let Err(pending) = without_traffic(plan, seen, since) {
        return match news(state, target) {
            // The gateway may never show it; a fix must not wait for that.
            News::Other => begin(plan, state, seen.now, target),
            News::Back | News::Same | News::Unclear(_) => wake_at(stay(state, pending.waiting), pending.until),
        };
    }
    let mut next = rested(state, Phase::Succeeded { since: seen.now });
    next.canary = CanaryPods::Draining { since: seen.now };
    let revision = state.promoted.as_ref().map(ToString::to_string).unwrap_or_default();
    let note = Note::new(Reason::Succeeded, format!("revision {revision} is promoted"));
    wake_at(go(next, Waiting::Nothing, vec![note]), Some(later(seen.now, plan.drain_delay)))
}

/// The target was deleted: its pods go, so its traffic must.
fn without_target(state: &State, seen: &World) -> Decision {
    match &state.phase {
        Phase::Progressing(_) => failed(state, seen.now, "the target was deleted".into()),
        Phase::Promoting(promotion) if promotion.weight > Weight::ZERO => {
            let next = Promotion { weight: Weight::ZERO, ..promotion.clone() };
            go(State { phase: Phase::Promoting(next), ..state.clone() }, Waiting::TargetMissing, vec![])
        }
        Phase::Initializing { .. }
        | Phase::Initialized { .. }
        | Phase::Waiting { .. }
        | Phase::Promoting(_)
        | Phase::Finalising { .. }
        | Phase::Succeeded { .. }
        | Phase::Failed { .. }
        | Phase::Terminating { .. } => stay(state, Waiting::TargetMissing),
    }
}

/// The post-rollout hooks were told how a rollout ended; what they say to it changes nothing.
fn settle(plan: &Plan, state: &State, seen: &World, answers: &Answers) -> (State, Vec<Note>) {
    let replies = answers.hooks.get(&Hook::PostRollout).filter(|replies| !replies.is_empty());
    let asked = questions(plan, state, seen).hooks.contains(&Hook::PostRollout);
    let Some(replies) = replies.filter(|_| asked) else { return (state.clone(), vec![]) };
    let failed = replies.iter().any(|reply| reply.answer.is_err());
    let note = failed.then(|| Note::warning(Reason::HookFailed, heard::refusals(Hook::PostRollout, replies)));
    (State { owed: None, ..state.clone() }, note.into_iter().collect())
}

/// The end of a rollout is owed to the post-rollout hooks from the decision on that ends it.
fn owe(plan: &Plan, before: &State, decision: &mut Decision) {
    let after = &mut decision.state;
    if !plan.hooks.contains(&Hook::PostRollout) {
        after.owed = None;
        return;
    }
    let begins = matches!(after.phase, Phase::Waiting { .. } | Phase::Progressing(_));
    let (revision, succeeded) = match (&before.phase, &after.phase) {
        (Phase::Finalising { .. }, Phase::Succeeded { .. }) => (before.promoted.clone(), true),
        (Phase::Finalising { .. }, _) if begins => (before.promoted.clone(), true),
        (Phase::Promoting(_), _) if begins => (before.candidate().cloned(), false),
        (Phase::Progressing(_) | Phase::Promoting(_), Phase::Succeeded { .. }) => (before.candidate().cloned(), false),
        (Phase::Waiting { .. } | Phase::Progressing(_) | Phase::Promoting(_), Phase::Failed { .. }) => {
            (before.candidate().cloned(), false)
        }
        (_, _) => return,
    };
    after.owed = revision.map(|revision| Ending { revision, succeeded });
}

// ---- transitions: each builds the next state and says why ----

/// The generation of a version that a primary was found with: no target has it, so the target is analysed.
const LEFT_OVER: i64 = 0;

/// Whatever the target is when Serin first sees it whole is trusted.
fn trust(state: &State, target: &TargetSeen) -> Decision {
    if let Some(why) = &target.incomplete {
        return stay(state, Waiting::TargetIncomplete(why.clone()));
    }
    let fence = Target::new(target);
    let promoted = fence.revision.clone();
    let replicas = target.replicas.max(1);
    let next = State { target: Some(fence), promoted: Some(promoted), replicas, ..state.clone() };
    go(next, Waiting::PrimaryMissing, vec![])
}

/// A primary that is there already serves: it keeps its version and its pods, and the target is analysed against it.
fn take_over(state: &State, primary: &Primary) -> Option<State> {
    let promoted = primary.revision.clone()?;
    let (uid, configs) = (String::new(), Configs::default());
    let fence = Target { revision: promoted.clone(), hash: promoted.clone(), generation: LEFT_OVER, uid, configs };
    let replicas = primary.pods.wanted.max(1);
    Some(State { target: Some(fence), promoted: Some(promoted), replicas, ..state.clone() })
}

fn begin(plan: &Plan, state: &State, now: Timestamp, target: &TargetSeen) -> Decision {
    let outdated = stale(state, target);
    let next = State {
        phase: Phase::Progressing(Analysis::new(now)),
        target: Some(Target::new(target)),
        canary: if outdated { CanaryPods::Stale } else { CanaryPods::Up },
        replicas: if target.replicas > 0 { target.replicas } else { state.replicas },
        ..state.clone()
    };
    if plan.hooks.contains(&Hook::ConfirmRollout) {
        let canary = if outdated { CanaryPods::Stale } else { state.canary };
        return wait::come_to_the_gate(&State { canary, ..next }, now);
    }
    let note = Note::new(Reason::NewRevision, format!("revision {} is being started", target.revision));
    go(next, Waiting::CanaryNotReady { pods: target.pods }, vec![note])
}

fn supersede(plan: &Plan, state: &State, now: Timestamp, target: &TargetSeen) -> Decision {
    let mut decision = begin(plan, state, now, target);
    let old = state.candidate().map(ToString::to_string).unwrap_or_default();
    let text = match &state.phase {
        Phase::Waiting { .. } => format!("revision {} replaces {old}, which was not started", target.revision),
        _ => format!(
            "revision {} replaces {old} in the middle of its analysis; all traffic goes to the primary",
            target.revision
        ),
    };
    decision.notes.insert(0, Note::new(Reason::Superseded, text));
    decision
}

fn restore(state: &State, now: Timestamp, target: &TargetSeen) -> Decision {
    let rested = rested(state, Phase::Succeeded { since: now });
    // Pods that are not there need not be started to be stopped.
    let canary = if state.canary == CanaryPods::Down { CanaryPods::Down } else { CanaryPods::Up };
    let next = State { target: Some(Target::new(target)), canary, ..rested };
    let text = format!("the target is back at the promoted revision {}; there is nothing to analyse", target.revision);
    go(next, Waiting::RoutePending, vec![Note::new(Reason::Restored, text)])
}

/// The version is taken back for good.
fn failed(state: &State, now: Timestamp, why: String) -> Decision {
    let note = Note::warning(Reason::RolledBack, format!("all traffic goes to the primary: {why}"));
    let canary = if state.canary == CanaryPods::Down { CanaryPods::Down } else { CanaryPods::Up };
    let next = State { canary, ..rested(state, Phase::Failed { since: now, why }) };
    go(next, Waiting::RoutePending, vec![note])
}

// ---- small values ----

/// Whether pods and route are as an analysis asked for.
pub(super) fn is_ready(plan: &Plan, state: &State, analysis: &Analysis, seen: &World, target: &TargetSeen) -> bool {
    pending::hindrance(plan, state, analysis, seen, target).is_none()
}

/// How the target relates to what was last acted upon.
enum News<'a> {
    Same,
    Back,
    Other,
    /// It is something else, but what it will be is not known yet.
    Unclear(&'a str),
}

fn news<'a>(state: &State, target: &'a TargetSeen) -> News<'a> {
    match (&state.target, &target.incomplete) {
        (Some(fence), _) if fence.is(target) => News::Same,
        (_, Some(why)) => News::Unclear(why),
        (_, None) if state.promoted.as_ref() == Some(&target.revision) => News::Back,
        (_, None) => News::Other,
    }
}

/// Whether there are pods that may have been started with other configs than the target's now: its own controller
/// replaces the pods of another template, but not those of other configs. Pods that were to go for that have to go even
/// if the template is another one now: a watch that is behind shows it long after they were started by it.
fn stale(state: &State, target: &TargetSeen) -> bool {
    let is_renewed = matches!(state.phase, Phase::Progressing(_)) && state.canary != CanaryPods::Up;
    // Of a target beside a primary that was left behind nobody knows what its pods began with.
    let unknown = |fence: &Target| fence.generation == LEFT_OVER && !target.configs.0.is_empty();
    let changed = state.target.as_ref().is_some_and(|fence| unknown(fence) || !fence.configs.agree(&target.configs));
    has_pods(target) && (changed || is_renewed)
}

fn has_pods(target: &TargetSeen) -> bool {
    target.replicas > 0 || target.pods.total > 0
}

/// Whether there are pods, which may have begun with other configs, of another object than the one that was looked at.
fn is_remade(state: &State, target: &TargetSeen) -> bool {
    let other = |fence: &Target| fence.generation != LEFT_OVER && fence.uid != target.uid;
    let other = state.target.as_ref().is_some_and(other);
    other && state.canary == CanaryPods::Up && has_pods(target) && !target.configs.0.is_empty()
}

/// The decision, with the fence at what was seen, if it records anything at all, or if the hash or what is followed is
/// another one now: the generation moves with every scaling, and a fence that is left behind would not hold when an
/// upgrade changes the hashing.
fn followed(state: &State, target: &TargetSeen, mut decision: Decision) -> Decision {
    let records = decision.state != *state;
    if let Some(fence) = decision.state.target.as_mut()
        && fence.is(target)
        && fence.generation != LEFT_OVER
    {
        let now = fence.seen_again(target);
        if records || fence.hash != now.hash || fence.configs != now.configs {
            *fence = now;
        }
    }
    decision
}

/// No pods of the target are left. What happens to it while it has none is noted: the fence follows its generation,
/// and pods that somebody asks for are pods of the app, which the primary is to have. One that is incomplete may be
/// another version.
fn stopped(state: &State, target: &TargetSeen) -> State {
    let fence = match &state.target {
        Some(fence) if fence.is(target) => fence.seen_again(target),
        Some(fence) if target.incomplete.is_some() => fence.clone(),
        Some(_) | None => Target::new(target),
    };
    let replicas = if target.replicas > 0 { target.replicas } else { state.replicas };
    State { target: Some(fence), canary: CanaryPods::Down, replicas, ..state.clone() }
}

fn progressing(state: &State, analysis: Analysis) -> State {
    State { phase: Phase::Progressing(analysis), ..state.clone() }
}

/// At rest, with pods that may still have traffic until the gateway shows otherwise.
fn rested(state: &State, phase: Phase) -> State {
    State { phase, canary: CanaryPods::Up, ..state.clone() }
}

fn stay(state: &State, waiting: Waiting) -> Decision {
    go(state.clone(), waiting, vec![])
}

fn go(state: State, waiting: Waiting, notes: Vec<Note>) -> Decision {
    Decision { state, notes, waiting: Some(waiting), wake: None }
}

fn wake_at(decision: Decision, wake: Option<Timestamp>) -> Decision {
    Decision { wake, ..decision }
}
