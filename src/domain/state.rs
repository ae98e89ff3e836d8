//! Where a rollout is: the plan of record from which every object is rendered.
//!
//! Invariant: data that is meaningful in one phase only lives in that phase.

use super::{Configs, Hook, Plan, Revision, TargetSeen, Weight, World};
use jiff::Timestamp;

/// Everything that must survive a crash.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Where the rollout is.
    pub phase: Phase,
    /// The target as it was last acted upon; `None` before it was first seen. While a version is analysed, or
    /// after it failed, this is that version.
    pub target: Option<Target>,
    /// What the primary runs, or goes back to; `None` before the first one was chosen.
    pub promoted: Option<Revision>,
    /// The target's pods.
    pub canary: CanaryPods,
    /// How many pods the app is meant to have.
    pub replicas: u32,
    /// The end of a rollout that the post-rollout hooks have not been told yet.
    pub owed: Option<Ending>,
    /// The order that was taken, while it is still found.
    pub command: Option<String>,
    /// The weight, while it is above 0, is of the requests that match, and not of all: see [`Plan::selective`].
    pub selective: bool,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The version that it was about.
    pub revision: Revision,
    /// Whether it is promoted.
    pub succeeded: bool,
}

/// The user's workload, as far as it identifies a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name under which this version is recorded.
    pub revision: Revision,
    /// The hash of its pod template as it is computed now, which changes when an upgrade of Serin or Kubernetes changes
    /// how the same pods are hashed.
    pub hash: Revision,
    /// `metadata.generation` at which it was seen: the same generation of the same object is the same pod template,
    /// whatever its hash.
    pub generation: i64,
    /// `metadata.uid`: an object that was made anew counts its generations from the beginning.
    pub uid: String,
    /// The configs that it uses: they change without a generation that would say so.
    pub configs: Configs,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// The primary is being made; traffic is as it was before the Canary came.
    Initializing {
        /// Since when.
        since: Timestamp,
    },
    /// The primary has the traffic; no version has been analysed yet.
    Initialized {
        /// Since when.
        since: Timestamp,
    },
    /// A new version may not be started yet: the confirm-rollout hooks have not said yes.
    Waiting {
        /// Since when.
        since: Timestamp,
        /// When the hooks answered last; `None` before the first time.
        asked: Option<Timestamp>,
    },
    /// A new version is being analysed.
    Progressing(Analysis),
    /// The primary is being given the analysed version, or, when that went wrong, the one before.
    Promoting(Promotion),
    /// The primary runs the analysed version; traffic goes back to it.
    Finalising {
        /// Since when.
        since: Timestamp,
    },
    /// The primary runs what the target says.
    Succeeded {
        /// Since when.
        since: Timestamp,
    },
    /// The version was taken back.
    Failed {
        /// Since when.
        since: Timestamp,
        /// The sentence that explains it.
        why: String,
    },
    /// The Canary is being deleted and the app handed back.
    Terminating {
        /// Since when this stage lasts.
        since: Timestamp,
        /// How far the handing back has come.
        stage: Farewell,
    },
}

/// How an analysis goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Analysis {
    /// The canary's share now.
    pub weight: Weight,
    /// When the weight was set: the gateway's grace period counts from here.
    pub set: Timestamp,
    /// When the weight was set, or the last check judged: the interval counts from here.
    pub since: Timestamp,
    /// The next round does not wait for the interval.
    pub early: bool,
    /// Checks that passed at this weight, up to as many as there must be.
    pub passed: u32,
    /// Checks that failed so far.
    pub failed: u32,
    /// Checks in a row, up to the last one, that were inconclusive.
    pub inconclusive: u32,
    /// Since when pods or route have not been as asked; `None` while they are.
    pub blocked: Option<Timestamp>,
    /// The pre-rollout hooks said yes, or there were none before the first traffic.
    pub prepared: bool,
    /// The gate that holds the weight.
    pub gate: Option<Gate>,
    /// Somebody opened that gate by an order.
    pub approved: bool,
    /// Somebody ordered to hold the weight.
    pub paused: bool,
    /// Somebody ordered to skip the rest.
    pub skipped: bool,
}

/// What holds the weight of an analysis until hooks, or a person, say yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Before the weight rises.
    TrafficIncrease,
    /// Before the version is promoted.
    Promotion,
}

