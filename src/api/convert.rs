//! Spec → [`Plan`], and [`State`] ⇄ status: parse, do not validate.

use super::canary::{Analysis, CanarySpec, Metric, OnInconclusive as WireOnInconclusive};
use super::conditions::{Summary, set_conditions};
use super::status::{CanaryStatus, CheckStatus, HistoryEntry, RevisionStatus, TargetStatus, WaitingStatus};
use crate::domain::{
    Analysis as Analysing, CanaryPods, Check, Decision, Farewell, InvalidPlan, Limits, OnInconclusive, Outcome,
    Percent, Phase, Plan, Promotion, Revision, State, Steps, Target, Verdict, Waiting, Weight,
};
use jiff::{SignedDuration, Timestamp};

/// How many decisions the status remembers: a rollout of twenty steps, and the end of the one before.
const HISTORY_LIMIT: usize = 32;

/// Seconds that pods or route may take when the spec does not say.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;

/// What the operator's flags say, where the spec does not.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// See [`Plan::drain_delay`].
    pub drain_delay: SignedDuration,
    /// See [`Plan::route_grace`].
    pub route_grace: SignedDuration,
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
    /// Both or neither of the two ways to write steps.
    #[error("spec.analysis: write either stepWeight (for example 10) or stepWeights (for example [10, 30, 60])")]
    StepsTwice,
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
    /// A metric name that appears twice.
    #[error("spec.analysis.metrics: {0} appears twice; give each metric a name of its own")]
    SameName(String),
    /// Something that the other layers refuse.
    #[error("{0}")]
    Other(String),
}

/// A status that no Serin wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "status.{field} is {found}, which is no state of a rollout; to start over, remove it with: kubectl patch canary {{name}} --subresource=status --type=json -p '[{{\"op\":\"remove\",\"path\":\"/status\"}}]'"
)]
pub struct InvalidStatus {
    /// Where.
    pub field: &'static str,
    /// What is there.
    pub found: String,
}

/// The plan that a spec describes.
///
/// # Errors
/// Names the field and says what to write instead. The CRD's rules say the same at apply time, where the API server
/// knows rules.
pub fn plan(spec: &CanarySpec, defaults: &Defaults) -> Result<Plan, InvalidSpec> {
    let seconds = spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS);
    let progress_deadline = SignedDuration::from_secs(within("spec.progressDeadlineSeconds", seconds, 1, i32::MAX)?);
    let all = Plan {
        steps: Steps::new(vec![Weight::FULL]).map_err(InvalidSpec::Steps)?,
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
        skip_analysis: spec.skip_analysis || spec.analysis.is_none(),
        suspend: spec.suspend,
    };
    match &spec.analysis {
        None => Ok(all),
        Some(analysis) => with_analysis(all, analysis),
    }
}

fn with_analysis(plan: Plan, analysis: &Analysis) -> Result<Plan, InvalidSpec> {
    let interval = duration("spec.analysis.interval", &analysis.interval)?;
    if interval < SignedDuration::from_secs(1) {
        return Err(InvalidSpec::Interval);
    }
    let threshold = count("spec.analysis.threshold", analysis.threshold.unwrap_or(1))?;
    let inconclusive_limit = analysis.inconclusive_limit.map(|limit| count("spec.analysis.inconclusiveLimit", limit));
    let percent = |field, number: Option<i32>| {
        number.map_or(Ok(Percent::ALL), |number| {
            let number = within(field, number, 0, 100)?;
            Percent::try_from(number).map_err(|error| InvalidSpec::Other(format!("{field}: {error}")))
        })
    };
    Ok(Plan {
        steps: steps(analysis)?,
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
        ..plan
    })
}

