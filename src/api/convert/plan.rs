//! Spec → [`Plan`].

use super::refusals::refusals;
use crate::api::analysis::{Analysis, Metric, OnInconclusive as WireOnInconclusive};
use crate::api::canary::{CanarySpec, Provider};
use crate::domain::{InvalidPlan, Limits, OnInconclusive, Percent, Plan, Steps, Weight};
use jiff::SignedDuration;
use std::collections::BTreeSet;

/// Seconds that pods or route may take when the spec does not say.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;

/// What the operator's flags say, where the spec does not.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// See [`Plan::drain_delay`].
    pub drain_delay: SignedDuration,
    /// See [`Plan::route_grace`].
    pub route_grace: SignedDuration,
    /// Whether the operator's default provider has no mesh: requests cannot be split, only led to one version.
    pub meshless: bool,
}

/// Why a spec cannot be carried out. Each message names the field and says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// Not readable at all.
    #[error("the Canary cannot be read: {0}")]
    Unreadable(String),
    /// Steps that are none.
    #[error("spec.analysis: {0}")]
    Steps(InvalidPlan),
    /// What a rule of the CRD refuses, in the same words.
    #[error("{0}: {1}")]
    Refused(&'static str, &'static str),
    /// A duration that is none.
    #[error("{field}: {text:?} is not a duration; write for example 30s, 1m or 1m30s")]
    Duration {
        /// Where.
        field: &'static str,
        /// What was written.
        text: String,
    },
    /// Too quick.
    #[error("spec.analysis.interval must be at least 1s")]
    Interval,
    /// A number out of its range.
    #[error("{field} is {number}; write a number from {low} to {high}")]
    Number {
        /// Where.
        field: &'static str,
        /// What was written.
        number: i64,
        /// The lowest good number.
        low: i64,
        /// The highest good number.
        high: i64,
    },
    /// A range that nothing can be in, or that everything is in.
    #[error("spec.analysis.metrics: {0}: write a thresholdRange with min, max or both, and min not above max")]
    Range(String),
    /// A metric without a query.
    #[error(
        "spec.analysis.metrics: {0} has no query; write a templateRef or a query, or use one of the built-in names \
         request-success-rate and request-duration"
    )]
    Query(String),
    /// A metric with two queries.
    #[error("spec.analysis.metrics: {0}: write either templateRef or query, not both")]
    QueryTwice(String),
    /// An address without a scheme.
    #[error("spec.metricsServer: write the URL with its scheme, for example http://prometheus.monitoring:9090")]
    MetricsServer,
    /// A metric name that appears twice.
    #[error("spec.analysis.metrics: {0} appears twice; give each metric a name of its own")]
    SameName(String),
    /// A target whose two versions could not run side by side.
    #[error(
        "spec.targetRef.kind: a StatefulSet's pods have names and volumes of their own, which a second version beside \
         them cannot share; write Deployment, DaemonSet or Service"
    )]
    StatefulSet,
    /// A target that nobody knows how to roll out.
    #[error("spec.targetRef.kind: {0} cannot be rolled out; write Deployment, DaemonSet or Service")]
    TargetKind(String),
    /// Something that the other layers refuse.
    #[error("{0}")]
    Other(String),
}

/// The plan that a spec describes.
///
/// # Errors
/// Names the field and says what to write instead. The CRD's rules say the same at apply time, where the API server
/// knows rules.
pub fn plan(spec: &CanarySpec, defaults: &Defaults) -> Result<Plan, InvalidSpec> {
    target_kind(&spec.target_ref.kind)?;
    refusals(spec)?;
    if spec.metrics_server.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        return Err(InvalidSpec::MetricsServer);
    }
    let seconds = spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS);
    let progress_deadline = SignedDuration::from_secs(within("spec.progressDeadlineSeconds", seconds, 1, i32::MAX)?);
    let plan = Plan {
        skip_analysis: spec.skip_analysis || spec.analysis.is_none(),
        suspend: spec.suspend,
        ..promote_when_ready(progress_deadline, defaults)
    };
    match &spec.analysis {
        None => Ok(plan),
        Some(analysis) => {
            let meshless = spec.provider.as_ref().map_or(defaults.meshless, |name| name == Provider::Kubernetes.name());
            with_analysis(&plan, analysis, meshless)
        }
    }
}

