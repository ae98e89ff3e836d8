//! Status → [`State`].

use crate::api::status::CanaryStatus;
use crate::domain::{
    Analysis, CanaryPods, Configs, Ending, Farewell, Gate, Phase, Promotion, Revision, State, Target, Weight,
};
use jiff::Timestamp;
use std::fmt::Display;

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
        "Waiting" => Phase::Waiting { since, asked: status.asked_at },
        "Progressing" | "WaitingPromotion" => Phase::Progressing(Analysis {
            weight,
            set: status.weight_since.unwrap_or(since),
            since,
            early: status.check_due,
            passed: number("iterations", status.iterations)?,
            failed: number("failedChecks", status.failed_checks)?,
            inconclusive: number("inconclusiveChecks", status.inconclusive_checks)?,
            blocked: status.blocked_since,
            prepared: status.prepared,
            gate: gate(status.gate.as_deref())?,
            approved: status.gate_approved,
            paused: status.paused,
            skipped: status.analysis_skipped,
        }),
        "Promoting" => Phase::Promoting(Promotion {
            weight,
            since,
            undo: status.failure.clone(),
            shifted: status.shifted_at,
            asked: status.asked_at,
        }),
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
        uid: target.uid.clone(),
        configs: Configs(status.tracked_configs.clone()),
    });
    let canary = match (status.canary_pods.as_deref(), status.draining_since) {
        (Some("Up"), _) => CanaryPods::Up,
        (Some("Stale"), _) => CanaryPods::Stale,
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
        selective: status.selective,
        owed: status
            .owed
            .as_ref()
            .map(|owed| Ending { revision: Revision(owed.revision.clone()), succeeded: owed.succeeded }),
        command: status.command.clone(),
    })
}

fn gate(gate: Option<&str>) -> Result<Option<Gate>, InvalidStatus> {
    match gate {
        None => Ok(None),
        Some("TrafficIncrease") => Ok(Some(Gate::TrafficIncrease)),
        Some("Promotion") => Ok(Some(Gate::Promotion)),
        Some(other) => Err(nonsense("gate", other)),
    }
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

fn nonsense(field: &'static str, found: impl Display) -> InvalidStatus {
    InvalidStatus { field, found: found.to_string() }
}
