//! The words of a decision: what happened, and what is waited for.

use super::heard::refusals;
use crate::domain::{Hook, Pods, Reply};
use jiff::Timestamp;
use std::fmt;

/// Something worth telling a human: becomes an event, a line of the history, a metric and an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What happened, in one word.
    pub reason: Reason,
    /// The sentence.
    pub text: String,
    /// Whether somebody should look.
    pub warning: bool,
}

impl Note {
    pub(super) fn new(reason: Reason, text: String) -> Self {
        Self { reason, text, warning: false }
    }

    pub(super) fn warning(reason: Reason, text: String) -> Self {
        Self { reason, text, warning: true }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The primary is there and serves.
    Initialized,
    /// A new version was seen.
    NewRevision,
    /// A newer version came in the middle of an analysis.
    Superseded,
    /// The target is back at the promoted version.
    Restored,
    /// A gate holds the rollout until its hooks, or a person, say yes.
    GateClosed,
    /// A gate that held it is open.
    GateOpened,
    /// The pods are ready, and are checked before they get traffic.
    Checking,
    /// A check passed, and there are more before the next step.
    CheckPassed,
    /// The weight follows the next step.
    Advanced,
    /// A check failed, fewer times than the threshold.
    CheckFailed,
    /// A check could not be judged.
    Inconclusive,
    /// Traffic was taken back, and the rollout goes on.
    Retreated,
    /// The version was taken back for good.
    RolledBack,
    /// The primary is being given the version.
    Promoting,
    /// The primary takes over a further share.
    Shifted,
    /// The primary could not run it.
    PromotionFailed,
    /// The primary runs it.
    Finalising,
    /// Done.
    Succeeded,
    /// The Canary is being deleted.
    Terminating,
    /// The primary outlives its Canary.
    PrimaryKept,
    /// A hook whose answer changes nothing did not say yes.
    HookFailed,
    /// Somebody's order was taken.
    Ordered,
    /// Somebody's order was not carried out.
    OrderRefused,
}

impl Reason {
    /// Whether it is one of many steps of the same kind, between a beginning and an end that are told by themselves.
    #[must_use]
    pub fn is_step(self) -> bool {
        match self {
            Self::CheckPassed | Self::Advanced | Self::Shifted | Self::Finalising => true,
            Self::Initialized
            | Self::NewRevision
            | Self::Superseded
            | Self::Restored
            | Self::GateClosed
            | Self::GateOpened
            | Self::Checking
            | Self::CheckFailed
            | Self::Inconclusive
            | Self::Retreated
            | Self::RolledBack
            | Self::Promoting
            | Self::PromotionFailed
            | Self::Succeeded
            | Self::Terminating
            | Self::PrimaryKept
            | Self::HookFailed
            | Self::Ordered
            | Self::OrderRefused => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?}")
    }
}

/// Why nothing moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing is waited for.
    Nothing,
    /// `suspend` is set.
    Suspended,
    /// There is no target.
    TargetMissing,
    /// The target needs something to be a version.
    TargetIncomplete(String),
    /// The primary is yet to be made or changed.
    PrimaryMissing,
    /// The primary's pods are not as asked.
    PrimaryNotReady {
        /// Its pods.
        pods: Pods,
        /// Whether the progress deadline is over.
        overdue: bool,
    },
    /// The canary's pods are not as asked.
    CanaryNotReady {
        /// Its pods.
        pods: Pods,
    },
    /// The canary's pods began with other configs than those of the version.
    CanaryStale,
    /// The gateway does not show the weight yet.
    RoutePending,
    /// The gateway refuses the route.
    RouteRefused(String),
    /// The route cannot be split.
    RouteUnusable(String),
    /// The interval is not over.
    Dwell {
        /// When it will be.
        until: Timestamp,
    },
    /// The last check failed.
    CheckFailed(String),
    /// The last check could not be judged.
    Inconclusive(String),
    /// Hooks, or a person, are to say yes.
    Gate {
        /// The kind of hooks.
        hook: Hook,
        /// What they said; nothing before they were asked.
        replies: Vec<Reply>,
    },
    /// Somebody ordered to hold the weight.
    Paused,
}

impl Waiting {
    /// The reason in one word, as conditions have it; `None` when nothing is waited for.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Suspended => Some("Suspended"),
            Self::TargetMissing => Some("TargetMissing"),
            Self::TargetIncomplete(_) => Some("TargetIncomplete"),
            Self::PrimaryMissing | Self::PrimaryNotReady { .. } => Some("PrimaryNotReady"),
            Self::CanaryNotReady { .. } | Self::CanaryStale => Some("CanaryNotReady"),
            Self::RoutePending => Some("RoutePending"),
            Self::RouteRefused(_) => Some("RouteRefused"),
            Self::RouteUnusable(_) => Some("RouteUnusable"),
            Self::Dwell { .. } => Some("Dwell"),
            Self::CheckFailed(_) => Some("CheckFailed"),
            Self::Inconclusive(_) => Some("Inconclusive"),
            Self::Gate { .. } => Some("Gate"),
            Self::Paused => Some("Paused"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Suspended => formatter.write_str("suspend is set; weights are held until it is false"),
            Self::TargetMissing => formatter
                .write_str("the target does not exist; create it or change targetRef. The primary goes on serving"),
            Self::PrimaryMissing => formatter.write_str("the primary is being made or updated"),
            Self::PrimaryNotReady { pods, overdue: false } => {
                write!(formatter, "the primary is not ready: {}", count(*pods))
            }
            Self::PrimaryNotReady { pods, overdue: true } => write!(
                formatter,
                "the primary is not ready after the progress deadline: {}; look at the events of its pods",
                count(*pods)
            ),
            Self::CanaryStale => formatter.write_str(
                "the canary's pods were started before the configs of this version changed; they are started anew",
            ),
            Self::CanaryNotReady { pods } => write!(formatter, "the canary is not ready: {}", count(*pods)),
            Self::RoutePending => formatter.write_str("the gateway does not report the new weights yet"),
            Self::RouteRefused(why) => write!(formatter, "the gateway refuses the route: {why}"),
            Self::RouteUnusable(why) => write!(formatter, "the route cannot be split: {why}"),
            Self::Dwell { until } => write!(formatter, "the next check is at {}", until.strftime("%H:%M:%SZ")),
            Self::Gate { hook, replies } => {
                write!(formatter, "{} is not open", hook.name())?;
                if !replies.is_empty() {
                    write!(formatter, ": {}", refusals(*hook, replies))?;
                }
                write!(formatter, "; to open it by hand: {}", by_hand("approve"))
            }
            Self::Paused => write!(formatter, "the rollout is paused; to go on: {}", by_hand("resume")),
            Self::TargetIncomplete(why) | Self::CheckFailed(why) | Self::Inconclusive(why) => formatter.write_str(why),
        }
    }
}

/// How a person gives an order.
fn by_hand(order: &str) -> String {
    format!("kubectl annotate --overwrite canary NAME serin.dev/command={order}")
}

/// The pods in words.
pub(super) fn count(pods: Pods) -> String {
    let Pods { wanted, updated, available, total, current } = pods;
    if !current {
        return "its controller has not looked at it yet".into();
    }
    let old = if total > updated { format!(", {} old ones still there", total - updated) } else { String::new() };
    format!("{available} of {wanted} pods available, {updated} updated{old}")
}
