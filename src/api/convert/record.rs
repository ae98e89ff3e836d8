//! [`Decision`] → status: everything that a crash must not lose, and everything that a person wants to know.

use crate::api::conditions::{Summary, set_conditions};
use crate::api::status::{
    CanaryStatus, CheckStatus, EndingStatus, HistoryEntry, RevisionStatus, TargetStatus, WaitingStatus, short,
};
use crate::domain::{
    Analysis, CanaryPods, Check, Decision, Gate, Outcome, Phase, Plan, Promotion, Revision, State, Verdict, Waiting,
    Weight,
};
use jiff::Timestamp;

/// How many decisions the status remembers: a rollout of twenty steps, and the end of the one before.
const HISTORY_LIMIT: usize = 32;

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
    let State { phase, target, promoted, canary, replicas, owed, command, selective } = &decision.state;
    let Details { since, weight_since, failed, inconclusive, blocked, failure, stage, asked, shifted, course } =
        Details::of(phase);
    let Course { early, passed, prepared, gate, approved, paused, skipped } = course;
    let weight = decision.state.weight();
    let step = i32::try_from(plan.steps.reached(weight)).unwrap_or(i32::MAX);
    let rolling = matches!(phase, Phase::Progressing(_) | Phase::Promoting(_));
    let waiting = match &decision.waiting {
        None => old.waiting.clone(),
        Some(waiting) => {
            waiting.reason().map(|reason| WaitingStatus { reason: reason.into(), message: short(&waiting.to_string()) })
        }
    };
    let moved = old.phase.as_deref() != Some(name(phase)) || old.canary_weight != i32::from(weight.canary());
    let revision = |revision: &Revision| RevisionStatus { revision: revision.0.clone() };
    let progress = progress(plan, &decision.state);
    let summary = summary(&decision.state, &progress, waiting.as_ref(), decision.waiting.as_ref());
    // A round that failed ends the rollout, but its count is worth keeping.
    let failed_checks = if matches!(phase, Phase::Failed { .. }) {
        old.failed_checks.saturating_add(outcome.map_or(0, failures))
    } else {
        failed
    };

    CanaryStatus {
        observed_generation: generation,
        phase: Some(name(phase).to_owned()),
        since: Some(since),
        weight_since,
        last_transition_time: if moved { Some(now) } else { old.last_transition_time },
        canary_weight: i32::from(weight.canary()),
        step,
        progress: rolling.then(|| progress.shown()),
        iterations: passed,
        failed_checks,
        inconclusive_checks: inconclusive,
        blocked_since: blocked,
        check_due: early,
        prepared,
        gate: gate.map(|gate| format!("{gate:?}")),
        gate_approved: approved,
        paused,
        analysis_skipped: skipped,
        asked_at: asked,
        shifted_at: shifted,
        selective: *selective,
        owed: owed
            .as_ref()
            .map(|ending| EndingStatus { revision: ending.revision.0.clone(), succeeded: ending.succeeded }),
        command: command.clone(),
        failure: failure.map(|why| short(&why)),
        stage,
        waiting,
        target: target.as_ref().map(|target| TargetStatus {
            revision: target.revision.0.clone(),
            hash: target.hash.0.clone(),
            generation: target.generation,
            uid: target.uid.clone(),
        }),
        promoted: promoted.as_ref().map(revision),
        candidate: decision.state.candidate().map(revision),
        canary_pods: Some(match canary {
            CanaryPods::Up => "Up".into(),
            CanaryPods::Stale => "Stale".into(),
            CanaryPods::Draining { .. } => "Draining".into(),
            CanaryPods::Down => "Down".into(),
        }),
        draining_since: match canary {
            CanaryPods::Draining { since } => Some(*since),
            CanaryPods::Up | CanaryPods::Stale | CanaryPods::Down => None,
        },
        replicas: i32::try_from(*replicas).ok(),
        tracked_configs: target.as_ref().map(|target| target.configs.0.clone()).unwrap_or_default(),
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

/// What only some phases know.
struct Details {
    since: Timestamp,
    weight_since: Option<Timestamp>,
    failed: i32,
    inconclusive: i32,
    blocked: Option<Timestamp>,
    failure: Option<String>,
    stage: Option<String>,
    asked: Option<Timestamp>,
    shifted: Option<Timestamp>,
    course: Course,
}

/// What only an analysis knows.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Course {
    early: bool,
    passed: i32,
    prepared: bool,
    gate: Option<Gate>,
    approved: bool,
    paused: bool,
    skipped: bool,
}

