//! What is told.

use super::text::shorten;
use crate::domain::{Check, Note, Reason};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt;

/// A sentence with a handful of metrics in it; what is longer is in the status.
const MAX_TEXT: usize = 1500;

/// The names in the title: the least that any channel shows is 256 characters, and the reason needs some.
const MAX_PLACE: usize = 200;

/// One field.
const MAX_FIELD: usize = 600;

/// How many metrics are told one by one.
const MAX_CHECKS: usize = 32;

/// How bad it is; the order is that of badness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warn,
    /// A version did not make it.
    Error,
}

impl Severity {
    /// How bad a transition is.
    #[must_use]
    pub fn of(note: &Note) -> Self {
        match note.reason {
            Reason::RolledBack | Reason::PromotionFailed | Reason::PrimaryKept => Self::Error,
            _ if note.warning => Self::Warn,
            _ => Self::Info,
        }
    }

    /// Red, green and blue.
    pub(super) fn color(self) -> u32 {
        match self {
            Self::Info => 0x0036_a64f,
            Self::Warn => 0x00e8_a317,
            Self::Error => 0x00d0_2030,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// One transition of one Canary.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The same whenever the same transition is told, and no other's; ASCII.
    pub id: String,
    /// When it happened.
    pub time: Timestamp,
    /// The cluster that it happened in, if it has a name.
    pub cluster: Option<String>,
    /// The Canary's namespace.
    pub namespace: String,
    /// The Canary.
    pub canary: String,
    /// What it rolls out: `Deployment/podinfo`.
    pub target: String,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, in one word.
    pub reason: String,
    /// What happened, in a sentence with the values.
    pub text: String,
    /// Where the rollout is now.
    pub phase: String,
    /// Percent of the traffic on the canary, from now on.
    pub weight: i32,
    /// Steps reached, of all: `2/5`.
    pub step: Option<String>,
    /// The version that it is about.
    pub revision: Option<String>,
    /// What the metrics said in this pass; empty when they were not asked.
    pub checks: Vec<Check>,
}

impl Message {
    pub(super) fn title(&self) -> String {
        format!("{}: {}", shorten(&format!("{}/{}", self.namespace, self.canary), MAX_PLACE), self.reason)
    }

    pub(super) fn text(&self) -> String {
        shorten(&self.text, MAX_TEXT)
    }

    /// What else is known, for people: a name and a value that is not empty, in the order of interest.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let sentences: Vec<_> =
            self.checks.iter().map(ToString::to_string).filter(|check| !self.text.contains(check)).collect();
        let fields = [
            ("Phase", self.phase.clone()),
            ("Canary weight", format!("{} %", self.weight)),
            ("Step", self.step.clone().unwrap_or_default()),
            ("Revision", self.revision.clone().unwrap_or_default()),
            ("Target", self.target.clone()),
            ("Cluster", self.cluster.clone().unwrap_or_default()),
            ("Metrics", sentences.join("; ")),
        ];
        let known = fields.into_iter().filter(|(_, value)| !value.trim().is_empty());
        known.map(|(name, value)| (name, shorten(&value, MAX_FIELD))).collect()
    }

    /// Everything, for programs.
    pub(super) fn data(&self) -> Value {
        let Self {
            id,
            time,
            cluster,
            namespace,
            canary,
            target,
            severity,
            reason,
            text: _,
            phase,
            weight,
            step,
            revision,
            checks,
        } = self;
        let checks = checks.iter().take(MAX_CHECKS).map(|check| {
            json!({
                "metric": shorten(&check.metric, MAX_PLACE),
                "value": check.answer.as_ref().ok().filter(|value| value.is_finite()),
                "min": check.limits.min,
                "max": check.limits.max,
                "verdict": format!("{:?}", check.verdict()),
            })
        });
        json!({
            "id": id,
            "time": time.to_string(),
            "cluster": cluster.as_ref().map(|name| shorten(name, MAX_PLACE)),
            "namespace": namespace,
            "canary": canary,
            "target": target,
            "severity": severity.to_string(),
            "reason": reason,
            "title": self.title(),
            "text": self.text(),
            "phase": phase,
            "weight": weight,
            "step": step,
            "revision": revision,
            "checks": checks.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_went_back_is_an_error() {
        let note = |reason, warning| Note { reason, text: String::new(), warning };
        let of = |reason, warning| Severity::of(&note(reason, warning));
        for reason in [Reason::RolledBack, Reason::PromotionFailed, Reason::PrimaryKept] {
            assert_eq!(of(reason, true), Severity::Error);
        }
        for reason in [Reason::CheckFailed, Reason::Inconclusive, Reason::Retreated] {
            assert_eq!(of(reason, true), Severity::Warn);
        }
        assert_eq!(of(Reason::Advanced, false), Severity::Info);
        assert!(Severity::Error > Severity::Warn && Severity::Warn > Severity::Info);
    }
}
