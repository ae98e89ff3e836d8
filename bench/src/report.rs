//! What was measured, as a table for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use crate::audit::Requests;
use crate::distribution::{Distribution, seconds};

/// What one run has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Who was measured.
    pub operator: String,
    /// Whether it is held to what Serin promises.
    pub judged: bool,
    /// How many canaries.
    pub canaries: usize,
    /// Between two checks.
    pub interval_seconds: f64,
    /// Of each rollout.
    pub steps: u8,
    /// In percent.
    pub step_weight: u8,
    /// In percent.
    pub bad_share: u8,
    /// Of each kind.
    pub unrelated: usize,
    /// Of the machine, for everything.
    pub cores: usize,
    /// From the first canary made to the last one adopted.
    pub adoption: Phase,
    /// With nothing to do.
    pub rest: Phase,
    /// From the first pod template changed to the last pod gone.
    pub rollouts: Phase,
    /// How long things took.
    pub times: Times,
    /// What became of the rollouts.
    pub outcome: Outcome,
}

/// What a part of a run has cost.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Phase {
    /// How long it was.
    pub seconds: f64,
    /// Of the API server.
    pub requests: Requests,
    /// Of Prometheus.
    pub queries: u64,
    /// Of the operator.
    pub cpu_seconds: f64,
    /// Of the operator, in the end, in bytes.
    pub resident: u64,
    /// The most until then, in bytes.
    pub peak: u64,
}

/// Distributions, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// From the change of the pod template.
    pub change_to_first_weight: Distribution,
    /// From the moment when the canary's pods were ready.
    pub ready_to_first_weight: Distribution,
    /// Between two rises of the weight.
    pub step_interval: Distribution,
    /// What a step took more than the interval.
    pub step_late: Distribution,
    /// From the moment when the version turned bad, at a time of its own within an interval.
    pub bad_to_zero: Distribution,
    /// From the moment when Prometheus first said so.
    pub told_to_zero: Distribution,
}

/// What became of the rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The primary runs the new version.
    pub promoted: usize,
    /// The primary runs the old one.
    pub taken_back: usize,
    /// Good ones that were not promoted, and bad ones that were, kept traffic or got more.
    pub wrong: Vec<String>,
}

impl Report {
    /// What does not hold of what Serin promises; nothing for others.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let mut broken = vec![];
        if !self.judged {
            return broken;
        }
        let Self { rest, rollouts, outcome, interval_seconds, canaries, .. } = self;
        if rest.requests.total() > 0 {
            broken.push(format!("an idle canary makes no request, but there were {:?}", rest.requests.work));
        }
        if rest.queries > 0 {
            broken.push(format!("an idle canary asks Prometheus nothing, but there were {} queries", rest.queries));
        }
        if !outcome.wrong.is_empty() {
            broken.push(format!("these did not end as they should have: {}", outcome.wrong.join(", ")));
        }
        if outcome.promoted + outcome.taken_back != *canaries {
            broken.push(format!("of {canaries} only {} have ended", outcome.promoted + outcome.taken_back));
        }
        // By the API server's log: a watch that shows one weight late makes the next one look early.
        if let Some(between) = rollouts.requests.between_weights.map(|between| between.as_secs_f64())
            && between < *interval_seconds
        {
            broken.push(format!("a weight was written {} after the one before", seconds(between)));
        }
        broken
    }
}

