//! What a seed stands for: the app, its Canary, and what is going to go wrong.

use crate::dice::Dice;

/// The app, its Canary, and its bad luck.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// The app has a ConfigMap and a Secret.
    pub(crate) configs: bool,
    /// It had a Service and a route before.
    pub(crate) has_route: bool,
    pub(crate) replicas: u64,
    pub(crate) strategy: Strategy,
    /// The kinds of webhooks that are asked.
    pub(crate) hooks: Vec<&'static str>,
    /// The user gives orders.
    pub(crate) orders: bool,
    /// Seconds.
    pub(crate) interval: u64,
    /// Seconds.
    pub(crate) deadline: u64,
    pub(crate) threshold: u64,
    pub(crate) inconclusive_limit: u64,
    pub(crate) hold: bool,
    pub(crate) revert: bool,
    /// The gateway never says what it thinks of a route.
    pub(crate) silent: bool,
    /// How long the queue takes at most to begin a pass, in milliseconds.
    pub(crate) queue: u64,
    /// How many things the user does.
    pub(crate) actions: u64,
    pub(crate) faults: Faults,
}

/// How a version comes to its traffic.
#[derive(Clone, Debug)]
pub(crate) enum Strategy {
    /// `stepWeights`.
    Weights(Vec<u64>),
    /// `stepWeight` and `maxWeight`.
    Every(u64, u64),
    /// `iterations`: checks without traffic, then all of it.
    Iterations(u64),
}

impl Strategy {
    fn new(dice: &mut Dice) -> Self {
        let lists: &[&[u64]] = &[&[10, 30, 60], &[50], &[20, 100], &[5, 25, 50], &[100], &[1, 99], &[10, 20, 30, 40]];
        match dice.between(0, 9) {
            0 => Self::Iterations(dice.between(1, 4)),
            1 => Self::Every(*dice.pick(&[10, 25, 40]), *dice.pick(&[50, 80, 100])),
            _ => Self::Weights(dice.pick(lists).to_vec()),
        }
    }

    /// Somebody tests the pods before they have traffic.
    pub(crate) fn tests_first(&self) -> bool {
        matches!(self, Self::Iterations(_))
    }
}

/// How often things go wrong, in thousandths of the times that they could, and for how long at most, in milliseconds.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// A request is lost before it arrives.
    pub(crate) lost: u64,
    /// A request is carried out and its answer lost.
    pub(crate) unheard: u64,
    /// The API server refuses: 409, 429, 500, 503.
    pub(crate) refused: u64,
    /// No answer comes at all.
    pub(crate) hung: u64,
    /// The request arrives after its sender has given up.
    pub(crate) late: u64,
    /// The process dies with a request, before or after it.
    pub(crate) crash: u64,
    /// The process stands still with a request, before or after it.
    pub(crate) pause: u64,
    /// How late watches are.
    pub(crate) lag: u64,
    /// How long requests take.
    pub(crate) latency: u64,
    /// A watch breaks off, and goes on later, or begins again.
    pub(crate) disconnect: bool,
    /// Another process leads at the same time.
    pub(crate) rival: bool,
    /// Clocks jump.
    pub(crate) jump: bool,
    /// Pods crash.
    pub(crate) pods: bool,
    /// Pods take long to become ready.
    pub(crate) slow_pods: u64,
    /// The Deployment controller is behind.
    pub(crate) slow_sync: u64,
    /// The gateway is behind.
    pub(crate) slow_gateway: u64,
    /// The gateway refuses routes for a while.
    pub(crate) refusing: bool,
    /// Prometheus is down, slow, empty, wrong.
    pub(crate) prometheus: u64,
    /// Prometheus says bad things of good versions.
    pub(crate) lies: u64,
    /// Webhooks say no, or something else, or nothing.
    pub(crate) hooks: u64,
    /// `GitOps` puts routes, Services and replicas back.
    pub(crate) gitops: bool,
}

impl Scenario {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let silent = dice.chance(150);
        let mut faults = Faults::new(dice);
        // It would have to say so.
        faults.refusing &= !silent;
        let hooks = [
            "confirm-rollout",
            "pre-rollout",
            "rollout",
            "confirm-traffic-increase",
            "confirm-promotion",
            "post-rollout",
            "rollback",
        ];
        let asked = if dice.chance(350) { 400 } else { 0 };
        Self {
            configs: dice.chance(300),
            has_route: dice.chance(750),
            replicas: dice.between(1, 4),
            strategy: Strategy::new(dice),
            hooks: hooks.into_iter().filter(|_| dice.chance(asked)).collect(),
            orders: dice.chance(200),
            interval: *dice.pick(&[5, 10, 30]),
            deadline: *dice.pick(&[60, 90]),
            threshold: dice.between(1, 3),
            inconclusive_limit: dice.between(1, 3),
            hold: dice.chance(200),
            revert: dice.chance(500),
            silent,
            queue: *dice.pick(&[25, 100, 500]),
            actions: dice.between(3, 7),
            faults,
        }
    }
}

impl Faults {
    /// Each kind is in some runs and not in others, so that none hides what another one would show.
    fn new(dice: &mut Dice) -> Self {
        let mut some = |of: u64, most: u64| if dice.chance(of) { dice.between(1, most) } else { 0 };
        let mut faults = Self {
            lost: some(300, 60),
            unheard: some(400, 80),
            refused: some(400, 80),
            hung: some(200, 30),
            late: some(200, 30),
            crash: some(500, 60),
            pause: some(250, 30),
            lag: some(500, 8000),
            latency: some(400, 800),
            slow_pods: some(300, 100_000),
            slow_sync: some(300, 5000),
            slow_gateway: some(300, 12_000),
            prometheus: some(350, 300),
            lies: some(100, 200),
            hooks: some(600, 300),
            ..Self::default()
        };
        let mut often = |of: u64| dice.chance(of);
        faults.disconnect = often(350);
        faults.rival = often(350);
        faults.jump = often(200);
        faults.pods = often(300);
        faults.refusing = often(100);
        faults.gitops = often(300);
        faults
    }

    /// Nothing goes wrong any more.
    pub(crate) fn none() -> Self {
        Self::default()
    }
}
