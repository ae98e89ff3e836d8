//! A validated rollout plan: the only form of the spec that the core accepts.

use super::{Hook, Limits, Percent, Weight};
use jiff::SignedDuration;
use std::collections::BTreeSet;

/// How a rollout goes, and when it ends.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Plan {
    /// The weights to go through, in order. What of the requests a weight is of, the mesh knows: of all, or of those that
    /// match.
    pub steps: Steps,
    /// Weights are of the requests that match, as in an A/B test, and not of all.
    pub selective: bool,
    /// Checks that must pass while the canary answers no request, before the first step: the iterations of a blue/green.
    pub checks_before: u32,
    /// Checks that must pass at each step before the next; at least 1, and the iterations of an A/B test.
    pub checks_per_step: u32,
    /// The share of the requests of which the canary gets a copy before the first step; zero for none.
    pub mirror: Weight,
    /// By how much the primary's share rises in each interval after it was updated; `None` for all at once.
    pub promotion_step: Option<Weight>,
    /// The kinds of webhooks that there are, but for those that are only told of events.
    pub hooks: BTreeSet<Hook>,
    /// How long each step lasts, and the time between two checks.
    pub interval: SignedDuration,
    /// Failed checks that end the rollout; at least 1.
    pub threshold: u32,
    /// Inconclusive checks in a row after which `on_inconclusive` decides; at least 1.
    pub inconclusive_limit: u32,
    /// What happens then.
    pub on_inconclusive: OnInconclusive,
    /// The metrics that are checked, by name, with their limits.
    pub metrics: Vec<(String, Limits)>,
    /// How long pods or the route may take to do what was asked of them.
    pub progress_deadline: SignedDuration,
    /// Share of the canary's pods that must be available.
    pub canary_ready: Percent,
    /// Share of the primary's pods that must be available.
    pub primary_ready: Percent,
    /// How long pods that lost their traffic are kept, for requests under way.
    pub drain_delay: SignedDuration,
    /// How long a gateway may take to report on a route before it counts as one that never does.
    pub route_grace: SignedDuration,
    /// Promote as soon as the new pods are ready.
    pub skip_analysis: bool,
    /// Hold everything as it is.
    pub suspend: bool,
    /// The primary's pods may all be gone while it is updated, so all traffic leaves it before (S2).
    pub vacate_primary: bool,
}

/// What to do when the metrics say nothing for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInconclusive {
    /// What cannot be seen is not trusted.
    #[default]
    Rollback,
    /// Keep the weight and go on asking.
    Hold,
}

/// Canary weights that rise. There are none in a plan whose canary never answers a user's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<Weight>);

/// Why a spec is not a plan. Each message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    /// Nothing to go through.
    #[error("there are no steps; write stepWeight (for example 10) or stepWeights (for example [10, 30, 60])")]
    NoSteps,
    /// A step that is not above the one before it.
    #[error("stepWeights must rise, but {next} follows {previous}; write them in ascending order")]
    NotRising {
        /// The step before.
        previous: u8,
        /// The step that is not above it.
        next: u8,
    },
    /// A step without traffic.
    #[error("a step of 0 sends no traffic to the canary; begin with at least 1")]
    ZeroStep,
}

impl Plan {
    /// The same for a primary whose pods may all be gone while it is updated: before that, all traffic is on the
    /// canary (S2).
    #[must_use]
    pub fn vacating_primary(mut self) -> Self {
        self.vacate_primary = true;
        if self.skip_analysis {
            self.steps = Steps::at_once();
            self.checks_before = 0;
            self.checks_per_step = 1;
            self.mirror = Weight::ZERO;
            self.interval = self.interval.min(SignedDuration::from_secs(1));
            self.metrics.clear();
            self.hooks.retain(|hook| !hook.is_of_the_analysis());
            self.skip_analysis = false;
        } else if self.steps.max() < Weight::FULL {
            self.steps.0.push(Weight::FULL);
        }
        self
    }

    /// How many checks must pass at `weight`.
    #[must_use]
    pub fn checks_at(&self, weight: Weight) -> u32 {
        if weight == Weight::ZERO { self.checks_before } else { self.checks_per_step }
    }

    /// How many iterations there are, if they are what the plan counts, and not its steps.
    #[must_use]
    pub fn iterations(&self) -> Option<u32> {
        let counted = self.checks_before > 0 || self.checks_per_step > 1;
        (counted && self.steps.count() <= 1).then(|| self.checks_before.max(self.checks_per_step))
    }

    /// The share of the requests of which the canary gets a copy while it answers none.
    #[must_use]
    pub fn copies(&self) -> Weight {
        // Nobody watches what is suspended.
        let watched = self.checks_before > 0 && !self.skip_analysis && !self.suspend;
        if watched { self.mirror } else { Weight::ZERO }
    }
}