/// How a promotion goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// The canary's share while the primary is changed.
    pub weight: Weight,
    /// When the primary was asked to change.
    pub since: Timestamp,
    /// Why the primary goes back to the version before; `None` while it goes forward.
    pub undo: Option<String>,
    /// When the primary's share rose last, in a plan that raises it in steps; `None` before the first.
    pub shifted: Option<Timestamp>,
    /// When the rollback hooks answered last; `None` before the first time.
    pub asked: Option<Timestamp>,
}

/// The stages of handing the app back to its own workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The target's pods are being started.
    Reviving,
    /// Traffic is being led to the target.
    HandingOver,
    /// Traffic is on the target; the primary finishes its last requests.
    Draining,
    /// The target serves; everything of Serin's may go.
    Released,
    /// The target cannot be trusted with the traffic: the primary stays, as the target's own.
    Kept,
}

/// The target's pods, as far as they may be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryPods {
    /// They have traffic, or are about to.
    Up,
    /// They were started before the configs of the version changed: they get no traffic, and go as soon as they are
    /// seen to have none, so that others start with the configs as they are.
    Stale,
    /// They were observed to have no traffic.
    Draining {
        /// Since when.
        since: Timestamp,
    },
    /// There are none.
    Down,
}

/// Where requests are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Where the user led them before Serin came.
    Untouched,
    /// To the primary, and some of them to the canary.
    Split(Split),
    /// Back to the target, as before.
    Target,
}

/// What the canary gets of the requests, or, in a plan that chooses them by `match`, of those that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The share that it answers.
    pub weight: Weight,
    /// The share of which it gets a copy, while it answers none: what it says to those reaches nobody.
    pub mirror: Weight,
}

/// How many pods the target is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As many as it has.
    Keep,
    /// As many as it has, but this many if it has none.
    AtLeast(u32),
    /// None.
    Zero,
}

impl Split {
    /// This share, and no copies.
    #[must_use]
    pub fn of(weight: Weight) -> Self {
        Self { weight, mirror: Weight::ZERO }
    }
}

impl Analysis {
    /// The beginning of one: no traffic, and pods that are yet to come.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            weight: Weight::ZERO,
            set: now,
            since: now,
            early: false,
            passed: 0,
            failed: 0,
            inconclusive: 0,
            blocked: Some(now),
            prepared: false,
            gate: None,
            approved: false,
            paused: false,
            skipped: false,
        }
    }

    /// Whether the next round is due.
    #[must_use]
    pub fn due(&self, plan: &Plan, now: Timestamp) -> bool {
        self.early || self.since.checked_add(plan.interval).is_ok_and(|due| now >= due)
    }

    /// The same, with an interval that does not begin before the traffic is led so.
    #[must_use]
    pub fn begun(&self, seen: &World) -> Self {
        Self { since: seen.begun(self.since), ..*self }
    }

    /// Whether nothing stands before the first traffic, or copies of it, but checks and gates.
    #[must_use]
    pub fn is_prepared(&self, plan: &Plan) -> bool {
        self.prepared || !plan.hooks.contains(&Hook::PreRollout)
    }
}

impl Gate {
    /// The hooks that open it.
    #[must_use]
    pub fn hook(self) -> Hook {
        match self {
            Self::TrafficIncrease => Hook::ConfirmTrafficIncrease,
            Self::Promotion => Hook::ConfirmPromotion,
        }
    }
}

impl Promotion {
    /// The beginning of one, with this share on the canary.
    #[must_use]
    pub fn new(weight: Weight, now: Timestamp) -> Self {
        Self { weight, since: now, undo: None, shifted: None, asked: None }
    }
}

