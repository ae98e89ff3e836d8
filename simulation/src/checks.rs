//! What must hold whatever happens: S1 to S10, looked at with every change that the API server stores.
//!
//! Invariant: nothing in here knows how Serin decides. It knows what was recorded, what was written by whom, what that
//! process could have seen, and what Prometheus said to it.

mod foreign;
mod rollout;
mod strategy;
mod traffic;
mod versions;

use crate::agenda::Time;
use crate::app::{NAME, NAMESPACE, PRIMARY, Shown, Version, number, text};
use serde_json::Value;
use serin_testing::{
    ApiServer, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, Change, DEPLOYMENTS, EVENTS, HTTP_ROUTES, SECRETS, SERVICES,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use strategy::Strategy;

/// Faults long before a rollout began cannot be what ended it.
const AFTERMATH: Time = 180_000;

/// After a breach the record is sent within this, in milliseconds.
const PROMPT: Time = 10;

/// No request takes so long that is not held up, in milliseconds.
const LATE: Time = 900;

/// A process and the number of its pass.
pub(crate) type PassId = (u32, u32);

/// Who changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Serin(PassId),
    User,
    Cluster,
}

/// What Prometheus said, and meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Good,
    Bad,
    Nothing,
}

/// What a process could know of the pods.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pods {
    pub(crate) target: i64,
    pub(crate) primary: i64,
}

/// One pass, as far as it matters here.
#[derive(Default)]
struct Pass {
    /// The first of the records that were the newest during this pass.
    records_from: usize,
    said: Vec<(Said, BTreeSet<Version>)>,
    /// Which kinds of webhooks said yes or no.
    answered: Vec<(String, bool)>,
    pods: Pods,
    recorded: bool,
    /// When its record was the newest, as far as it knows.
    certain: Time,
    /// When it was told of a breach, if it has sent nothing since.
    told: Option<Time>,
}

/// One record: what a status said.
struct Record {
    from: i64,
    weight: i64,
    phase: String,
}

/// How the analysis goes that is on record.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Default)]
struct Analysis {
    revision: String,
    strategy: Strategy,
    began: Time,
    /// The weights at which a check was passed, and the versions of the pods that had it.
    passed: Vec<(i64, BTreeSet<Version>)>,
    /// Checks that were passed before the first traffic.
    checks_before: u64,
    bad: bool,
    nothing: bool,
    /// A test said no.
    refused: bool,
    /// A rollback webhook said yes.
    taken_back: bool,
    /// The pre-rollout webhooks said yes.
    prepared: bool,
    /// The rest is skipped by order.
    skipped: bool,
}

