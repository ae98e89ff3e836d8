//! Durations as `PromQL` writes them.

use jiff::SignedDuration;

/// The duration in the largest of `PromQL`'s units `h`, `m`, `s`, `ms` that holds it exactly: `90s`, `1m`, `1500ms`.
///
/// `PromQL` knows nothing below a millisecond, so a part of one counts as a whole one. Negative durations, which no
/// range can have, give `0s`.
#[must_use]
pub fn prometheus_duration(duration: SignedDuration) -> String {
    let whole = duration.as_millis().max(0);
    let rest = i128::from(duration.is_positive() && duration.subsec_nanos() % 1_000_000 != 0);
    let milliseconds = whole + rest;
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.iter().find(|(_, length)| milliseconds >= *length && milliseconds % length == 0) {
        Some((unit, length)) => format!("{}{unit}", milliseconds / length),
        None if milliseconds == 0 => "0s".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_exact_unit_is_taken() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (-5, "0s"),
            (1, "1ms"),
            (1_000, "1s"),
            (1_500, "1500ms"),
            (60_000, "1m"),
            (90_000, "90s"),
            (3_600_000, "1h"),
            (5_400_000, "90m"),
            (86_400_000, "24h"),
        ] {
            assert_eq!(prometheus_duration(SignedDuration::from_millis(milliseconds)), expected);
        }
        assert_eq!(prometheus_duration(SignedDuration::from_nanos(1)), "1ms");
        assert_eq!(prometheus_duration(SignedDuration::from_micros(1_500)), "2ms");
        assert_eq!(prometheus_duration(SignedDuration::MIN), "0s");
        assert_eq!(prometheus_duration(SignedDuration::MAX), "9223372036854775808s");
    }

    proptest! {
        #[test]
        fn the_text_means_the_same(milliseconds in 0..10_000_000_i64) {
            let text = prometheus_duration(SignedDuration::from_millis(milliseconds));
            let (number, length) = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]
                .iter()
                .find_map(|(unit, length)| Some((text.strip_suffix(unit)?.parse::<i64>().ok()?, length)))
                .unwrap();
            prop_assert_eq!(number * length, milliseconds);
        }
    }
}