impl Steps {
    /// Checks that the weights rise from above 0.
    ///
    /// # Errors
    /// Says which weight is wrong and what to write instead.
    pub fn new(weights: Vec<Weight>) -> Result<Self, InvalidPlan> {
        match weights.first() {
            None => return Err(InvalidPlan::NoSteps),
            Some(&Weight::ZERO) => return Err(InvalidPlan::ZeroStep),
            Some(_) => {}
        }
        match weights.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(InvalidPlan::NotRising { previous: pair[0].canary(), next: pair[1].canary() }),
            None => Ok(Self(weights)),
        }
    }

    /// No traffic at all: the canary is judged by what it does with copies, or with a test's requests.
    #[must_use]
    pub fn none() -> Self {
        Self(vec![])
    }

    /// All traffic in one step.
    #[must_use]
    pub fn at_once() -> Self {
        Self(vec![Weight::FULL])
    }

    /// `step`, twice `step`, … up to and including `max`.
    ///
    /// # Errors
    /// When `step` or `max` is 0.
    pub fn every(step: Weight, max: Weight) -> Result<Self, InvalidPlan> {
        if step == Weight::ZERO || max == Weight::ZERO {
            return Err(InvalidPlan::ZeroStep);
        }
        let below = (1..).map(|n: i64| n * i64::from(step.canary())).take_while(|w| *w < i64::from(max.canary()));
        let weights = below.filter_map(|weight| Weight::try_from(weight).ok()).chain([max]).collect();
        Self::new(weights)
    }

    /// The first step above `weight`; `None` when `weight` is the last or beyond it.
    #[must_use]
    pub fn after(&self, weight: Weight) -> Option<Weight> {
        self.0.iter().copied().find(|step| *step > weight)
    }

    /// The highest weight.
    #[must_use]
    pub fn max(&self) -> Weight {
        self.0.last().copied().unwrap_or(Weight::ZERO)
    }

    /// How many steps `weight` has reached: 0 is none, [`Steps::count`] all.
    #[must_use]
    pub fn reached(&self, weight: Weight) -> usize {
        self.0.iter().filter(|step| **step <= weight).count()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(numbers: &[i64]) -> Vec<Weight> {
        numbers.iter().map(|number| Weight::try_from(*number).unwrap()).collect()
    }

    fn every(step: i64, max: i64) -> Vec<u8> {
        let [step, max] = [step, max].map(|number| Weight::try_from(number).unwrap());
        Steps::every(step, max).unwrap().0.into_iter().map(Weight::canary).collect()
    }

    #[test]
    fn a_primary_that_pauses_has_no_traffic_when_it_is_changed() {
        let plan = |steps: &[i64], skip_analysis| Plan {
            steps: Steps::new(weights(steps)).unwrap(),
            selective: false,
            checks_before: 0,
            checks_per_step: 1,
            mirror: Weight::ZERO,
            promotion_step: None,
            hooks: BTreeSet::new(),
            interval: SignedDuration::from_secs(30),
            threshold: 1,
            inconclusive_limit: 1,
            on_inconclusive: OnInconclusive::Rollback,
            metrics: vec![("errors".to_owned(), Limits { min: None, max: Some(1.0) })],
            progress_deadline: SignedDuration::from_secs(60),
            canary_ready: Percent::ALL,
            primary_ready: Percent::ALL,
            drain_delay: SignedDuration::ZERO,
            route_grace: SignedDuration::ZERO,
            skip_analysis,
            suspend: false,
            vacate_primary: false,
        };
        let vacating = |plan| Plan { vacate_primary: true, ..plan };
        assert_eq!(plan(&[10, 50], false).vacating_primary(), vacating(plan(&[10, 50, 100], false)));
        assert_eq!(plan(&[10, 100], false).vacating_primary(), vacating(plan(&[10, 100], false)));
        let unserved = Plan { steps: Steps::none(), ..plan(&[100], false) };
        assert_eq!(unserved.vacating_primary(), vacating(plan(&[100], false)));
        let thorough = Plan {
            checks_before: 3,
            checks_per_step: 5,
            mirror: Weight::FULL,
            hooks: BTreeSet::from([Hook::ConfirmRollout, Hook::PreRollout, Hook::Rollback, Hook::PostRollout]),
            ..plan(&[10, 50], true)
        };
        let at_once = Plan {
            metrics: vec![],
            interval: SignedDuration::from_secs(1),
            hooks: BTreeSet::from([Hook::ConfirmRollout, Hook::Rollback, Hook::PostRollout]),
            ..plan(&[100], false)
        };
        assert_eq!(
            thorough.vacating_primary(),
            vacating(at_once),
            "nothing is checked, and the traffic leaves the primary all the same"
        );
    }

    #[test]
    fn even_steps_end_exactly_at_the_maximum() {
        assert_eq!(every(10, 50), [10, 20, 30, 40, 50]);
        assert_eq!(every(40, 100), [40, 80, 100]);
        assert_eq!(every(60, 50), [50]);
        assert_eq!(every(100, 100), [100]);
    }

    #[test]
    fn what_is_not_a_plan_says_what_to_write() {
        assert_eq!(Steps::new(vec![]), Err(InvalidPlan::NoSteps));
        assert_eq!(Steps::new(weights(&[0, 10])), Err(InvalidPlan::ZeroStep));
        assert_eq!(Steps::new(weights(&[10, 10])), Err(InvalidPlan::NotRising { previous: 10, next: 10 }));
        assert_eq!(Steps::every(Weight::ZERO, Weight::FULL), Err(InvalidPlan::ZeroStep));
    }

    #[test]
    fn the_next_step_is_the_first_one_above_even_after_the_plan_was_edited() {
        let steps = Steps::new(weights(&[15, 30])).unwrap();
        let ten = Weight::try_from(10).unwrap();
        assert_eq!(steps.after(ten).map(Weight::canary), Some(15));
        assert_eq!(steps.after(steps.max()), None);
        assert_eq!([steps.reached(ten), steps.reached(steps.max())], [0, 2]);
    }
}
