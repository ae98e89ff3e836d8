//! Canaries as somebody wrote them.

use jiff::{SignedDuration, Timestamp};
use kube::core::DeserializeGuard;
use serin::api::{self, Canary, Defaults};
use serin::domain::{
    Acceptance, Answers, CanaryPods, Configs, Hook, Outcome, Plan, Pods, Primary, Questions, Reply, Revision, Routing,
    Split, State, TargetSeen, Traffic, World, decide, questions,
};

/// More passes than a rollout of few steps takes.
const PASSES: u32 = 40;

/// Most bytes of what a sentence about a spec adds to a status.
const LARGEST_STATUS: usize = 64 * 1024;

/// A Canary as JSON: it is refused with a sentence that fits into a status, or it is a plan that can be carried out without
/// a weight beyond it.
///
/// # Panics
/// When it is neither.
pub fn canary_json(bytes: &[u8]) {
    let Ok(DeserializeGuard::<Canary>(Ok(canary))) = serde_json::from_slice(bytes) else { return };
    let now = Timestamp::UNIX_EPOCH;
    match api::plan(&canary.spec, &defaults()) {
        Ok(plan) => roll_out(&plan),
        Err(invalid) => {
            let sentence = invalid.to_string();
            assert!(!sentence.is_empty());
            let status = api::refused(canary.status.as_ref(), "InvalidSpec", &sentence, Some(1), now);
            let others = serde_json::to_string(&canary.status).map_or(0, |status| status.len());
            let all = serde_json::to_string(&status).map_or(0, |status| status.len());
            assert!(all <= LARGEST_STATUS + others, "{all} bytes");
        }
    }
}

pub(crate) fn defaults() -> Defaults {
    let second = SignedDuration::from_secs(1);
    Defaults { drain_delay: second, route_grace: second, meshless: false }
}

/// Two versions, one after the other, in a cluster that does as it is told.
fn roll_out(plan: &Plan) {
    let mut now = Timestamp::UNIX_EPOCH;
    let mut state = State::new(now);
    for pass in 0..PASSES {
        let seen = as_wanted(plan, &state, now, if pass < PASSES / 4 { "a" } else { "b" });
        let next = decide(plan, &state, &seen, &all_well(&questions(plan, &state, &seen)));
        let (before, after) = (state.weight(), next.state.weight());
        assert!(after <= before || plan.steps.after(before) == Some(after), "S5: {next:?}");
        now = next.wake.unwrap_or(now).max(now);
        state = next.state;
    }
}

/// The answers that let a rollout go on.
fn all_well(asked: &Questions) -> Answers {
    let answer = |hook: &Hook| match hook {
        Hook::Rollback => Err("no".to_owned()),
        _ => Ok(()),
    };
    let reply = |hook: &Hook| (*hook, vec![Reply { name: hook.name().to_owned(), answer: answer(hook) }]);
    Answers { outcome: asked.metrics.then(Outcome::default), hooks: asked.hooks.iter().map(reply).collect() }
}

/// The world as a state wants it to be.
pub(crate) fn as_wanted(plan: &Plan, state: &State, now: Timestamp, version: &str) -> World {
    let revision = Revision(version.to_owned());
    let pods = |wanted: u32| Pods { wanted, updated: wanted, available: wanted, total: wanted, current: true };
    let replicas = if state.canary == CanaryPods::Down { 0 } else { state.replicas };
    let split = match state.traffic(plan) {
        Traffic::Split(Split { weight, .. }) => Routing::Split(weight, Acceptance::Accepted),
        _ => Routing::Whole(Acceptance::Accepted),
    };
    World {
        now,
        deleted: false,
        command: None,
        target: Some(TargetSeen {
            revision: revision.clone(),
            template: revision,
            configs: Configs::default(),
            incomplete: None,
            generation: i64::from(version == "b"),
            uid: "u".to_owned(),
            replicas,
            pods: pods(replicas),
        }),
        primary: state.primary_revision().map(|revision| Primary {
            revision: Some(revision.clone()),
            pods: pods(state.replicas),
            most: None,
        }),
        apex_on_primary: true,
        routing: split,
        led: None,
    }
}