/// The plan of a Canary without an analysis.
fn promote_when_ready(progress_deadline: SignedDuration, defaults: &Defaults) -> Plan {
    Plan {
        steps: Steps::at_once(),
        selective: false,
        checks_before: 0,
        checks_per_step: 1,
        mirror: Weight::ZERO,
        promotion_step: None,
        hooks: BTreeSet::new(),
        interval: SignedDuration::from_secs(1),
        threshold: 1,
        inconclusive_limit: 1,
        on_inconclusive: OnInconclusive::Rollback,
        metrics: vec![],
        progress_deadline,
        canary_ready: Percent::ALL,
        primary_ready: Percent::ALL,
        drain_delay: defaults.drain_delay,
        route_grace: defaults.route_grace,
        skip_analysis: true,
        suspend: false,
        vacate_primary: false,
    }
}

/// The plan by which a Canary that is being deleted hands its app back: mistakes in its spec must not keep it.
#[must_use]
pub fn farewell(defaults: &Defaults) -> Plan {
    promote_when_ready(SignedDuration::from_secs(i64::from(PROGRESS_DEADLINE_SECONDS)), defaults)
}

/// The kind of a target, if it can be rolled out.
///
/// # Errors
/// Says why not, and what to write instead.
pub fn target_kind(kind: &str) -> Result<&str, InvalidSpec> {
    match kind {
        "Deployment" | "DaemonSet" | "Service" => Ok(kind),
        "StatefulSet" => Err(InvalidSpec::StatefulSet),
        _ => Err(InvalidSpec::TargetKind(kind.to_owned())),
    }
}

fn with_analysis(plan: &Plan, analysis: &Analysis, meshless: bool) -> Result<Plan, InvalidSpec> {
    let interval = duration("spec.analysis.interval", &analysis.interval)?;
    if interval < SignedDuration::from_secs(1) {
        return Err(InvalidSpec::Interval);
    }
    let threshold = within("spec.analysis.threshold", analysis.threshold.unwrap_or(1), 0, i32::MAX)?;
    let threshold = u32::try_from(threshold).unwrap_or(u32::MAX).max(1);
    let inconclusive_limit = analysis.inconclusive_limit.map(|limit| count("spec.analysis.inconclusiveLimit", limit));
    let percent = |field, number: Option<i32>| {
        number.map_or(Ok(Percent::ALL), |number| {
            let number = within(field, number, 0, 100)?;
            Percent::try_from(number).map_err(|error| InvalidSpec::Other(format!("{field}: {error}")))
        })
    };
    let Strategy { steps, checks_before, checks_per_step } = strategy(analysis, meshless)?;
    let share = |field, number: Option<i32>| number.map(|number| weight(field, number)).transpose();
    let mirror = share("spec.analysis.mirrorWeight", analysis.mirror_weight)?.unwrap_or(Weight::FULL);
    Ok(Plan {
        steps,
        selective: !analysis.matches.is_empty(),
        checks_before,
        checks_per_step,
        mirror: if analysis.mirror { mirror } else { Weight::ZERO },
        promotion_step: share("spec.analysis.stepWeightPromotion", analysis.step_weight_promotion)?,
        interval,
        threshold,
        inconclusive_limit: inconclusive_limit.transpose()?.unwrap_or(threshold),
        on_inconclusive: match analysis.on_inconclusive {
            Some(WireOnInconclusive::Hold) => OnInconclusive::Hold,
            Some(WireOnInconclusive::Rollback) | None => OnInconclusive::Rollback,
        },
        metrics: metrics(&analysis.metrics)?,
        canary_ready: percent("spec.analysis.canaryReadyThreshold", analysis.canary_ready_threshold)?,
        primary_ready: percent("spec.analysis.primaryReadyThreshold", analysis.primary_ready_threshold)?,
        hooks: analysis.webhooks.iter().filter_map(|webhook| webhook.when().hook()).collect(),
        ..plan.clone()
    })
}

