//! Statuses as somebody edited them.

use crate::canary::{as_wanted, defaults};
use jiff::Timestamp;
use serde_json::{Value, json};
use serin::api::{self, CanarySpec, CanaryStatus};
use serin::domain::{Answers, Check, Decision, Limits, Outcome, Phase, Plan, State, World, decide};

/// A status as JSON: it is refused, or it is a state from which a rollout goes on, whatever the world is like then; and
/// what is recorded of that is what is read back.
///
/// # Panics
/// When that is not so.
pub fn status_json(bytes: &[u8]) {
    let Ok(status) = serde_json::from_slice::<CanaryStatus>(bytes) else { return };
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap_or_default();
    let state = match api::state(Some(&status), now) {
        Ok(state) => state,
        Err(invalid) => return assert!(!invalid.to_string().is_empty()),
    };
    for plan in plans() {
        for seen in worlds(&plan, &state, now) {
            for answers in answers() {
                let next = decide(&plan, &state, &seen, &answers);
                check_record(&status, &plan, &next, &answers, now);
            }
        }
    }
}

/// S7: what is recorded is what is read back.
fn check_record(old: &CanaryStatus, plan: &Plan, next: &Decision, answers: &Answers, now: Timestamp) {
    let recorded = api::record(Some(old), plan, next, answers.outcome.as_ref(), Some(1), now);
    let stored = serde_json::to_vec(&recorded).ok();
    let read: Option<CanaryStatus> = stored.and_then(|stored| serde_json::from_slice(&stored).ok());
    let Some(read) = read else { panic!("a status that cannot be stored: {recorded:?}") };
    assert_eq!(read, recorded);
    let again = api::state(Some(&read), now).unwrap_or_else(|invalid| panic!("it is refused: {invalid}: {read:?}"));
    assert_eq!(shortened(again), shortened(next.state.clone()));
}

/// Without the sentences, which a status shortens.
fn shortened(mut state: State) -> State {
    match &mut state.phase {
        Phase::Failed { why, .. } => why.clear(),
        Phase::Promoting(promotion) => promotion.undo = promotion.undo.take().map(|_| String::new()),
        _ => {}
    }
    state
}

fn plans() -> impl Iterator<Item = Plan> {
    let spec = |analysis: Value| {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        let spec = json!({"targetRef": target, "service": {"port": 80}, "analysis": analysis});
        let spec: Option<CanarySpec> = serde_json::from_value(spec).ok();
        spec.and_then(|spec| api::plan(&spec, &defaults()).ok())
    };
    let weights = json!({"interval": "10s", "threshold": 2, "stepWeights": [10, 50], "stepWeightPromotion": 25});
    let counts = json!({"interval": "10s", "threshold": 1, "iterations": 3, "mirror": true});
    [weights, counts].into_iter().filter_map(spec)
}

/// As the state wants it, with another version, gone, and to be deleted.
fn worlds(plan: &Plan, state: &State, now: Timestamp) -> [World; 4] {
    let [same, other] = ["a", "b"].map(|version| as_wanted(plan, state, now, version));
    let gone = World { target: None, primary: None, ..same.clone() };
    let deleted = World { deleted: true, ..same.clone() };
    [same, other, gone, deleted]
}

fn answers() -> [Answers; 3] {
    let check =
        |value| Check { metric: "m".to_owned(), limits: Limits { min: Some(99.0), max: None }, answer: Ok(value) };
    let said = |value| Answers { outcome: Some(Outcome(vec![check(value)])), ..Answers::default() };
    [Answers::default(), said(100.0), said(0.0)]
}
