//! The rest of the cluster: the Deployment controller and its pods, and the gateway.

use super::{Event, World};
use crate::app::{self, PRIMARY};
use crate::checks::By;
use crate::kubelet;
use crate::operator::ROUTE_GRACE;
use serin_testing::DEPLOYMENTS;
use serin_testing::workloads::{Verdict, accept_routes, judge_routes};

/// The gateway's controller.
const GATEWAY: &str = "example.com/gateway";

impl World {
    pub(super) fn sync_soon(&mut self, name: &'static str) {
        let place = usize::from(name == PRIMARY);
        if !std::mem::replace(&mut self.syncing[place], true) {
            let delay = self.dice.between(5, 50) + self.rarely(self.faults.slow_sync);
            self.agenda.after(delay, Event::Sync(name));
        }
    }

    pub(super) fn sync(&mut self, name: &'static str) {
        self.syncing[usize::from(name == PRIMARY)] = false;
        let mut begun = vec![];
        self.by(By::Cluster, |world| begun = world.kubelet.sync(&world.server, name));
        for (pod, version) in begun {
            if name == PRIMARY {
                self.checks.primary_pod(&version);
            }
            if kubelet::starts(name, &version) {
                let slow = self.rarely(self.faults.slow_pods);
                let delay = self.dice.between(500, 3000) + slow;
                self.agenda.after(delay, Event::Ready(name, pod));
            }
        }
        if self.trace.is_on() {
            let pods = self.kubelet.pods(name).iter();
            let pods: Vec<_> =
                pods.map(|pod| format!("{}{}", pod.version, if pod.ready { "" } else { " (not ready)" })).collect();
            self.told(|| format!("pods of {name}: {}", pods.join(", ")));
        }
        if self.has_replaceable_pods(name) {
            self.sync_soon(name);
        }
    }

    /// Pods of an earlier template may go as soon as others are ready.
    pub(super) fn has_replaceable_pods(&self, name: &str) -> bool {
        let deployment = self.find(DEPLOYMENTS, name).unwrap_or_default();
        let [all, updated, ready] = ["/status/replicas", "/status/updatedReplicas", "/status/readyReplicas"]
            .map(|field| app::number(&deployment, field));
        all > updated && ready == all
    }

    pub(super) fn judge_soon(&mut self) {
        if !std::mem::replace(&mut self.judging, true) {
            let delay = if self.scenario.silent {
                // It is believed after the grace period, so it has to keep to it.
                self.dice.between(10, ROUTE_GRACE - 1000)
            } else {
                self.dice.between(10, 200) + self.rarely(self.faults.slow_gateway)
            };
            self.agenda.after(delay, Event::Judge);
        }
    }

    pub(super) fn judge(&mut self) {
        self.judging = false;
        if self.refusing {
            self.by(By::Cluster, |world| {
                judge_routes(&world.server, GATEWAY, |_| Verdict::Refuse {
                    condition: "Accepted",
                    reason: "NotAllowed",
                    message: "the gateway is being rebuilt".to_owned(),
                });
            });
            return;
        }
        self.checks.gateway_applies();
        if !self.scenario.silent {
            self.by(By::Cluster, |world| accept_routes(&world.server, GATEWAY));
        }
        let applied = self.checks.applied;
        self.told(|| format!("the gateway serves {applied}"));
    }
}
