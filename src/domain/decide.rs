//! What to do next: the whole state machine, one function a phase.
//!
//! Invariant: [`decide`] is total and deterministic. It never raises the canary's weight but by one step, after a
//! round in which every metric passed, and it lowers it in the pass that has a reason to.

mod capacity;
mod note;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod traces;

pub use note::{Note, Reason, Waiting};

use super::{
    Acceptance, Analysis, Answers, CanaryPods, Configs, Farewell, OnInconclusive, Phase, Plan, Primary, Promotion,
    Routing, State, Target, TargetSeen, Verdict, Weight, World, questions,
};
use jiff::{SignedDuration, Timestamp};

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
#[must_use]
pub fn decide(plan: &Plan, state: &State, seen: &World, answers: &Answers) -> Decision {
    if seen.deleted {
        return leave(plan, state, seen);
    }
    let decision = match &seen.target {
        None => without_target(state, seen),
        Some(target) => followed(state, target, transition(plan, state, seen, target, answers)),
    };
    // What is suspended gains no traffic and starts nothing; traffic that must leave the canary leaves all the same.
    let finished = matches!(decision.state.phase, Phase::Finalising { .. });
    if plan.suspend && (decision.state.weight() >= state.weight() || finished) {
        return stay(state, Waiting::Suspended);
    }
    decision
}

fn transition(plan: &Plan, state: &State, seen: &World, target: &TargetSeen, answers: &Answers) -> Decision {
    match &state.phase {
        Phase::Initializing { since } => initialize(plan, state, *since, seen, target),
        Phase::Initialized { since } | Phase::Succeeded { since } | Phase::Failed { since, .. } => {
            rest(plan, state, *since, seen, target)
        }
        Phase::Progressing(analysis) => analyse(plan, state, analysis, seen, target, answers),
        Phase::Promoting(promotion) => promote(plan, state, promotion, seen, target),
        Phase::Finalising { since } => finalise(plan, state, *since, seen, target),
        Phase::Terminating { .. } => stay(state, Waiting::Nothing),
    }
}

