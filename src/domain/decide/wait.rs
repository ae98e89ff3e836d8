//! A new version waits at its first gate: the confirm-rollout hooks, or a person, say whether it may be started.

use super::analyse::SOON;
use super::heard::{Heard, Said};
use super::note::{Note, Reason, Waiting};
use super::pending::later;
use super::{Decision, News, failed, go, has_pods, idle, news, restore, supersede, wake_at};
use crate::domain::{Analysis, CanaryPods, Hook, Phase, Plan, State, TargetSeen, World};
use jiff::Timestamp;

/// One look at a version that waits.
pub(super) fn wait(
    plan: &Plan,
    state: &State,
    (since, asked): (Timestamp, Option<Timestamp>),
    seen: &World,
    target: &TargetSeen,
    heard: &Heard<'_>,
) -> Decision {
    let now = seen.now;
    match news(state, target) {
        News::Other => return supersede(plan, state, now, target),
        News::Back => return restore(state, now, target),
        News::Unclear(why) => {
            let (next, idle) = idle(plan, state, since, seen, target, CanaryPods::Stale);
            return wake_at(go(next, Waiting::TargetIncomplete(why.to_owned()), vec![]), idle.until);
        }
        News::Same => {}
    }
    if let Some(why) = heard.rollback() {
        return failed(state, now, why);
    }
    let said = heard.hook(Hook::ConfirmRollout);
    if !plan.hooks.contains(&Hook::ConfirmRollout) {
        return open(state, now, target, Reason::GateOpened, "there is no confirm-rollout webhook now");
    }
    if said == Said::Yes && heard.hook(Hook::Rollback) != Said::Missing {
        return open(state, now, target, Reason::GateOpened, "every confirm-rollout webhook said yes");
    }
    let (mut next, idle) = idle(plan, state, since, seen, target, CanaryPods::Stale);
    let (waiting, note, next_asked) = match said {
        Said::No(replies) => {
            let waiting = Waiting::Gate { hook: Hook::ConfirmRollout, replies: replies.to_vec() };
            let note = asked.is_none().then(|| Note::new(Reason::GateClosed, waiting.to_string()));
            (Some(waiting), note, Some(now))
        }
        Said::Nothing | Said::Missing | Said::Yes => (None, None, asked),
    };
    next.phase = Phase::Waiting { since, asked: next_asked };
    let due = next_asked.map_or(now, |asked| later(asked, plan.interval)).max(later(now, SOON));
    let wake = idle.until.map_or(due, |until| until.min(due));
    Decision { state: next, notes: note.into_iter().collect(), waiting, wake: Some(wake) }
}

/// A version comes to its gate; its pods, if there are any, go as at rest.
pub(super) fn come_to_the_gate(state: &State, now: Timestamp) -> Decision {
    let waiting = Waiting::Gate { hook: Hook::ConfirmRollout, replies: vec![] };
    let revision = state.candidate().map(ToString::to_string).unwrap_or_default();
    let note = Note::new(Reason::NewRevision, format!("revision {revision} waits for confirm-rollout"));
    let canary = if state.canary == CanaryPods::Down { CanaryPods::Down } else { CanaryPods::Stale };
    let phase = Phase::Waiting { since: now, asked: None };
    wake_at(go(State { phase, canary, ..state.clone() }, waiting, vec![note]), Some(later(now, SOON)))
}

/// The version that waits is started.
pub(super) fn open(state: &State, now: Timestamp, target: &TargetSeen, reason: Reason, why: &str) -> Decision {
    let revision = state.candidate().map(ToString::to_string).unwrap_or_default();
    let note = Note::new(reason, format!("revision {revision} is being started: {why}"));
    let next =
        State { phase: Phase::Progressing(Analysis::new(now)), canary: fresh(state.canary, target), ..state.clone() };
    go(next, Waiting::CanaryNotReady { pods: target.pods }, vec![note])
}

/// Pods that may be of any time before are stopped first: they may have begun with other configs (S3).
fn fresh(canary: CanaryPods, target: &TargetSeen) -> CanaryPods {
    match canary {
        CanaryPods::Down if !has_pods(target) => CanaryPods::Up,
        CanaryPods::Down | CanaryPods::Up | CanaryPods::Stale | CanaryPods::Draining { .. } => CanaryPods::Stale,
    }
}
