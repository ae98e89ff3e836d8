//! What many measurements of one thing have in common.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Percentiles, in seconds; each is a value that was measured, none is between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// How many were measured.
    pub count: usize,
    /// Half are at most this.
    pub p50: f64,
    /// 95 of a hundred are at most this.
    pub p95: f64,
    /// 99 of a hundred are at most this.
    pub p99: f64,
    /// All are at most this.
    pub max: f64,
}

impl Distribution {
    /// Of measurements in any order.
    #[must_use]
    pub fn of(measured: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<_> = measured.into_iter().collect();
        sorted.sort_unstable();
        let at = |percent: usize| percentile(&sorted, percent).as_secs_f64();
        Self { count: sorted.len(), p50: at(50), p95: at(95), p99: at(99), max: at(100) }
    }
}

/// The nearest rank: the smallest value that is at least as great as so many percent of all. Nothing is zero.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

impl fmt::Display for Distribution {
    /// The cells of a table.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p95, p99, max } = self;
        if *count == 0 {
            return write!(formatter, "| – | – | – | – | 0 |");
        }
        write!(formatter, "| {} | {} | {} | {} | {count} |", seconds(*p50), seconds(*p95), seconds(*p99), seconds(*max))
    }
}

/// A time as a person writes it.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(range: impl Iterator<Item = u64>) -> Distribution {
        Distribution::of(range.map(Duration::from_millis))
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let expected = Distribution { count: 100, p50: 0.05, p95: 0.095, p99: 0.099, max: 0.1 };
        assert_eq!(milliseconds((1..=100).rev()), expected);
    }

    #[test]
    fn of_few_the_high_ones_are_the_greatest() {
        let expected = Distribution { count: 3, p50: 0.002, p95: 0.003, p99: 0.003, max: 0.003 };
        assert_eq!(milliseconds(1..=3), expected);
        let expected = Distribution { count: 1, p50: 0.007, p95: 0.007, p99: 0.007, max: 0.007 };
        assert_eq!(milliseconds(7..=7), expected);
    }

    #[test]
    fn of_nothing_there_is_nothing_to_say() {
        assert_eq!(milliseconds(0..0), Distribution::default());
        assert_eq!(milliseconds(0..0).to_string(), "| – | – | – | – | 0 |");
    }

    #[test]
    fn a_row_has_its_unit() {
        let row = Distribution { count: 2, p50: 0.0454, p95: 0.9, p99: 10.019, max: 10.3 };
        assert_eq!(row.to_string(), "| 45 ms | 900 ms | 10.02 s | 10.30 s | 2 |");
    }
}