/// What a run has seen so far.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Checks {
    /// What was wrong.
    pub(crate) wrong: Vec<String>,
    /// Rollouts that began, were promoted, were taken back; and those in which something went wrong by chance.
    pub(crate) rollouts: [u64; 4],
    /// What the gateway does, which is what it was told some time ago.
    pub(crate) applied: Shown,
    /// Clocks differ: nothing can be said of how long something lasts.
    pub(crate) clocks_differ: bool,
    pub(crate) skipped: bool,
    /// The gateway says nothing, and is believed after a while.
    pub(crate) silent: bool,
    /// The route is as a write says that its sender had given up.
    pub(crate) route_is_late: bool,
    /// The write that is looked at comes late.
    pub(crate) late: bool,
    now: Time,
    passes: BTreeMap<PassId, Pass>,
    records: Vec<Record>,
    versions: BTreeMap<String, Version>,
    allowed: BTreeSet<Version>,
    analysis: Analysis,
    canary: Option<Arc<Value>>,
    route: Option<Arc<Value>>,
    apex: Option<Arc<Value>>,
    target: Option<Arc<Value>>,
    primary: Option<Arc<Value>>,
    exposed_until: Time,
    exposed_by_user: bool,
    primary_by_user: bool,
    route_by_user: bool,
    apex_by_user: bool,
    /// Passes that have traffic to take back, before anything else.
    retreating: BTreeSet<PassId>,
    trusted: BTreeSet<String>,
    /// How often each order was given, less how often it was taken.
    orders: BTreeMap<String, i64>,
    aborted: bool,
    target_deleted: Option<Time>,
    disturbed: Option<Time>,
    counted: bool,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self {
            wrong: vec![],
            rollouts: [0; 4],
            applied: Shown::Missing,
            clocks_differ: false,
            skipped: false,
            silent: false,
            route_is_late: false,
            late: false,
            now: 0,
            passes: BTreeMap::new(),
            records: vec![Record { from: 0, weight: 0, phase: String::new() }],
            versions: BTreeMap::new(),
            allowed: BTreeSet::new(),
            analysis: Analysis::default(),
            canary: None,
            route: None,
            apex: None,
            target: None,
            primary: None,
            exposed_until: 0,
            exposed_by_user: false,
            primary_by_user: false,
            route_by_user: false,
            apex_by_user: false,
            retreating: BTreeSet::new(),
            trusted: BTreeSet::new(),
            orders: BTreeMap::new(),
            aborted: false,
            target_deleted: None,
            disturbed: None,
            counted: false,
        }
    }

    pub(crate) fn time(&mut self, now: Time) {
        self.now = now;
    }

    pub(crate) fn fails(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Something went wrong that Serin can do nothing about.
    pub(crate) fn disturbed(&mut self) {
        self.disturbed = Some(self.now);
        if self.is_rolling() && !std::mem::replace(&mut self.counted, true) {
            self.rollouts[3] += 1;
        }
    }

    fn is_rolling(&self) -> bool {
        ["Progressing", "Promoting", "Finalising"].contains(&self.newest().phase.as_str())
    }

    /// Whether a revision was there before anything could be analysed.
    pub(crate) fn is_trusted(&self, revision: &str) -> bool {
        self.trusted.contains(revision)
    }

    /// What a recorded revision holds.
    pub(crate) fn version(&self, revision: &str) -> Option<&Version> {
        self.versions.get(revision)
    }

    fn newest(&self) -> &Record {
        // The first one is there from the beginning.
        &self.records[self.records.len() - 1]
    }

    // ---- passes ----

    pub(crate) fn pass_begins(&mut self, id: PassId, pods: Pods, (recorded, shown): (i64, i64)) {
        let records_from = self.records.len() - 1;
        let Record { weight: newest, phase, .. } = self.newest();
        let is_behind = recorded == *newest && Shown::of(self.route.as_deref()).canary() == shown && shown > *newest;
        if is_behind && rollout::leads(phase) {
            self.retreating.insert(id);
        }
        self.passes.insert(id, Pass { records_from, pods, certain: self.now, ..Pass::default() });
    }

    /// A process has seen more.
    pub(crate) fn seen(&mut self, id: PassId, pods: Pods) {
        if let Some(pass) = self.passes.get_mut(&id) {
            pass.pods.target = pass.pods.target.max(pods.target);
            pass.pods.primary = pass.pods.primary.max(pods.primary);
        }
    }

    pub(crate) fn said(&mut self, id: PassId, said: Said, versions: BTreeSet<Version>) {
        match said {
            Said::Good => {}
            Said::Bad => self.analysis.bad = true,
            Said::Nothing => self.analysis.nothing = true,
        }
        let is_breach = said == Said::Bad && self.has_traffic() && self.is_last_straw();
        if let Some(pass) = self.passes.get_mut(&id) {
            pass.said.push((said, versions));
            if is_breach {
                pass.told = Some(self.now);
            }
        }
    }

    /// Whether there is anything to take back: without, a breach may wait for a Secret.
    fn has_traffic(&self) -> bool {
        self.newest().weight > 0
    }

    /// Whether one more failed check takes the version back; one that only counts may wait for a Secret.
    fn is_last_straw(&self) -> bool {
        let canary = self.canary.as_deref().unwrap_or(&Value::Null);
        number(canary, "/status/failedChecks") + 1 >= number(canary, "/spec/analysis/threshold")
    }

    /// A webhook has said yes or no to a pass.
    pub(crate) fn answered(&mut self, id: PassId, kind: &str, yes: bool) {
        self.analysis.refused |= !yes && ["rollout", "pre-rollout"].contains(&kind);
        self.analysis.taken_back |= yes && kind == "rollback";
        let is_breach = yes && kind == "rollback" && self.has_traffic();
        if let Some(pass) = self.passes.get_mut(&id) {
            pass.answered.push((kind.to_owned(), yes));
            if is_breach {
                pass.told = Some(self.now);
            }
        }
    }

    /// A pass has sent a request to the API server.
    pub(crate) fn sends(&mut self, id: PassId) {
        if let Some(pass) = self.passes.get_mut(&id) {
            pass.told = None;
        }
    }

    /// A pass hears, or is about to, what the newest record is.
    pub(crate) fn looks_at_the_record(&mut self, id: PassId) {
        if let Some(pass) = self.passes.get_mut(&id) {
            pass.certain = self.now;
        }
    }

    /// Whether a write arrives long after it was sent, or after its pass knew that its record is the newest: its sender has given
    /// it up, has stood still, or was asked for patience.
    pub(crate) fn is_late(&self, id: PassId, sent: Time) -> bool {
        let since = self.passes.get(&id).map_or(sent, |pass| pass.certain.min(sent));
        self.now > since + LATE
    }

    /// A process goes on: it could do nothing before.
    pub(crate) fn resumes(&mut self, id: PassId) {
        if let Some(told) = self.passes.get_mut(&id).and_then(|pass| pass.told.as_mut()) {
            *told = self.now;
        }
    }

    /// A pass is under way, and its process does not stand still: after a breach it waits for nothing, and for nobody else.
    pub(crate) fn goes_on(&mut self, id: PassId) {
        let told = self.passes.get(&id).and_then(|pass| pass.told);
        if told.is_some_and(|told| self.now > told + PROMPT) {
            self.wrong.push("S4: a pass was told of a breach, and waits for something else".to_owned());
        }
    }

    /// The user orders something.
    pub(crate) fn ordered(&mut self, order: &str) {
        *self.orders.entry(order.to_owned()).or_default() += 1;
        self.aborted |= order == "abort";
    }

    pub(crate) fn pass_ends(&mut self, id: PassId, succeeded: bool) {
        let Some(pass) = self.passes.get(&id) else { return };
        let breach = pass.said.iter().any(|(said, _)| *said == Said::Bad);
        if breach && succeeded && !pass.recorded {
            self.wrong.push("S4: a pass was told of a breach, and recorded nothing".to_owned());
        }
        self.retreating.remove(&id);
    }

    /// A pass has sent a write to the route, whatever becomes of it.
    pub(crate) fn route_is_sent(&mut self, id: PassId) {
        self.retreating.remove(&id);
    }

    // ---- pods ----

    /// A pod of the primary begins.
    pub(crate) fn primary_pod(&mut self, version: &Version) {
        if !self.primary_by_user && !self.primary_is_left() && !self.allowed.contains(version) {
            self.wrong.push(format!("S3: the primary starts {version}, which was not analysed to its end"));
        }
    }

    /// Whether the primary is of a Canary that is gone: the garbage collector is about to follow it.
    fn primary_is_left(&self) -> bool {
        let primary = self.primary.as_deref().unwrap_or(&Value::Null);
        let owner = ["kind", "uid"].map(|field| text(primary, &format!("/metadata/ownerReferences/0/{field}")));
        owner[0] == "Canary" && self.canary.as_deref().is_none_or(|canary| text(canary, "/metadata/uid") != owner[1])
    }

    // ---- what is stored ----

    pub(crate) fn changed(&mut self, by: By, change: &Change, server: &ApiServer) {
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        let object = after.or(before).unwrap_or(&Value::Null);
        let name = text(object, "/metadata/name");
        let of_pass = if let By::Serin(id) = by { Some(id) } else { None };
        if let Some(id) = of_pass {
            self.retreat_goes_first(id, change);
            let foreign = foreign::touched(change);
            self.wrong.extend(foreign.map(|field| format!("S10: {field}")));
        }
        match (change.resource, name) {
            (CANARIES, NAME) => self.canary_changed(of_pass, change),
            (HTTP_ROUTES, NAME) => self.route_changed(by, change),
            (SERVICES, NAME) => {
                self.around_exposure(by, |checks| checks.apex.clone_from(&change.after));
                self.apex_changed(of_pass, before, after);
                self.apex_by_user = by == By::User || self.late;
            }
            (DEPLOYMENTS, NAME) => {
                self.target.clone_from(&change.after);
                if after.is_none() {
                    self.target_deleted = Some(self.now);
                }
                if of_pass.is_some() {
                    self.target_scaled(before, after);
                }
            }
            (DEPLOYMENTS, PRIMARY) => {
                self.primary.clone_from(&change.after);
                let template = |object: Option<&Value>| object.map(|object| object["spec"]["template"].clone());
                if template(before) != template(after) {
                    self.primary_by_user = by == By::User;
                }
                if of_pass.is_some() {
                    self.primary_changed(after);
                }
            }
            (CONTROLLER_REVISIONS, _) => self.version_recorded(after, server),
            (CONFIG_MAPS | SECRETS, name) if of_pass.is_some() && after.is_none() => self.copy_deleted(name),
            _ => {}
        }
    }

    /// The gateway does now what the route says.
    pub(crate) fn gateway_applies(&mut self) {
        self.around_exposure(By::Cluster, |checks| checks.applied = Shown::of(checks.route.as_deref()));
    }

    /// When traffic is to leave the canary, no other object is written before the route.
    fn retreat_goes_first(&mut self, id: PassId, change: &Change) {
        // A write of the route that was sent before may arrive after the record.
        if self.retreating.contains(&id) && ![CANARIES, EVENTS, HTTP_ROUTES].contains(&change.resource) {
            self.wrong.push(format!("S4: the retreat waits for a write to {}", change.resource.plural));
        }
    }
}

/// The namespace of everything, for the pages that look at the end.
pub(crate) fn find(server: &ApiServer, kind: serin_testing::GroupVersionResource, name: &str) -> Option<Arc<Value>> {
    server.look_at(kind, NAMESPACE, name)
}