/// How a version comes to its traffic, and what it must pass on the way.
struct Strategy {
    steps: Steps,
    checks_before: u32,
    checks_per_step: u32,
}

fn strategy(analysis: &Analysis, meshless: bool) -> Result<Strategy, InvalidSpec> {
    let Some(iterations) = analysis.iterations else {
        // Copies are of use only if something is checked while they are sent.
        let checks_before = u32::from(analysis.mirror);
        return Ok(Strategy { steps: steps(analysis)?, checks_before, checks_per_step: 1 });
    };
    let iterations = count("spec.analysis.iterations", iterations)?;
    let with_traffic = Strategy { steps: Steps::at_once(), checks_before: 0, checks_per_step: iterations };
    let without = |steps| Strategy { steps, checks_before: iterations, checks_per_step: 1 };
    Ok(match (analysis.matches.is_empty(), meshless) {
        // The mesh sends all requests that match, and no other.
        (false, _) => with_traffic,
        (true, true) if analysis.switch_traffic => with_traffic,
        (true, true) => without(Steps::none()),
        (true, false) => without(Steps::at_once()),
    })
}

fn weight(field: &'static str, number: i32) -> Result<Weight, InvalidSpec> {
    let number = within(field, number, 1, 100)?;
    Weight::try_from(number).map_err(|error| InvalidSpec::Other(format!("{field}: {error}")))
}

fn steps(analysis: &Analysis) -> Result<Steps, InvalidSpec> {
    match (analysis.step_weight, &analysis.step_weights) {
        (Some(step), None) => Steps::every(
            weight("spec.analysis.stepWeight", step)?,
            weight("spec.analysis.maxWeight", analysis.max_weight.unwrap_or(100))?,
        ),
        (None, Some(weights)) => {
            let weights = weights.iter().map(|number| weight("spec.analysis.stepWeights", *number));
            Steps::new(weights.collect::<Result<_, _>>()?)
        }
        // `skipAnalysis`: all other cases are refused before.
        (Some(_), Some(_)) | (None, None) => return Ok(Steps::at_once()),
    }
    .map_err(InvalidSpec::Steps)
}

fn metrics(metrics: &[Metric]) -> Result<Vec<(String, Limits)>, InvalidSpec> {
    let mut checked: Vec<(String, Limits)> = Vec::with_capacity(metrics.len());
    for metric in metrics {
        let name = &metric.name;
        if metric.template_ref.is_none() && metric.query.is_none() && !is_builtin(name) {
            return Err(InvalidSpec::Query(name.clone()));
        }
        if let Some(window) = &metric.interval {
            duration("spec.analysis.metrics.interval", window)?;
        }
        if metric.template_ref.is_some() && metric.query.is_some() {
            return Err(InvalidSpec::QueryTwice(name.clone()));
        }
        if checked.iter().any(|(other, _)| other == name) {
            return Err(InvalidSpec::SameName(name.clone()));
        }
        checked.push((name.clone(), limits(metric)?));
    }
    Ok(checked)
}

/// The old `threshold` is a minimum for the success rate and a maximum for everything else, as Flagger has it.
fn limits(metric: &Metric) -> Result<Limits, InvalidSpec> {
    let limits = match (metric.threshold_range, metric.threshold) {
        (Some(range), _) => Limits { min: range.min, max: range.max },
        (None, Some(min)) if metric.name == "request-success-rate" => Limits { min: Some(min), max: None },
        (None, max) => Limits { min: None, max },
    };
    match (limits.min, limits.max) {
        (None, None) => Err(InvalidSpec::Range(metric.name.clone())),
        (Some(min), Some(max)) if min > max => Err(InvalidSpec::Range(metric.name.clone())),
        _ => Ok(limits),
    }
}

