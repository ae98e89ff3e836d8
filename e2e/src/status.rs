//! The status of a `Canary`, as users read it.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    pub observed_generation: i64,
    pub phase: String,
    pub canary_weight: i64,
    pub step: i64,
    pub failed_checks: i64,
    pub promoted: Option<Revision>,
    pub candidate: Option<Revision>,
    pub waiting: Option<Waiting>,
    pub checks: Vec<Check>,
    pub history: Vec<Decision>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Revision {
    pub revision: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Check {
    pub metric: String,
    pub value: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub verdict: String,
    pub message: String,
    pub time: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Decision {
    pub time: Timestamp,
    #[serde(default)]
    pub revision: String,
    pub reason: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub weight: i64,
    #[serde(default)]
    pub step: i64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

impl Status {
    /// The status of a Canary; one that Serin has not seen yet has an empty one.
    ///
    /// # Errors
    /// When the status is not what the API promises.
    pub fn of(canary: &Value) -> Result<Self> {
        match canary.get("status") {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(status) => Self::deserialize(status).with_context(|| format!("an unexpected status: {status}")),
        }
    }

    #[must_use]
    pub fn candidate(&self) -> &str {
        self.candidate.as_ref().map_or("", |candidate| &candidate.revision)
    }

    #[must_use]
    pub fn promoted(&self) -> &str {
        self.promoted.as_ref().map_or("", |promoted| &promoted.revision)
    }

    #[must_use]
    pub fn waiting_reason(&self) -> &str {
        self.waiting.as_ref().map_or("", |waiting| &waiting.reason)
    }

    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the rollout of a revision is over: it was promoted, or it failed.
    #[must_use]
    pub fn ended(&self, revision: &str) -> bool {
        match self.phase.as_str() {
            "Succeeded" => self.promoted() == revision,
            "Failed" => self.candidate() == revision,
            _ => false,
        }
    }

    /// Whether a condition has a status, as `kubectl wait` asks.
    #[must_use]
    pub fn is(&self, kind: &str, status: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == status)
    }

    #[must_use]
    pub fn check(&self, metric: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.metric == metric)
    }

    /// The decisions about a revision that have a reason, oldest first.
    #[must_use]
    pub fn decided(&self, revision: &str, reason: &str) -> Vec<&Decision> {
        let matches = |decision: &&Decision| decision.revision == revision && decision.reason == reason;
        self.history.iter().filter(matches).collect()
    }

    /// The steps that a revision took, each with its weight.
    #[must_use]
    pub fn steps(&self, revision: &str) -> Vec<(i64, i64)> {
        self.decided(revision, "Advanced").iter().map(|decision| (decision.step, decision.weight)).collect()
    }
}

/// Whether a sentence names a number, give or take what rounding for humans takes away.
#[must_use]
pub fn names(sentence: &str, number: f64) -> bool {
    let tolerance = 0.5 + number.abs() / 100.0;
    numbers(sentence).any(|named| (named - number).abs() <= tolerance)
}

fn numbers(sentence: &str) -> impl Iterator<Item = f64> {
    let words = sentence.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    words.filter_map(|word| word.trim_matches('.').parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_read_as_far_as_it_goes() {
        let status = Status::of(&json!({"metadata": {}})).expect("no status is an empty one");
        assert_eq!(status, Status::default());
        let status = Status::of(&json!({"status": {
            "phase": "Progressing", "canaryWeight": 20, "step": 2, "candidate": {"revision": "b"}, "unknown": 1,
            "checks": [{"metric": "m", "value": null, "min": 99, "verdict": "Inconclusive", "message": "no traffic"}],
            "history": [
                {"time": "2026-01-02T03:04:05Z", "revision": "a", "reason": "Advanced", "weight": 10, "step": 1},
                {"time": "2026-01-02T03:04:06.5Z", "revision": "b", "reason": "Advanced", "weight": 10, "step": 1},
            ],
            "conditions": [{"type": "Ready", "status": "Unknown", "reason": "Progressing", "message": ""}],
        }}));
        let status = status.expect("a valid status");
        assert_eq!(status.steps("b"), [(1, 10)]);
        assert_eq!((status.candidate(), status.promoted(), status.waiting_reason()), ("b", "", ""));
        assert!(status.is("Ready", "Unknown") && !status.is("Stalled", "True"));
        assert_eq!(status.check("m").map(|check| (check.min, check.value)), Some((Some(99.0), None)));
    }

    #[test]
    fn numbers_in_sentences() {
        let sentence = "request-success-rate is 69.7 %, below the minimum of 99.";
        assert!(names(sentence, 69.66) && names(sentence, 99.0));
        assert!(!names(sentence, 80.0));
        assert!(names("p99 was 990 ms", 994.3), "rounded");
        assert!(!names("no number. at all", 0.0));
    }
}
