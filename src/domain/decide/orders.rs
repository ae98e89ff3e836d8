//! Orders that a person or a pipeline gives by an annotation: each is taken once, and answered with one note.

use super::note::{Note, Reason};
use super::wait::{come_to_the_gate, open};
use super::{Decision, News, failed, news, progressing, promote};
use crate::domain::{Analysis, Hook, Order, Phase, Plan, Promotion, State, TargetSeen, World};

/// As much of an order that nobody knows is remembered, and repeated in a sentence.
const KNOWN: usize = 60;

/// The state after an order was taken, if there was one.
pub(super) struct Taken {
    pub(super) state: State,
    pub(super) notes: Vec<Note>,
    /// What the order alone decided; `None` when the phase decides as always.
    pub(super) decision: Option<Decision>,
}

/// What an order comes to.
enum Effect {
    /// The rollout goes on from here.
    State(State),
    Decision(Decision),
}

/// Takes the order that is found, unless it was taken already.
pub(super) fn take(plan: &Plan, state: &State, seen: &World) -> Taken {
    let Some(command) = &seen.command else {
        return Taken { state: State { command: None, ..state.clone() }, notes: vec![], decision: None };
    };
    let written: String = command.written.chars().take(KNOWN).collect();
    if state.command.as_ref() == Some(&written) {
        return Taken { state: state.clone(), notes: vec![], decision: None };
    }
    let state = State { command: Some(written.clone()), ..state.clone() };
    let by = &command.by;
    let effect = if let Some(order) = Order::of(&command.written) {
        carry_out(plan, &state, seen, order, by)
    } else {
        let known = Order::ALL.map(|(name, _)| name).join(", ");
        Err(format!("nobody knows it; write one of {known}"))
    };
    let (state, note, decision) = match effect {
        Ok((Effect::State(state), text)) => (state, Note::new(Reason::Ordered, text), None),
        Ok((Effect::Decision(decision), text)) => (state, Note::new(Reason::Ordered, text), Some(decision)),
        Err(why) => {
            let text = format!("the order {written} by {by} was not carried out: {why}");
            (state, Note::warning(Reason::OrderRefused, text), None)
        }
    };
    Taken { state, notes: vec![note], decision }
}

/// What the order does and a sentence for it, or why it does nothing.
fn carry_out(plan: &Plan, state: &State, seen: &World, order: Order, by: &str) -> Result<(Effect, String), String> {
    if seen.deleted {
        return Err("the Canary is being deleted".into());
    }
    if plan.suspend && order != Order::Abort {
        return Err("suspend is set; set it to false first. Only abort acts on what is suspended".into());
    }
    match order {
        Order::Approve => approve(state, seen, by),
        Order::Pause => pause(state, by),
        Order::Resume => resume(state, by),
        Order::Promote => skip(state, seen, by),
        Order::Abort => abort(plan, state, seen, by),
        Order::Retry => retry(plan, state, seen, by),
    }
}

fn approve(state: &State, seen: &World, by: &str) -> Result<(Effect, String), String> {
    match &state.phase {
        Phase::Waiting { .. } => {
            let decision = open(state, seen.now, same(state, seen)?, Reason::GateOpened, "it was approved");
            Ok((Effect::Decision(decision), format!("approved by {by}: confirm-rollout is open")))
        }
        Phase::Progressing(analysis) => {
            let gate = analysis.gate.ok_or("no gate is waited at now")?;
            same(state, seen)?;
            let next = Analysis { approved: true, early: true, ..*analysis };
            let text = format!("approved by {by}: {} is open", gate.hook().name());
            Ok((Effect::State(progressing(state, next)), text))
        }
        Phase::Initializing { .. }
        | Phase::Initialized { .. }
        | Phase::Promoting(_)
        | Phase::Finalising { .. }
        | Phase::Succeeded { .. }
        | Phase::Failed { .. }
        | Phase::Terminating { .. } => Err("no gate is waited at now".into()),
    }
}

fn pause(state: &State, by: &str) -> Result<(Effect, String), String> {
    match &state.phase {
        Phase::Progressing(analysis) if analysis.paused => Err("the rollout is paused already".into()),
        Phase::Progressing(analysis) => {
            let next = Analysis { paused: true, skipped: false, ..*analysis };
            let text = format!("paused by {by} at weight {}; checks go on", analysis.weight);
            Ok((Effect::State(progressing(state, next)), text))
        }
        Phase::Waiting { .. } => Err("the version is not started yet, and waits for confirm-rollout anyway".into()),
        Phase::Promoting(_) => {
            Err("the primary is being updated; order abort to take the version back, or set spec.suspend".into())
        }
        Phase::Initializing { .. }
        | Phase::Initialized { .. }
        | Phase::Finalising { .. }
        | Phase::Succeeded { .. }
        | Phase::Failed { .. }
        | Phase::Terminating { .. } => {
            Err("nothing is being analysed; to hold new versions too, set spec.suspend".into())
        }
    }
}

