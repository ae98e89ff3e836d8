//! What to do next: the whole state machine, one function a phase.
//!
//! Invariant: [`decide`] is total and deterministic. It never raises the canary's weight but by one step, after a
//! round in which every metric passed, and it lowers it in the pass that has a reason to.

mod note;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod traces;

pub use note::{Note, Reason, Waiting};

use super::{
    Acceptance, Analysis, CanaryPods, Farewell, OnInconclusive, Outcome, Phase, Plan, Promotion, Revision, Routing,
    State, Target, TargetSeen, Verdict, Weight, World, questions,
};
use jiff::Timestamp;

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

/// The next state of a rollout, from its recorded state, what was seen, and what the metrics said if they were
/// asked (see [`super::questions`]).
#[must_use]
pub fn decide(plan: &Plan, state: &State, seen: &World, outcome: Option<&Outcome>) -> Decision {
    if seen.deleted {
        return leave(plan, state, seen);
    }
    if plan.suspend {
        return stay(state, Waiting::Suspended);
    }
    let Some(target) = &seen.target else {
        return without_target(state, seen);
    };
    match &state.phase {
        Phase::Initializing { since } => initialize(plan, state, *since, seen, target),
        Phase::Initialized { since } | Phase::Succeeded { since } | Phase::Failed { since, .. } => {
            rest(plan, state, *since, seen, target)
        }
        Phase::Progressing(analysis) => analyse(plan, state, analysis, seen, target, outcome),
        Phase::Promoting(promotion) => promote(plan, state, promotion, seen, target),
        Phase::Finalising { since } => finalise(plan, state, *since, seen),
        Phase::Terminating { .. } => stay(state, Waiting::Nothing),
    }
}

/// The primary is made from the target, and gets the traffic once it is ready for it.
fn initialize(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    let left_over = seen.primary.as_ref().and_then(|primary| primary.revision.clone());
    let Some((promoted, fence)) = state.promoted.as_ref().zip(state.target.as_ref()) else {
        return go(choose_first(state, left_over, target), Waiting::PrimaryMissing, vec![]);
    };
    if !fence.is(target) && fence.generation != LEFT_OVER {
        return go(choose_first(state, None, target), Waiting::PrimaryMissing, vec![]);
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
            let deadline = since + plan.progress_deadline;
            let waiting = Waiting::PrimaryNotReady { pods: primary.pods, overdue: seen.now >= deadline };
            wake_at(stay(state, waiting), (seen.now < deadline).then_some(deadline))
        }
    }
}

/// Nothing is being rolled out: look for a new version, and stop the pods that have no traffic.
fn rest(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    match news(state, target) {
        News::Other => return begin(state, seen.now, target),
        News::Back if matches!(state.phase, Phase::Failed { .. }) => return restore(state, seen.now, target),
        News::Back | News::Same => {}
    }
    let mut next = state.clone();
    match (state.canary, without_traffic(plan, seen, since)) {
        (CanaryPods::Down, _) => go(stopped(state, target), Waiting::Nothing, vec![]),
        (_, Err(pending)) => {
            next.canary = CanaryPods::Up;
            wake_at(go(next, pending.waiting, vec![]), pending.until)
        }
        (CanaryPods::Up, Ok(())) => {
            next.canary = CanaryPods::Draining { since: seen.now };
            wake_at(go(next, Waiting::Nothing, vec![]), Some(seen.now + plan.drain_delay))
        }
        (CanaryPods::Draining { since }, Ok(())) if seen.now < since + plan.drain_delay => {
            wake_at(go(next, Waiting::Nothing, vec![]), Some(since + plan.drain_delay))
        }
        (CanaryPods::Draining { .. }, Ok(())) if target.replicas > 0 => go(next, Waiting::Nothing, vec![]),
        (CanaryPods::Draining { .. }, Ok(())) => go(stopped(state, target), Waiting::Nothing, vec![]),
    }
}