fn steps(analysis: &Analysis) -> Result<Steps, InvalidSpec> {
    let weight = |field, number| {
        let number = within(field, number, 1, 100)?;
        Weight::try_from(number).map_err(|error| InvalidSpec::Other(format!("{field}: {error}")))
    };
    match (analysis.step_weight, &analysis.step_weights) {
        (Some(step), None) => Steps::every(
            weight("spec.analysis.stepWeight", step)?,
            weight("spec.analysis.maxWeight", analysis.max_weight.unwrap_or(100))?,
        ),
        (None, Some(weights)) => {
            let weights = weights.iter().map(|number| weight("spec.analysis.stepWeights", *number));
            Steps::new(weights.collect::<Result<_, _>>()?)
        }
        (Some(_), Some(_)) | (None, None) => return Err(InvalidSpec::StepsTwice),
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

/// The recorded state; a Canary without a phase was never reconciled.
///
/// # Errors
/// When the status was edited into something that no Serin writes.
pub fn state(status: Option<&CanaryStatus>, now: Timestamp) -> Result<State, InvalidStatus> {
    let Some((status, phase)) = status.and_then(|status| Some((status, status.phase.as_deref()?))) else {
        return Ok(State::new(now));
    };
    let since = status.since.ok_or_else(|| nonsense("since", "missing"))?;
    let weight = Weight::try_from(i64::from(status.canary_weight));
    let weight = weight.map_err(|error| nonsense("canaryWeight", error.0))?;
    let number = |field, number: i32| u32::try_from(number).map_err(|_| nonsense(field, number));
    let phase = match phase {
        "Initializing" => Phase::Initializing { since },
        "Initialized" => Phase::Initialized { since },
        "Progressing" => Phase::Progressing(Analysing {
            weight,
            since,
            failed: number("failedChecks", status.failed_checks)?,
            inconclusive: number("inconclusiveChecks", status.inconclusive_checks)?,
            blocked: status.blocked_since,
        }),
        "Promoting" => Phase::Promoting(Promotion { weight, since, undo: status.failure.clone() }),
        "Finalising" => Phase::Finalising { since },
        "Succeeded" => Phase::Succeeded { since },
        "Failed" => Phase::Failed { since, why: status.failure.clone().unwrap_or_default() },
        "Terminating" => Phase::Terminating { since, stage: farewell(status.stage.as_deref())? },
        other => return Err(nonsense("phase", other)),
    };
    let target = status.target.as_ref().map(|target| Target {
        revision: Revision(target.revision.clone()),
        hash: Revision(target.hash.clone()),
        generation: target.generation,
    });
    let canary = match (status.canary_pods.as_deref(), status.draining_since) {
        (Some("Up"), _) => CanaryPods::Up,
        (Some("Down"), _) => CanaryPods::Down,
        (Some("Draining"), Some(since)) => CanaryPods::Draining { since },
        (other, _) => return Err(nonsense("canaryPods", other.unwrap_or("missing"))),
    };
    Ok(State {
        phase,
        target,
        promoted: status.promoted.as_ref().map(|promoted| Revision(promoted.revision.clone())),
        canary,
        replicas: number("replicas", status.replicas.unwrap_or(1))?,
    })
}

fn farewell(stage: Option<&str>) -> Result<Farewell, InvalidStatus> {
    match stage {
        Some("Reviving") => Ok(Farewell::Reviving),
        Some("HandingOver") => Ok(Farewell::HandingOver),
        Some("Draining") => Ok(Farewell::Draining),
        Some("Released") => Ok(Farewell::Released),
        Some("Kept") => Ok(Farewell::Kept),
        other => Err(nonsense("stage", other.unwrap_or("missing"))),
    }
}

fn nonsense(field: &'static str, found: impl ToString) -> InvalidStatus {
    InvalidStatus { field, found: found.to_string() }
}

/// The status that records `decision`, over the one that was read.
#[must_use]
pub fn record(
    old: Option<&CanaryStatus>,
    plan: &Plan,
    decision: &Decision,
    outcome: Option<&Outcome>,
    generation: Option<i64>,
    now: Timestamp,
) -> CanaryStatus {
    let old = old.cloned().unwrap_or_default();
    let State { phase, target, promoted, canary, replicas } = &decision.state;
    let (since, failed, inconclusive, blocked, failure, stage) = details(phase);
    let weight = decision.state.weight();
    let step = i32::try_from(plan.steps.reached(weight)).unwrap_or(i32::MAX);
    let rolling = matches!(phase, Phase::Progressing(_) | Phase::Promoting(_));
    let waiting = match &decision.waiting {
        None => old.waiting.clone(),
        Some(waiting) => {
            waiting.reason().map(|reason| WaitingStatus { reason: reason.into(), message: waiting.to_string() })
        }
    };
    let moved = old.phase.as_deref() != Some(name(phase)) || old.canary_weight != i32::from(weight.canary());
    let revision = |revision: &Revision| RevisionStatus { revision: revision.0.clone() };
    let summary = summary(&decision.state, step, plan.steps.count(), waiting.as_ref(), decision.waiting.as_ref());
    // A round that failed ends the rollout, but its count is worth keeping.
    let failed_checks =
        if matches!(phase, Phase::Failed { .. }) { old.failed_checks + outcome.map_or(0, failures) } else { failed };

    CanaryStatus {
        observed_generation: generation,
        phase: Some(name(phase).to_owned()),
        since: Some(since),
        last_transition_time: if moved { Some(now) } else { old.last_transition_time },
        canary_weight: i32::from(weight.canary()),
        step,
        progress: rolling.then(|| format!("{step}/{}", plan.steps.count())),
        iterations: 0,
        failed_checks,
        inconclusive_checks: inconclusive,
        blocked_since: blocked,
        failure,
        stage,
        waiting,
        target: target.as_ref().map(|target| TargetStatus {
            revision: target.revision.0.clone(),
            hash: target.hash.0.clone(),
            generation: target.generation,
        }),
        promoted: promoted.as_ref().map(revision),
        candidate: decision.state.candidate().map(revision),
        canary_pods: Some(match canary {
            CanaryPods::Up => "Up".into(),
            CanaryPods::Draining { .. } => "Draining".into(),
            CanaryPods::Down => "Down".into(),
        }),
        draining_since: match canary {
            CanaryPods::Draining { since } => Some(*since),
            CanaryPods::Up | CanaryPods::Down => None,
        },
        replicas: i32::try_from(*replicas).ok(),
        tracked_configs: old.tracked_configs,
        checks: outcome.map_or(old.checks, |outcome| outcome.0.iter().map(|check| check_status(check, now)).collect()),
        history: history(old.history, decision, step, now),
        conditions: set_conditions(&old.conditions, &summary, generation, now),
    }
}

/// The status of a Canary that cannot be carried out: all that was recorded stays.
#[must_use]
pub fn refused(
    old: Option<&CanaryStatus>,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> CanaryStatus {
    let old = old.cloned().unwrap_or_default();
    let summary =
        Summary { ready: false, reconciling: false, stalled: true, reason: reason.into(), message: message.into() };
    CanaryStatus {
        observed_generation: generation,
        conditions: set_conditions(&old.conditions, &summary, generation, now),
        ..old
    }
}

fn failures(outcome: &Outcome) -> i32 {
    i32::from(outcome.verdict() == Verdict::Fail)
}

type Details = (Timestamp, i32, i32, Option<Timestamp>, Option<String>, Option<String>);

/// What only some phases know.
fn details(phase: &Phase) -> Details {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    match phase {
        Phase::Initializing { since }
        | Phase::Initialized { since }
        | Phase::Finalising { since }
        | Phase::Succeeded { since } => (*since, 0, 0, None, None, None),
        Phase::Progressing(Analysing { weight: _, since, failed, inconclusive, blocked }) => {
            (*since, number(*failed), number(*inconclusive), *blocked, None, None)
        }
        Phase::Promoting(Promotion { weight: _, since, undo }) => (*since, 0, 0, None, undo.clone(), None),
        Phase::Failed { since, why } => (*since, 0, 0, None, Some(why.clone()), None),
        Phase::Terminating { since, stage } => (*since, 0, 0, None, None, Some(format!("{stage:?}"))),
    }
}

fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Initializing { .. } => "Initializing",
        Phase::Initialized { .. } => "Initialized",
        Phase::Progressing(_) => "Progressing",
        Phase::Promoting(_) => "Promoting",
        Phase::Finalising { .. } => "Finalising",
        Phase::Succeeded { .. } => "Succeeded",
        Phase::Failed { .. } => "Failed",
        Phase::Terminating { .. } => "Terminating",
    }
}

fn check_status(check: &Check, now: Timestamp) -> CheckStatus {
    CheckStatus {
        metric: check.metric.clone(),
        value: check.answer.as_ref().ok().copied().filter(|value| value.is_finite()),
        min: check.limits.min,
        max: check.limits.max,
        verdict: format!("{:?}", check.verdict()),
        message: check.to_string(),
        time: now,
    }
}

fn history(mut history: Vec<HistoryEntry>, decision: &Decision, step: i32, now: Timestamp) -> Vec<HistoryEntry> {
    let state = &decision.state;
    let revision = state.target.as_ref().map(|target| target.revision.0.clone());
    history.extend(decision.notes.iter().map(|note| HistoryEntry {
        time: now,
        reason: note.reason.to_string(),
        message: note.text.clone(),
        revision: revision.clone(),
        weight: i32::from(state.weight().canary()),
        step,
    }));
    history.split_off(history.len().saturating_sub(HISTORY_LIMIT))
}

fn summary(
    state: &State,
    step: i32,
    steps: usize,
    waiting: Option<&WaitingStatus>,
    now_waiting: Option<&Waiting>,
) -> Summary {
    let serves = state.promoted.as_ref().map(|revision| format!("revision {revision} serves")).unwrap_or_default();
    let weight = state.weight();
    let (ready, reconciling, mut stalled, reason, message) = match &state.phase {
        Phase::Initializing { .. } => (false, true, false, "Initializing", "the primary is being made".to_owned()),
        Phase::Initialized { .. } => (true, false, false, "Initialized", serves),
        Phase::Progressing(_) => {
            (false, true, false, "Progressing", format!("weight {weight}, step {step} of {steps}"))
        }
        Phase::Promoting(Promotion { undo: None, .. }) => {
            (false, true, false, "Promoting", "the primary is being given the analysed version".to_owned())
        }
        Phase::Promoting(Promotion { undo: Some(why), .. }) => {
            (false, true, false, "PromotionFailed", format!("the primary is being put back: {why}"))
        }
        Phase::Finalising { .. } => {
            (false, true, false, "Finalising", "all traffic is going to the primary".to_owned())
        }
        Phase::Succeeded { .. } => (true, false, false, "Succeeded", serves),
        Phase::Failed { why, .. } => {
            (false, false, true, "RolledBack", format!("{serves}; the new version was taken back: {why}"))
        }
        Phase::Terminating { .. } => (false, true, false, "Terminating", "the app is being handed back".to_owned()),
    };
    stalled |= matches!(
        now_waiting,
        Some(
            Waiting::TargetMissing
                | Waiting::RouteRefused(_)
                | Waiting::RouteUnusable(_)
                | Waiting::PrimaryNotReady { overdue: true, .. }
        )
    );
    match waiting {
        Some(waiting) if !matches!(state.phase, Phase::Failed { .. }) => {
            let ready = ready && !stalled && waiting.reason != "Suspended";
            let reason = if stalled { waiting.reason.clone() } else { reason.to_owned() };
            Summary {
                ready,
                reconciling: reconciling && !stalled,
                stalled,
                reason,
                message: format!("{message}: {}", waiting.message),
            }
        }
        _ => Summary { ready, reconciling: reconciling && !stalled, stalled, reason: reason.to_owned(), message },
    }
}
