//! S1, S2, S7: where requests are led, and who answers them.

use super::{By, Checks, PassId, Record};
use crate::app::{self, NAME, PRIMARY, Shown, number, text};
use crate::operator::DRAIN_DELAY;
use serde_json::Value;
use serin_testing::Change;

impl Checks {
    pub(super) fn route_changed(&mut self, by: By, change: &Change) {
        let was = Shown::of(self.route.as_deref());
        let is = Shown::of(change.after.as_deref());
        self.around_exposure(by, |checks| checks.route.clone_from(&change.after));
        let before_by_user = self.route_by_user;
        if was != is || by == By::User {
            self.route_by_user = by == By::User;
            self.route_is_late = self.late && matches!(by, By::Serin(_));
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
                // Who is not told whether its record is the newest takes traffic away all the same: that is safe, and who
                // knows better puts it right.
                let known = self.records.iter().any(|record| record.weight == canary);
                let is_late_retreat = known && canary < was.canary();
                self.route_by_user |= is_late_retreat && !recorded.iter().any(|record| record.weight == canary);
                if !is_late_retreat && !recorded.iter().any(|record| record.weight == canary) {
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
                // Through a route that is not there nobody is answered anyway, and who gets to the primary already stays there.
                let apex = self.apex.as_deref().map_or("", |service| text(service, "/spec/selector/app"));
                let led_otherwise = matches!(was, Shown::Whole | Shown::Other) && apex != PRIMARY;
                if primary > 0 && led_otherwise && !before_by_user && ready == 0 {
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

    pub(super) fn apex_changed(&mut self, by: Option<PassId>, before: Option<&Value>, after: Option<&Value>) {
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

    pub(super) fn target_scaled(&mut self, before: Option<&Value>, after: Option<&Value>) {
        let [was, is] = [before, after].map(|object| object.map_or(0, app::replicas));
        // A write that comes late is fenced by the version that it was made from, and by nothing else.
        if is > 0 || was == 0 || self.late {
            return;
        }
        let quiet = self.now - self.exposed_until;
        // A gateway that says nothing is believed by the clock.
        let unknown = self.silent && self.clocks_differ;
        if self.is_exposed() && !self.exposed_by_user && !unknown {
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

    /// Whether requests can reach the target's pods.
    pub(super) fn is_exposed(&self) -> bool {
        let shown = Shown::of(self.route.as_deref());
        let apex = self.apex.as_deref().map_or("", |service| text(service, "/spec/selector/app"));
        apex == NAME || [shown, self.applied].into_iter().any(|shown| shown.canary() > 0 || shown == Shown::Other)
    }

    pub(super) fn around_exposure(&mut self, by: By, change: impl FnOnce(&mut Self)) {
        let was = self.is_exposed();
        change(self);
        let is = self.is_exposed();
        if was && !is {
            self.exposed_until = self.now;
        }
        if is && !was || by == By::User {
            self.exposed_by_user = by == By::User || self.late;
        }
    }
}

fn available(deployment: Option<&Value>) -> i64 {
    deployment.map_or(0, |deployment| number(deployment, "/status/availableReplicas"))
}