/// One round of the analysis. The order of the guards is the order of urgency.
fn analyse(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    seen: &World,
    target: &TargetSeen,
    outcome: Option<&Outcome>,
) -> Decision {
    match news(state, target) {
        News::Other => return supersede(state, seen.now, target),
        News::Back => return restore(state, seen.now, target),
        News::Same => {}
    }
    let due = outcome.filter(|_| questions(plan, state, seen));
    let verdict = due.map(|outcome| (outcome, outcome.verdict()));

    if analysis.weight > Weight::ZERO && target.pods.lost() {
        return lose_pods(plan, state, analysis, seen.now);
    }
    if let Some((outcome, Verdict::Fail)) = verdict {
        return fail(plan, state, analysis, seen.now, &outcome.sentences(Verdict::Fail));
    }
    if analysis.weight > plan.steps.max() {
        let note = Note::new(Reason::Advanced, format!("the plan ends at {} now", plan.steps.max()));
        return at_weight(plan, state, analysis, plan.steps.max(), seen.now, note);
    }
    if verdict.is_none() && analysis.weight > Weight::ZERO && seen.now < analysis.since + plan.interval {
        return dwell(plan, state, analysis);
    }
    if let Some(pending) = hindrance(plan, analysis, seen, target) {
        return blocked(plan, state, analysis, seen.now, pending, verdict.is_some());
    }
    match verdict {
        None if plan.skip_analysis => {
            promotion(state, analysis.weight, seen.now, "its pods are ready; skipAnalysis is set")
        }
        None if analysis.weight == Weight::ZERO => advance(plan, state, analysis, seen.now, "its pods are ready"),
        None => dwell(plan, state, analysis),
        Some((outcome, Verdict::Inconclusive | Verdict::Fail)) => {
            inconclusive(plan, state, analysis, seen.now, &outcome.sentences(Verdict::Inconclusive))
        }
        Some((_, Verdict::Pass)) if plan.steps.after(analysis.weight).is_none() => {
            promotion(state, analysis.weight, seen.now, "every check passed at the last step")
        }
        Some((_, Verdict::Pass)) => advance(plan, state, analysis, seen.now, "every check passed"),
    }
}

/// The primary is given the analysed record; if that does not work, the one before.
fn promote(plan: &Plan, state: &State, promotion: &Promotion, seen: &World, target: &TargetSeen) -> Decision {
    let unchanged = state.target.as_ref().is_some_and(|fence| fence.is(target));
    if promotion.weight > Weight::ZERO && (!unchanged || target.pods.lost()) {
        let next = Promotion { weight: Weight::ZERO, ..promotion.clone() };
        let why =
            if unchanged { "its pods are not available" } else { "the target changed and its pods were not analysed" };
        let note =
            Note::warning(Reason::Retreated, format!("all traffic goes to the primary while it is updated: {why}"));
        return go(State { phase: Phase::Promoting(next), ..state.clone() }, Waiting::Nothing, vec![note]);
    }
    let pods = seen.primary.as_ref().map(|primary| primary.pods).unwrap_or_default();
    let runs = seen.primary.as_ref().and_then(|primary| primary.revision.as_ref());
    let ready = runs.is_some() && runs == state.primary_revision() && pods.ready(plan.primary_ready);
    let deadline = promotion.since + plan.progress_deadline;

    match &promotion.undo {
        None if ready => {
            let next = State { promoted: state.primary_revision().cloned(), ..state.clone() };
            let note =
                Note::new(Reason::Finalising, "the primary runs the analysed version; it gets all traffic".into());
            go(State { phase: Phase::Finalising { since: seen.now }, ..next }, Waiting::RoutePending, vec![note])
        }
        None if seen.now >= deadline => {
            let why = format!("the primary did not become ready with the analysed version: {}", note::count(pods));
            let note = Note::warning(Reason::PromotionFailed, format!("{why}; it gets the version before"));
            let next = Promotion { since: seen.now, undo: Some(why), ..promotion.clone() };
            go(State { phase: Phase::Promoting(next), ..state.clone() }, Waiting::Nothing, vec![note])
        }
        Some(why) if ready => {
            let next = rested(state, Phase::Failed { since: seen.now, why: why.clone() });
            let note = Note::warning(Reason::RolledBack, format!("all traffic goes to the version before: {why}"));
            go(next, Waiting::RoutePending, vec![note])
        }
        None => wake_at(stay(state, Waiting::PrimaryNotReady { pods, overdue: false }), Some(deadline)),
        Some(_) => stay(state, Waiting::PrimaryNotReady { pods, overdue: seen.now >= deadline }),
    }
}

/// The promotion is over when the gateway shows it.
fn finalise(plan: &Plan, state: &State, since: Timestamp, seen: &World) -> Decision {
    if let Err(pending) = without_traffic(plan, seen, since) {
        return wake_at(stay(state, pending.waiting), pending.until);
    }
    let mut next = rested(state, Phase::Succeeded { since: seen.now });
    next.canary = CanaryPods::Draining { since: seen.now };
    let revision = state.promoted.as_ref().map(ToString::to_string).unwrap_or_default();
    let note = Note::new(Reason::Succeeded, format!("revision {revision} is promoted"));
    wake_at(go(next, Waiting::Nothing, vec![note]), Some(seen.now + plan.drain_delay))
}

