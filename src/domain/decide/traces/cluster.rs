//! A small simulated cluster: the gateway shows what was recorded one pass later, pods become ready after some passes.

use crate::domain::{
    Acceptance, Answers, CanaryPods, Check, Command, Configs, Decision, Farewell, Gate, Hook, Limits, OnInconclusive,
    Outcome, Percent, Phase, Plan, Pods, Primary, Questions, Reply, Revision, Routing, Scale, Split, State, Steps,
    TargetSeen, Traffic, Unknown, Verdict, Weight, World, decide, questions,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// After so many passes a rollout that goes on is one that never ends.
const ENDLESS: usize = 300;

/// Passes that new pods take to become ready.
const SLOW: u32 = 2;

/// The cluster, and the operator in it.
#[derive(Clone)]
pub(in crate::domain::decide) struct Cluster {
    pub(in crate::domain::decide) plan: Plan,
    pub(in crate::domain::decide) state: State,
    pub(in crate::domain::decide) target: Option<Workload>,
    pub(in crate::domain::decide) primary: Option<Workload>,
    pub(in crate::domain::decide) gateway: Gateway,
    /// Versions whose pods never become ready.
    pub(in crate::domain::decide) broken: Vec<&'static str>,
    /// Versions that run as a canary only: their pods never become ready in the primary.
    pub(in crate::domain::decide) unpromotable: Vec<&'static str>,
    /// What the next checks say; good news when there is nothing.
    pub(in crate::domain::decide) answers: VecDeque<Verdict>,
    /// What the next webhooks of a kind say; everybody agrees when there is nothing.
    pub(in crate::domain::decide) hooks: BTreeMap<Hook, VecDeque<Says>>,
    /// What is annotated.
    pub(in crate::domain::decide) ordered: Option<&'static str>,
    /// Stands for how this release of Serin computes hashes.
    pub(in crate::domain::decide) hashing: &'static str,
    /// The content of the one config that every version uses; empty when it is not followed.
    pub(in crate::domain::decide) config: &'static str,
    /// The config is not there, though it is needed.
    pub(in crate::domain::decide) incomplete: bool,
    pub(in crate::domain::decide) deleted: bool,
    /// How many pods the primary's autoscaler gives it at most; without one it has as many as Serin says.
    pub(in crate::domain::decide) most: Option<u32>,
    start: Timestamp,
    now: Timestamp,
    shown: Traffic,
    log: Vec<String>,
}

/// What a webhook says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain::decide) enum Says {
    Yes,
    No,
    /// The pass is cut short before the answer is there.
    Nothing,
}

/// What the gateway does with a route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::decide) enum Gateway {
    Accepts,
    Lags,
    Refuses,
    Silent,
    Unusable,
}

/// A Deployment and its pods.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::domain::decide) struct Workload {
    pub(in crate::domain::decide) version: &'static str,
    pub(in crate::domain::decide) revision: Option<Revision>,
    pub(in crate::domain::decide) generation: i64,
    pub(in crate::domain::decide) replicas: u32,
    /// The config that its pods began with.
    pub(in crate::domain::decide) began: &'static str,
    /// Passes until its pods are ready.
    slow: u32,
    /// Ready pods of the version before.
    old: u32,
    /// Pods that are not available, for reasons of their own.
    pub(in crate::domain::decide) missing: u32,
}

/// Weights 20 and 50, a check every 10 s, and the first bad one ends it.
pub(in crate::domain::decide) fn plan() -> Plan {
    Plan {
        steps: steps(&[20, 50]),
        selective: false,
        checks_before: 0,
        checks_per_step: 1,
        mirror: Weight::ZERO,
        promotion_step: None,
        hooks: BTreeSet::new(),
        interval: SignedDuration::from_secs(10),
        threshold: 1,
        inconclusive_limit: 2,
        on_inconclusive: OnInconclusive::Rollback,
        metrics: vec![],
        progress_deadline: SignedDuration::from_secs(60),
        canary_ready: Percent::ALL,
        primary_ready: Percent::ALL,
        drain_delay: SignedDuration::from_secs(5),
        route_grace: SignedDuration::from_secs(5),
        skip_analysis: false,
        suspend: false,
        vacate_primary: false,
    }
}

pub(in crate::domain::decide) fn weight(percent: u8) -> Weight {
    Weight::try_from(i64::from(percent)).unwrap()
}

pub(in crate::domain::decide) fn steps(percents: &[u8]) -> Steps {
    Steps::new(percents.iter().copied().map(weight).collect()).unwrap()
}

