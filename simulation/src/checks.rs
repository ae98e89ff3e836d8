//! What must hold whatever happens: S1 to S10, looked at with every change that the API server stores.
//!
//! Invariant: nothing in here knows how Serin decides. It knows what was recorded, what was written by whom, what that
//! process could have seen, and what Prometheus said to it.

mod foreign;

use crate::agenda::Time;
use crate::app::{self, NAME, NAMESPACE, PRIMARY, Shown, Version, number, text};
use crate::kubelet;
use crate::operator::DRAIN_DELAY;
use serde_json::Value;
use serin_testing::{
    ApiServer, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, Change, DEPLOYMENTS, EVENTS, HTTP_ROUTES, SECRETS, SERVICES,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Faults long before a rollout began cannot be what ended it.
const AFTERMATH: Time = 180_000;

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
    pods: Pods,
    recorded: bool,
}

/// One record: what a status said.
struct Record {
    from: i64,
    weight: i64,
    phase: String,
}

/// How the analysis goes that is on record.
#[derive(Default)]
struct Analysis {
    revision: String,
    steps: Value,
    began: Time,
    /// The weights at which a check was passed, and the versions of the pods that had it.
    passed: Vec<(i64, BTreeSet<Version>)>,
    bad: bool,
    nothing: bool,
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
    /// The write that is looked at was sent long ago: its sender has given it up, or stood still.
    pub(crate) is_late: bool,
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
            is_late: false,
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
        let newest = self.newest().weight;
        if recorded == newest && Shown::of(self.route.as_deref()).canary() == shown && shown > newest {
            self.retreating.insert(id);
        }
        self.passes.insert(id, Pass { records_from, pods, ..Pass::default() });
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
        if let Some(pass) = self.passes.get_mut(&id) {
            pass.said.push((said, versions));
        }
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
        if !self.primary_by_user && !self.allowed.contains(version) {
            self.wrong.push(format!("S3: the primary starts {version}, which was not analysed to its end"));
        }
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
                self.apex_by_user = by == By::User;
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

    fn canary_changed(&mut self, by: Option<PassId>, change: &Change) {
        let uid = |object: Option<&Arc<Value>>| object.map(|object| text(object, "/metadata/uid").to_owned());
        if uid(change.after.as_ref()) != uid(self.canary.as_ref()) {
            let from = self.newest().weight;
            self.records.push(Record { from, weight: 0, phase: String::new() });
            self.analysis = Analysis::default();
        }
        self.canary.clone_from(&change.after);
        let Some(after) = change.after.as_deref() else { return };
        self.skipped |= after["spec"]["skipAnalysis"] == true;
        let nothing = Value::Null;
        let before = change.before.as_deref().map_or(&nothing, |before| &before["status"]);
        if let Some(id) = by
            && *before != after["status"]
        {
            self.recorded(id, before, after);
        }
    }

