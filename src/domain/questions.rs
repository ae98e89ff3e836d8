//! Which questions are due: none while nothing is being analysed (S9).

use super::{Phase, Plan, Questions, State, Weight, World};
use std::collections::BTreeSet;

/// What is to be asked in this pass.
///
/// They are once the interval is over, even when pods or route are not as they should be: a breach must be
/// seen whatever else is wrong.
#[must_use]
pub fn questions(plan: &Plan, state: &State, seen: &World) -> Questions {
    Questions { metrics: metrics(plan, state, seen), hooks: BTreeSet::new() }
}

fn metrics(plan: &Plan, state: &State, seen: &World) -> bool {
    let Phase::Progressing(analysis) = &state.phase else { return false };
    let same_version = match (&state.target, &seen.target) {
        (Some(target), Some(seen)) => target.is(seen),
        (_, _) => false,
    };
    let due = analysis.since.checked_add(plan.interval).is_ok_and(|due| seen.now >= due);
    due && same_version && analysis.weight > Weight::ZERO && !plan.suspend && !plan.skip_analysis && !seen.deleted
}
