//! What becomes of requests and questions.

use super::{Event, Letter, World};
use crate::agenda::Time;
use crate::app::{NAME, Quality};
use crate::checks::{By, PassId, Said};
use crate::door::Sent;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::json;
use serin_testing::{ReplyBody, refuse};
use tokio::sync::oneshot;
use tower::Service;

/// A client gives up a request after this, in milliseconds.
const CALL_LIMIT: Time = 10_000;

/// A client gives up a question after this, in milliseconds.
const QUERY_LIMIT: Time = 5000;

/// What happens when a request has been carried out.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// Its answer is on the way for so long.
    Answer(Time),
    /// Its answer is lost.
    Lose,
    /// Nobody waits for it any more.
    Nothing,
    /// The process dies before it hears of it.
    Crash,
    /// The process stands still for so long before it hears of it.
    Pause(Time),
}

/// One of the ways in which a request can go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Lost,
    Unheard,
    Refused,
    Hung,
    Late,
    CrashBefore,
    CrashAfter,
    PauseBefore,
    PauseAfter,
}

impl World {
    /// A process has sent something: decides what becomes of it.
    pub(super) fn sent(&mut self, process: u32, sent: Sent) {
        let pass = self.operators.get(&process).map_or(0, |operator| operator.passes);
        self.numbered += 1;
        let number = self.numbered;
        match sent {
            Sent::Question(reply) => self.asked((process, pass), number, reply),
            Sent::Call(kind, reply) => self.called((process, pass), number, kind, reply),
            Sent::Request(request, reply) => {
                self.checks.sends((process, pass));
                self.requests += 1;
                self.count("requests");
                if request.method() != Method::GET && request.uri().path().contains("/httproutes") {
                    self.checks.route_is_sent((process, pass));
                }
                let line = self.trace.is_on().then(|| format!("{} {}", request.method(), request.uri().path()));
                let sent = self.agenda.now();
                let letter = Letter { from: (process, pass), sent, request: Some(request), reply, answer: None };
                self.letters.insert(number, letter);
                self.decide(process, number, &line.unwrap_or_default());
            }
        }
    }

