//! What the shell saw: facts, and no judgement.

use super::{Command, Configs, Percent, Revision, Weight};
use jiff::Timestamp;

/// Everything that a decision rests on besides the recorded state and the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// The time of this pass.
    pub now: Timestamp,
    /// Whether the Canary is being deleted.
    pub deleted: bool,
    /// What somebody ordered by an annotation; it may have been taken already.
    pub command: Option<Command>,
    /// The user's workload; `None` when there is none.
    pub target: Option<TargetSeen>,
    /// The copy that serves; `None` when there is none.
    pub primary: Option<Primary>,
    /// The Service that the app's own clients use selects the primary's pods.
    pub apex_on_primary: bool,
    /// Where the gateway sends requests.
    pub routing: Routing,
    /// How the routes are led that are as this process has written them; `None` when it has written none.
    pub led: Option<Led>,
}

/// Since when traffic is led as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    /// When it was led so first.
    pub since: Timestamp,
    /// When it was written last: somebody may have led it otherwise in between.
    pub written: Timestamp,
}

impl Led {
    /// Of two routes, what holds for both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { since: self.since.max(other.since), written: self.written.max(other.written) }
    }
}

impl World {
    /// When an interval begins that was recorded to begin at `recorded`: the record comes before the write, and the write
    /// may be late. What nobody knows any more is taken to have been quick.
    #[must_use]
    pub fn begun(&self, recorded: Timestamp) -> Timestamp {
        self.led.map_or(recorded, |led| led.since.max(recorded))
    }
}

/// The user's workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSeen {
    /// The name of its version: of its pod template and of the configs that it uses.
    pub revision: Revision,
    /// The hash of its pod template alone.
    pub template: Revision,
    /// The configs that it uses, as far as they are known.
    pub configs: Configs,
    /// What it needs to be a version, as a sentence; `None` when it has everything.
    pub incomplete: Option<String>,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.replicas`.
    pub replicas: u32,
    /// Its pods.
    pub pods: Pods,
}

/// The copy that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// The version that it was given; `None` when it does not say.
    pub revision: Option<Revision>,
    /// Its pods.
    pub pods: Pods,
    /// How many pods its autoscaler gives it at most; `None` without an autoscaler.
    pub most: Option<u32>,
}

/// The pods of a workload, as its controller counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// How many are wanted.
    pub wanted: u32,
    /// How many run the newest template.
    pub updated: u32,
    /// How many are available.
    pub available: u32,
    /// How many there are, old ones included.
    pub total: u32,
    /// Whether the counts are about the newest spec.
    pub current: bool,
}

/// Where the gateway sends requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// There is no route.
    Missing,
    /// To the app's own Service: not split.
    Whole(Acceptance),
    /// To the two versions, with this share for the canary.
    Split(Weight, Acceptance),
    /// To the two versions, but not with one split.
    Mixed,
    /// It cannot be split; the sentence says what to write.
    Unusable(String),
}

/// What the gateway says of the route as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It serves it.
    Accepted,
    /// It has not looked at this version of it yet.
    Pending,
    /// No gateway has ever said anything of it.
    Silent,
    /// It does not serve it.
    Refused(String),
}

impl Pods {
    /// Whether all pods are of the newest template and `share` of them available, but at least one.
    #[must_use]
    pub fn ready(&self, share: Percent) -> bool {
        self.current
            && self.wanted > 0
            && self.updated >= self.wanted
            && self.total <= self.updated
            && self.available >= share.of(self.wanted).max(1)
    }

    /// Whether not one pod can take a request.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.available == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_all_new_and_enough_available() {
        let good = Pods { wanted: 3, updated: 3, available: 3, total: 3, current: true };
        assert!(good.ready(Percent::ALL));
        let not = [
            Pods { current: false, ..good },
            Pods { wanted: 0, updated: 0, available: 0, total: 0, ..good },
            Pods { updated: 2, ..good },
            Pods { total: 4, ..good },
            Pods { available: 2, ..good },
        ];
        assert!(not.iter().all(|pods| !pods.ready(Percent::ALL)));
        assert!(Pods { available: 2, ..good }.ready(Percent::try_from(50).unwrap()));
        assert!(!Pods { available: 1, ..good }.ready(Percent::try_from(50).unwrap()));
    }
}