fn is_builtin(name: &str) -> bool {
    matches!(name, "request-success-rate" | "request-duration")
}

/// A duration as the spec writes it.
///
/// # Errors
/// Names the field and says what to write instead.
pub fn duration(field: &'static str, text: &str) -> Result<SignedDuration, InvalidSpec> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if !duration.is_negative() => Ok(duration),
        _ => Err(InvalidSpec::Duration { field, text: text.to_owned() }),
    }
}

fn count(field: &'static str, number: i32) -> Result<u32, InvalidSpec> {
    let number = within(field, number, 1, i32::MAX)?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn within(field: &'static str, number: i32, low: i32, high: i32) -> Result<i64, InvalidSpec> {
    let [number, low, high] = [number, low, high].map(i64::from);
    if (low..=high).contains(&number) { Ok(number) } else { Err(InvalidSpec::Number { field, number, low, high }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Hook;
    use serde_json::{Value, json};

    fn of(analysis: &Value, meshless: bool) -> Plan {
        let mut analysis = analysis.clone();
        analysis["interval"] = "10s".into();
        let analysis: Analysis = serde_json::from_value(analysis).unwrap();
        let defaults = Defaults { drain_delay: SignedDuration::ZERO, route_grace: SignedDuration::ZERO, meshless };
        with_analysis(&promote_when_ready(SignedDuration::ZERO, &defaults), &analysis, meshless).unwrap()
    }

    #[test]
    fn each_strategy_is_steps_and_checks() {
        let percent = |number: i64| Weight::try_from(number).unwrap();
        let steps = |numbers: &[i64]| Steps::new(numbers.iter().copied().map(percent).collect()).unwrap();
        let all = || steps(&[100]);
        let matching = json!([{"headers": {"x-beta": {"exact": "yes"}}}]);
        for (analysis, meshless, (wanted, before, per_step, mirror)) in [
            (json!({"stepWeight": 40, "maxWeight": 80}), false, (steps(&[40, 80]), 0, 1, 0)),
            (json!({"stepWeights": [5, 20], "mirror": true}), false, (steps(&[5, 20]), 1, 1, 100)),
            (json!({"stepWeight": 50, "mirror": true, "mirrorWeight": 30}), false, (steps(&[50, 100]), 1, 1, 30)),
            (json!({"iterations": 7, "match": matching}), false, (all(), 0, 7, 0)),
            (json!({"iterations": 7}), false, (all(), 7, 1, 0)),
            (json!({"iterations": 7, "mirror": true}), false, (all(), 7, 1, 100)),
            (json!({"iterations": 7}), true, (Steps::none(), 7, 1, 0)),
            (json!({"iterations": 7, "switchTraffic": true}), true, (all(), 0, 7, 0)),
        ] {
            let plan = of(&analysis, meshless);
            let found = (plan.steps, plan.checks_before, plan.checks_per_step, i32::from(plan.mirror.canary()));
            assert_eq!(found, (wanted, before, per_step, mirror), "{analysis}");
        }
        assert_eq!(of(&json!({"stepWeight": 50, "stepWeightPromotion": 20}), false).promotion_step, Some(percent(20)));
    }

    #[test]
    fn webhooks_are_kinds_of_hooks_but_for_those_that_are_only_told() {
        let kinds = ["", "confirm-rollout", "post-rollout", "rollback", "rollback", "event"];
        let webhook =
            |(index, kind): (usize, &&str)| json!({"type": kind, "name": index.to_string(), "url": "http://a"});
        let webhooks: Vec<_> = kinds.iter().enumerate().map(webhook).collect();
        let plan = of(&json!({"stepWeight": 50, "webhooks": webhooks}), false);
        let hooks = [Hook::ConfirmRollout, Hook::Rollout, Hook::PostRollout, Hook::Rollback];
        assert_eq!(plan.hooks, BTreeSet::from(hooks));
    }
}