    fn decide(&mut self, process: u32, letter: u64, line: &str) {
        let fate = self.fate();
        let there = self.latency();
        let then = match fate {
            Fate::Pass => Then::Answer(self.latency()),
            Fate::Unheard => Then::Lose,
            Fate::CrashAfter => Then::Crash,
            Fate::PauseAfter => Then::Pause(self.dice.between(1000, 90_000)),
            Fate::Late => Then::Nothing,
            Fate::Lost => {
                self.fault("request lost", || line.to_owned());
                return self.agenda.after(there, Event::Break(letter));
            }
            Fate::Refused => {
                let answers =
                    [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")];
                let (code, reason) = *self.dice.pick(&answers);
                self.fault("request refused", || format!("{code} to {line}"));
                return self.agenda.after(there, Event::Refuse(letter, code, reason));
            }
            Fate::Hung => {
                self.fault("request hangs", || line.to_owned());
                return self.agenda.after(CALL_LIMIT + 1, Event::Tick);
            }
            Fate::CrashBefore => {
                self.told(|| format!("{line} is not sent"));
                self.letters.remove(&letter);
                return self.agenda.after(there, Event::Crash(process));
            }
            Fate::PauseBefore => {
                let pause = self.dice.between(1000, 90_000);
                self.pause(process, pause, line);
                return self.agenda.after(pause + there, Event::Arrive(letter, Then::Answer(1)));
            }
        };
        let delay = if fate == Fate::Late {
            let delay = self.dice.between(CALL_LIMIT, 4 * CALL_LIMIT);
            self.fault("request late", || format!("{line} arrives in {delay} ms"));
            self.agenda.after(CALL_LIMIT + 1, Event::Tick);
            delay
        } else {
            there
        };
        self.agenda.after(delay, Event::Arrive(letter, then));
    }

    fn fate(&mut self) -> Fate {
        if self.is_calm {
            return Fate::Pass;
        }
        let faults = &self.faults;
        let odds = [
            (faults.lost, [Fate::Lost; 2]),
            (faults.unheard, [Fate::Unheard; 2]),
            (faults.refused, [Fate::Refused; 2]),
            (faults.hung, [Fate::Hung; 2]),
            (faults.late, [Fate::Late; 2]),
            (faults.crash, [Fate::CrashBefore, Fate::CrashAfter]),
            (faults.pause, [Fate::PauseBefore, Fate::PauseAfter]),
        ];
        for (odds, fates) in odds {
            if self.dice.chance(odds) {
                return *self.dice.pick(&fates);
            }
        }
        Fate::Pass
    }

    fn latency(&mut self) -> Time {
        if self.faults.latency > 0 && self.dice.chance(200) {
            self.dice.between(1, self.faults.latency)
        } else {
            self.dice.between(1, 3)
        }
    }

    /// A process stands still.
    pub(super) fn pause(&mut self, process: u32, pause: Time, line: &str) {
        let Some(operator) = self.operators.get(&process) else { return };
        if operator.switch.is_paused() {
            return;
        }
        operator.switch.set(true);
        self.fault("pause", || format!("process {process} stands still for {pause} ms, at {line}"));
        self.agenda.after(pause, Event::Resume(process));
    }

    /// A request is carried out.
    pub(super) async fn arrive(&mut self, number: u64, then: Then) {
        let Some(letter) = self.letters.get_mut(&number) else { return };
        let (from, sent) = (letter.from, letter.sent);
        let Some(request) = letter.request.take() else { return };
        let is_write = request.method() != Method::GET;
        let is_about_the_record = request.uri().path().contains("/canaries/");
        self.notice(By::Cluster);
        let answer = carry_out(&mut self.server, request).await;
        if is_about_the_record {
            self.checks.looks_at_the_record(from);
        }
        self.checks.late = self.checks.is_late(from, sent);
        self.notice(By::Serin(from));
        if self.trace.is_on()
            && let Some(logged) = self.server.requests().last()
        {
            let line = crate::trace::request(logged, is_write);
            self.told(|| format!("process {}, pass {}: {line}", from.0, from.1));
        }
        self.server.clear_log();
        match then {
            Then::Answer(delay) => {
                if let Some(letter) = self.letters.get_mut(&number) {
                    letter.answer = Some(answer);
                }
                self.agenda.after(delay, Event::Answer(number));
            }
            Then::Lose => {
                self.fault("answer lost", || "what was carried out".to_owned());
                self.agenda.after(1, Event::Break(number));
            }
            Then::Nothing => drop(self.letters.remove(&number)),
            Then::Crash => {
                self.letters.remove(&number);
                self.crash(from.0, "crash");
            }
            Then::Pause(pause) => {
                if let Some(letter) = self.letters.get_mut(&number) {
                    letter.answer = Some(answer);
                }
                self.pause(from.0, pause, "the answer");
                self.agenda.after(pause + 1, Event::Answer(number));
            }
        }
    }

    fn asked(&mut self, from: PassId, number: u64, reply: oneshot::Sender<Option<(u16, String)>>) {
        self.questions_asked += 1;
        self.count("queries");
        self.questions.insert(number, (from, reply));
        let truth = self.truth();
        let said = if self.dice.chance(self.faults.lies) && truth == Said::Good {
            self.fault("prometheus lies", || "a good version is called bad".to_owned());
            Some(Said::Bad)
        } else if self.dice.chance(self.faults.prometheus) {
            self.fault("prometheus fails", || "it is down, slow, empty or wrong".to_owned());
            None
        } else {
            Some(truth)
        };
        if said.is_none() && self.dice.chance(250) {
            // Longer than anybody waits.
            self.agenda.after(QUERY_LIMIT + 1, Event::Tick);
            return self.agenda.after(2 * QUERY_LIMIT, Event::Tell(number, None));
        }
        let delay = self.dice.between(1, if said.is_none() { 4000 } else { 200 });
        self.agenda.after(delay, Event::Tell(number, said));
    }

    /// What the requests to the canary's pods say of it.
    fn truth(&self) -> Said {
        let ready = self.kubelet.ready(NAME);
        // Before the first traffic only those can tell who test the pods themselves.
        let is_asked = self.checks.applied.canary() > 0 || self.scenario.strategy.tests_first();
        if !is_asked || ready.is_empty() {
            return Said::Nothing;
        }
        let bad = ready.iter().any(|version| Quality::of(&version.image) == Quality::Bad);
        if bad { Said::Bad } else { Said::Good }
    }

    /// Prometheus answers; what it says when it says nothing is one of many things.
    pub(super) fn tell(&mut self, number: u64, said: Option<Said>) {
        let Some((from, reply)) = self.questions.remove(&number) else { return };
        let vector = |result: serde_json::Value| {
            json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string()
        };
        let value = |value: &str| json!({"metric": {}, "value": [0, value]});
        let answer = match said {
            Some(Said::Good) => Some((200, vector(json!([value("100")])))),
            Some(Said::Bad) => Some((200, vector(json!([value("50")])))),
            Some(Said::Nothing) => Some((200, vector(json!([])))),
            None => match self.dice.between(0, 7) {
                0 => None,
                1 => Some((200, vector(json!([value("NaN")])))),
                2 => Some((200, vector(json!([value("+Inf")])))),
                3 => Some((200, vector(json!([value("100"), value("100")])))),
                4 => Some((200, "<html>not what you think</html>".to_owned())),
                5 => Some((500, "out of memory".to_owned())),
                6 => Some((422, json!({"status": "error", "errorType": "execution", "error": "too many"}).to_string())),
                _ => Some((200, vector(json!([])))),
            },
        };
        self.told(|| format!("prometheus tells process {}: {answer:?}", from.0));
        if reply.send(answer).is_ok() {
            let versions = self.kubelet.measured(NAME);
            self.checks.said(from, said.unwrap_or(Said::Nothing), versions);
        }
    }
}

async fn carry_out(server: &mut serin_testing::ApiServer, request: Request<Body>) -> Response<ReplyBody> {
    // It fails for faults of its own, of which it has none.
    server.call(request).await.unwrap_or_else(|_| refuse(500, "InternalError"))
}
