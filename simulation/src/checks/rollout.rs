//! S3, S4, S5, S8: what is recorded of a rollout, and why.

use super::strategy::Strategy;
use super::{AFTERMATH, Analysis, Checks, Pass, PassId, Record, Said};
use crate::app::{self, Shown, number, text};
use serde_json::Value;
use serin_testing::Change;
use std::sync::Arc;

/// One write to a status, as far as it is about the rollout.
struct Step<'a> {
    was: &'a str,
    is: &'a str,
    low: i64,
    weight: i64,
    old: &'a str,
    new: &'a str,
    strategy: Strategy,
    /// The order that this record takes.
    order: Option<&'a str>,
    /// What the pass was told.
    heard: Heard,
    spec: &'a Value,
    before: &'a Value,
    status: &'a Value,
}

/// What a pass was told, taken together.
#[derive(Clone, Default)]
struct Heard {
    /// Prometheus said good things, and nothing else.
    good: bool,
    /// Prometheus said something bad, or a rollback webhook yes.
    breach: bool,
    /// A test said no.
    refused: bool,
    /// The kinds of webhooks that said yes.
    yes: Vec<String>,
}

impl Checks {
    pub(super) fn canary_changed(&mut self, by: Option<PassId>, change: &Change) {
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
        let pass = self.passes.entry(id).or_default();
        pass.recorded = true;
        let versions = pass.said.last().map(|(_, versions)| versions.clone()).unwrap_or_default();
        let step = Step::new(before, after, Heard::by(pass));
        let Step { was, is, low, weight, .. } = step;
        let mut wrong = step.wrong(&self.analysis);
        wrong.extend(self.order_taken(step.order));
        if step.begins() {
            let revision = step.new.to_owned();
            self.analysis =
                Analysis { revision, strategy: step.strategy.clone(), began: self.now, ..Analysis::default() };
            self.rollouts[0] += 1;
            let lately = self.disturbed.is_some_and(|at| self.now - at < 5000);
            self.counted = lately;
            self.rollouts[3] += u64::from(lately);
        } else if is == "Progressing" && weight == 0 && low > 0 {
            // All over again.
            self.analysis.passed.clear();
            self.analysis.checks_before = 0;
        }
        if step.heard.good && (low > 0 || step.strategy.checks_before > 0) && (was == "Progressing") {
            self.analysis.checks_before += u64::from(low == 0);
            if weight > low || is == "Promoting" {
                self.analysis.passed.push((low, versions));
            }
        }
        self.analysis.prepared |= step.status["prepared"] == true;
        if step.order == Some("promote") || step.status["analysisSkipped"] == true {
            self.analysis.skipped = true;
            self.skipped = true;
        }
        if was == "Progressing" && is == "Promoting" {
            self.analysed(&step, &mut wrong);
        }
        if matches!(was, "" | "Initializing") && matches!(is, "Initializing" | "Initialized") {
            let first = text(step.status, "/promoted/revision");
            self.allowed.extend(self.versions.get(first).cloned());
            self.trusted.insert(first.to_owned());
        }
        self.rollouts[1] += u64::from(was == "Promoting" && is == "Finalising");
        if is == "Failed" && was != is {
            self.rollouts[2] += 1;
            wrong.extend(self.unexplained(text(step.status, "/failure"), step.new));
        }
        // What a write that came late leads to the canary no watch may show yet.
        if leads(is) && weight < Shown::of(self.route.as_deref()).canary() && !self.route_is_late {
            self.retreating.insert(id);
        }
        let phase = is.to_owned();
        self.wrong.extend(wrong);
        self.records.push(Record { from: low, weight, phase });
    }

    /// An order is taken as often as it was given, at most.
    fn order_taken(&mut self, order: Option<&str>) -> Option<String> {
        let order = order?;
        let given = self.orders.entry(order.to_owned()).or_default();
        *given -= 1;
        (*given < 0).then(|| format!("orders: {order} is taken more often than it was given"))
    }

