//! What a strategy asks of a rollout, read from the spec anew, and not by Serin's code.

use crate::app::number;
use serde_json::Value;

/// Steps, and what has to pass before the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Strategy {
    pub(super) steps: Vec<i64>,
    /// How many checks have to pass before the first traffic.
    pub(super) checks_before: u64,
}

impl Strategy {
    pub(super) fn of(analysis: &Value) -> Self {
        if let Some(iterations) = analysis["iterations"].as_u64() {
            return Self { steps: vec![100], checks_before: iterations };
        }
        let (step, most) = (number(analysis, "/stepWeight"), number(analysis, "/maxWeight"));
        let steps = if step > 0 {
            (1..=100).map(|count| (count * step).min(most)).take_while(|weight| *weight < most).chain([most]).collect()
        } else {
            analysis["stepWeights"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
        };
        Self { steps, checks_before: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strategies_are_steps_and_checks() {
        let of = |analysis| {
            let Strategy { steps, checks_before } = Strategy::of(&analysis);
            (steps, checks_before)
        };
        assert_eq!(of(json!({"stepWeights": [5, 50]})), (vec![5, 50], 0));
        assert_eq!(of(json!({"stepWeight": 40, "maxWeight": 80})), (vec![40, 80], 0));
        assert_eq!(of(json!({"stepWeight": 40, "maxWeight": 100})), (vec![40, 80, 100], 0));
        assert_eq!(of(json!({"iterations": 3})), (vec![100], 3));
    }
}
