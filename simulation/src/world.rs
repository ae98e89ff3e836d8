//! Everything that there is, and the order in which it happens.
//!
//! Invariant: one thing happens at a time, and what happens next is on the agenda. Nothing looks at a real clock, and
//! nothing waits for anything that is not on the agenda.

mod cluster;
mod ending;
mod fate;
mod hooks;
mod processes;
mod user;
mod weather;

use crate::agenda::{Agenda, Time};
use crate::app::{self, NAME, PRIMARY, Quality};
use crate::checks::{By, Checks, PassId, Said};
use crate::dice::Dice;
use crate::door::{Line, Reply, broken};
use crate::kubelet::Kubelet;
use crate::operator::{Operator, WATCHED};
use crate::report::Report;
use crate::scenario::{Faults, Scenario};
use crate::trace::Trace;
use fate::Then;
use hooks::{Ringing, Word};
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::Value;
use serin::controller::Clock;
use serin_testing::{ApiServer, CANARIES, CONFIG_MAPS, DEPLOYMENTS, HTTP_ROUTES, ReplyBody, SECRETS, SERVICES, refuse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

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
    /// A webhook answers.
    Say(u64, Word),
    /// Time passes, for those who wait for it.
    Tick,
    /// The same, as long as there is somebody who waits.
    Beat,
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
    ringing: BTreeMap<u64, Ringing>,
    beating: bool,
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
    /// The second that is counted, the passes in it, and of how many processes they are.
    second: (Time, u64, u64),
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
            ringing: BTreeMap::new(),
            beating: false,
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
            second: (0, 0, 0),
            requests: 0,
            questions_asked: 0,
            counts: BTreeMap::new(),
            trace: Trace::new(told),
        }
    }

    async fn begin(&mut self) {
        if !self.trace.is_on() {
            self.server.stop_logging();
        }
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
        for (process, operator) in &self.operators {
            if operator.running.is_some() && !operator.switch.is_paused() {
                self.checks.goes_on((*process, operator.passes));
            }
        }
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
            Event::Say(call, word) => self.say(call, word),
            Event::Tick => {}
            Event::Beat => self.beat(),
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
                (HTTP_ROUTES, object) if by != By::Cluster || object.is_none() => self.judge_soon(),
                _ => {}
            }
            let is_new = change.before.is_none();
            let is_left = is_new && change.after.as_deref().is_some_and(|object| self.is_orphan(object));
            if is_left || (change.resource == CANARIES && change.after.is_none()) {
                let delay = self.delay(20, 20_000);
                self.agenda.after(delay, Event::Collect);
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

    fn find(&self, kind: serin_testing::GroupVersionResource, name: &str) -> Option<Arc<Value>> {
        crate::checks::find(&self.server, kind, name)
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
}

fn is_finished(operator: &Operator) -> bool {
    operator.running.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
}

fn beginning() -> Timestamp {
    Timestamp::constant(1_767_225_600, 0)
}
