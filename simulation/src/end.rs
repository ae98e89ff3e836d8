//! How everything must be in the end: as if nothing had gone wrong, or with a reason that the status names.

use crate::app::{self, NAME, PRIMARY, Quality, Shown, Version, number, text};
use crate::checks::{Checks, find};
use crate::scenario::Scenario;
use serde_json::Value;
use serin_testing::{ApiServer, CANARIES, CONTROLLER_REVISIONS, DEPLOYMENTS, HTTP_ROUTES, SERVICES};
use std::collections::BTreeSet;

/// What is not as it must be, in sentences.
pub(crate) fn wrong(
    server: &ApiServer,
    scenario: &Scenario,
    checks: &Checks,
    ready: [BTreeSet<Version>; 2],
    truth: Option<&Version>,
) -> Vec<String> {
    let mut wrong = vec![];
    let [target_ready, primary_ready] = ready;
    let shown = Shown::of(find(server, HTTP_ROUTES, NAME).as_deref());
    let service = find(server, SERVICES, NAME).unwrap_or_default();
    let apex = text(&service, "/spec/selector/app");
    if shown != checks.applied {
        wrong.push(format!("the route says {shown}, and the gateway serves {}", checks.applied));
    }
    let leads_to_primary = matches!(shown, Shown::Split(primary, _) if primary > 0) || apex == PRIMARY;
    let leads_to_target = shown.canary() > 0 || (shown == Shown::Whole && apex == NAME);
    if leads_to_primary && primary_ready.is_empty() {
        wrong.push("S2: requests are led to the primary, which has no pods".to_owned());
    }
    // An app that was broken before Serin had anything to do with it stays so.
    let broken = truth.is_some_and(|version| Quality::of(&version.image) == Quality::Broken);
    if leads_to_target && target_ready.is_empty() && !broken {
        wrong.push("S2: requests are led to the target, which has no pods".to_owned());
    }
    match find(server, CANARIES, NAME) {
        // Nobody is there to put it right.
        None if checks.route_is_late => return vec![],
        None => without_canary(scenario, shown, apex, server, &mut wrong),
        Some(canary) => with_canary(&canary, checks, shown, &primary_ready, truth, server, &mut wrong),
    }
    wrong.into_iter().map(|sentence| format!("end: {sentence}")).collect()
}

/// The app is handed back, or stays on a primary that is the target's now.
fn without_canary(scenario: &Scenario, shown: Shown, apex: &str, server: &ApiServer, wrong: &mut Vec<String>) {
    let kept = find(server, DEPLOYMENTS, PRIMARY);
    match (kept, shown) {
        (Some(_), Shown::Split(100, 0)) | (None, Shown::Whole) => {}
        // GitOps has put the route back in the moment of the deletion, and the Service leads to the primary all the same.
        (Some(_), Shown::Whole) if apex == PRIMARY => {}
        (None, Shown::Missing) if !scenario.has_route => {}
        (kept, shown) => {
            let primary = if kept.is_some() { "a primary" } else { "no primary" };
            wrong.push(format!("the Canary is gone with {primary}, and {shown}, and its Service leads to {apex}"));
        }
    }
}

fn with_canary(
    canary: &Value,
    checks: &Checks,
    shown: Shown,
    primary_ready: &BTreeSet<Version>,
    truth: Option<&Version>,
    server: &ApiServer,
    wrong: &mut Vec<String>,
) {
    let status = &canary["status"];
    let (phase, failure) = (text(status, "/phase"), text(status, "/failure"));
    let condition = |kind: &str| {
        let conditions = status["conditions"].as_array();
        conditions.and_then(|all| all.iter().find(|one| one["type"] == kind)).cloned().unwrap_or_default()
    };
    let ready = condition("Ready");
    let runs = |version: &Version| primary_ready.len() == 1 && primary_ready.contains(version);
    let Some(truth) = truth else { return };
    match phase {
        "Initialized" | "Succeeded" => {
            if !runs(truth) {
                wrong.push(format!("{phase}, and the primary runs {primary_ready:?} instead of {truth}"));
            }
            if Quality::of(&truth.image) == Quality::Bad
                && !checks.skipped
                && !checks.is_trusted(text(status, "/promoted/revision"))
            {
                wrong.push(format!("S3: {truth} is bad, and is promoted"));
            }
            if ready["status"] != "True" {
                wrong.push(format!("{phase}, and not ready: {}", ready["message"]));
            }
        }
        "Failed" => {
            if failure.is_empty() || !text(&ready, "/message").contains(failure) {
                wrong.push(format!("Failed, and nothing says why: {}", ready["message"]));
            }
            // A primary that was left behind keeps its name, and the target may be the same version by another.
            if runs(truth) && !is_left(server, text(status, "/promoted/revision")) {
                wrong.push(format!("Failed, and the primary runs what the target says: {truth}"));
            }
        }
        _ if condition("Stalled")["status"] == "True" => {}
        _ => wrong.push(format!("it ends in {phase}: {}", ready["message"])),
    }
    if ["Initialized", "Succeeded", "Failed"].contains(&phase) {
        let fence = text(status, "/target/revision");
        if let Some(seen) = checks.version(fence)
            && seen != truth
        {
            wrong.push(format!("S6: the target is {truth}, and what was seen last is {seen}"));
        }
        if shown != Shown::Split(100, 0) {
            wrong.push(format!("{phase}, and the route says {shown}"));
        }
        let target = find(server, DEPLOYMENTS, NAME).unwrap_or_default();
        if text(status, "/canaryPods") == "Down" && app::replicas(&target) > 0 {
            wrong.push(format!("{phase}, and the target has {} pods", app::replicas(&target)));
        }
        if number(status, "/canaryWeight") != 0 {
            wrong.push(format!("{phase}, and the weight is {}", status["canaryWeight"]));
        }
    }
}

/// Whether the primary was there before its Canary: the record that was made of it is of no generation of the target.
fn is_left(server: &ApiServer, revision: &str) -> bool {
    find(server, CONTROLLER_REVISIONS, &format!("{NAME}-{revision}")).is_some_and(|record| record["revision"] == 0)
}