/// The app is handed back to its own workload, or, if that cannot be trusted, stays on the primary.
fn leave(plan: &Plan, state: &State, seen: &World) -> Decision {
    let at =
        |stage| State { phase: Phase::Terminating { since: seen.now, stage }, canary: CanaryPods::Up, ..state.clone() };
    let keep = |why: &str| {
        let note = Note::warning(Reason::PrimaryKept, format!("the primary goes on serving: {why}"));
        go(at(Farewell::Kept), Waiting::Nothing, vec![note])
    };
    let Phase::Terminating { since, stage } = state.phase else {
        let note = Note::new(Reason::Terminating, "the Canary is being deleted; the app is handed back".into());
        return match &seen.target {
            _ if matches!(state.phase, Phase::Initializing { .. }) => {
                go(at(Farewell::Released), Waiting::Nothing, vec![note])
            }
            Some(target) if !runs_promoted(state, target) => keep("the target holds a version that was not promoted"),
            Some(_) | None => go(at(Farewell::Reviving), Waiting::Nothing, vec![note]),
        };
    };
    let deadline = since + plan.progress_deadline;
    let routed = matches!(seen.routing, Routing::Whole(_) | Routing::Missing | Routing::Unusable(_));

    match (stage, &seen.target) {
        (Farewell::Reviving, Some(target)) if !runs_promoted(state, target) => {
            keep("the target holds a version that was not promoted")
        }
        (Farewell::Reviving, Some(target)) if target.pods.ready(plan.canary_ready) => {
            go(at(Farewell::HandingOver), Waiting::RoutePending, vec![])
        }
        (Farewell::Reviving, Some(_)) if seen.now >= deadline => keep("the target's pods did not become ready"),
        (Farewell::Reviving, Some(target)) => {
            wake_at(stay(state, Waiting::CanaryNotReady { pods: target.pods }), Some(deadline))
        }
        (Farewell::HandingOver, _) if !seen.apex_on_primary && routed => {
            wake_at(go(at(Farewell::Draining), Waiting::Nothing, vec![]), Some(seen.now + plan.drain_delay))
        }
        (Farewell::HandingOver, _) => stay(state, Waiting::RoutePending),
        (Farewell::Draining, _) if seen.now < since + plan.drain_delay => {
            wake_at(stay(state, Waiting::Nothing), Some(since + plan.drain_delay))
        }
        (Farewell::Reviving, None) | (Farewell::Draining, _) => go(at(Farewell::Released), Waiting::Nothing, vec![]),
        (Farewell::Released | Farewell::Kept, _) => stay(state, Waiting::Nothing),
    }
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
        | Phase::Promoting(_)
        | Phase::Finalising { .. }
        | Phase::Succeeded { .. }
        | Phase::Failed { .. }
        | Phase::Terminating { .. } => stay(state, Waiting::TargetMissing),
    }
}

// ---- transitions: each builds the next state and says why ----

/// The generation of a version that a primary was found with: no target has it, so the target is analysed.
const LEFT_OVER: i64 = 0;

/// Whatever the target is when Serin first sees it is trusted, unless a primary is already there.
fn choose_first(state: &State, left_over: Option<Revision>, target: &TargetSeen) -> State {
    let seen = Target::new(target);
    let promoted = left_over.unwrap_or_else(|| seen.revision.clone());
    let fence = if promoted == seen.revision {
        seen
    } else {
        Target { revision: promoted.clone(), hash: promoted.clone(), generation: LEFT_OVER }
    };
    State { target: Some(fence), promoted: Some(promoted), replicas: target.replicas.max(1), ..state.clone() }
}

fn begin(state: &State, now: Timestamp, target: &TargetSeen) -> Decision {
    let analysis = Analysis { weight: Weight::ZERO, since: now, failed: 0, inconclusive: 0, blocked: Some(now) };
    let next = State {
        phase: Phase::Progressing(analysis),
        target: Some(Target::new(target)),
        canary: CanaryPods::Up,
        replicas: if target.replicas > 0 { target.replicas } else { state.replicas },
        promoted: state.promoted.clone(),
    };
    let note = Note::new(Reason::NewRevision, format!("revision {} is being started", target.revision));
    go(next, Waiting::CanaryNotReady { pods: target.pods }, vec![note])
}

