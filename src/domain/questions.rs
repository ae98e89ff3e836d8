//! Which questions are due: none while nothing is being analysed (S9).

use super::decide::is_ready;
use super::{Analysis, Gate, Hook, Phase, Plan, Promotion, Questions, State, TargetSeen, Weight, World};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What is to be asked in this pass.
///
/// Once the interval is over, even when pods or route are not as they should be: a breach must be seen whatever else is
/// wrong.
#[must_use]
pub fn questions(plan: &Plan, state: &State, seen: &World) -> Questions {
    let mut asked = match (&state.target, &seen.target) {
        (Some(fence), Some(target)) if fence.is(target) && !plan.suspend && !seen.deleted => {
            of_phase(plan, state, seen, target)
        }
        (_, _) => Questions::default(),
    };
    if state.owed.is_some() {
        asked.hooks.insert(Hook::PostRollout);
    }
    asked.hooks.retain(|hook| plan.hooks.contains(hook));
    asked
}

fn of_phase(plan: &Plan, state: &State, seen: &World, target: &TargetSeen) -> Questions {
    let only = |hooks: &[Hook]| Questions { metrics: false, hooks: hooks.iter().copied().collect() };
    match &state.phase {
        Phase::Waiting { asked, .. } if again(plan, *asked, seen.now) => only(&[Hook::ConfirmRollout, Hook::Rollback]),
        Phase::Progressing(analysis) if analysis.begun(seen).due(plan, seen.now) => {
            round(plan, analysis, is_ready(plan, state, analysis, seen, target))
        }
        Phase::Promoting(Promotion { undo: None, asked, .. }) if again(plan, *asked, seen.now) => {
            only(&[Hook::Rollback])
        }
        Phase::Initializing { .. }
        | Phase::Initialized { .. }
        | Phase::Waiting { .. }
        | Phase::Progressing(_)
        | Phase::Promoting(_)
        | Phase::Finalising { .. }
        | Phase::Succeeded { .. }
        | Phase::Failed { .. }
        | Phase::Terminating { .. } => Questions::default(),
    }
}

/// Whether what was asked at `asked` is to be asked again.
fn again(plan: &Plan, asked: Option<Timestamp>, now: Timestamp) -> bool {
    asked.is_none_or(|asked| asked.checked_add(plan.interval).is_ok_and(|due| now >= due))
}

/// One round of an analysis; `ready` when pods and route are as asked.
fn round(plan: &Plan, analysis: &Analysis, ready: bool) -> Questions {
    let mut hooks = BTreeSet::from([Hook::Rollback]);
    if plan.skip_analysis {
        return Questions { metrics: false, hooks };
    }
    let serves = analysis.weight > Weight::ZERO;
    let ready_before = analysis.blocked.is_none() && ready;
    if !serves && !ready_before {
        return Questions { metrics: false, hooks };
    }
    if !serves && !analysis.is_prepared(plan) {
        hooks.insert(Hook::PreRollout);
        return Questions { metrics: false, hooks };
    }
    let metrics = plan.checks_at(analysis.weight) > 0;
    if metrics {
        hooks.insert(Hook::Rollout);
    }
    let enough = analysis.passed + u32::from(metrics) >= plan.checks_at(analysis.weight);
    let held = analysis.paused || analysis.skipped;
    let gate = gate(plan, analysis);
    if ready && enough && !held && !opened(analysis, gate) {
        hooks.insert(gate.hook());
    }
    Questions { metrics, hooks }
}

/// The gate that the analysis comes to next.
pub(super) fn gate(plan: &Plan, analysis: &Analysis) -> Gate {
    if plan.steps.after(analysis.weight).is_some() { Gate::TrafficIncrease } else { Gate::Promotion }
}

/// Whether somebody opened `gate` by an order.
pub(super) fn opened(analysis: &Analysis, gate: Gate) -> bool {
    analysis.approved && analysis.gate == Some(gate)
}
