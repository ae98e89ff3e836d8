//! The Canary is being deleted: its app is handed back.

use super::note::{Note, Reason, Waiting};
use super::pending::{handed_over, later};
use super::{Decision, News, go, news, stay, wake_at};
use crate::domain::{CanaryPods, Farewell, Phase, Plan, Primary, Routing, State, TargetSeen, World};

/// The app is handed back to its own workload, or, if that cannot be trusted, stays on the primary.
pub(super) fn leave(plan: &Plan, state: &State, seen: &World) -> Decision {
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
    let served = seen.apex_on_primary || matches!(seen.routing, Routing::Split(..) | Routing::Mixed);
    let Phase::Terminating { since, stage } = state.phase else {
        let note = Note::new(Reason::Terminating, "the Canary is being deleted; the app is handed back".into());
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
    let primary_serves = seen.primary.as_ref().is_some_and(|primary| !primary.pods.lost());

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
        (Farewell::HandingOver | Farewell::Draining, Some(target)) if target.pods.lost() && primary_serves => {
            go(at(Farewell::Reviving), Waiting::CanaryNotReady { pods: target.pods }, vec![])
        }
        // To lead all requests to a primary that has no pods either helps nobody; nor does it to delete it.
        (Farewell::HandingOver | Farewell::Draining, Some(target)) if target.pods.lost() && seen.now < deadline => {
            wake_at(stay(state, Waiting::CanaryNotReady { pods: target.pods }), Some(deadline))
        }
        (Farewell::HandingOver, _) => match handed_over(plan, seen, since) {
            Ok(()) => {
                wake_at(go(at(Farewell::Draining), Waiting::Nothing, vec![]), Some(later(seen.now, plan.drain_delay)))
            }
            // A primary that has no pods is given nothing back.
            Err(_) if seen.now >= deadline && primary_serves => keep("the gateway did not take the route back"),
            Err(pending) => {
                let wake = [pending.until, (seen.now < deadline).then_some(deadline)].into_iter().flatten().min();
                wake_at(stay(state, pending.waiting), wake)
            }
        },
        (Farewell::Draining, _) if seen.now < drained => wake_at(stay(state, Waiting::Nothing), Some(drained)),
        (Farewell::Reviving, None) | (Farewell::Draining, _) => go(at(Farewell::Released), Waiting::Nothing, vec![]),
        // It was to be given back to nobody, and there is a target again, which may have no pods yet.
        (Farewell::Released, Some(target)) if served && primary_serves => {
            go(at(Farewell::Reviving), Waiting::CanaryNotReady { pods: target.pods }, vec![])
        }
        (Farewell::Released | Farewell::Kept, _) => stay(state, Waiting::Nothing),
    }
}

fn runs_promoted(state: &State, target: &TargetSeen) -> bool {
    match news(state, target) {
        News::Same => state.candidate().is_none(),
        News::Back => true,
        News::Other | News::Unclear(_) => false,
    }
}