fn supersede(state: &State, now: Timestamp, target: &TargetSeen) -> Decision {
    let mut decision = begin(state, now, target);
    let old = state.candidate().map(ToString::to_string).unwrap_or_default();
    let text = format!(
        "revision {} replaces {old} in the middle of its analysis; all traffic goes to the primary",
        target.revision
    );
    decision.notes.insert(0, Note::new(Reason::Superseded, text));
    decision
}

fn restore(state: &State, now: Timestamp, target: &TargetSeen) -> Decision {
    let next = State { target: Some(Target::new(target)), ..rested(state, Phase::Succeeded { since: now }) };
    let text = format!("the target is back at the promoted revision {}; there is nothing to analyse", target.revision);
    go(next, Waiting::RoutePending, vec![Note::new(Reason::Restored, text)])
}

fn advance(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let weight = plan.steps.after(analysis.weight).unwrap_or(analysis.weight);
    let note = Note::new(Reason::Advanced, format!("canary weight {weight}: {why}"));
    at_weight(plan, state, analysis, weight, now, note)
}

fn at_weight(plan: &Plan, state: &State, analysis: &Analysis, weight: Weight, now: Timestamp, note: Note) -> Decision {
    let next = Analysis { weight, since: now, inconclusive: 0, blocked: None, ..*analysis };
    let until = now + plan.interval;
    wake_at(go(progressing(state, next), Waiting::Dwell { until }, vec![note]), Some(until))
}

fn fail(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let count = analysis.failed + 1;
    let text = format!("{why} (failed check {count} of {})", plan.threshold);
    if count >= plan.threshold {
        return failed(state, now, text);
    }
    let next = Analysis { failed: count, inconclusive: 0, since: now, blocked: None, ..*analysis };
    let note = Note::warning(Reason::CheckFailed, format!("held at weight {}: {text}", analysis.weight));
    hold(plan, progressing(state, next), now, Waiting::CheckFailed(text), note)
}

fn inconclusive(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let count = analysis.inconclusive + 1;
    let text = format!("{why} (inconclusive check {count} of {})", plan.inconclusive_limit);
    if count >= plan.inconclusive_limit && plan.on_inconclusive == OnInconclusive::Rollback {
        return failed(state, now, text);
    }
    let next = Analysis { inconclusive: count.min(plan.inconclusive_limit), since: now, blocked: None, ..*analysis };
    let waiting = Waiting::Inconclusive(text.clone());
    if count > plan.inconclusive_limit {
        return wake_at(go(progressing(state, next), waiting, vec![]), Some(now + plan.interval));
    }
    let note = Note::warning(Reason::Inconclusive, format!("held at weight {}: {text}", analysis.weight));
    hold(plan, progressing(state, next), now, waiting, note)
}

/// Not one pod is left to answer: no traffic may stay there (S2). The analysis starts again if the threshold allows.
fn lose_pods(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp) -> Decision {
    let count = analysis.failed + 1;
    let text = format!("no canary pod is available (failed check {count} of {})", plan.threshold);
    if count >= plan.threshold {
        return failed(state, now, text);
    }
    let next = Analysis { weight: Weight::ZERO, since: now, failed: count, inconclusive: 0, blocked: Some(now) };
    let note = Note::warning(Reason::Retreated, format!("all traffic goes to the primary: {text}"));
    hold(plan, progressing(state, next), now, Waiting::CheckFailed(text), note)
}

fn blocked(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    now: Timestamp,
    pending: Pending,
    judged: bool,
) -> Decision {
    let since = analysis.blocked.unwrap_or(now);
    let deadline = since + plan.progress_deadline;
    if now >= deadline {
        let seconds = plan.progress_deadline.as_secs();
        return failed(state, now, format!("{} after the progress deadline of {seconds}s", pending.waiting));
    }
    let judged_at = if judged { now } else { analysis.since };
    let next = Analysis { blocked: Some(since), since: judged_at, ..*analysis };
    let next_check = (analysis.weight > Weight::ZERO).then(|| judged_at + plan.interval).filter(|at| *at > now);
    let wake = [Some(deadline), pending.until, next_check].into_iter().flatten().min();
    wake_at(go(progressing(state, next), pending.waiting, vec![]), wake)
}

