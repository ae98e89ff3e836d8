//! Random plans, and random stories that happen to a rollout: mostly the world does as it is told, and sometimes
//! anything at all.

use super::super::Reason;
use super::super::traces::cluster::{Says, outcome, replies, weight};
use crate::domain::{
    Acceptance, Analysis, Answers, Command, Configs, Decision, Hook, OnInconclusive, Percent, Phase, Plan, Pods,
    Primary, Questions, Reply, Revision, Routing, Scale, State, Steps, Target, TargetSeen, Traffic, Verdict, Weight,
    World, decide, questions,
};
use jiff::{SignedDuration, Timestamp};
use proptest::collection::{btree_set, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// How many different pod templates there are.
const VERSIONS: usize = 4;

/// How many different contents the config has; the first is not followed.
const CONFIGS: usize = 3;

/// A plan, and what happens in each pass.
#[derive(Clone, Debug)]
pub(super) struct Script {
    plan: Plan,
    steps: Vec<Step>,
}

/// What happens before and in one pass. What is `None` is as Serin wants it.
#[derive(Clone, Debug)]
struct Step {
    seconds: i64,
    /// Another pod template, and whether the generation says so.
    deploy: Option<(usize, bool)>,
    /// Another content of the config; the generation never says so. 0 is a config that is not followed.
    configure: Option<usize>,
    /// The config is not there in this pass, though it is needed.
    incomplete: bool,
    deleted: bool,
    suspend: Option<bool>,
    edit: Option<Plan>,
    target: Odd<(u32, Pods)>,
    primary: Odd<(Option<usize>, Pods)>,
    apex_on_primary: Option<bool>,
    routing: Option<Routing>,
    verdict: Verdict,
    said: Said,
    says: Vec<Says>,
    /// Another annotation, or none any more.
    #[expect(clippy::option_option, reason = "an order that goes is something else than no change")]
    command: Option<Option<&'static str>>,
}

/// A workload that may be other than Serin wants it.
#[derive(Clone, Debug)]
enum Odd<T> {
    AsWanted,
    Missing,
    Other(T),
}

/// Whether the metrics answer.
#[derive(Clone, Copy, Debug)]
enum Said {
    WhenAsked,
    Always,
    Never,
}

/// One pass, with everything that went into it.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) plan: Plan,
    pub(super) before: State,
    pub(super) seen: World,
    pub(super) asked: Questions,
    pub(super) said: Option<Verdict>,
    pub(super) answers: Answers,
    pub(super) decision: Decision,
}

/// The part of the world that has a life of its own.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) deleted: bool,
    pub(super) command: Option<&'static str>,
    version: usize,
    config: usize,
    generation: i64,
    replicas: u32,
}

pub(super) fn scripts() -> impl Strategy<Value = Script> {
    (plans(), vec(step(), 0..80)).prop_map(|(plan, steps)| Script { plan, steps })
}

fn plans() -> impl Strategy<Value = Plan> {
    let seconds = |range: std::ops::RangeInclusive<i64>| range.prop_map(SignedDuration::from_secs);
    let steps = prop_oneof![
        9 => btree_set(1..=100_u8, 1..=4).prop_map(|all| Steps::new(all.into_iter().map(weight).collect()).unwrap()),
        1 => Just(Steps::none()),
    ];
    let checks = (1..=3_u32, 1..=3_u32, prop_oneof![Just(OnInconclusive::Rollback), Just(OnInconclusive::Hold)]);
    let times = (seconds(1..=20), seconds(5..=60), seconds(1..=10), seconds(0..=10));
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.3));
    (steps, strategies(), hooks(), checks, times, (share(), share()), flags).prop_map(
        |(steps, strategy, hooks, checks, times, shares, (skip_analysis, vacates, selective))| {
            let (checks_before, checks_per_step, mirror, promotion_step) = strategy;
            let plan = Plan {
                steps,
                // A primary that must be vacated cannot be by requests that match alone; that is refused before.
                selective: selective && !vacates,
                checks_before,
                checks_per_step,
                mirror,
                promotion_step,
                hooks,
                interval: times.0,
                threshold: checks.0,
                inconclusive_limit: checks.1,
                on_inconclusive: checks.2,
                metrics: vec![],
                progress_deadline: times.1,
                canary_ready: shares.0,
                primary_ready: shares.1,
                drain_delay: times.2,
                route_grace: times.3,
                skip_analysis,
                suspend: false,
                vacate_primary: false,
            };
            if vacates { plan.vacating_primary() } else { plan }
        },
    )
}