/// The primary is made from the target, and gets the traffic once it is ready for it.
fn initialize(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    let Some((promoted, fence)) = state.promoted.as_ref().zip(state.target.as_ref()) else {
        let first = seen.primary.as_ref().and_then(|primary| take_over(state, primary));
        return first.map_or_else(|| trust(state, target), |first| go(first, Waiting::PrimaryMissing, vec![]));
    };
    if !fence.is(target) && fence.generation != LEFT_OVER {
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

/// Nothing is being rolled out: look for a new version, and stop the pods that have no traffic.
fn rest(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    match news(state, target) {
        News::Other => return begin(state, seen.now, target),
        News::Back if matches!(state.phase, Phase::Failed { .. }) => return restore(state, seen.now, target),
        News::Back | News::Same | News::Unclear(_) => {}
    }
    let at = |canary| State { canary, ..state.clone() };
    let nothing = || target.incomplete.clone().map_or(Waiting::Nothing, Waiting::TargetIncomplete);
    match (state.canary, without_traffic(plan, seen, since)) {
        (CanaryPods::Up | CanaryPods::Stale, Err(pending)) => {
            wake_at(go(at(CanaryPods::Up), pending.waiting, vec![]), pending.until)
        }
        (CanaryPods::Up | CanaryPods::Stale, Ok(())) => {
            let draining = at(CanaryPods::Draining { since: seen.now });
            wake_at(go(draining, nothing(), vec![]), Some(later(seen.now, plan.drain_delay)))
        }
        // Somebody leads traffic to the pods again: what was observed of them is no longer true.
        (CanaryPods::Draining { .. }, Err(pending)) if !pending.silent => {
            go(at(CanaryPods::Up), pending.waiting, vec![])
        }
        (CanaryPods::Down, Err(pending)) if !pending.silent && target.replicas > 0 => {
            go(at(CanaryPods::Up), pending.waiting, vec![])
        }
        (CanaryPods::Draining { since }, _) if seen.now < later(since, plan.drain_delay) => {
            wake_at(go(state.clone(), nothing(), vec![]), Some(later(since, plan.drain_delay)))
        }
        (CanaryPods::Draining { .. }, _) if target.replicas > 0 => go(state.clone(), nothing(), vec![]),
        (CanaryPods::Draining { .. } | CanaryPods::Down, _) => go(stopped(state, target), nothing(), vec![]),
    }
}

/// One round of the analysis. The order of the guards is the order of urgency.
fn analyse(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    seen: &World,
    target: &TargetSeen,
    answers: &Answers,
) -> Decision {
    match news(state, target) {
        News::Other => return supersede(state, seen.now, target),
        News::Back => return restore(state, seen.now, target),
        News::Unclear(why) => return withdraw(plan, state, analysis, seen.now, why),
        News::Same => {}
    }
    let due = answers.outcome.as_ref().filter(|_| questions(plan, state, seen).metrics);
    let verdict = due.map(|outcome| (outcome, outcome.verdict()));
    let hindrance = hindrance(plan, state, analysis, seen, target);
    let blocked = hindrance.as_ref().map(|_| analysis.blocked.unwrap_or(seen.now));
    let analysis = &Analysis { blocked, ..*analysis };

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
    let dwelling = analysis.weight > Weight::ZERO && seen.now < later(analysis.since, plan.interval);
    if dwelling && !plan.skip_analysis {
        return dwell(plan, state, analysis);
    }
    if let Some((outcome, Verdict::Inconclusive)) = verdict {
        return inconclusive(plan, state, analysis, seen.now, &outcome.sentences(Verdict::Inconclusive));
    }
    if state.canary != CanaryPods::Up {
        return renew(plan, state, analysis, seen, target);
    }
    if let Some(pending) = hindrance {
        return hindered(plan, state, analysis, seen.now, pending, verdict.is_some());
    }
    if plan.skip_analysis {
        return promotion(state, analysis.weight, seen, target, "its pods are ready, and the analysis is skipped");
    }
    match (verdict, plan.steps.after(analysis.weight)) {
        (None, Some(_)) if analysis.weight == Weight::ZERO => {
            advance(plan, state, analysis, seen.now, "its pods are ready")
        }
        (None, _) => dwell(plan, state, analysis),
        (Some(_), Some(_)) => advance(plan, state, analysis, seen.now, "every check passed"),
        (Some(_), None) => promotion(state, analysis.weight, seen, target, "every check passed at the last step"),
    }
}

/// The primary is given the analysed record; if that does not work, the one before.
fn promote(plan: &Plan, state: &State, promotion: &Promotion, seen: &World, target: &TargetSeen) -> Decision {
    let unchanged = state.target.as_ref().is_some_and(|fence| fence.is(target));
    match news(state, target) {
        News::Other if promotion.undo.is_some() => return supersede(state, seen.now, target),
        News::Back if promotion.undo.is_some() => return restore(state, seen.now, target),
        News::Other | News::Back | News::Same | News::Unclear(_) => {}
    }
    if let Some((weight, why)) = less_traffic(plan, promotion.weight, unchanged, target) {
        let note =
            Note::warning(Reason::Retreated, format!("canary weight {weight} while the primary is updated: {why}"));
        let next = Promotion { weight, ..promotion.clone() };
        return go(State { phase: Phase::Promoting(next), ..state.clone() }, Waiting::PrimaryMissing, vec![note]);
    }
    let pods = seen.primary.as_ref().map(|primary| primary.pods).unwrap_or_default();
    let runs = seen.primary.as_ref().and_then(|primary| primary.revision.as_ref());
    let enough = |primary| capacity::suffices(primary, plan.primary_ready, state.replicas, Weight::FULL);
    let ready = runs.is_some()
        && runs == state.primary_revision()
        && pods.ready(plan.primary_ready)
        && seen.primary.as_ref().is_some_and(enough);
    let pods = seen.primary.as_ref().map_or(pods, |primary| capacity::asked_for(primary, state.replicas));
    let deadline = later(promotion.since, plan.progress_deadline);

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

/// How much less traffic the canary can have during a promotion, and why.
fn less_traffic(plan: &Plan, weight: Weight, unchanged: bool, target: &TargetSeen) -> Option<(Weight, &'static str)> {
    let (most, why) = if !unchanged {
        (Weight::ZERO, "the target changed, and its new pods were not analysed")
    } else if target.pods.lost() {
        (Weight::ZERO, "not one of its pods is available")
    } else {
        (plan.steps.max(), "the plan ends there now")
    };
    (weight > most).then_some((most, why))
}

/// The promotion is over when the gateway shows it.
fn finalise(plan: &Plan, state: &State, since: Timestamp, seen: &World, target: &TargetSeen) -> Decision {
    if let Err(pending) = without_traffic(plan, seen, since) {
        return match news(state, target) {
            // The gateway may never show it; a fix must not wait for that.
            News::Other => begin(state, seen.now, target),
            News::Back | News::Same | News::Unclear(_) => wake_at(stay(state, pending.waiting), pending.until),
        };
    }
    let mut next = rested(state, Phase::Succeeded { since: seen.now });
    next.canary = CanaryPods::Draining { since: seen.now };
    let revision = state.promoted.as_ref().map(ToString::to_string).unwrap_or_default();
    let note = Note::new(Reason::Succeeded, format!("revision {revision} is promoted"));
    wake_at(go(next, Waiting::Nothing, vec![note]), Some(later(seen.now, plan.drain_delay)))
}

/// The app is handed back to its own workload, or, if that cannot be trusted, stays on the primary.
fn leave(plan: &Plan, state: &State, seen: &World) -> Decision {
    // Pods that carried everything are as many as the target needs, whatever it had when it was last asked.
    let replicas = match &seen.primary {
        Some(Primary { pods, most: Some(_), .. }) => state.replicas.max(pods.wanted),
        Some(_) | None => state.replicas,
    };
    let at = |stage| {
        let phase = Phase::Terminating { since: seen.now, stage };
        State { phase, canary: CanaryPods::Up, replicas, ..state.clone() }
    };
    let keep = |why: &str| {
        let note = Note::warning(Reason::PrimaryKept, format!("the primary goes on serving: {why}"));
        go(at(Farewell::Kept), Waiting::Nothing, vec![note])
    };
    let Phase::Terminating { since, stage } = state.phase else {
        let note = Note::new(Reason::Terminating, "the Canary is being deleted; the app is handed back".into());
        let served = seen.apex_on_primary || matches!(seen.routing, Routing::Split(..) | Routing::Mixed);
        return match &seen.target {
            _ if matches!(state.phase, Phase::Initializing { .. }) && !served => {
                go(at(Farewell::Released), Waiting::Nothing, vec![note])
            }
            Some(target) if !runs_promoted(state, target) => keep("the target holds a version that was not promoted"),
            Some(_) | None => go(at(Farewell::Reviving), Waiting::Nothing, vec![note]),
        };
    };
    let deadline = later(since, plan.progress_deadline);
    let drained = later(since, plan.drain_delay);

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
        (Farewell::HandingOver | Farewell::Draining, Some(target)) if target.pods.lost() => {
            go(at(Farewell::Reviving), Waiting::CanaryNotReady { pods: target.pods }, vec![])
        }
        (Farewell::HandingOver, _) => match handed_over(plan, seen, since) {
            Ok(()) => {
                wake_at(go(at(Farewell::Draining), Waiting::Nothing, vec![]), Some(later(seen.now, plan.drain_delay)))
            }
            Err(_) if seen.now >= deadline => keep("the gateway did not take the route back"),
            Err(pending) => {
                let wake = pending.until.map_or(deadline, |until| until.min(deadline));
                wake_at(stay(state, pending.waiting), Some(wake))
            }
        },
        (Farewell::Draining, _) if seen.now < drained => wake_at(stay(state, Waiting::Nothing), Some(drained)),
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

fn begin(state: &State, now: Timestamp, target: &TargetSeen) -> Decision {
    let analysis =
        Analysis { weight: Weight::ZERO, set: now, since: now, failed: 0, inconclusive: 0, blocked: Some(now) };
    let next = State {
        phase: Phase::Progressing(analysis),
        target: Some(Target::new(target)),
        canary: if stale(state, target) { CanaryPods::Stale } else { CanaryPods::Up },
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
    let rested = rested(state, Phase::Succeeded { since: now });
    // Pods that are not there need not be started to be stopped.
    let canary = if state.canary == CanaryPods::Down { CanaryPods::Down } else { CanaryPods::Up };
    let next = State { target: Some(Target::new(target)), canary, ..rested };
    let text = format!("the target is back at the promoted revision {}; there is nothing to analyse", target.revision);
    go(next, Waiting::RoutePending, vec![Note::new(Reason::Restored, text)])
}

/// The target is no longer what is being analysed, and not yet a version of its own: no traffic may stay on its pods.
fn withdraw(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let waiting = Waiting::TargetIncomplete(why.to_owned());
    let blocked = Some(analysis.blocked.unwrap_or(now));
    if analysis.weight == Weight::ZERO {
        // Pods that are about to go can wait for the next version.
        let canary = if state.canary == CanaryPods::Up { CanaryPods::Up } else { CanaryPods::Stale };
        let next = State { canary, ..state.clone() };
        return hindered(plan, &next, &Analysis { blocked, ..*analysis }, now, Pending::on(waiting), false);
    }
    let next =
        Analysis { weight: Weight::ZERO, set: now, since: now, inconclusive: 0, blocked: Some(now), ..*analysis };
    let note = Note::warning(Reason::Retreated, format!("all traffic goes to the primary: the target changed; {why}"));
    wake_at(go(progressing(state, next), waiting, vec![note]), Some(later(now, plan.progress_deadline)))
}

/// Pods that began with other configs go, once they are seen to have no traffic, and come back with those of the
/// version: what is analysed is what is on record (S3).
fn renew(plan: &Plan, state: &State, analysis: &Analysis, seen: &World, target: &TargetSeen) -> Decision {
    if let Some(why) = &target.incomplete {
        let (next, waiting) =
            (State { canary: CanaryPods::Stale, ..state.clone() }, Waiting::TargetIncomplete(why.clone()));
        return hindered(plan, &next, analysis, seen.now, Pending::on(waiting), false);
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
    hindered(plan, &State { canary, ..state.clone() }, analysis, seen.now, pending, false)
}

fn advance(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let weight = plan.steps.after(analysis.weight).unwrap_or(analysis.weight);
    let note = Note::new(Reason::Advanced, format!("canary weight {weight}: {why}"));
    at_weight(plan, state, analysis, weight, now, note)
}

fn at_weight(plan: &Plan, state: &State, analysis: &Analysis, weight: Weight, now: Timestamp, note: Note) -> Decision {
    let next = Analysis { weight, set: now, since: now, inconclusive: 0, blocked: None, ..*analysis };
    let until = later(now, plan.interval);
    wake_at(go(progressing(state, next), Waiting::Dwell { until }, vec![note]), Some(until))
}

fn fail(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let count = analysis.failed + 1;
    let text = format!("{why} (failed check {count} of {})", plan.threshold);
    if count >= plan.threshold {
        return failed(state, now, text);
    }
    let weight = analysis.weight.min(plan.steps.max());
    let set = if weight == analysis.weight { analysis.set } else { now };
    let next = Analysis { weight, set, failed: count, inconclusive: 0, since: now, ..*analysis };
    let note = Note::warning(Reason::CheckFailed, format!("held at weight {weight}: {text}"));
    hold(plan, progressing(state, next), now, Waiting::CheckFailed(text), note)
}

fn inconclusive(plan: &Plan, state: &State, analysis: &Analysis, now: Timestamp, why: &str) -> Decision {
    let count = analysis.inconclusive + 1;
    let text = format!("{why} (inconclusive check {count} of {})", plan.inconclusive_limit);
    if count >= plan.inconclusive_limit && plan.on_inconclusive == OnInconclusive::Rollback {
        return failed(state, now, text);
    }
    let next = Analysis { inconclusive: count.min(plan.inconclusive_limit), since: now, ..*analysis };
    let waiting = Waiting::Inconclusive(text.clone());
    if count > plan.inconclusive_limit {
        return wake_at(go(progressing(state, next), waiting, vec![]), Some(later(now, plan.interval)));
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
    let next =
        Analysis { weight: Weight::ZERO, set: now, since: now, failed: count, inconclusive: 0, blocked: Some(now) };
    let note = Note::warning(Reason::Retreated, format!("all traffic goes to the primary: {text}"));
    hold(plan, progressing(state, next), now, Waiting::CheckFailed(text), note)
}

/// Pods or route are not as asked: nothing moves, until the progress deadline ends it.
fn hindered(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    now: Timestamp,
    pending: Pending,
    judged: bool,
) -> Decision {
    let deadline = later(analysis.blocked.unwrap_or(now), plan.progress_deadline);
    if now >= deadline {
        let seconds = plan.progress_deadline.as_secs();
        return failed(state, now, format!("{} after the progress deadline of {seconds}s", pending.waiting));
    }
    let since = if judged { now } else { analysis.since };
    let checked = analysis.weight > Weight::ZERO && !plan.skip_analysis;
    let next_check = checked.then(|| later(since, plan.interval).max(now));
    let wake = [Some(deadline), pending.until, next_check].into_iter().flatten().min();
    wake_at(go(progressing(state, Analysis { since, ..*analysis }), pending.waiting, vec![]), wake)
}

fn dwell(plan: &Plan, state: &State, analysis: &Analysis) -> Decision {
    let until = later(analysis.since, plan.interval);
    Decision { state: state.clone(), notes: vec![], waiting: None, wake: Some(until) }
}

fn promotion(state: &State, weight: Weight, seen: &World, target: &TargetSeen, why: &str) -> Decision {
    let revision = state.candidate().map(ToString::to_string).unwrap_or_default();
    let next = Promotion { weight, since: seen.now, undo: None };
    let note = Note::new(Reason::Promoting, format!("the primary is given revision {revision}: {why}"));
    let replicas = capacity::needed(seen.primary.as_ref(), target.replicas, weight);
    go(State { phase: Phase::Promoting(next), replicas, ..state.clone() }, Waiting::PrimaryMissing, vec![note])
}

fn failed(state: &State, now: Timestamp, why: String) -> Decision {
    let note = Note::warning(Reason::RolledBack, format!("all traffic goes to the primary: {why}"));
    go(rested(state, Phase::Failed { since: now, why }), Waiting::RoutePending, vec![note])
}

// ---- small values ----

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
/// replaces the pods of another template, but not those of other configs.
fn stale(state: &State, target: &TargetSeen) -> bool {
    let pods = target.replicas > 0 || target.pods.total > 0;
    let changed = state.target.as_ref().is_some_and(|fence| !fence.configs.agree(&target.configs));
    pods && changed
}

fn runs_promoted(state: &State, target: &TargetSeen) -> bool {
    match news(state, target) {
        News::Same => state.candidate().is_none(),
        News::Back => true,
        News::Other | News::Unclear(_) => false,
    }
}

/// Something that is not yet as it was asked for.
struct Pending {
    waiting: Waiting,
    until: Option<Timestamp>,
    /// Only the gateway's word is missing.
    silent: bool,
}

impl Pending {
    fn on(waiting: Waiting) -> Self {
        Self { waiting, until: None, silent: false }
    }
}

fn hindrance(plan: &Plan, state: &State, analysis: &Analysis, seen: &World, target: &TargetSeen) -> Option<Pending> {
    if let Some(why) = &target.incomplete {
        return Some(Pending::on(Waiting::TargetIncomplete(why.clone())));
    }
    if state.canary != CanaryPods::Up {
        return Some(Pending::on(Waiting::CanaryStale));
    }
    if !target.pods.ready(plan.canary_ready) {
        return Some(Pending::on(Waiting::CanaryNotReady { pods: target.pods }));
    }
    shows(plan, &seen.routing, analysis.weight, analysis.set, seen.now).err()
}

/// Whether the gateway sends `weight` to the canary, which it was asked for at `asked`.
fn shows(plan: &Plan, routing: &Routing, weight: Weight, asked: Timestamp, now: Timestamp) -> Result<(), Pending> {
    match routing {
        Routing::Unusable(why) => Err(Pending::on(Waiting::RouteUnusable(why.clone()))),
        Routing::Split(shown, acceptance) if *shown == weight => accepted(plan, acceptance, asked, now),
        Routing::Split(..) | Routing::Missing | Routing::Whole(_) | Routing::Mixed => {
            Err(Pending::on(Waiting::RoutePending))
        }
    }
}

/// Whether the gateway serves the route, which was written at `asked`. One that never reports is believed in the end.
fn accepted(plan: &Plan, acceptance: &Acceptance, asked: Timestamp, now: Timestamp) -> Result<(), Pending> {
    let believed = later(asked, plan.route_grace);
    match acceptance {
        Acceptance::Accepted => Ok(()),
        Acceptance::Silent if now >= believed => Ok(()),
        Acceptance::Silent => Err(Pending { waiting: Waiting::RoutePending, until: Some(believed), silent: true }),
        Acceptance::Pending => Err(Pending::on(Waiting::RoutePending)),
        Acceptance::Refused(why) => Err(Pending::on(Waiting::RouteRefused(why.clone()))),
    }
}

/// Whether no request can reach the target's pods, which was asked for at `asked`.
fn without_traffic(plan: &Plan, seen: &World, asked: Timestamp) -> Result<(), Pending> {
    shows(plan, &seen.routing, Weight::ZERO, asked, seen.now)?;
    if seen.apex_on_primary { Ok(()) } else { Err(Pending::on(Waiting::RoutePending)) }
}

/// Whether every request reaches the target's pods, which was asked for at `asked`.
fn handed_over(plan: &Plan, seen: &World, asked: Timestamp) -> Result<(), Pending> {
    match &seen.routing {
        _ if seen.apex_on_primary => Err(Pending::on(Waiting::RoutePending)),
        Routing::Whole(acceptance) => accepted(plan, acceptance, asked, seen.now),
        Routing::Missing | Routing::Unusable(_) => Ok(()),
        Routing::Split(..) | Routing::Mixed => Err(Pending::on(Waiting::RoutePending)),
    }
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

fn hold(plan: &Plan, state: State, now: Timestamp, waiting: Waiting, note: Note) -> Decision {
    wake_at(go(state, waiting, vec![note]), Some(later(now, plan.interval)))
}

/// A time that can be compared whatever was written in a spec or a status.
fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
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