impl State {
    /// The state of a Canary that was never reconciled.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Initializing { since: now },
            target: None,
            promoted: None,
            canary: CanaryPods::Up,
            replicas: 1,
            owed: None,
            command: None,
            selective: false,
        }
    }

    /// The state of a Canary that goes without anything known of it: nothing that serves is touched.
    #[must_use]
    pub fn kept(now: Timestamp) -> Self {
        Self { phase: Phase::Terminating { since: now, stage: Farewell::Kept }, ..Self::new(now) }
    }

    /// Where requests are to go.
    #[must_use]
    pub fn traffic(&self, plan: &Plan) -> Traffic {
        match &self.phase {
            Phase::Initializing { .. } => Traffic::Untouched,
            Phase::Terminating { stage: Farewell::HandingOver | Farewell::Draining | Farewell::Released, .. } => {
                Traffic::Target
            }
            Phase::Progressing(analysis) => Traffic::Split(self.split(plan, analysis)),
            Phase::Promoting(promotion) => Traffic::Split(Split::of(promotion.weight)),
            Phase::Initialized { .. }
            | Phase::Waiting { .. }
            | Phase::Finalising { .. }
            | Phase::Succeeded { .. }
            | Phase::Failed { .. }
            | Phase::Terminating { stage: Farewell::Reviving | Farewell::Kept, .. } => {
                Traffic::Split(Split::of(Weight::ZERO))
            }
        }
    }

    /// Copies go only to pods that were seen to be ready (S2), and only before the first step.
    fn split(&self, plan: &Plan, analysis: &Analysis) -> Split {
        let ready = analysis.blocked.is_none() && self.canary == CanaryPods::Up;
        let copied = analysis.weight == Weight::ZERO && ready && analysis.is_prepared(plan);
        Split { weight: analysis.weight, mirror: if copied { plan.copies() } else { Weight::ZERO } }
    }

    /// The canary's share.
    #[must_use]
    pub fn weight(&self) -> Weight {
        match &self.phase {
            Phase::Progressing(analysis) => analysis.weight,
            Phase::Promoting(promotion) => promotion.weight,
            Phase::Initializing { .. }
            | Phase::Initialized { .. }
            | Phase::Waiting { .. }
            | Phase::Finalising { .. }
            | Phase::Succeeded { .. }
            | Phase::Failed { .. }
            | Phase::Terminating { .. } => Weight::ZERO,
        }
    }

    /// The version that the primary is to run.
    #[must_use]
    pub fn primary_revision(&self) -> Option<&Revision> {
        match &self.phase {
            Phase::Promoting(Promotion { undo: None, .. }) => self.target.as_ref().map(|target| &target.revision),
            _ => self.promoted.as_ref(),
        }
    }

    /// How many pods the primary is not to fall below, whatever its autoscaler says: it is about to get traffic that it
    /// did not have before. 0 for none.
    #[must_use]
    pub fn floor(&self) -> u32 {
        match &self.phase {
            Phase::Initializing { .. } | Phase::Promoting(_) | Phase::Finalising { .. } => self.replicas,
            Phase::Initialized { .. }
            | Phase::Waiting { .. }
            | Phase::Progressing(_)
            | Phase::Succeeded { .. }
            | Phase::Failed { .. }
            | Phase::Terminating { .. } => 0,
        }
    }

    /// The version under analysis, or the last one that failed.
    #[must_use]
    pub fn candidate(&self) -> Option<&Revision> {
        let revision = self.target.as_ref().map(|target| &target.revision)?;
        (Some(revision) != self.promoted.as_ref()).then_some(revision)
    }

    /// How many pods the target is to have: never fewer than it has while it may have traffic (S2).
    #[must_use]
    pub fn scale(&self, plan: &Plan, now: Timestamp) -> Scale {
        let drained = |since: Timestamp| since.checked_add(plan.drain_delay).is_ok_and(|drained| now >= drained);
        match (&self.phase, self.canary) {
            (Phase::Initializing { .. } | Phase::Terminating { stage: Farewell::Kept, .. }, _)
            | (_, CanaryPods::Stale) => Scale::Keep,
            (_, CanaryPods::Up) => Scale::AtLeast(self.replicas),
            // While suspended nobody watches whether the traffic stays away.
            (_, CanaryPods::Draining { .. } | CanaryPods::Down) if plan.suspend => Scale::Keep,
            (_, CanaryPods::Draining { since }) if !drained(since) => Scale::Keep,
            (_, CanaryPods::Draining { .. } | CanaryPods::Down) => Scale::Zero,
        }
    }
}

impl Target {
    /// The target as it is seen for the first time, or after a change.
    #[must_use]
    pub fn new(seen: &TargetSeen) -> Self {
        let TargetSeen { revision, template, configs, incomplete: _, generation, uid, replicas: _, pods: _ } =
            seen.clone();
        Self { revision, hash: template, generation, uid, configs }
    }

    /// Whether `seen` is still this version: the same pod template, for which the generation fences the hash, and the
    /// same configs, of which the generation says nothing.
    #[must_use]
    pub fn is(&self, seen: &TargetSeen) -> bool {
        let same_object = self.generation == seen.generation && self.uid == seen.uid;
        (same_object || self.hash == seen.template) && self.configs.agree(&seen.configs)
    }

    /// The same version, as it is seen now.
    #[must_use]
    pub fn seen_again(&self, seen: &TargetSeen) -> Self {
        // What is not known of it now is as it was.
        let configs = if seen.incomplete.is_some() { &self.configs } else { &seen.configs };
        Self { revision: self.revision.clone(), configs: configs.clone(), ..Self::new(seen) }
    }
}
