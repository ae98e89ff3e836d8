//! The end: the faults stop, everything comes to rest, and stays there.

use super::{Event, World};
use crate::app::{NAME, PRIMARY};
use crate::kubelet;
use crate::report::Report;
use crate::scenario::Faults;
use serin_testing::DEPLOYMENTS;

impl World {
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.calm_since = self.agenda.now();
        self.passes = 0;
        self.faults = Faults::none();
        self.told(|| "from now on nothing goes wrong".to_owned());
        self.refusing = false;
        self.judging = true;
        self.agenda.after(100, Event::Judge);
        let rivals: Vec<_> = self.operators.keys().copied().collect();
        for process in rivals.into_iter().rev().skip(1) {
            self.operators
                .remove(&process)
                .and_then(|operator| operator.running)
                .inspect(tokio::task::JoinHandle::abort);
        }
        let resume: Vec<_> = self.operators.keys().copied().collect();
        for process in resume {
            self.resume(process);
        }
        self.resume_spec();
    }

    /// At rest nothing is asked, and nothing is written (S9).
    pub(super) async fn stays_at_rest(&mut self) {
        let before = (self.requests, self.questions_asked);
        for delay in [1000, 60_000, 3_600_000] {
            let processes: Vec<_> = self.operators.keys().copied().collect();
            for process in processes {
                self.alarm(process, delay);
            }
            while let Some(event) = self.next() {
                self.pass_time().await;
                self.happen(event).await;
                self.settle().await;
                if !self.checks.wrong.is_empty() {
                    return;
                }
            }
        }
        let (requests, questions) = (self.requests - before.0, self.questions_asked - before.1);
        if questions > 0 || requests > 0 {
            self.checks.fails(format!("S9: at rest there are {requests} requests and {questions} questions"));
        }
    }

    pub(super) fn end(&mut self) {
        let ready = [NAME, PRIMARY].map(|name| self.kubelet.ready(name));
        let truth =
            self.find(DEPLOYMENTS, NAME).map(|target| kubelet::version(&self.server, &target["spec"]["template"]));
        let wrong = crate::end::wrong(&self.server, &self.scenario, &self.checks, ready, truth.as_ref());
        for sentence in wrong {
            self.checks.fails(sentence);
        }
    }

    pub(super) fn report(self, seed: u64) -> Report {
        let [rollouts, promoted, rolled_back, disturbed] = self.checks.rollouts;
        let milliseconds = self.agenda.now();
        let (wrong, trace) = (self.checks.wrong, self.trace.lines());
        let faults = self.counts;
        Report {
            seed,
            wrong,
            trace,
            rollouts,
            promoted,
            rolled_back,
            disturbed,
            milliseconds,
            faults,
            requests: self.requests,
        }
    }
}