    /// The primary is to be given a version.
    fn analysed(&mut self, step: &Step<'_>, wrong: &mut Vec<String>) {
        let revision = step.new;
        let Some(version) = self.versions.get(revision).cloned() else {
            return wrong.push(format!("S3: revision {revision} is promoted, and is not on record"));
        };
        let skips = step.spec["skipAnalysis"] == true || self.analysis.skipped;
        if !skips && self.analysis.strategy == step.strategy {
            for weight in &step.strategy.steps {
                if !self.analysis.passed.iter().any(|(passed, _)| passed == weight) {
                    wrong
                        .push(format!("S3: revision {revision} is promoted without a passed check at weight {weight}"));
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
    fn unexplained(&self, why: &str, revision: &str) -> Option<String> {
        let Analysis { bad, nothing, refused, taken_back, began, .. } = &self.analysis;
        let disturbed = self.disturbed.is_some_and(|at| at + AFTERMATH >= *began);
        let deleted = self.target_deleted.is_some_and(|at| at + AFTERMATH >= *began);
        let image = self.versions.get(&self.analysis.revision).map(|version| app::Quality::of(&version.image));
        let broken = matches!(image, Some(app::Quality::Broken | app::Quality::Stuck)) || image.is_none();
        let explained = if why.contains("below the minimum") {
            *bad
        } else if why.contains("said no") {
            *refused
        } else if why.contains("rollback webhook") {
            *taken_back
        } else if why.contains("aborted by") {
            self.aborted
        } else if why.contains("is unknown") {
            *nothing || disturbed
        } else if why.contains("the target was deleted") {
            deleted
        } else if why.contains("no canary pod is available") {
            // Those of a target that was made anew are not there yet.
            disturbed || broken || deleted
        } else {
            disturbed || broken
        };
        (!explained).then(|| format!("end: revision {revision} was taken back for no reason: {why:?}"))
    }
}

impl Heard {
    fn by(pass: &Pass) -> Self {
        let Pass { said, answered, .. } = pass;
        let is_test = |kind: &str| kind == "rollout" || kind == "pre-rollout";
        Self {
            // Who waits for a webhook asks Prometheus again meanwhile: the last answer is the one that counts.
            good: said.last().is_some_and(|(said, _)| *said == Said::Good)
                && said.iter().all(|(said, _)| *said != Said::Bad),
            breach: said.iter().any(|(said, _)| *said == Said::Bad)
                || answered.iter().any(|(kind, yes)| *yes && kind == "rollback"),
            refused: answered.iter().any(|(kind, yes)| !*yes && is_test(kind)),
            yes: answered.iter().filter(|(_, yes)| *yes).map(|(kind, _)| kind.clone()).collect(),
        }
    }
}

impl<'a> Step<'a> {
    fn new(before: &'a Value, after: &'a Value, heard: Heard) -> Self {
        let (spec, status) = (&after["spec"], &after["status"]);
        let [was, is] = [before, status].map(|status| text(status, "/phase")).map(plain);
        let [low, weight] = [before, status].map(|status| number(status, "/canaryWeight"));
        let [old, new] = [before, status].map(|status| text(status, "/target/revision"));
        let order = status["command"].as_str().filter(|order| before["command"] != **order);
        let strategy = Strategy::of(&spec["analysis"]);
        Self { was, is, low, weight, old, new, strategy, order, heard, spec, before, status }
    }

    /// Whether another analysis begins with it.
    fn begins(&self) -> bool {
        self.is == "Progressing" && (self.was != self.is || self.old != self.new)
    }

    /// Whether a webhook of this kind is asked, and has a say.
    fn asks(&self, kind: &str) -> bool {
        let webhooks = self.spec["analysis"]["webhooks"].as_array().into_iter().flatten();
        webhooks.into_iter().any(|webhook| webhook["type"] == kind)
    }

    /// Whether a gate was open: by its webhook, or by order.
    fn is_open(&self, gate: &str) -> bool {
        let approved = self.before["gateApproved"] == true || self.order == Some("approve");
        !self.asks(gate) || approved || self.heard.yes.iter().any(|kind| kind == gate)
    }

    /// What must not be recorded, whatever came before.
    fn wrong(&self, analysis: &Analysis) -> Vec<String> {
        let Self { was, is, low, weight, new, heard, strategy, .. } = self;
        let rises = weight > low;
        let promotes = *is == "Promoting" && was != is;
        let mut wrong = vec![];
        if rises {
            let next = strategy.steps.iter().find(|step| *step > low);
            if next != Some(weight) {
                wrong.push(format!("S5: {weight} is recorded after {low}, with the steps {:?}", strategy.steps));
            }
            if *is != "Progressing" {
                wrong.push(format!("S4: the weight rises to {weight} in {is}"));
            }
            if *low == 0 && analysis.checks_before + u64::from(heard.good) < strategy.checks_before {
                wrong.push(format!(
                    "S3: {weight} is recorded, and {} checks were passed before",
                    analysis.checks_before
                ));
            }
            if *low == 0 && self.asks("pre-rollout") && !analysis.prepared && !self.is_open("pre-rollout") {
                wrong.push(format!("S8: {weight} is recorded, and no pre-rollout webhook said yes"));
            }
            if !self.is_open("confirm-traffic-increase") {
                wrong.push(format!("S8: {weight} is recorded after {low}, and nobody confirmed it"));
            }
        }
        let skips = self.spec["skipAnalysis"] == true || analysis.skipped || self.order == Some("promote");
        let checked = heard.good && (!self.asks("rollout") || heard.yes.iter().any(|kind| kind == "rollout"));
        if *low > 0 && (rises || (promotes && !skips)) && !checked {
            wrong.push(format!("S8: {weight} in {is} is recorded after {low}, and no check was passed"));
        }
        if promotes && !skips && !self.is_open("confirm-promotion") {
            wrong.push("S8: the promotion is recorded, and nobody confirmed it".to_owned());
        }
        let refused = heard.refused && self.order != Some("promote");
        if (heard.breach || refused) && (rises || promotes) {
            wrong.push(format!("S4: there was a breach at {low}, and {is} with {weight} is recorded"));
        }
        let [before, failed] = [self.before, self.status].map(|status| number(status, "/failedChecks"));
        let threshold = number(self.spec, "/analysis/threshold");
        if *is == "Progressing" && failed > before && failed >= threshold {
            wrong.push(format!("S4: {failed} checks failed, and the version goes on with a threshold of {threshold}"));
        }
        if *was == "Failed"
            && ["Progressing", "Waiting"].contains(is)
            && self.old == *new
            && self.order != Some("retry")
        {
            wrong.push(format!("S4: revision {new} was taken back, and is rolled out again"));
        }
        let ordered = matches!(self.order, Some("approve" | "promote"));
        if *was == "Waiting" && *is == "Progressing" && self.old == *new && !ordered && !self.is_open("confirm-rollout")
        {
            wrong.push(format!("S8: revision {new} is started, and nobody confirmed it"));
        }
        wrong
    }
}

/// Whether Serin leads the traffic: before there is a primary the route is left as it was found.
pub(super) fn leads(phase: &str) -> bool {
    !["", "Initializing"].contains(&phase)
}

/// An analysis that waits at its last gate is an analysis.
fn plain(phase: &str) -> &str {
    if phase == "WaitingPromotion" { "Progressing" } else { phase }
}
