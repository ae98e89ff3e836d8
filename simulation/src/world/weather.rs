//! What goes wrong by itself, with nobody asking for anything.

use super::{Event, World};
use crate::agenda::Time;
use crate::app::{self, NAME, NAMESPACE, PRIMARY};
use crate::checks::By;
use crate::operator::WATCHED;
use serin_testing::{CANARIES, DEPLOYMENTS, HTTP_ROUTES, SERVICES};

/// One of the things.
#[derive(Clone, Copy)]
enum Whim {
    Nothing,
    Crash,
    Pause,
    Disconnect,
    Rival,
    Jump,
    Pods,
    Refuse,
    Route,
    Service,
    Replicas,
}

impl World {
    /// Something happens, and something again after a while.
    pub(super) fn weather(&mut self) {
        if self.is_calm {
            return;
        }
        let next = self.dice.between(3000, 40_000);
        self.agenda.after(next, Event::Weather);
        let faults = &self.faults;
        let when = |is: bool, often: u64| if is { often } else { 0 };
        let whims = [
            (4, Whim::Nothing),
            (when(faults.crash > 0, 4), Whim::Crash),
            (when(faults.pause > 0, 4), Whim::Pause),
            (when(faults.disconnect, 8), Whim::Disconnect),
            (when(faults.rival, 5), Whim::Rival),
            (when(faults.jump, 5), Whim::Jump),
            (when(faults.pods, 8), Whim::Pods),
            (when(faults.refusing, 4), Whim::Refuse),
            (when(faults.gitops, 6), Whim::Route),
            (when(faults.gitops, 3), Whim::Service),
            (when(faults.gitops, 3), Whim::Replicas),
        ];
        match self.dice.weighted(&whims) {
            Whim::Nothing => {}
            Whim::Crash => {
                if let Some(process) = self.any_process() {
                    self.crash(process, "crash");
                }
            }
            Whim::Pause => {
                let pause = self.dice.between(1000, 90_000);
                if let Some(process) = self.any_process() {
                    self.pause(process, pause, "nothing");
                }
            }
            Whim::Disconnect => self.disconnect(),
            Whim::Rival => self.rival(),
            Whim::Jump => self.jump(),
            Whim::Pods => self.pods_crash(),
            Whim::Refuse => self.refuse(),
            Whim::Route => self.reset(HTTP_ROUTES),
            Whim::Service => self.reset(SERVICES),
            Whim::Replicas => self.reset(DEPLOYMENTS),
        }
    }

    fn any_process(&mut self) -> Option<u32> {
        let all: Vec<_> = self.operators.keys().copied().collect();
        if all.is_empty() { None } else { Some(*self.dice.pick(&all)) }
    }

    fn disconnect(&mut self) {
        let Some(process) = self.any_process() else { return };
        let kind = usize::try_from(self.dice.between(0, 6)).unwrap_or_default();
        let pause = self.dice.between(100, 30_000);
        if let Some(operator) = self.operators.get_mut(&process) {
            operator.disconnect(kind);
            self.agenda.after(pause, Event::Reconnect(process, kind));
            self.fault("watch broken", || format!("{} of process {process}, for {pause} ms", WATCHED[kind].1));
        }
    }

    /// Two lead at once, for a while.
    fn rival(&mut self) {
        if self.operators.len() == 1 {
            self.agenda.after(1, Event::Start);
            self.fault("two leaders", || "another process begins".to_owned());
        } else if let Some(process) = self.any_process()
            && self.operators.len() > 1
        {
            self.crash(process, "two leaders");
        }
    }

    fn jump(&mut self) {
        let Some(process) = self.any_process() else { return };
        let skew = self.skew();
        let clock = self.clock(skew);
        if self.operators.get_mut(&process).is_some_and(|operator| operator.set_clock(clock)) {
            self.fault("clock jumps", || format!("that of process {process} is {skew} ms ahead now"));
        }
    }

    fn pods_crash(&mut self) {
        let name = *self.dice.pick(&[NAME, NAME, PRIMARY]);
        let all = self.dice.chance(400);
        let ready: Vec<_> = self.kubelet.pods(name).iter().filter(|pod| pod.ready).map(|pod| pod.number).collect();
        for pod in ready {
            if all || self.dice.chance(500) {
                self.kubelet.set_ready(name, pod, false);
                let delay = self.dice.between(500, 40_000);
                self.agenda.after(delay, Event::Ready(name, pod));
                self.fault("pod crashes", || format!("pod {pod} of {name}, for {delay} ms"));
            }
        }
        self.sync_soon(name);
    }

    fn refuse(&mut self) {
        self.refusing = !self.refusing;
        let refusing = self.refusing;
        self.fault("gateway refuses", || format!("{refusing}"));
        self.judge_soon();
    }

    /// `GitOps` puts an object back to what its manifest says.
    fn reset(&mut self, kind: serin_testing::GroupVersionResource) {
        if self.find(CANARIES, NAME).is_none() {
            // What is put back then stays.
            return;
        }
        let is_users = |object: &serde_json::Value| app::text(object, "/metadata/ownerReferences/0/kind") != "Canary";
        if !self.find(kind, NAME).is_some_and(|object| is_users(&object))
            || (kind != DEPLOYMENTS && !self.scenario.has_route)
        {
            return;
        }
        self.fault("gitops", || format!("{} {NAME} is put back", kind.plural));
        let replicas = self.scenario.replicas;
        self.by(By::User, |world| {
            let change = |object: &mut serde_json::Value| match kind {
                HTTP_ROUTES => object["spec"] = app::route()["spec"].clone(),
                SERVICES => object["spec"]["selector"] = app::service()["spec"]["selector"].clone(),
                _ => object["spec"]["replicas"] = replicas.into(),
            };
            let _ = world.server.update(kind, NAMESPACE, NAME, change);
        });
    }

    // ---- how long things take ----

    pub(super) fn delay(&mut self, short: Time, long: Time) -> Time {
        if !self.is_calm && self.dice.chance(200) {
            self.dice.between(short, long)
        } else {
            self.dice.between(1, short)
        }
    }

    /// Mostly nothing, and sometimes up to so much; that is a fault.
    pub(super) fn rarely(&mut self, most: Time) -> Time {
        if most > 0 && self.dice.chance(200) {
            let delay = self.dice.between(1, most);
            if delay > 1000 {
                self.fault("slow cluster", || format!("something takes {delay} ms"));
            }
            delay
        } else {
            0
        }
    }

    pub(super) fn lag(&mut self) -> Time {
        if self.faults.lag > 0 && self.dice.chance(300) {
            let lag = self.dice.between(1, self.faults.lag);
            self.fault("stale cache", || format!("a watch is {lag} ms late"));
            lag
        } else {
            self.dice.between(1, 10)
        }
    }

    pub(super) fn skew(&mut self) -> i64 {
        self.checks.clocks_differ = true;
        let most = *self.dice.pick(&[500, 5000, 90_000]);
        let ahead = i64::try_from(self.dice.between(0, 2 * most)).unwrap_or_default();
        ahead - i64::try_from(most).unwrap_or_default()
    }
}
