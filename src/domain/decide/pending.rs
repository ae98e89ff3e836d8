//! What is not yet as it was asked for: pods, the route, the app's Service.

use super::note::Waiting;
use crate::domain::{Acceptance, Analysis, CanaryPods, Plan, Routing, State, TargetSeen, Weight, World};
use jiff::{SignedDuration, Timestamp};

/// Something that is not yet as it was asked for.
pub(super) struct Pending {
    pub(super) waiting: Waiting,
    /// When it counts as done even if nothing is said of it.
    pub(super) until: Option<Timestamp>,
    /// Only the gateway's word is missing.
    pub(super) silent: bool,
}

impl Pending {
    pub(super) fn on(waiting: Waiting) -> Self {
        Self { waiting, until: None, silent: false }
    }
}

/// What keeps an analysis from going on.
pub(super) fn hindrance(
    plan: &Plan,
    state: &State,
    analysis: &Analysis,
    seen: &World,
    target: &TargetSeen,
) -> Option<Pending> {
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
pub(super) fn without_traffic(plan: &Plan, seen: &World, asked: Timestamp) -> Result<(), Pending> {
    shows(plan, &seen.routing, Weight::ZERO, asked, seen.now)?;
    if seen.apex_on_primary { Ok(()) } else { Err(Pending::on(Waiting::RoutePending)) }
}

/// Whether every request reaches the target's pods, which was asked for at `asked`.
pub(super) fn handed_over(plan: &Plan, seen: &World, asked: Timestamp) -> Result<(), Pending> {
    match &seen.routing {
        _ if seen.apex_on_primary => Err(Pending::on(Waiting::RoutePending)),
        Routing::Whole(acceptance) => accepted(plan, acceptance, asked, seen.now),
        Routing::Missing | Routing::Unusable(_) => Ok(()),
        Routing::Split(..) | Routing::Mixed => Err(Pending::on(Waiting::RoutePending)),
    }
}

/// A time that can be compared whatever was written in a spec or a status.
pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