impl fmt::Display for Report {
    /// Markdown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { canaries, rest, rollouts, adoption, times, outcome, .. } = self;
        let each = |count: u64| per(count, *canaries);
        let minutes = rest.seconds / 60.0;
        writeln!(
            formatter,
            "{}: {canaries} canaries, interval {}, {} steps of {} %, {} % of the new versions bad, {} unrelated objects of each \
             kind, {} cores for everything\n",
            self.operator,
            seconds(self.interval_seconds),
            self.steps,
            self.step_weight,
            self.bad_share,
            self.unrelated,
            self.cores,
        )?;
        writeln!(formatter, "| | at rest, a minute | all rolled out at once | of it for each rollout |")?;
        writeln!(formatter, "|---|---|---|---|")?;
        let requests = (rest.requests.total(), rollouts.requests.total());
        writeln!(
            formatter,
            "| API requests | {:.0} | {} | {} |",
            as_f64(requests.0) / minutes,
            requests.1,
            each(requests.1)
        )?;
        let upkeep = as_f64(rest.requests.upkeep.values().sum()) / minutes;
        writeln!(formatter, "| Lease, watches begun again | {upkeep:.0} | | |")?;
        writeln!(
            formatter,
            "| Prometheus queries | {:.0} | {} | {} |",
            as_f64(rest.queries) / minutes,
            rollouts.queries,
            each(rollouts.queries)
        )?;
        writeln!(
            formatter,
            "| CPU | {:.2} s | {:.1} s | {:.1} ms |",
            rest.cpu_seconds / minutes,
            rollouts.cpu_seconds,
            rollouts.cpu_seconds * 1000.0 / as_f64(u64::try_from(*canaries).unwrap_or_default())
        )?;
        writeln!(
            formatter,
            "| memory | {} resident | {} peak | |",
            mebibytes(rest.resident),
            mebibytes(rollouts.peak)
        )?;
        writeln!(formatter, "| duration | | {:.0} s | |\n", rollouts.seconds)?;
        writeln!(formatter, "| | p50 | p95 | p99 | max | measured |")?;
        writeln!(formatter, "|---|---|---|---|---|---|")?;
        let rows = [
            ("pod template changed → first weight in the route", times.change_to_first_weight),
            ("canary ready → first weight in the route", times.ready_to_first_weight),
            ("step interval", times.step_interval),
            ("step later than the interval asked for", times.step_late),
            ("version turns bad → weight 0 in the route", times.bad_to_zero),
            ("bad value answered → weight 0 in the route", times.told_to_zero),
        ];
        for (name, distribution) in rows {
            writeln!(formatter, "| {name} {distribution}")?;
        }
        writeln!(
            formatter,
            "\nPromoted {}, taken back {}, otherwise than they should have {}. Shortest time between two writes of \
             a route, by the API server's log: {}. Adoption took {:.0} s \
             with {} requests and {:.1} s of CPU; the peak until the rest was {}.",
            outcome.promoted,
            outcome.taken_back,
            outcome.wrong.len(),
            rollouts.requests.between_weights.map_or("none".to_owned(), |between| seconds(between.as_secs_f64())),
            adoption.seconds,
            adoption.requests.total(),
            adoption.cpu_seconds,
            mebibytes(rest.peak),
        )?;
        writeln!(formatter, "\nRequests of the rollouts: {}", list(&rollouts.requests))
    }
}

/// The greatest first.
fn list(requests: &Requests) -> String {
    let mut work: Vec<_> = requests.work.iter().collect();
    work.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let work = work.into_iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ");
    let refused = requests.refused.iter().map(|(code, count)| format!("{code}: {count}")).collect::<Vec<_>>();
    if refused.is_empty() { work } else { format!("{work}; answered with an error: {}", refused.join(", ")) }
}

fn per(count: u64, canaries: usize) -> String {
    format!("{:.1}", as_f64(count) / as_f64(u64::try_from(canaries).unwrap_or_default()))
}

/// Of bytes.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", as_f64(bytes) / 1024.0 / 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn report() -> Report {
        let phase = |work: u64, queries: u64| Phase {
            seconds: 60.0,
            requests: Requests { work: BTreeMap::from([("patch httproutes".into(), work)]), ..Requests::default() },
            queries,
            cpu_seconds: 0.5,
            resident: 10 << 20,
            peak: 20 << 20,
        };
        Report {
            operator: "Serin".into(),
            judged: true,
            canaries: 2,
            interval_seconds: 10.0,
            steps: 5,
            step_weight: 10,
            bad_share: 50,
            unrelated: 0,
            cores: 2,
            adoption: phase(9, 0),
            rest: phase(0, 0),
            rollouts: phase(40, 16),
            times: Times {
                step_interval: Distribution { count: 8, p50: 10.0, p95: 10.1, p99: 10.2, max: 10.2 },
                ..Times::default()
            },
            outcome: Outcome { promoted: 1, taken_back: 1, wrong: vec![] },
        }
    }

    #[test]
    fn the_table_has_what_each_rollout_cost() {
        let text = report().to_string();
        assert!(text.contains("| API requests | 0 | 40 | 20.0 |"), "{text}");
        assert!(text.contains("| memory | 10.0 MiB resident | 20.0 MiB peak | |"), "{text}");
        assert!(text.contains("| step interval | 10.00 s | 10.10 s | 10.20 s | 10.20 s | 8 |"), "{text}");
        assert_eq!(report().broken(), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_hold_is_said() {
        let mut report = report();
        report.rest.requests.work.insert("get canaries".into(), 1);
        report.rest.queries = 1;
        report.outcome = Outcome { promoted: 1, taken_back: 0, wrong: vec!["app00001".into()] };
        report.rollouts.requests.between_weights = Some(Duration::from_millis(9_990));
        let broken = report.broken();
        assert_eq!(broken.len(), 5, "{broken:?}");
        report.judged = false;
        assert!(report.broken().is_empty(), "others have promised nothing");
    }
}