impl Details {
    fn of(phase: &Phase) -> Self {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let none = |since| Self {
            since,
            weight_since: None,
            failed: 0,
            inconclusive: 0,
            blocked: None,
            failure: None,
            stage: None,
            asked: None,
            shifted: None,
            course: Course::default(),
        };
        match phase {
            Phase::Initializing { since }
            | Phase::Initialized { since }
            | Phase::Finalising { since }
            | Phase::Succeeded { since } => none(*since),
            Phase::Waiting { since, asked } => Self { asked: *asked, ..none(*since) },
            Phase::Progressing(analysis) => {
                let Analysis { weight: _, set, since, failed, inconclusive, blocked, .. } = analysis;
                Self {
                    weight_since: Some(*set),
                    failed: number(*failed),
                    inconclusive: number(*inconclusive),
                    blocked: *blocked,
                    course: Course::of(analysis),
                    ..none(*since)
                }
            }
            Phase::Promoting(Promotion { weight: _, since, undo, shifted, asked }) => {
                Self { failure: undo.clone(), shifted: *shifted, asked: *asked, ..none(*since) }
            }
            Phase::Failed { since, why } => Self { failure: Some(why.clone()), ..none(*since) },
            Phase::Terminating { since, stage } => Self { stage: Some(format!("{stage:?}")), ..none(*since) },
        }
    }
}

impl Course {
    fn of(analysis: &Analysis) -> Self {
        let Analysis {
            weight: _,
            set: _,
            since: _,
            early,
            passed,
            failed: _,
            inconclusive: _,
            blocked: _,
            prepared,
            gate,
            approved,
            paused,
            skipped,
        } = *analysis;
        let passed = i32::try_from(passed).unwrap_or(i32::MAX);
        Self { early, passed, prepared, gate, approved, paused, skipped }
    }
}

/// How much of the plan is done, in what the plan counts.
struct Progress {
    done: usize,
    of: usize,
    unit: &'static str,
}

impl Progress {
    fn shown(&self) -> String {
        format!("{}/{}", self.done, self.of)
    }
}

fn progress(plan: &Plan, state: &State) -> Progress {
    let Some(iterations) = plan.iterations() else {
        return Progress { done: plan.steps.reached(state.weight()), of: plan.steps.count(), unit: "step" };
    };
    let done = match &state.phase {
        Phase::Progressing(analysis) if analysis.weight > Weight::ZERO => plan.checks_before + analysis.passed,
        Phase::Progressing(analysis) => analysis.passed,
        _ => iterations,
    };
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Progress { done: number(done.min(iterations)), of: number(iterations), unit: "iteration" }
}

fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Waiting { .. } => "Waiting",
        Phase::Progressing(Analysis { gate: Some(Gate::Promotion), .. }) => "WaitingPromotion",
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
        metric: short(&check.metric),
        value: check.answer.as_ref().ok().copied().filter(|value| value.is_finite()),
        min: check.limits.min,
        max: check.limits.max,
        verdict: format!("{:?}", check.verdict()),
        message: short(&check.to_string()),
        time: now,
    }
}

fn history(mut history: Vec<HistoryEntry>, decision: &Decision, step: i32, now: Timestamp) -> Vec<HistoryEntry> {
    let state = &decision.state;
    let revision = state.target.as_ref().map(|target| target.revision.0.clone());
    history.extend(decision.notes.iter().map(|note| HistoryEntry {
        time: now,
        reason: note.reason.to_string(),
        message: short(&note.text),
        revision: revision.clone(),
        weight: i32::from(state.weight().canary()),
        step,
    }));
    history.split_off(history.len().saturating_sub(HISTORY_LIMIT))
}

fn summary(
    state: &State,
    progress: &Progress,
    waiting: Option<&WaitingStatus>,
    now_waiting: Option<&Waiting>,
) -> Summary {
    let serves = state.promoted.as_ref().map(|revision| format!("revision {revision} serves")).unwrap_or_default();
    let weight = state.weight();
    let (ready, reconciling, mut stalled, reason, message) = match &state.phase {
        Phase::Initializing { .. } => (false, true, false, "Initializing", "the primary is being made".to_owned()),
        Phase::Initialized { .. } => (true, false, false, "Initialized", serves),
        Phase::Waiting { .. } => (false, true, false, "Waiting", format!("{serves}; the new version is not started")),
        Phase::Progressing(analysis) => {
            let Progress { done, of, unit } = progress;
            let paused = if analysis.paused { ", paused" } else { "" };
            (false, true, false, name(&state.phase), format!("weight {weight}, {unit} {done} of {of}{paused}"))
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
        Phase::Failed { why, .. } => (
            false,
            false,
            true,
            "RolledBack",
            format!(
                "{serves}; the new version was taken back: {why}; change the pod template to roll out a fix or try again"
            ),
        ),
        Phase::Terminating { .. } => (false, true, false, "Terminating", "the app is being handed back".to_owned()),
    };
    stalled |= matches!(
        now_waiting,
        Some(
            Waiting::TargetMissing
                | Waiting::TargetIncomplete(_)
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
