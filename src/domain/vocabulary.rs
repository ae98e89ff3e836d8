//! The words of the field, as types that cannot hold nonsense.

use std::collections::BTreeMap;
use std::fmt;

/// Percent of the traffic that goes to the canary, `0..=100`; the primary gets the rest (S1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u8);

impl Weight {
    /// No traffic.
    pub const ZERO: Self = Self(0);
    /// All traffic.
    pub const FULL: Self = Self(100);

    /// The canary's share.
    #[must_use]
    pub fn canary(self) -> u8 {
        self.0
    }

    /// Less of it by `step`, but not less than nothing.
    #[must_use]
    pub fn less(self, step: Self) -> Self {
        Self(self.0.saturating_sub(step.0))
    }

    /// The primary's share.
    #[must_use]
    pub fn primary(self) -> u8 {
        100 - self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A number that should have been a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not within 0 to 100")]
pub struct OutOfRange(pub i64);

impl TryFrom<i64> for Weight {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        match u8::try_from(number) {
            Ok(percent @ 0..=100) => Ok(Self(percent)),
            _ => Err(OutOfRange(number)),
        }
    }
}

/// A share of something countable, `0..=100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(100);

    /// How many of `count` this is, rounded up, so that more than 0 % is never 0 pods.
    #[must_use]
    pub fn of(self, count: u32) -> u32 {
        let share = (u64::from(count) * u64::from(self.0)).div_ceil(100);
        u32::try_from(share).unwrap_or(count)
    }
}

impl TryFrom<i64> for Percent {
    type Error = OutOfRange;

    fn try_from(number: i64) -> Result<Self, OutOfRange> {
        Weight::try_from(number).map(|weight| Self(weight.0))
    }
}

/// Names one version of the workload: a hash of everything that its pods are made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a version uses besides its pod template, by name, and a checksum of what each holds. What is not followed is not
/// in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configs(pub BTreeMap<String, String>);

impl Configs {
    /// Whether both hold the same as far as both know: to begin or to stop following one changes no version.
    #[must_use]
    pub fn agree(&self, other: &Self) -> bool {
        self.0.iter().all(|(name, checksum)| other.0.get(name).is_none_or(|other| other == checksum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_a_hundred() {
        for percent in 0..=100 {
            let weight = Weight::try_from(percent).unwrap();
            assert_eq!(weight.primary() + weight.canary(), 100);
        }
        assert_eq!(Weight::try_from(101), Err(OutOfRange(101)));
        assert_eq!(Weight::try_from(-1), Err(OutOfRange(-1)));
    }

    #[test]
    fn configs_disagree_only_about_what_both_know() {
        let configs = |pairs: &[(&str, &str)]| {
            Configs(pairs.iter().map(|(name, sum)| ((*name).to_owned(), (*sum).to_owned())).collect())
        };
        let both = configs(&[("a", "1"), ("b", "1")]);
        for (other, agree) in [
            (&[][..], true),
            (&[("a", "1")], true),
            (&[("a", "1"), ("c", "7")], true),
            (&[("a", "2")], false),
            (&[("a", "1"), ("b", "2")], false),
        ] {
            assert_eq!(both.agree(&configs(other)), agree, "{other:?}");
            assert_eq!(configs(other).agree(&both), agree, "{other:?}");
        }
    }

    #[test]
    fn a_share_of_pods_rounds_up() {
        let half = Percent::try_from(50).unwrap();
        assert_eq!([half.of(0), half.of(1), half.of(3)], [0, 1, 2]);
        assert_eq!(Percent::try_from(1).unwrap().of(3), 1);
    }
}