    fn recorded(&mut self, id: PassId, before: &Value, after: &Value) {
        let status = &after["status"];
        let [was, is] = [before, status].map(|status| text(status, "/phase"));
        let [low, weight] = [before, status].map(|status| number(status, "/canaryWeight"));
        let [old, new] = [before, status].map(|status| text(status, "/target/revision"));
        let steps = &after["spec"]["analysis"]["stepWeights"];
        let pass = self.passes.entry(id).or_default();
        pass.recorded = true;
        let good = !pass.said.is_empty() && pass.said.iter().all(|(said, _)| *said == Said::Good);
        let breach = pass.said.iter().any(|(said, _)| *said == Said::Bad);
        let versions = pass.said.first().map(|(_, versions)| versions.clone()).unwrap_or_default();
        let skips = after["spec"]["skipAnalysis"] == true;
        let mut wrong = vec![];

        if weight > low {
            let next = steps.as_array().into_iter().flatten().filter_map(Value::as_i64).find(|step| *step > low);
            if next != Some(weight) {
                wrong.push(format!("S5: {weight} is recorded after {low}, with the steps {steps}"));
            }
            if low > 0 && !good {
                wrong.push(format!("S8: {weight} is recorded after {low}, and no check was passed"));
            }
            if is != "Progressing" {
                wrong.push(format!("S4: the weight rises to {weight} in {is}"));
            }
        }
        if breach && (weight > low || (is == "Promoting" && was != is)) {
            wrong.push(format!("S4: there was a breach at {low}, and {is} with {weight} is recorded"));
        }
        if was == "Failed" && is == "Progressing" && old == new {
            wrong.push(format!("S4: revision {new} was taken back, and is rolled out again"));
        }
        if is == "Progressing" && (was != is || old != new) {
            let (revision, steps) = (new.to_owned(), steps.clone());
            self.analysis = Analysis { revision, steps, began: self.now, ..Analysis::default() };
            self.rollouts[0] += 1;
            let lately = self.disturbed.is_some_and(|at| self.now - at < 5000);
            self.counted = lately;
            self.rollouts[3] += u64::from(lately);
        } else if is == "Progressing" && weight == 0 && low > 0 {
            // All over again.
            self.analysis.passed.clear();
        }
        if good && low > 0 && (weight > low || is == "Promoting") {
            self.analysis.passed.push((low, versions));
        }
        if was == "Progressing" && is == "Promoting" {
            self.analysed(new, steps, skips, &mut wrong);
        }
        if matches!(was, "" | "Initializing") && matches!(is, "Initializing" | "Initialized") {
            let first = text(status, "/promoted/revision");
            self.allowed.extend(self.versions.get(first).cloned());
            self.trusted.insert(first.to_owned());
        }
        self.rollouts[1] += u64::from(was == "Promoting" && is == "Finalising");
        if is == "Failed" && was != is {
            self.rollouts[2] += 1;
            wrong.extend(self.unexplained(text(status, "/failure"), after));
        }
        if weight < Shown::of(self.route.as_deref()).canary() {
            self.retreating.insert(id);
        }
        self.wrong.extend(wrong);
        self.records.push(Record { from: low, weight, phase: is.to_owned() });
    }

    /// The primary is to be given a version.
    fn analysed(&mut self, revision: &str, steps: &Value, skips: bool, wrong: &mut Vec<String>) {
        let Some(version) = self.versions.get(revision).cloned() else {
            return wrong.push(format!("S3: revision {revision} is promoted, and is not on record"));
        };
        if !skips && self.analysis.steps == *steps {
            let steps = steps.as_array().into_iter().flatten().filter_map(Value::as_i64);
            for step in steps {
                if !self.analysis.passed.iter().any(|(weight, _)| *weight == step) {
                    wrong.push(format!("S3: revision {revision} is promoted without a passed check at weight {step}"));
                }
            }
        }
        if !skips && !self.analysis.passed.iter().any(|(_, versions)| versions.contains(&version)) {
            let passed: Vec<_> = self.analysis.passed.iter().flat_map(|(_, versions)| versions).collect();
            wrong.push(format!("S3: {version} is promoted, and what was analysed was {passed:?}"));
        }
        if self.analysis.revision != revision {
            wrong.push(format!("S3: {revision} is promoted, and {} was analysed", self.analysis.revision));
        }
        self.allowed.insert(version);
    }

    /// A version was taken back: is there a reason that a person would accept?
    fn unexplained(&self, why: &str, canary: &Value) -> Option<String> {
        let Analysis { bad, nothing, began, revision, .. } = &self.analysis;
        let disturbed = self.disturbed.is_some_and(|at| at + AFTERMATH >= *began);
        let image = self.versions.get(revision).map(|version| app::Quality::of(&version.image));
        let broken = matches!(image, Some(app::Quality::Broken | app::Quality::Stuck)) || image.is_none();
        let explained = if why.contains("below the minimum") {
            *bad
        } else if why.contains("is unknown") {
            *nothing || disturbed
        } else if why.contains("the target was deleted") {
            self.target_deleted.is_some_and(|at| at + AFTERMATH >= *began)
        } else {
            disturbed || broken
        };
        let revision = text(canary, "/status/target/revision");
        (!explained).then(|| format!("end: revision {revision} was taken back for no reason: {why:?}"))
    }