/// Checks before and at each step, the share that is copied, and how the primary takes over.
fn strategies() -> impl Strategy<Value = (u32, u32, Weight, Option<Weight>)> {
    let before = prop_oneof![3 => Just(0), 2 => 1..=3_u32];
    let per_step = prop_oneof![3 => Just(1), 1 => 2..=3_u32];
    (before, per_step, (0..=100_u8).prop_map(weight), weighted(0.2, (10..=60_u8).prop_map(weight)))
}

fn hooks() -> impl Strategy<Value = BTreeSet<Hook>> {
    prop_oneof![
        2 => Just(BTreeSet::new()),
        3 => proptest::sample::subsequence(HOOKS.to_vec(), 0..=HOOKS.len()).prop_map(BTreeSet::from_iter),
    ]
}

/// All kinds.
const HOOKS: [Hook; 7] = [
    Hook::ConfirmRollout,
    Hook::PreRollout,
    Hook::Rollout,
    Hook::ConfirmTrafficIncrease,
    Hook::ConfirmPromotion,
    Hook::PostRollout,
    Hook::Rollback,
];

/// What each kind says; only a few say that something is to be taken back.
fn says() -> impl Strategy<Value = Vec<Says>> {
    let one = |yes: u32, no: u32| prop_oneof![yes => Just(Says::Yes), no => Just(Says::No), 1 => Just(Says::Nothing)];
    (vec(one(8, 3), HOOKS.len() - 1), one(1, 18)).prop_map(|(mut most, rollback)| {
        most.push(rollback);
        most
    })
}

fn commands() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![
        None,
        Some("approve"),
        Some("pause"),
        Some("resume"),
        Some("resume"),
        Some("promote"),
        Some("abort"),
        Some("retry"),
        Some("retry"),
        Some("nonsense"),
    ])
}

/// More than nothing; see the open test on S2 for why.
fn share() -> impl Strategy<Value = Percent> {
    (1..=100_i64).prop_map(|percent| Percent::try_from(percent).unwrap())
}

fn step() -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![8 => 0..=12_i64, 1 => -20..=-1_i64, 1 => 13..=100_i64];
    let user = (
        weighted(0.1, (0..VERSIONS, prop::bool::weighted(0.8))),
        (weighted(0.06, 0..CONFIGS), prop::bool::weighted(0.05)),
        prop::bool::weighted(0.008),
        weighted(0.06, prop::bool::weighted(0.3)),
        weighted(0.04, plans()),
    );
    let world = (
        odd(12, (0..4_u32, pods())),
        odd(25, (weighted(0.8, 0..VERSIONS), pods())),
        weighted(0.08, any::<bool>()),
        weighted(0.12, routing()),
    );
    let verdict = prop_oneof![6 => Just(Verdict::Pass), 1 => Just(Verdict::Fail), 2 => Just(Verdict::Inconclusive)];
    let said = prop_oneof![8 => Just(Said::WhenAsked), 1 => Just(Said::Always), 1 => Just(Said::Never)];
    let answers = (verdict, said, says());
    (seconds, user, world, answers, weighted(0.12, commands())).prop_map(|(seconds, user, world, answers, command)| {
        let (verdict, said, says) = answers;
        let ((deploy, (configure, incomplete), deleted, suspend, edit), (target, primary, apex_on_primary, routing)) =
            (user, world);
        Step {
            seconds,
            deploy,
            configure,
            incomplete,
            deleted,
            suspend,
            edit,
            target,
            primary,
            apex_on_primary,
            routing,
            verdict,
            said,
            says,
            command,
        }
    })
}

