//! Who else is asked: gates and hooks, by the moment at which they are due.

use super::Outcome;
use std::collections::{BTreeMap, BTreeSet};

/// A kind of webhook, by what its answer decides. Any 2xx is a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Whether a new version may be started at all.
    ConfirmRollout,
    /// A test before the first traffic; a no is a failed check.
    PreRollout,
    /// A test in every round of checks; a no is a failed check.
    Rollout,
    /// Whether the weight may rise; a no holds it.
    ConfirmTrafficIncrease,
    /// Whether the analysed version may be promoted; a no holds it, and the analysis goes on.
    ConfirmPromotion,
    /// Told when the rollout is over; its answer changes nothing.
    PostRollout,
    /// Whether the version is to be taken back: a yes does it.
    Rollback,
}

impl Hook {
    /// Its kind, as the spec writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfirmRollout => "confirm-rollout",
            Self::PreRollout => "pre-rollout",
            Self::Rollout => "rollout",
            Self::ConfirmTrafficIncrease => "confirm-traffic-increase",
            Self::ConfirmPromotion => "confirm-promotion",
            Self::PostRollout => "post-rollout",
            Self::Rollback => "rollback",
        }
    }

    /// Whether it has no say when the analysis is skipped.
    #[must_use]
    pub fn is_of_the_analysis(self) -> bool {
        match self {
            Self::PreRollout | Self::Rollout | Self::ConfirmTrafficIncrease | Self::ConfirmPromotion => true,
            Self::ConfirmRollout | Self::PostRollout | Self::Rollback => false,
        }
    }
}

/// What one webhook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The webhook's name.
    pub name: String,
    /// Yes, or why not, as a sentence.
    pub answer: Result<(), String>,
}

/// What is to be asked in a pass: nothing while nothing is being analysed (S9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// The metrics.
    pub metrics: bool,
    /// These kinds of webhooks.
    pub hooks: BTreeSet<Hook>,
}

/// What was answered. What was not asked, or was not waited for, is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// The metrics.
    pub outcome: Option<Outcome>,
    /// The webhooks, in the order of the spec.
    pub hooks: BTreeMap<Hook, Vec<Reply>>,
}

impl Questions {
    /// Whether there is nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.metrics && self.hooks.is_empty()
    }
}

impl Answers {
    /// Whether nothing was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcome.is_none() && self.hooks.is_empty()
    }

    /// What the metrics alone said.
    #[must_use]
    pub fn of(outcome: Option<Outcome>) -> Self {
        Self { outcome, hooks: BTreeMap::new() }
    }
}