pub(in crate::domain::decide) fn outcome(verdict: Verdict) -> Outcome {
    let answer = match verdict {
        Verdict::Pass => Ok(100.0),
        Verdict::Fail => Ok(1.0),
        Verdict::Inconclusive => Err(Unknown::NoSamples),
    };
    let limits = Limits { min: Some(99.0), max: None };
    Outcome(vec![Check { metric: "request-success-rate".into(), limits, answer }])
}

/// One webhook's answer.
pub(in crate::domain::decide) fn replies(says: Says) -> Vec<Reply> {
    let answer = match says {
        Says::Nothing => return vec![],
        Says::Yes => Ok(()),
        Says::No => Err("it answered 403".to_owned()),
    };
    vec![Reply { name: "gatekeeper".into(), answer }]
}

impl Cluster {
    /// An app of two pods at version `a`, and a Canary that nobody has looked at yet.
    pub(in crate::domain::decide) fn new() -> Self {
        let start = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 50);
        let mut target = Workload::new("a", 2);
        target.slow = 0;
        Self {
            plan: plan(),
            state: State::new(start),
            target: Some(target),
            primary: None,
            gateway: Gateway::Accepts,
            broken: vec![],
            unpromotable: vec![],
            answers: VecDeque::new(),
            hooks: BTreeMap::new(),
            ordered: None,
            hashing: "",
            config: "",
            incomplete: false,
            deleted: false,
            most: None,
            start,
            now: start,
            shown: Traffic::Untouched,
            log: vec![],
        }
    }

    /// At rest with `a` as the primary, and no canary pods.
    pub(in crate::domain::decide) fn at_rest() -> Self {
        let mut cluster = Self::new();
        cluster.settle();
        cluster.restart();
        cluster
    }

    /// `b` is under analysis and has `percent` of the traffic.
    pub(in crate::domain::decide) fn at_weight(percent: u8) -> Self {
        let mut cluster = Self::at_rest();
        cluster.deploy("b");
        cluster.until(|state| state.weight() == weight(percent));
        cluster.restart();
        cluster
    }

    /// Forgets what was logged; the time begins anew.
    pub(in crate::domain::decide) fn restart(&mut self) {
        self.start = self.now;
        self.log.clear();
    }

    /// The user changes the target's pod template.
    pub(in crate::domain::decide) fn deploy(&mut self, version: &'static str) {
        match &mut self.target {
            Some(target) => {
                target.began = self.config;
                target.change(version, target.replicas);
            }
            None => self.target = Some(Workload::new(version, 2)),
        }
        self.log.push(format!("      -- the target is {version} --"));
    }

    /// The user changes the config.
    pub(in crate::domain::decide) fn configure(&mut self, config: &'static str) {
        self.config = config;
        self.log.push(format!("      -- the config is {config} --"));
    }

    /// The autoscalers find that the versions need so many pods; the primary's keeps to the floor.
    pub(in crate::domain::decide) fn autoscale(&mut self, canary: u32, primary: u32) {
        let floor = self.state.floor().min(self.most.unwrap_or_default());
        for (workload, replicas) in [(&mut self.target, canary), (&mut self.primary, primary.max(floor))] {
            if let Some(workload) = workload.as_mut().filter(|workload| workload.replicas > 0) {
                workload.change(workload.version, replicas);
            }
        }
        self.log.push(format!("      -- the autoscalers want {canary} and {primary} pods --"));
    }

    /// Says in the log what the test does now.
    pub(in crate::domain::decide) fn note(&mut self, what: &str) {
        self.log.push(format!("      -- {what} --"));
    }

    pub(in crate::domain::decide) fn answer(&mut self, answers: impl IntoIterator<Item = Verdict>) {
        self.answers.extend(answers);
    }

    /// The next webhooks of this kind say so; the plan has them from now on.
    pub(in crate::domain::decide) fn say(&mut self, hook: Hook, says: impl IntoIterator<Item = Says>) {
        self.plan.hooks.insert(hook);
        self.hooks.entry(hook).or_default().extend(says);
    }

    /// Somebody annotates the Canary.
    pub(in crate::domain::decide) fn order(&mut self, order: &'static str) {
        self.ordered = Some(order);
        self.log.push(format!("      -- {order} --"));
    }

    /// The sentences of a pass.
    pub(in crate::domain::decide) fn told(&mut self) -> Vec<String> {
        self.pass().0.notes.into_iter().map(|note| note.text).collect()
    }

    /// Passes until nothing changes any more and nothing is waited for by time.
    pub(in crate::domain::decide) fn settle(&mut self) -> Decision {
        for _ in 0..ENDLESS {
            let (decision, moved) = self.pass();
            if !moved && decision.wake.is_none() {
                return decision;
            }
        }
        panic!("no end in {ENDLESS} passes:\n{}", self.log());
    }

    /// Passes until the state is as wanted.
    pub(in crate::domain::decide) fn until(&mut self, wanted: impl Fn(&State) -> bool) {
        for _ in 0..ENDLESS {
            if wanted(&self.state) {
                return;
            }
            self.pass();
        }
        panic!("not reached in {ENDLESS} passes:\n{}", self.log());
    }

    pub(in crate::domain::decide) fn passes(&mut self, count: usize) {
        for _ in 0..count {
            self.pass();
        }
    }

    pub(in crate::domain::decide) fn log(&self) -> String {
        self.log.join("\n")
    }

    /// What the operator sees.
    pub(in crate::domain::decide) fn world(&self) -> World {
        let config = if self.incomplete { "" } else { self.config };
        let target = self.target.as_ref().map(|target| TargetSeen {
            revision: Revision(format!("{}{config}{}", target.version, self.hashing)),
            template: Revision(format!("{}{}", target.version, self.hashing)),
            configs: Configs((!config.is_empty()).then(|| ("config".into(), config.into())).into_iter().collect()),
            incomplete: self.incomplete.then(|| "the config is not there".to_owned()),
            generation: target.generation,
            uid: "u".into(),
            replicas: target.replicas,
            pods: target.pods(self.broken.contains(&target.version)),
        });
        let primary = self.primary.as_ref().map(|primary| {
            let stuck = self.broken.contains(&primary.version) || self.unpromotable.contains(&primary.version);
            Primary { revision: primary.revision.clone(), pods: primary.pods(stuck), most: self.most }
        });
        let acceptance = match self.gateway {
            Gateway::Accepts | Gateway::Unusable => Acceptance::Accepted,
            Gateway::Lags => Acceptance::Pending,
            Gateway::Refuses => Acceptance::Refused("no such port".into()),
            Gateway::Silent => Acceptance::Silent,
        };
        let routing = match self.shown {
            _ if self.gateway == Gateway::Unusable => Routing::Unusable("it has no rule for the app".into()),
            Traffic::Untouched | Traffic::Target => Routing::Whole(acceptance),
            Traffic::Split(split) => Routing::Split(split.weight, acceptance),
        };
        let apex_on_primary = matches!(self.shown, Traffic::Split(_));
        let command = self.ordered.map(|order| Command { written: order.into(), by: "kubectl-annotate".into() });
        World { now: self.now, deleted: self.deleted, command, target, primary, apex_on_primary, routing, led: None }
    }

    /// One pass, and what becomes of it; whether anything has changed.
    fn pass(&mut self) -> (Decision, bool) {
        let seen = self.world();
        let asked = questions(&self.plan, &self.state, &seen);
        let said = asked.metrics.then(|| outcome(self.answers.pop_front().unwrap_or(Verdict::Pass)));
        let hooks = asked.hooks.iter().map(|hook| (*hook, self.reply(*hook))).collect();
        let decision = decide(&self.plan, &self.state, &seen, &Answers { outcome: said, hooks });
        self.write_down(&decision, &asked);
        let before = self.clone();
        self.state = decision.state.clone();
        self.carry_out();
        let moved = self.state != before.state || self.world() != before.world() || self.busy();
        self.now = match decision.wake {
            Some(wake) if !moved => wake.max(self.now + SignedDuration::from_millis(1)),
            _ => self.now + SignedDuration::from_secs(1),
        };
        (decision, moved)
    }

    fn reply(&mut self, hook: Hook) -> Vec<Reply> {
        let agreed = if hook == Hook::Rollback { Says::No } else { Says::Yes };
        let says = self.hooks.get_mut(&hook).and_then(VecDeque::pop_front).unwrap_or(agreed);
        replies(says)
    }

    fn busy(&self) -> bool {
        [&self.target, &self.primary].into_iter().flatten().any(|workload| workload.slow > 0)
    }

    fn carry_out(&mut self) {
        for workload in [&mut self.target, &mut self.primary].into_iter().flatten() {
            workload.slow = workload.slow.saturating_sub(1);
        }
        self.shown = self.state.traffic(&self.plan);
        let scale = self.state.scale(&self.plan, self.now);
        if let (Some(revision), Some(_)) = (self.state.primary_revision().cloned(), &self.target) {
            let version = ["a", "b", "c", "d"].into_iter().find(|version| revision.0.starts_with(version)).unwrap();
            let primary = self.primary.get_or_insert_with(|| Workload::new(version, self.state.replicas));
            let replicas = match self.most {
                None => self.state.replicas,
                Some(most) => primary.replicas.max(self.state.floor().min(most)),
            };
            if primary.version == version && primary.revision.as_ref().is_some_and(|runs| *runs != revision) {
                primary.renew();
            }
            primary.change(version, replicas);
            primary.revision = Some(revision);
        }
        if let Some(target) = &mut self.target {
            match scale {
                Scale::AtLeast(replicas) if target.replicas == 0 => {
                    target.began = self.config;
                    target.change(target.version, replicas);
                }
                Scale::Keep | Scale::AtLeast(_) => {}
                Scale::Zero => target.change(target.version, 0),
            }
        }
    }

    fn write_down(&mut self, decision: &Decision, asked: &Questions) {
        let Decision { state, notes, waiting, .. } = decision;
        let phase = match &state.phase {
            Phase::Initializing { .. } => "Initializing".into(),
            Phase::Initialized { .. } => "Initialized".into(),
            Phase::Waiting { .. } => "Waiting".into(),
            Phase::Progressing(analysis) if analysis.gate == Some(Gate::Promotion) => "WaitingPromoti".into(),
            Phase::Progressing(_) => "Progressing".into(),
            Phase::Promoting(promotion) if promotion.undo.is_some() => "Promoting back".into(),
            Phase::Promoting(_) => "Promoting".into(),
            Phase::Finalising { .. } => "Finalising".into(),
            Phase::Succeeded { .. } => "Succeeded".into(),
            Phase::Failed { .. } => "Failed".into(),
            Phase::Terminating { stage, .. } => format!("{stage:?}"),
        };
        let pods = match state.canary {
            CanaryPods::Up => "Up",
            CanaryPods::Stale => "Stale",
            CanaryPods::Draining { .. } => "Draining",
            CanaryPods::Down => "Down",
        };
        let runs = state.primary_revision().map_or("-", |revision| &revision.0);
        let waits = match waiting {
            None => "..",
            Some(waiting) => waiting.reason().unwrap_or("-"),
        };
        let told = notes.iter().map(|note| note.reason.to_string()).collect::<Vec<_>>().join(" ");
        let seconds = self.now.duration_since(self.start).as_secs();
        let weight = state.weight().canary();
        let copies = match state.traffic(&self.plan) {
            Traffic::Split(Split { mirror, .. }) if mirror > Weight::ZERO => format!(" ~{mirror}"),
            _ => String::new(),
        };
        let asked = asked.hooks.iter().fold(String::new(), |text, hook| text + " ?" + hook.name());
        let line =
            format!("{seconds:>4}s {phase:<14} {weight:>3} {pods:<8} {runs:<2} {waits:<15} {told}{copies}{asked}");
        self.log.push(line.trim_end().to_owned());
    }
}

