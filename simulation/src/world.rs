//! Everything that there is, and the order in which it happens.
//!
//! Invariant: one thing happens at a time, and what happens next is on the agenda. Nothing looks at a real clock, and
//! nothing waits for anything that is not on the agenda.

mod fate;
mod user;
mod weather;

use crate::agenda::{Agenda, Time};
use crate::app::{self, NAME, PRIMARY, Quality, Shown};
use crate::checks::{By, Checks, PassId, Pods, Said};
use crate::dice::Dice;
use crate::door::{Line, Reply, broken};
use crate::kubelet::{self, Kubelet};
use crate::operator::{Operator, ROUTE_GRACE, WATCHED};
use crate::report::Report;
use crate::scenario::{Faults, Scenario};
use crate::trace::Trace;
use fate::Then;
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::Value;
use serin::controller::Clock;
use serin_testing::workloads::{Verdict, accept_routes, judge_routes};
use serin_testing::{ApiServer, CANARIES, CONFIG_MAPS, DEPLOYMENTS, HTTP_ROUTES, ReplyBody, SECRETS, SERVICES, refuse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The gateway's controller.
const GATEWAY: &str = "example.com/gateway";

/// After the faults have stopped, everything comes to rest before this: several deadlines, and many steps.
const PATIENCE: Time = 3 * 60 * 60 * 1000;

/// More passes than anything takes to come to rest.
const PASSES: u64 = 600;

/// More passes within a second than there are reasons for them.
const BUSY: u64 = 60;

/// Something that is going to happen.
enum Event {
    /// A request arrives at the API server.
    Arrive(u64, Then),
    /// Its answer arrives.
    Answer(u64),
    /// The connection that it is on breaks.
    Break(u64),
    /// It is refused.
    Refuse(u64, u16, &'static str),
    /// Prometheus answers a question, or does not.
    Tell(u64, Option<Said>),
    /// Time passes, for those who wait for it.
    Tick,
    /// A watch shows what has come.
    Show(u32, usize),
    /// A watch is there again.
    Reconnect(u32, usize),
    /// A pass is due.
    Pass(u32, u64),
    /// A process begins.
    Start,
    /// A process dies.
    Crash(u32),
    /// A process goes on.
    Resume(u32),
    /// The Deployment controller looks at a Deployment.
    Sync(&'static str),
    /// A pod becomes ready.
    Ready(&'static str, u64),
    /// The gateway looks at the route.
    Judge,
    /// The garbage collector looks at everything.
    Collect,
    /// The user does something.
    User,
    /// The user does it as soon as nothing moves.
    UserAtRest(u32),
    /// The user makes the Canary again when it is gone.
    Recreate,
    /// Something happens by chance.
    Weather,
    /// From now on nothing goes wrong.
    Calm,
}

/// Who waits for an answer of Prometheus.
type Asker = oneshot::Sender<Option<(u16, String)>>;

/// A request on its way.
struct Letter {
    from: PassId,
    sent: Time,
    request: Option<Request<Body>>,
    reply: oneshot::Sender<Reply>,
    answer: Option<Response<ReplyBody>>,
}

/// Everything that there is.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct World {
    server: ApiServer,
    scenario: Scenario,
    faults: Faults,
    dice: Dice,
    agenda: Agenda<Event>,
    began: Instant,
    line: Arc<Line>,
    letters: BTreeMap<u64, Letter>,
    questions: BTreeMap<u64, (PassId, Asker)>,
    numbered: u64,
    operators: BTreeMap<u32, Operator>,
    processes: u32,
    kubelet: Kubelet,
    syncing: [bool; 2],
    judging: bool,
    refusing: bool,
    checks: Checks,
    seen: u64,
    actions_left: u64,
    deployed: u64,
    promoted_images: Vec<String>,
    recreates: bool,
    is_calm: bool,
    calm_since: Time,
    passes: u64,
    second: (Time, u64),
    requests: u64,
    questions_asked: u64,
    counts: BTreeMap<&'static str, u64>,
    trace: Trace,
}

impl World {
    pub(crate) async fn run(seed: u64, told: bool) -> Report {
        let mut world = Self::new(seed, told);
        world.begin().await;
        while let Some(event) = world.next() {
            world.pass_time().await;
            world.happen(event).await;
            world.settle().await;
            if !world.checks.wrong.is_empty() || world.is_restless() {
                break;
            }
        }
        if world.checks.wrong.is_empty() {
            world.stays_at_rest().await;
        }
        if world.checks.wrong.is_empty() {
            world.end();
        }
        world.report(seed)
    }

    fn new(seed: u64, told: bool) -> Self {
        let mut dice = Dice::new(seed);
        let scenario = Scenario::new(&mut dice);
        Self {
            server: ApiServer::new(),
            faults: scenario.faults.clone(),
            actions_left: scenario.actions,
            scenario,
            dice,
            agenda: Agenda::new(),
            began: Instant::now(),
            line: Arc::default(),
            letters: BTreeMap::new(),
            questions: BTreeMap::new(),
            numbered: 0,
            operators: BTreeMap::new(),
            processes: 0,
            kubelet: Kubelet::default(),
            syncing: [false; 2],
            judging: false,
            refusing: false,
            checks: Checks::new(),
            seen: 0,
            deployed: 1,
            promoted_images: vec![],
            recreates: true,
            is_calm: false,
            calm_since: 0,
            passes: 0,
            second: (0, 0),
            requests: 0,
            questions_asked: 0,
            counts: BTreeMap::new(),
            trace: Trace::new(told),
        }
    }

    async fn begin(&mut self) {
        let scenario = self.scenario.clone();
        self.trace.line(0, || format!("{scenario:?}"));
        self.checks.silent = scenario.silent;
        let clock = Clock::starting_at(beginning());
        self.server.set_clock(move || clock.now());
        let mut objects = vec![(DEPLOYMENTS, app::deployment(&scenario, &Quality::Good.image(1)))];
        if scenario.has_route {
            objects.extend([(SERVICES, app::service()), (HTTP_ROUTES, app::route())]);
        }
        if scenario.configs {
            objects.extend([(CONFIG_MAPS, app::settings("blue")), (SECRETS, app::token("one"))]);
        }
        objects.push((CANARIES, app::canary(&scenario)));
        for (kind, object) in objects {
            self.put(kind, object);
        }
        self.agenda.after(0, Event::Start);
        let first = self.dice.between(1000, 60_000);
        self.agenda.after(first, Event::User);
        self.agenda.after(1, Event::Weather);
        self.settle().await;
    }

    fn next(&mut self) -> Option<Event> {
        self.agenda.pop()
    }

    async fn pass_time(&mut self) {
        let due = self.began + Duration::from_millis(self.agenda.now());
        let rest = due.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            tokio::time::advance(rest).await;
        }
        self.checks.time(self.agenda.now());
    }

    /// It should have come to rest long ago.
    fn is_restless(&mut self) -> bool {
        let late = self.is_calm && (self.agenda.now() > self.calm_since + PATIENCE || self.passes > PASSES);
        if late {
            let status = self.status();
            self.checks.fails(format!("end: nothing comes to rest: {status}"));
        }
        late
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(letter, then) => self.arrive(letter, then).await,
            Event::Answer(letter) => {
                if let Some(Letter { reply, answer: Some(answer), .. }) = self.letters.remove(&letter) {
                    // Who asked may be gone.
                    let _ = reply.send(Ok(answer));
                }
            }
            Event::Break(letter) => {
                if let Some(letter) = self.letters.remove(&letter) {
                    let _ = letter.reply.send(Err(broken()));
                }
            }
            Event::Refuse(letter, code, reason) => {
                if let Some(letter) = self.letters.remove(&letter) {
                    let _ = letter.reply.send(Ok(refuse(code, reason)));
                }
            }
            Event::Tell(question, said) => self.tell(question, said),
            Event::Tick => {}
            Event::Show(process, kind) => self.show(process, kind),
            Event::Reconnect(process, kind) => self.reconnect(process, kind),
            Event::Pass(process, alarm) => self.pass(process, alarm),
            Event::Start => self.start().await,
            Event::Crash(process) => self.crash(process, "crash"),
            Event::Resume(process) => self.resume(process),
            Event::Sync(name) => self.sync(name),
            Event::Ready(name, pod) => {
                if self.kubelet.set_ready(name, pod, true) {
                    self.sync_soon(name);
                }
            }
            Event::Judge => self.judge(),
            Event::Collect => self.by(By::Cluster, |world| world.server.collect_garbage()),
            Event::User => self.user(),
            Event::UserAtRest(tries) => self.user_at_rest(tries),
            Event::Recreate => self.recreate(),
            Event::Weather => self.weather(),
            Event::Calm => self.calm(),
        }
    }

    /// Lets everybody react until all wait for something that is on the agenda.
    async fn settle(&mut self) {
        loop {
            tokio::task::yield_now().await;
            self.notice(By::Cluster);
            let sent = self.line.take();
            let finished: Vec<_> = self.operators.iter().filter(|(_, operator)| is_finished(operator)).collect();
            let finished: Vec<_> = finished.into_iter().map(|(process, _)| *process).collect();
            if sent.is_empty() && finished.is_empty() {
                return;
            }
            for (process, sent) in sent {
                self.sent(process, sent);
            }
            for process in finished {
                self.finished(process).await;
            }
        }
    }

    // ---- what is stored ----

    /// Does something, and has everybody know what changed.
    fn by(&mut self, by: By, act: impl FnOnce(&mut Self)) {
        self.notice(By::Cluster);
        act(self);
        self.notice(by);
    }

    fn put(&mut self, kind: serin_testing::GroupVersionResource, object: Value) {
        self.by(By::User, |world| drop(world.server.put(kind, object)));
    }

    /// Looks at what has changed, and tells those whom it concerns.
    fn notice(&mut self, by: By) {
        let revision = self.server.revision();
        if revision == self.seen {
            return;
        }
        let changes = self.server.changes_after(self.seen);
        self.seen = revision;
        self.server.compact(revision);
        for change in changes {
            self.checks.changed(by, &change, &self.server);
            match (change.resource, change.after.as_deref()) {
                (DEPLOYMENTS, object) => {
                    let named = object.or(change.before.as_deref()).map(|object| app::text(object, "/metadata/name"));
                    let name = if named == Some(NAME) { NAME } else { PRIMARY };
                    if by != By::Cluster || object.is_none() {
                        self.sync_soon(name);
                    }
                }
                (HTTP_ROUTES, _) if by != By::Cluster => self.judge_soon(),
                (_, Some(object)) if change.before.is_none() && self.is_orphan(object) => {
                    let delay = self.delay(20, 20_000);
                    self.agenda.after(delay, Event::Collect);
                }
                (CANARIES, None) => {
                    let delay = self.delay(20, 20_000);
                    self.agenda.after(delay, Event::Collect);
                }
                _ => {}
            }
            let Some(kind) = WATCHED.iter().position(|(name, _)| *name == change.resource) else { continue };
            let change = Arc::new(change);
            let mut hearing = vec![];
            for (process, operator) in &mut self.operators {
                if operator.hear(kind, &change) {
                    hearing.push(*process);
                }
            }
            for process in hearing {
                let lag = self.lag();
                self.agenda.after(lag, Event::Show(process, kind));
            }
        }
    }

    /// Whether an object's owner was gone before it came.
    fn is_orphan(&self, object: &Value) -> bool {
        let owner = app::text(object, "/metadata/ownerReferences/0/uid");
        let canary = || self.find(CANARIES, NAME).is_some_and(|canary| app::text(&canary, "/metadata/uid") == owner);
        app::text(object, "/metadata/ownerReferences/0/kind") == "Canary" && !canary()
    }

    fn status(&self) -> Value {
        self.find(CANARIES, NAME).map(|canary| canary["status"].clone()).unwrap_or_default()
    }

    fn find(&self, kind: serin_testing::GroupVersionResource, name: &str) -> Option<Value> {
        crate::checks::find(&self.server, kind, name)
    }

    // ---- processes ----

    async fn start(&mut self) {
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
    fn clock(&self, skew: i64) -> Clock {
        let Clock::Virtual(start, since) = Clock::starting_at(beginning()) else { return Clock::System };
        let passed = since.saturating_duration_since(self.began);
        let ahead = jiff::SignedDuration::from_millis(skew);
        Clock::Virtual(start + ahead + passed, since)
    }

    fn crash(&mut self, process: u32, what: &'static str) {
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

    fn resume(&mut self, process: u32) {
        if let Some(operator) = self.operators.get_mut(&process) {
            operator.switch.set(false);
            let waits = operator.again && operator.running.is_none();
            self.told(|| format!("process {process} goes on"));
            if waits {
                self.alarm(process, 1);
            }
        }
    }

    /// Has a process make a pass in so many milliseconds, if it is not about to do so anyway.
    fn alarm(&mut self, process: u32, delay: Time) {
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

    fn pass(&mut self, process: u32, alarm: u64) {
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
        self.checks.pass_begins(id, pods_in_view(operator), weights_in_view(operator));
        operator.pass();
        self.passes += 1;
        self.count("passes");
        let second = self.agenda.now() / 1000;
        self.second = if self.second.0 == second { (second, self.second.1 + 1) } else { (second, 1) };
        if self.second.1 > BUSY * u64::try_from(self.operators.len()).unwrap_or(1) {
            self.checks.fails("end: pass follows pass, and nothing comes of it".to_owned());
        }
    }

    async fn finished(&mut self, process: u32) {
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

    fn show(&mut self, process: u32, kind: usize) {
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
            let delay = self.dice.between(5, 25);
            self.alarm(process, delay);
        }
    }

    /// A watch that was broken goes on, or begins again.
    fn reconnect(&mut self, process: u32, kind: usize) {
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

    // ---- the cluster ----

    fn sync_soon(&mut self, name: &'static str) {
        let place = usize::from(name == PRIMARY);
        if !std::mem::replace(&mut self.syncing[place], true) {
            let delay = self.dice.between(5, 50) + self.rarely(self.faults.slow_sync);
            self.agenda.after(delay, Event::Sync(name));
        }
    }

    fn sync(&mut self, name: &'static str) {
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
    fn has_replaceable_pods(&self, name: &str) -> bool {
        let status = self.find(DEPLOYMENTS, name).map(|deployment| deployment["status"].clone()).unwrap_or_default();
        let [all, updated, ready] =
            ["/replicas", "/updatedReplicas", "/readyReplicas"].map(|field| app::number(&status, field));
        all > updated && ready == all
    }

    fn judge_soon(&mut self) {
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

    fn judge(&mut self) {
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

    // ---- the end ----

    fn calm(&mut self) {
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
    async fn stays_at_rest(&mut self) {
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
        let after = (self.requests, self.questions_asked);
        if after != before {
            let (requests, questions) = (after.0 - before.0, after.1 - before.1);
            self.checks.fails(format!("S9: at rest there are {requests} requests and {questions} questions"));
        }
    }

    fn end(&mut self) {
        let ready = [NAME, PRIMARY].map(|name| self.kubelet.ready(name));
        let truth =
            self.find(DEPLOYMENTS, NAME).map(|target| kubelet::version(&self.server, &target["spec"]["template"]));
        let wrong = crate::end::wrong(&self.server, &self.scenario, &self.checks, ready, truth.as_ref());
        for sentence in wrong {
            self.checks.fails(sentence);
        }
    }

    fn report(self, seed: u64) -> Report {
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

    // ---- small things ----

    fn told(&mut self, line: impl FnOnce() -> String) {
        self.trace.line(self.agenda.now(), line);
    }

    /// Something goes wrong.
    fn fault(&mut self, what: &'static str, line: impl FnOnce() -> String) {
        self.count(what);
        self.checks.disturbed();
        self.trace.line(self.agenda.now(), || format!("! {what}: {}", line()));
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A short time, or up to a long one while things go wrong.
    fn delay(&mut self, short: Time, long: Time) -> Time {
        if !self.is_calm && self.dice.chance(200) {
            self.dice.between(short, long)
        } else {
            self.dice.between(1, short)
        }
    }

    /// Mostly nothing, and sometimes up to so much; that is a fault.
    fn rarely(&mut self, most: Time) -> Time {
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

    fn lag(&mut self) -> Time {
        if self.faults.lag > 0 && self.dice.chance(300) {
            let lag = self.dice.between(1, self.faults.lag);
            self.fault("stale cache", || format!("a watch is {lag} ms late"));
            lag
        } else {
            self.dice.between(1, 10)
        }
    }

    fn skew(&mut self) -> i64 {
        self.checks.clocks_differ = true;
        let most = *self.dice.pick(&[500, 5000, 90_000]);
        let ahead = i64::try_from(self.dice.between(0, 2 * most)).unwrap_or_default();
        ahead - i64::try_from(most).unwrap_or_default()
    }
}

fn is_finished(operator: &Operator) -> bool {
    operator.running.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
}

fn pods_in_view(operator: &Operator) -> Pods {
    let available = |name: &str| {
        let deployment = operator.view.get(&(DEPLOYMENTS, name.to_owned()));
        deployment.map_or(0, |deployment| app::number(deployment, "/status/availableReplicas"))
    };
    Pods { target: available(NAME), primary: available(PRIMARY) }
}

/// The weight that a process has seen on record, and the one that it has seen in the route.
fn weights_in_view(operator: &Operator) -> (i64, i64) {
    let seen = |kind| operator.view.get(&(kind, NAME.to_owned()));
    let recorded = seen(CANARIES).map_or(0, |canary| app::number(canary, "/status/canaryWeight"));
    (recorded, Shown::of(seen(HTTP_ROUTES).map(|route| &**route)).canary())
}

fn beginning() -> Timestamp {
    Timestamp::constant(1_767_225_600, 0)
}