    fn route_changed(&mut self, by: By, change: &Change) {
        let was = Shown::of(self.route.as_deref());
        let is = Shown::of(change.after.as_deref());
        self.around_exposure(by, |checks| checks.route.clone_from(&change.after));
        let before_by_user = self.route_by_user;
        if was != is || by == By::User {
            self.route_by_user = by == By::User;
        }
        let By::Serin(id) = by else { return };
        let pods = self.passes.get(&id).map(|pass| pass.pods).unwrap_or_default();
        let from = self.passes.get(&id).map_or(0, |pass| pass.records_from);
        let recorded = &self.records[from..];
        let mut wrong = vec![];
        match is {
            Shown::Split(primary, canary) => {
                if primary + canary != 100 {
                    wrong.push(format!("S1: {primary} and {canary} are not a hundred"));
                }
                if !recorded.iter().any(|record| record.weight == canary) {
                    let weights: Vec<_> = recorded.iter().map(|record| record.weight).collect();
                    wrong.push(format!("S7: {canary} is applied, but {weights:?} is on record"));
                }
                let low = was.canary();
                let follows = |record: &Record| (record.from, record.weight) == (low, canary) || record.weight > canary;
                let follows = self.records.iter().any(follows);
                if canary > low && !before_by_user && matches!(was, Shown::Split(..)) && !follows {
                    wrong.push(format!("S5: {canary} is applied after {low}, which no record says"));
                }
                let target = pods.target.max(available(self.target.as_deref()));
                if canary > low && target == 0 {
                    wrong.push(format!("S2: {canary} percent are led to the canary, which has no pods"));
                }
                let ready = pods.primary.max(available(self.primary.as_deref()));
                if primary > 0 && !matches!(was, Shown::Split(..)) && !before_by_user && ready == 0 {
                    wrong.push(format!("S2: {primary} percent are led to the primary, which has no pods"));
                }
            }
            Shown::Whole if matches!(was, Shown::Split(..)) => {
                if !recorded.iter().any(|record| record.phase == "Terminating") {
                    wrong.push("S7: the route is handed back, which is not on record".to_owned());
                }
                if pods.target.max(available(self.target.as_deref())) == 0 {
                    wrong.push("S2: all requests are led to the target, which has no pods".to_owned());
                }
            }
            Shown::Missing | Shown::Whole => {}
            Shown::Other => wrong.push("S1: the route leads nowhere that makes sense".to_owned()),
        }
        self.wrong.extend(wrong);
    }

    fn apex_changed(&mut self, by: Option<PassId>, before: Option<&Value>, after: Option<&Value>) {
        let leads =
            |service: Option<&Value>| service.map_or("", |service| text(service, "/spec/selector/app")).to_owned();
        let (was, is) = (leads(before), leads(after));
        let Some(id) = by.filter(|_| was != is) else { return };
        let pods = self.passes.get(&id).map(|pass| pass.pods).unwrap_or_default();
        let (ready, deployment) = match is.as_str() {
            PRIMARY => (pods.primary, &self.primary),
            _ => (pods.target, &self.target),
        };
        // From where nobody answers, requests may go anywhere.
        let left = if is == PRIMARY { &self.target } else { &self.primary };
        if available(left.as_deref()) > 0
            && !was.is_empty()
            && !self.apex_by_user
            && ready.max(available(deployment.as_deref())) == 0
        {
            self.wrong.push(format!("S2: the app's Service is led to {is}, which has no pods"));
        }
    }

