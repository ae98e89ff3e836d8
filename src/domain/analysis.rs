//! From a number to a verdict, and from many verdicts to one.
//!
//! Invariant: only a number within its limits passes. What cannot be seen is [`Verdict::Inconclusive`].

use std::fmt;

/// The range that a metric must stay in; a side that is `None` is open. Both ends belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// The lowest good value.
    pub min: Option<f64>,
    /// The highest good value.
    pub max: Option<f64>,
}

/// Why a metric has no number. Each variant's message is shown to users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No series matched.
    #[error("the query returned no samples; the canary probably gets no traffic, or the query selects nothing")]
    NoSamples,
    /// Mostly a division of nothing by nothing.
    #[error("the query returned NaN; the canary probably got no traffic in the metric's interval")]
    NotANumber,
    /// Mostly a division by zero.
    #[error("the query returned {0}; it probably divides by zero")]
    Infinite(String),
    /// More than one answer is no answer.
    #[error("the query returned {0} series instead of one; aggregate it, for example with sum()")]
    ManySeries(usize),
    /// A matrix or a string.
    #[error("the query returned a {0}; write one that returns an instant vector or a scalar")]
    WrongType(String),
    /// The provider answered with an error.
    #[error("{0} refused the query: {1}")]
    Refused(String, String),
    /// No answer in time.
    #[error("{0} did not answer within {1}")]
    Timeout(String, String),
    /// No connection.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// The answer is not what the provider's API promises.
    #[error("{0} answered with something that is not a query result: {1}")]
    Garbled(String, String),
    /// The question could not even be asked.
    #[error("{0}")]
    NotAsked(String),
}

/// What a metric said.
pub type Answer = Result<f64, Unknown>;

/// The judgement on one metric, or on all of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within its limits.
    Pass,
    /// Outside them.
    Fail,
    /// Not known.
    Inconclusive,
}

/// One metric, its answer, and the judgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The metric's name.
    pub metric: String,
    /// What it had to be.
    pub limits: Limits,
    /// What it was.
    pub answer: Answer,
}

/// All checks of one round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome(pub Vec<Check>);

impl Check {
    /// Judges the answer.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.answer {
            Ok(value) if value.is_nan() => Verdict::Inconclusive,
            Ok(value) if self.limits.hold(value) => Verdict::Pass,
            Ok(_) => Verdict::Fail,
            Err(_) => Verdict::Inconclusive,
        }
    }
}

impl Outcome {
    /// One bad metric is enough; else one that cannot be seen.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| self.0.iter().any(|check| check.verdict() == verdict);
        if has(Verdict::Fail) {
            Verdict::Fail
        } else if has(Verdict::Inconclusive) {
            Verdict::Inconclusive
        } else {
            Verdict::Pass
        }
    }

    /// The sentences of the checks that gave `verdict`.
    #[must_use]
    pub fn sentences(&self, verdict: Verdict) -> String {
        let chosen = self.0.iter().filter(|check| check.verdict() == verdict);
        chosen.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl Limits {
    fn hold(self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, limits, answer } = self;
        match answer {
            Err(unknown) => write!(formatter, "{metric} is unknown: {unknown}"),
            Ok(value) => {
                let shown = round(*value);
                match (limits.min, limits.max) {
                    (Some(min), _) if *value < min => write!(formatter, "{metric} is {shown}, below the minimum {min}"),
                    (_, Some(max)) if *value > max => write!(formatter, "{metric} is {shown}, above the maximum {max}"),
                    _ => write!(formatter, "{metric} is {shown}"),
                }
            }
        }
    }
}

/// Four digits after the point are enough for a reader.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(min: Option<f64>, max: Option<f64>, answer: Answer) -> Check {
        Check { metric: "request-success-rate".into(), limits: Limits { min, max }, answer }
    }

    #[test]
    fn the_ends_of_the_range_are_good() {
        for (value, verdict) in [(98.9, Verdict::Fail), (99.0, Verdict::Pass), (100.0, Verdict::Pass)] {
            assert_eq!(check(Some(99.0), Some(100.0), Ok(value)).verdict(), verdict);
        }
        assert_eq!(check(None, Some(500.0), Ok(500.1)).verdict(), Verdict::Fail);
    }

    #[test]
    fn what_is_not_known_never_passes() {
        assert_eq!(check(None, None, Ok(f64::NAN)).verdict(), Verdict::Inconclusive);
        assert_eq!(check(None, None, Err(Unknown::NoSamples)).verdict(), Verdict::Inconclusive);
    }

    #[test]
    fn a_failure_outweighs_what_is_unknown() {
        let (fail, unknown) = (check(Some(99.0), None, Ok(0.0)), check(None, None, Err(Unknown::NoSamples)));
        let pass = check(None, None, Ok(1.0));
        assert_eq!(Outcome(vec![unknown.clone(), fail, pass.clone()]).verdict(), Verdict::Fail);
        assert_eq!(Outcome(vec![pass.clone(), unknown]).verdict(), Verdict::Inconclusive);
        assert_eq!(Outcome(vec![pass]).verdict(), Verdict::Pass);
        assert_eq!(Outcome::default().verdict(), Verdict::Pass);
    }

    #[test]
    fn sentences_name_metric_value_and_limit() {
        assert_eq!(
            check(Some(99.0), None, Ok(87.123_456)).to_string(),
            "request-success-rate is 87.1235, below the minimum 99"
        );
        let timeout = Unknown::Timeout("http://prometheus:9090".into(), "5s".into());
        insta::assert_snapshot!(check(None, None, Err(timeout)), @"request-success-rate is unknown: http://prometheus:9090 did not answer within 5s");
    }
}