/// In so many of a hundred passes not as wanted.
fn odd<T: Clone + std::fmt::Debug>(percent: u32, other: impl Strategy<Value = T>) -> impl Strategy<Value = Odd<T>> {
    let missing = percent.div_ceil(5);
    prop_oneof![
        100 - percent => Just(Odd::AsWanted),
        missing => Just(Odd::Missing),
        percent - missing => other.prop_map(Odd::Other),
    ]
}

fn pods() -> impl Strategy<Value = Pods> {
    (0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32, any::<bool>())
        .prop_map(|(wanted, updated, available, total, current)| Pods { wanted, updated, available, total, current })
}

fn routing() -> impl Strategy<Value = Routing> {
    let acceptance = || {
        prop_oneof![
            3 => Just(Acceptance::Accepted),
            1 => Just(Acceptance::Pending),
            1 => Just(Acceptance::Silent),
            1 => Just(Acceptance::Refused("no".into())),
        ]
    };
    let percent = prop_oneof![Just(0), 0..=100_u8];
    prop_oneof![
        1 => Just(Routing::Missing),
        1 => acceptance().prop_map(Routing::Whole),
        4 => (percent, acceptance()).prop_map(|(percent, acceptance)| Routing::Split(weight(percent), acceptance)),
        1 => Just(Routing::Mixed),
        1 => Just(Routing::Unusable("no".into())),
    ]
}

impl Script {
    /// Plays it from the very beginning.
    pub(super) fn play(&self) -> (Vec<Pass>, Cluster) {
        let mut cluster = Cluster::new(self.plan.clone());
        let passes = self.steps.iter().map(|step| cluster.play(step)).collect();
        (passes, cluster)
    }

    /// Only the passes in which the rollout is not suspended.
    pub(super) fn active(&self) -> Vec<Pass> {
        self.play().0.into_iter().filter(|pass| !pass.plan.suspend).collect()
    }
}

