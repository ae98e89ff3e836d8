//! The processes of Serin: when they begin and end, when a pass is due, and what their watches show.

use super::{BUSY, Event, World, beginning};
use crate::agenda::Time;
use crate::app::{self, NAME, PRIMARY, Shown};
use crate::checks::Pods;
use crate::operator::{Operator, WATCHED};
use serin::controller::Clock;
use serin_testing::{CANARIES, DEPLOYMENTS, HTTP_ROUTES};

impl World {
    pub(super) async fn start(&mut self) {
        self.processes += 1;
        let process = self.processes;
        let skew = if self.faults.jump { self.skew() } else { 0 };
        let door = self.line.door(process);
        let operator = Operator::start(&self.server, door, self.clock(skew)).await;
        let begins = operator.has_canary();
        self.operators.insert(process, operator);
        self.told(|| format!("process {process} begins, its clock {skew} ms ahead"));
        if begins {
            self.alarm(process, 1);
        }
    }

    /// A clock that is so many milliseconds ahead.
    pub(super) fn clock(&self, skew: i64) -> Clock {
        let Clock::Virtual(start, since) = Clock::starting_at(beginning()) else { return Clock::System };
        let passed = since.saturating_duration_since(self.began);
        let ahead = jiff::SignedDuration::from_millis(skew);
        Clock::Virtual(start + ahead + passed, since)
    }

    pub(super) fn crash(&mut self, process: u32, what: &'static str) {
        let Some(operator) = self.operators.remove(&process) else { return };
        if let Some(pass) = operator.running {
            pass.abort();
        }
        self.fault(what, || format!("process {process} dies"));
        if self.operators.is_empty() {
            let delay = self.delay(5, 20_000);
            self.agenda.after(delay, Event::Start);
        }
    }

    pub(super) fn resume(&mut self, process: u32) {
        if let Some(operator) = self.operators.get_mut(&process) {
            operator.switch.set(false);
            self.checks.resumes((process, operator.passes));
            let waits = operator.again && operator.running.is_none();
            self.told(|| format!("process {process} goes on"));
            if waits {
                self.alarm(process, 1);
            }
        }
    }

    /// Has a process make a pass in so many milliseconds, if it is not about to do so anyway.
    pub(super) fn alarm(&mut self, process: u32, delay: Time) {
        let time = self.agenda.now() + delay;
        let Some(operator) = self.operators.get_mut(&process) else { return };
        if operator.running.is_some() {
            operator.again = true;
            return;
        }
        if operator.due.is_some_and(|due| due <= time) {
            return;
        }
        operator.due = Some(time);
        operator.alarm += 1;
        let alarm = operator.alarm;
        self.agenda.after(delay, Event::Pass(process, alarm));
    }

    pub(super) fn pass(&mut self, process: u32, alarm: u64) {
        let Some(operator) = self.operators.get_mut(&process) else { return };
        if operator.alarm != alarm || operator.running.is_some() || operator.due.is_none() {
            return;
        }
        if operator.switch.is_paused() {
            operator.due = None;
            operator.again = true;
            return self.agenda.after(1000, Event::Tick);
        }
        if !operator.has_canary() {
            operator.due = None;
            return;
        }
        let id = (process, operator.passes + 1);
        self.checks.pass_begins(id, pods_in_view(operator), weights_known(operator));
        operator.pass();
        self.passes += 1;
        self.count("passes");
        let second = self.agenda.now() / 1000;
        let (before, passes, processes) = self.second;
        let (passes, processes) = if before == second { (passes, processes) } else { (0, 0) };
        // One that has died since has had its passes, too.
        let processes = processes.max(u64::try_from(self.operators.len()).unwrap_or(1));
        self.second = (second, passes + 1, processes);
        if passes >= BUSY * processes {
            self.checks.fails("end: pass follows pass, and nothing comes of it".to_owned());
        }
    }

    pub(super) async fn finished(&mut self, process: u32) {
        let Some(operator) = self.operators.get_mut(&process) else { return };
        let Some(running) = operator.running.take() else { return };
        let id = (process, operator.passes);
        let outcome = match running.await {
            Ok(outcome) => outcome,
            Err(error) => return self.checks.fails(format!("a pass panics: {error}")),
        };
        let next = operator.next(&outcome);
        let again = operator.again;
        self.checks.pass_ends(id, outcome.is_ok());
        if self.trace.is_on() {
            let line = match &outcome {
                Ok(_) => format!("process {process}, pass {}: done, the next one {next:?} ms later", id.1),
                Err(error) => format!("process {process}, pass {}: {}", id.1, serin::telemetry::chain(error)),
            };
            self.told(|| line);
        }
        if again {
            self.alarm(process, 5);
        } else if let Some(next) = next {
            self.alarm(process, next.max(1));
        }
    }

    pub(super) fn show(&mut self, process: u32, kind: usize) {
        let only_one = self.faults.lag > 0 && self.dice.chance(300);
        let Some(operator) = self.operators.get_mut(&process) else { return };
        if operator.switch.is_paused() {
            return self.agenda.after(500, Event::Show(process, kind));
        }
        let (concerned, more) = operator.show(kind, only_one);
        let id = (process, operator.passes);
        let pods = pods_in_view(operator);
        self.checks.seen(id, pods);
        if more {
            let lag = self.lag();
            self.agenda.after(lag, Event::Show(process, kind));
        }
        if concerned {
            // Several watches mostly have something to show at the same time.
            let delay = self.dice.between(5, self.scenario.queue);
            self.alarm(process, delay);
        }
    }

    /// A watch that was broken goes on, or begins again.
    pub(super) fn reconnect(&mut self, process: u32, kind: usize) {
        let anew = self.dice.chance(500);
        let Some(operator) = self.operators.get_mut(&process) else { return };
        if anew {
            operator.list(&self.server, kind);
            self.told(|| format!("process {process} lists {} anew", WATCHED[kind].1));
            self.alarm(process, 1);
        } else if operator.reconnect(kind) {
            self.agenda.after(1, Event::Show(process, kind));
        }
    }
}

fn pods_in_view(operator: &Operator) -> Pods {
    let available = |name: &str| {
        let deployment = operator.view.get(&(DEPLOYMENTS, name.to_owned()));
        deployment.map_or(0, |deployment| app::number(deployment, "/status/availableReplicas"))
    };
    Pods { target: available(NAME), primary: available(PRIMARY) }
}

/// The weight that a process knows on record, and the one that it knows in the route: it has seen or written it.
fn weights_known(operator: &Operator) -> (i64, i64) {
    let recorded = operator.known(CANARIES).map_or(0, |canary| app::number(&canary, "/status/canaryWeight"));
    (recorded, Shown::of(operator.known(HTTP_ROUTES).as_deref()).canary())
}