fn resume(state: &State, by: &str) -> Result<(Effect, String), String> {
    match &state.phase {
        Phase::Progressing(analysis) if analysis.paused => {
            let next = Analysis { paused: false, ..*analysis };
            let text = format!("resumed by {by} at weight {}", analysis.weight);
            Ok((Effect::State(progressing(state, next)), text))
        }
        Phase::Progressing(_)
        | Phase::Waiting { .. }
        | Phase::Promoting(_)
        | Phase::Initializing { .. }
        | Phase::Initialized { .. }
        | Phase::Finalising { .. }
        | Phase::Succeeded { .. }
        | Phase::Failed { .. }
        | Phase::Terminating { .. } => Err("nothing is paused".into()),
    }
}

fn skip(state: &State, seen: &World, by: &str) -> Result<(Effect, String), String> {
    let text = format!("promotion ordered by {by}: the rest of the analysis is skipped");
    match &state.phase {
        Phase::Waiting { .. } => {
            let mut decision =
                open(state, seen.now, same(state, seen)?, Reason::GateOpened, "its promotion was ordered");
            if let Phase::Progressing(analysis) = &mut decision.state.phase {
                analysis.skipped = true;
            }
            Ok((Effect::Decision(decision), text))
        }
        Phase::Progressing(analysis) => {
            same(state, seen)?;
            let next = Analysis { skipped: true, paused: false, ..*analysis };
            Ok((Effect::State(progressing(state, next)), text))
        }
        Phase::Promoting(Promotion { undo: None, .. }) | Phase::Finalising { .. } => {
            Err("the version is being promoted already".into())
        }
        Phase::Failed { .. } => Err("the version was taken back; order retry to analyse it again".into()),
        Phase::Promoting(_)
        | Phase::Initializing { .. }
        | Phase::Initialized { .. }
        | Phase::Succeeded { .. }
        | Phase::Terminating { .. } => Err("there is no version to promote".into()),
    }
}

fn abort(plan: &Plan, state: &State, seen: &World, by: &str) -> Result<(Effect, String), String> {
    let why = format!("aborted by {by}");
    match &state.phase {
        Phase::Waiting { .. } | Phase::Progressing(_) => {
            Ok((Effect::Decision(failed(state, seen.now, why.clone())), why))
        }
        Phase::Promoting(promotion) if promotion.undo.is_none() => {
            Ok((Effect::Decision(promote::undo(plan, state, promotion, seen, &why)), why))
        }
        Phase::Promoting(_) => Err("the version is being taken back already".into()),
        Phase::Finalising { .. } | Phase::Succeeded { .. } => {
            Err("the primary runs the version; change the target's pod template back instead".into())
        }
        Phase::Failed { .. } => Err("the version was taken back already".into()),
        Phase::Initializing { .. } | Phase::Initialized { .. } | Phase::Terminating { .. } => {
            Err("there is nothing to take back".into())
        }
    }
}

fn retry(plan: &Plan, state: &State, seen: &World, by: &str) -> Result<(Effect, String), String> {
    match &state.phase {
        Phase::Failed { .. } if state.candidate().is_some() => {
            let target = same(state, seen)?;
            // The same version, by the name under which it is recorded, whatever its hash is now.
            let fence = state.target.as_ref().map(|fence| fence.seen_again(target));
            let replicas = if target.replicas > 0 { target.replicas } else { state.replicas };
            let state = State { target: fence, replicas, ..state.clone() };
            let decision = if plan.hooks.contains(&Hook::ConfirmRollout) {
                come_to_the_gate(&state, seen.now)
            } else {
                open(&state, seen.now, target, Reason::NewRevision, "it is tried again")
            };
            Ok((Effect::Decision(decision), format!("retry ordered by {by}: the version is analysed again")))
        }
        Phase::Waiting { .. } | Phase::Progressing(_) | Phase::Promoting(_) | Phase::Finalising { .. } => {
            Err("the version is being rolled out already".into())
        }
        Phase::Failed { .. }
        | Phase::Initializing { .. }
        | Phase::Initialized { .. }
        | Phase::Succeeded { .. }
        | Phase::Terminating { .. } => Err("no version was taken back".into()),
    }
}

/// The target, if it is still the version that the order can be about.
fn same<'a>(state: &State, seen: &'a World) -> Result<&'a TargetSeen, String> {
    let target = seen.target.as_ref().ok_or("the target does not exist")?;
    match news(state, target) {
        News::Same => Ok(target),
        News::Other | News::Back => Err("the target has changed to another version in the meantime".into()),
        News::Unclear(why) => Err(format!("the target has changed in the meantime: {why}")),
    }
}