impl Workload {
    fn new(version: &'static str, replicas: u32) -> Self {
        Self { version, revision: None, generation: 1, replicas, began: "", slow: SLOW, old: 0, missing: 0 }
    }

    /// The same template with other configs: for the primary that is another template.
    fn renew(&mut self) {
        self.old = if self.slow == 0 { self.replicas } else { self.old };
        self.slow = SLOW;
        self.generation += 1;
    }

    /// A new spec; the pods follow.
    pub(in crate::domain::decide) fn change(&mut self, version: &'static str, replicas: u32) {
        if (version, replicas) == (self.version, self.replicas) {
            return;
        }
        if version != self.version || replicas > self.replicas {
            self.old = if self.slow == 0 { self.replicas } else { self.old };
            self.slow = SLOW;
        }
        self.generation += 1;
        (self.version, self.replicas) = (version, replicas);
    }

    fn pods(&self, stuck: bool) -> Pods {
        let wanted = self.replicas;
        let counts = |updated, available, total| Pods { wanted, updated, available, total, current: true };
        if wanted > 0 && (stuck || self.slow > 0) {
            counts(0, self.old.min(wanted), self.old.min(wanted))
        } else {
            counts(wanted, wanted.saturating_sub(self.missing), wanted)
        }
    }
}

/// Whether the Canary may go.
pub(in crate::domain::decide) fn gone(state: &State) -> bool {
    matches!(state.phase, Phase::Terminating { stage: Farewell::Released | Farewell::Kept, .. })
}
