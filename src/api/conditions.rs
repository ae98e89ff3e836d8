//! Conditions as kstatus reads them: Ready, Reconciling, Stalled, and Promoted for pipelines.
//!
//! Invariant: Promoted turns False in the write that first sees a new version, so waiting for it has no race.

use super::status::short;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The state of a Canary, as conditions can say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whether the newest version is rolled out and serves.
    pub ready: bool,
    /// Whether it is on the way.
    pub reconciling: bool,
    /// Whether it will not get there without somebody's help.
    pub stalled: bool,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

/// The conditions that say `summary`; times are kept where the status does not change.
#[must_use]
pub fn set_conditions(old: &[Condition], summary: &Summary, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let Summary { ready, reconciling, stalled, .. } = *summary;
    let statuses = [("Ready", ready), ("Reconciling", reconciling), ("Stalled", stalled), ("Promoted", ready)];
    let condition = |(kind, holds): (&str, bool)| {
        let status = if holds { "True" } else { "False" };
        let before = old.iter().find(|condition| condition.type_ == kind && condition.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: summary.reason.clone(),
            message: short(&summary.message),
            observed_generation: generation,
            last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        }
    };
    statuses.into_iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_change_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ready = Summary {
            ready: true,
            reconciling: false,
            stalled: false,
            reason: "Initialized".into(),
            message: "serves".into(),
        };
        let first = set_conditions(&[], &ready, Some(1), at(1));
        let again =
            set_conditions(&first, &Summary { message: "still serves".into(), ..ready.clone() }, Some(1), at(2));
        assert!(again.iter().all(|condition| condition.last_transition_time == Time(at(1))));
        assert_eq!(again[0].message, "still serves");

        let busy = set_conditions(&again, &Summary { ready: false, reconciling: true, ..ready }, Some(2), at(3));
        let changed: Vec<_> =
            busy.iter().filter(|c| c.last_transition_time == Time(at(3))).map(|c| &*c.type_).collect();
        assert_eq!(changed, ["Ready", "Reconciling", "Promoted"]);
    }
}