impl Cluster {
    fn new(plan: Plan) -> Self {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 50);
        Self {
            plan,
            state: State::new(now),
            now,
            deleted: false,
            command: None,
            version: 0,
            config: 0,
            generation: 1,
            replicas: 2,
        }
    }

    fn play(&mut self, step: &Step) -> Pass {
        self.now += SignedDuration::from_secs(step.seconds);
        self.deleted |= step.deleted;
        self.command = step.command.unwrap_or(self.command);
        if let Some((version, bump)) = step.deploy {
            self.version = version;
            self.generation += i64::from(bump);
        }
        self.config = step.configure.unwrap_or(self.config);
        if let Some(plan) = &step.edit {
            self.plan = Plan { suspend: self.plan.suspend, ..plan.clone() };
        }
        self.plan.suspend = step.suspend.unwrap_or(self.plan.suspend);
        let mut seen = self.world(&Acceptance::Accepted);
        if let (true, Some(target)) = (step.incomplete, &mut seen.target) {
            target.configs = Configs::default();
            target.incomplete = Some("the config is not there".into());
        }
        seen.target = match step.target {
            Odd::AsWanted => seen.target,
            Odd::Missing => None,
            Odd::Other((replicas, pods)) => seen.target.map(|seen| TargetSeen { replicas, pods, ..seen }),
        };
        seen.primary = match step.primary {
            Odd::AsWanted => seen.primary,
            Odd::Missing => None,
            Odd::Other((version, pods)) => Some(Primary { revision: version.map(revision), pods, most: None }),
        };
        seen.apex_on_primary = step.apex_on_primary.unwrap_or(seen.apex_on_primary);
        seen.routing = step.routing.clone().unwrap_or(seen.routing);
        let asked = questions(&self.plan, &self.state, &seen);
        let says = |asked| match step.said {
            Said::WhenAsked => asked,
            Said::Always => true,
            Said::Never => false,
        };
        let said = says(asked.metrics).then_some(step.verdict);
        let hooks = HOOKS.into_iter().zip(&step.says).filter(|(hook, _)| says(asked.hooks.contains(hook)));
        let hooks = hooks.map(|(hook, says)| (hook, replies(*says))).collect();
        self.pass(seen, said, hooks)
    }

    pub(super) fn follows(&self) -> bool {
        self.config > 0
    }

    /// Begins or stops to follow the config.
    pub(super) fn follow(&mut self, follow: bool) {
        self.config = usize::from(follow);
    }

    /// A pass in a world that does as it is told, after which it is time for the next one; whether anything changed.
    pub(super) fn friendly(&mut self, acceptance: &Acceptance) -> (Pass, bool) {
        let seen = self.world(acceptance);
        let asked = questions(&self.plan, &self.state, &seen);
        let agreed = |hook| if hook == Hook::Rollback { Says::No } else { Says::Yes };
        let hooks = asked.hooks.iter().map(|hook| (*hook, replies(agreed(*hook)))).collect();
        let pass = self.pass(seen.clone(), asked.metrics.then_some(Verdict::Pass), hooks);
        let moved = pass.before != self.state || self.world(acceptance) != seen;
        self.now = match pass.decision.wake {
            Some(wake) if !moved => wake.max(self.now),
            _ => self.now + SignedDuration::from_secs(1),
        };
        (pass, moved)
    }

    fn pass(&mut self, seen: World, said: Option<Verdict>, hooks: BTreeMap<Hook, Vec<Reply>>) -> Pass {
        let (plan, before) = (self.plan.clone(), self.state.clone());
        let asked = questions(&plan, &before, &seen);
        let answers = Answers { outcome: said.map(outcome), hooks };
        let decision = decide(&plan, &before, &seen, &answers);
        self.state = decision.state.clone();
        let replicas = match self.state.scale(&plan, self.now) {
            Scale::AtLeast(replicas) if self.replicas == 0 => replicas,
            Scale::Keep | Scale::AtLeast(_) => self.replicas,
            Scale::Zero => 0,
        };
        if replicas != self.replicas {
            self.replicas = replicas;
            self.generation += 1;
        }
        Pass { plan, before, seen, asked, said, answers, decision }
    }

    /// What there is to see when everything is as Serin wants it.
    pub(super) fn world(&self, acceptance: &Acceptance) -> World {
        let traffic = self.state.traffic(&self.plan);
        let ready = |count| Pods { wanted: count, updated: count, available: count, total: count, current: true };
        World {
            now: self.now,
            deleted: self.deleted,
            command: self.command.map(|written| Command { written: written.into(), by: "kubectl-annotate".into() }),
            target: Some(TargetSeen {
                revision: revision_with(self.version, &configs(self.config)),
                template: revision(self.version),
                configs: configs(self.config),
                incomplete: None,
                generation: self.generation,
                uid: "u".into(),
                replicas: self.replicas,
                pods: ready(self.replicas),
            }),
            primary: self.state.primary_revision().map(|runs| Primary {
                revision: Some(runs.clone()),
                pods: ready(self.state.replicas),
                most: None,
            }),
            apex_on_primary: matches!(traffic, Traffic::Split(_)),
            routing: match traffic {
                Traffic::Untouched | Traffic::Target => Routing::Whole(acceptance.clone()),
                Traffic::Split(split) => Routing::Split(split.weight, acceptance.clone()),
            },
            led: None,
        }
    }
}

impl Pass {
    pub(super) fn weight(&self) -> Weight {
        self.decision.state.weight()
    }