fn dwell(plan: &Plan, state: &State, analysis: &Analysis) -> Decision {
    let until = analysis.since + plan.interval;
    Decision { state: state.clone(), notes: vec![], waiting: None, wake: Some(until) }
}

fn promotion(state: &State, weight: Weight, now: Timestamp, why: &str) -> Decision {
    let revision = state.candidate().map(ToString::to_string).unwrap_or_default();
    let next = Promotion { weight, since: now, undo: None };
    let note = Note::new(Reason::Promoting, format!("the primary is given revision {revision}: {why}"));
    go(State { phase: Phase::Promoting(next), ..state.clone() }, Waiting::PrimaryMissing, vec![note])
}

fn failed(state: &State, now: Timestamp, why: String) -> Decision {
    let note = Note::warning(Reason::RolledBack, format!("all traffic goes to the primary: {why}"));
    go(rested(state, Phase::Failed { since: now, why }), Waiting::RoutePending, vec![note])
}

// ---- small values ----

/// How the target relates to what was last acted upon.
enum News {
    Same,
    Back,
    Other,
}

fn news(state: &State, target: &TargetSeen) -> News {
    match &state.target {
        Some(fence) if fence.is(target) => News::Same,
        _ if state.promoted.as_ref() == Some(&target.revision) => News::Back,
        _ => News::Other,
    }
}

fn runs_promoted(state: &State, target: &TargetSeen) -> bool {
    match news(state, target) {
        News::Same => state.candidate().is_none(),
        News::Back => true,
        News::Other => false,
    }
}

/// Something that is not yet as it was asked for.
struct Pending {
    waiting: Waiting,
    until: Option<Timestamp>,
}

fn hindrance(plan: &Plan, analysis: &Analysis, seen: &World, target: &TargetSeen) -> Option<Pending> {
    if !target.pods.ready(plan.canary_ready) {
        return Some(Pending { waiting: Waiting::CanaryNotReady { pods: target.pods }, until: None });
    }
    shows(plan, &seen.routing, analysis.weight, analysis.since, seen.now).err()
}

/// Whether the gateway sends `weight` to the canary, which it was asked for at `asked`.
fn shows(plan: &Plan, routing: &Routing, weight: Weight, asked: Timestamp, now: Timestamp) -> Result<(), Pending> {
    let pending = |waiting, until| Err(Pending { waiting, until });
    match routing {
        Routing::Unusable(why) => pending(Waiting::RouteUnusable(why.clone()), None),
        Routing::Split(shown, acceptance) if *shown == weight => match acceptance {
            Acceptance::Accepted => Ok(()),
            Acceptance::Silent if now >= asked + plan.route_grace => Ok(()),
            Acceptance::Silent => pending(Waiting::RoutePending, Some(asked + plan.route_grace)),
            Acceptance::Pending => pending(Waiting::RoutePending, None),
            Acceptance::Refused(why) => pending(Waiting::RouteRefused(why.clone()), None),
        },
        Routing::Split(..) | Routing::Missing | Routing::Whole(_) | Routing::Mixed => {
            pending(Waiting::RoutePending, None)
        }
    }
}

/// Whether no request can reach the target's pods, which was asked for at `asked`.
fn without_traffic(plan: &Plan, seen: &World, asked: Timestamp) -> Result<(), Pending> {
    shows(plan, &seen.routing, Weight::ZERO, asked, seen.now)?;
    if seen.apex_on_primary { Ok(()) } else { Err(Pending { waiting: Waiting::RoutePending, until: None }) }
}

/// No pods of the target are left. What happens to it while it has none is noted: the fence follows its generation,
/// and pods that somebody asks for are pods of the app, which the primary is to have.
fn stopped(state: &State, target: &TargetSeen) -> State {
    let fence = state.target.as_ref().map(|fence| fence.seen_again(target));
    let replicas = if target.replicas > 0 { target.replicas } else { state.replicas };
    State { target: fence, canary: CanaryPods::Down, replicas, ..state.clone() }
}

fn progressing(state: &State, analysis: Analysis) -> State {
    State { phase: Phase::Progressing(analysis), ..state.clone() }
}

/// At rest, with pods that may still have traffic until the gateway shows otherwise.
fn rested(state: &State, phase: Phase) -> State {
    State { phase, canary: CanaryPods::Up, ..state.clone() }
}

fn hold(plan: &Plan, state: State, now: Timestamp, waiting: Waiting, note: Note) -> Decision {
    wake_at(go(state, waiting, vec![note]), Some(now + plan.interval))
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