    fn target_scaled(&mut self, before: Option<&Value>, after: Option<&Value>) {
        let [was, is] = [before, after].map(|object| object.map_or(0, app::replicas));
        // A write that comes late is fenced by the version that it was made from, and by nothing else.
        if is > 0 || was == 0 || self.is_late {
            return;
        }
        let quiet = self.now - self.exposed_until;
        if self.is_exposed() && !self.exposed_by_user {
            self.wrong.push(format!("S2: the target is stopped while requests can reach it: {}", self.applied));
        } else if !self.is_exposed()
            && quiet < DRAIN_DELAY
            && !self.clocks_differ
            && !self.silent
            && !self.exposed_by_user
        {
            self.wrong.push(format!("S2: the target is stopped {quiet} ms after its last request"));
        }
    }

    fn primary_changed(&mut self, after: Option<&Value>) {
        match after {
            None => self.wrong.push("S2: the primary is deleted".to_owned()),
            Some(primary) if app::replicas(primary) == 0 => self.wrong.push("S2: the primary is stopped".to_owned()),
            Some(_) => {}
        }
    }

    /// What a record says is what is promoted, so it is looked up when it is made.
    fn version_recorded(&mut self, record: Option<&Value>, server: &ApiServer) {
        let Some(record) = record else { return };
        let name = text(record, "/metadata/name");
        let canary = self.canary.as_deref().map_or("", |canary| text(canary, "/metadata/uid"));
        if text(record, "/metadata/ownerReferences/0/uid") != canary {
            // The garbage collector is about to follow its Canary.
            return;
        }
        let mut template = record["data"]["template"].clone();
        for config in record["data"]["configs"].as_array().into_iter().flatten() {
            let places =
                ["/spec/containers/0/env/0/valueFrom/configMapKeyRef/name", "/spec/volumes/0/secret/secretName"];
            for place in places {
                if let Some(name) = template.pointer_mut(place).filter(|name| **name == config["name"]) {
                    *name = config["copy"].clone();
                }
            }
        }
        let version = kubelet::version(server, &template);
        let revision = name.strip_prefix("web-").unwrap_or(name).to_owned();
        if self.trusted.contains(&revision) {
            self.allowed.insert(version.clone());
        }
        if let Some(known) = self.versions.insert(revision, version.clone())
            && known != version
        {
            self.wrong.push(format!("S3: the record {name} was {known}, and is {version} now"));
        }
    }

    fn copy_deleted(&mut self, name: &str) {
        let used = self.primary.as_ref().is_some_and(|primary| primary["spec"]["template"].to_string().contains(name));
        if used {
            self.wrong.push(format!("S3: {name} is deleted, which the primary uses"));
        }
    }

    /// When traffic is to leave the canary, no other object is written before it has left.
    fn retreat_goes_first(&mut self, id: PassId, change: &Change) {
        if self.retreating.contains(&id) && ![CANARIES, EVENTS].contains(&change.resource) {
            self.wrong.push(format!("S4: the retreat waits for a write to {}", change.resource.plural));
        }
    }

    // ---- traffic ----

    /// Whether requests can reach the target's pods.
    fn is_exposed(&self) -> bool {
        let shown = Shown::of(self.route.as_deref());
        let apex = self.apex.as_deref().map_or("", |service| text(service, "/spec/selector/app"));
        apex == NAME || [shown, self.applied].into_iter().any(|shown| shown.canary() > 0 || shown == Shown::Other)
    }

    fn around_exposure(&mut self, by: By, change: impl FnOnce(&mut Self)) {
        let was = self.is_exposed();
        change(self);
        let is = self.is_exposed();
        if was && !is {
            self.exposed_until = self.now;
        }
        if is && !was || by == By::User {
            self.exposed_by_user = by == By::User || self.is_late;
        }
    }
}

fn available(deployment: Option<&Value>) -> i64 {
    deployment.map_or(0, |deployment| number(deployment, "/status/availableReplicas"))
}

/// The namespace of everything, for the pages that look at the end.
pub(crate) fn find(server: &ApiServer, kind: serin_testing::GroupVersionResource, name: &str) -> Option<Value> {
    server.get(kind, NAMESPACE, name)
}