    /// The judgement that counts.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.said.filter(|_| self.asked.metrics)
    }

    /// What the hooks of a kind said together, if they were asked and answered.
    pub(super) fn hook(&self, hook: Hook) -> Option<bool> {
        let replies = self.answers.hooks.get(&hook).filter(|replies| !replies.is_empty());
        replies.filter(|_| self.asked.hooks.contains(&hook)).map(|all| all.iter().all(|reply| reply.answer.is_ok()))
    }

    /// Whether hooks said yes, or there are none of the kind.
    pub(super) fn open(&self, hook: Hook) -> bool {
        !self.plan.hooks.contains(&hook) || self.hook(hook) == Some(true)
    }

    pub(super) fn rolled_back(&self) -> bool {
        self.hook(Hook::Rollback) == Some(true)
    }

    /// Whether a check or test was bad.
    pub(super) fn bad(&self) -> bool {
        let no = |hook| self.hook(hook) == Some(false);
        self.verdict() == Some(Verdict::Fail) || no(Hook::PreRollout) || no(Hook::Rollout)
    }

    /// Whether a round of checks was asked for and every answer was good.
    pub(super) fn good(&self) -> bool {
        let asked = |hook| self.asked.hooks.contains(&hook);
        self.verdict() == Some(Verdict::Pass)
            && (!asked(Hook::Rollout) || self.hook(Hook::Rollout) == Some(true))
            && (!asked(Hook::Rollback) || self.hook(Hook::Rollback) == Some(false))
    }

    /// Whether an answer is missing to something that was asked.
    pub(super) fn missing(&self) -> bool {
        let metrics = self.asked.metrics && self.said.is_none();
        metrics || self.asked.hooks.iter().any(|hook| self.hook(*hook).is_none())
    }

    /// Whether this order is new in this pass, and was carried out.
    pub(super) fn ordered(&self, order: &str) -> bool {
        let new = self.seen.command.as_ref().is_some_and(|found| Some(&found.written) != self.before.command.as_ref());
        let taken = self.decision.notes.iter().any(|note| note.reason == Reason::Ordered);
        new && taken && self.seen.command.as_ref().is_some_and(|found| found.written == order)
    }

    /// The analysis that was recorded before.
    pub(super) fn analysis(&self) -> Option<&Analysis> {
        match &self.before.phase {
            Phase::Progressing(analysis) => Some(analysis),
            _ => None,
        }
    }

    /// Whether the rest of the analysis is skipped: by the plan or by an order.
    pub(super) fn skipped(&self) -> bool {
        let before = self.analysis().is_some_and(|analysis| analysis.skipped);
        self.plan.skip_analysis || (before && !self.ordered("pause")) || self.ordered("promote")
    }

    /// Whether the target is neither what was last acted upon nor what is promoted.
    pub(super) fn shows_news(&self) -> bool {
        let Some(seen) = &self.seen.target else { return false };
        let known = |fence: &Target| {
            let template = fence.generation == seen.generation || fence.hash == seen.template;
            template && fence.configs.agree(&seen.configs)
        };
        seen.incomplete.is_none()
            && !self.before.target.as_ref().is_some_and(known)
            && self.before.promoted.as_ref() != Some(&seen.revision)
    }

    /// Whether it is seen that no request reaches the target's pods.
    pub(super) fn shows_no_traffic(&self) -> bool {
        let shown =
            matches!(&self.seen.routing, Routing::Split(Weight::ZERO, Acceptance::Accepted | Acceptance::Silent));
        shown && self.seen.apex_on_primary
    }
}

fn revision(version: usize) -> Revision {
    Revision(["a", "b", "c", "d"][version].into())
}

fn revision_with(version: usize, Configs(configs): &Configs) -> Revision {
    Revision(format!("{}{}", revision(version), configs.get("config").map_or("", String::as_str)))
}

fn configs(config: usize) -> Configs {
    Configs((config > 0).then(|| ("config".to_owned(), config.to_string())).into_iter().collect())
}
