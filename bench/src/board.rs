//! What is seen of every app, and when.
//!
//! Invariant: a time on the board is when this process heard of something, never when it should have happened. So what
//! the harness itself is late counts against the operator, and nothing counts for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many apps share a namespace.
const PER_NAMESPACE: usize = 50;

/// An app's Deployment, or the one that the operator made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The user's own.
    Target,
    /// The operator's copy.
    Primary,
}

/// The name of an app; its number is in the name, so that whoever is asked about it knows which it is.
#[must_use]
pub fn app_name(index: usize) -> String {
    format!("app{index:05}")
}

/// The namespace of an app.
#[must_use]
pub fn namespace(index: usize) -> String {
    format!("bench-{:03}", index / PER_NAMESPACE)
}

/// The number of the app that a text names first.
#[must_use]
pub fn index_in(text: &str) -> Option<usize> {
    let digits = |at: usize| text.get(at + 3..at + 8)?.parse().ok();
    text.match_indices("app").find_map(|(at, _)| digits(at))
}

/// The app and the role of a Deployment.
#[must_use]
pub fn deployment(name: &str) -> Option<(usize, Role)> {
    let index = index_in(name)?;
    match name.strip_prefix(&app_name(index))? {
        "" => Some((index, Role::Target)),
        "-primary" => Some((index, Role::Primary)),
        _ => None,
    }
}

/// All apps.
#[derive(Debug)]
pub struct Board {
    apps: Mutex<Vec<App>>,
    interval: Duration,
}

/// One app.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// The canary's share in the route; none without a route.
    pub weight: Option<u8>,
    /// What the user's Deployment asks for and has.
    pub target: Pods,
    /// The same of the primary's.
    pub primary: Pods,
    /// The rollout that began last.
    pub rollout: Option<Rollout>,
}

/// What is known of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// How many are asked for; none before the Deployment is seen.
    pub wanted: Option<u32>,
    /// How many there are.
    pub total: u32,
    /// What they run.
    pub image: String,
}

/// One new version, from the change of the pod template on.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// What runs in the new pods.
    pub image: String,
    /// After how many steps it turns bad; never, without.
    pub turns_bad_after: Option<usize>,
    /// When the pod template was changed: before the request was sent.
    pub changed: Instant,
    /// When the canary's pods were ready: after the Deployment's status was written.
    pub ready: Option<Instant>,
    /// Each rise of the canary's weight.
    pub steps: Vec<(Instant, u8)>,
    /// From when on Prometheus says that it is bad.
    pub bad: Option<Instant>,
    /// When Prometheus first said so.
    pub told: Option<Instant>,
    /// When the weight was first 0 again.
    pub back: Option<Instant>,
    /// Whether a weight rose after Prometheus had said that the version is bad, and it was back at 0.
    pub rose_again: bool,
    /// When the canary's pods were gone as well.
    pub ended: Option<Instant>,
}

impl Board {
    /// Of so many apps, with the interval at which they are checked.
    #[must_use]
    pub fn new(apps: usize, interval: Duration) -> Self {
        Self { apps: Mutex::new(vec![App::default(); apps]), interval }
    }

    /// The pod template is about to be changed.
    pub fn begin(&self, index: usize, image: &str, turns_bad_after: Option<usize>) {
        let rollout = Rollout {
            image: image.to_owned(),
            turns_bad_after,
            changed: Instant::now(),
            ready: None,
            steps: vec![],
            bad: None,
            told: None,
            back: None,
            rose_again: false,
            ended: None,
        };
        self.with(index, |app| app.rollout = Some(rollout));
    }

    /// The version that is rolled out is bad from now on.
    pub fn turn_bad(&self, index: usize) {
        let now = Instant::now();
        self.with(index, |app| {
            if let Some(rollout) = &mut app.rollout {
                rollout.bad = Some(now);
            }
        });
    }

    /// A route was seen, with the canary's share of it; 0 when it does not lead there at all.
    pub fn route(&self, index: usize, weight: u8, now: Instant) {
        let interval = self.interval;
        self.with(index, |app| {
            let before = app.weight.replace(weight).unwrap_or_default();
            if let Some(rollout) = &mut app.rollout {
                rollout.weigh(before, weight, now, || interval.mul_f64(fastrand::f64()));
            }
            app.end(now);
        });
    }

    /// A Deployment was seen.
    pub fn deployment(&self, index: usize, role: Role, pods: Pods, now: Instant) {
        self.with(index, |app| {
            match role {
                Role::Target => app.target = pods,
                Role::Primary => app.primary = pods,
            }
            app.end(now);
        });
    }

    /// The app's own pods have become ready.
    pub fn ready(&self, index: usize) {
        let now = Instant::now();
        self.with(index, |app| {
            if let Some(rollout) = app.rollout.as_mut().filter(|rollout| rollout.image == app.target.image) {
                rollout.ready.get_or_insert(now);
            }
        });
    }

    /// Prometheus is asked about a canary: whether it is good.
    #[must_use]
    pub fn is_good(&self, index: usize) -> bool {
        let now = Instant::now();
        let mut good = true;
        self.with(index, |app| {
            if let Some(rollout) = app.rollout.as_mut().filter(|rollout| rollout.bad.is_some_and(|bad| bad <= now)) {
                rollout.told.get_or_insert(now);
                good = false;
            }
        });
        good
    }

    /// How many apps are in a state.
    #[must_use]
    pub fn count(&self, is: impl Fn(&App) -> bool) -> usize {
        self.apps().iter().filter(|app| is(app)).count()
    }

    /// One app as it is now.
    #[must_use]
    pub fn app(&self, index: usize) -> App {
        self.apps().get(index).cloned().unwrap_or_default()
    }

    /// The apps as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<App> {
        self.apps().clone()
    }

    fn with(&self, index: usize, change: impl FnOnce(&mut App)) {
        if let Some(app) = self.apps().get_mut(index) {
            change(app);
        }
    }

    fn apps(&self) -> MutexGuard<'_, Vec<App>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// All requests go to the primary, and the app's own pods are gone.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.weight == Some(0) && self.target.wanted == Some(0) && self.target.total == 0
    }

    /// Its rollout is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.ended.is_some())
    }

    fn end(&mut self, now: Instant) {
        let at_rest = self.is_at_rest();
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| at_rest && rollout.back.is_some()) {
            rollout.ended.get_or_insert(now);
        }
    }
}

impl Rollout {
    fn weigh(&mut self, before: u8, weight: u8, now: Instant, delay: impl FnOnce() -> Duration) {
        if weight > before {
            self.rose_again |= self.back.is_some();
            self.steps.push((now, weight));
            if self.turns_bad_after == Some(self.steps.len()) {
                self.bad = Some(now + delay());
            }
        }
        if weight == 0 && !self.steps.is_empty() {
            self.back.get_or_insert(now);
        }
    }

    /// The times between two rises of the weight.
    pub fn intervals(&self) -> impl Iterator<Item = Duration> {
        self.steps.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn pods(wanted: u32, image: &str) -> Pods {
        Pods { wanted: Some(wanted), total: wanted, image: image.to_owned() }
    }

    #[test]
    fn an_app_is_known_by_its_number_wherever_it_is_named() {
        assert_eq!(deployment("app00012"), Some((12, Role::Target)));
        assert_eq!(deployment("app00012-primary"), Some((12, Role::Primary)));
        assert_eq!(deployment("app00012-canary"), None);
        assert_eq!(deployment("other"), None);
        assert_eq!(index_in(r#"sum(application{s=~"bench-001-app00057-canary-[0-9]+"}[1m])"#), Some(57));
        assert_eq!((app_name(12), namespace(50)), ("app00012".into(), "bench-001".into()));
    }

    #[test]
    fn a_rollout_is_followed_from_the_change_to_the_end() {
        let board = Board::new(1, INTERVAL);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        board.route(0, 0, at(0));
        board.deployment(0, Role::Target, pods(0, "app:1"), at(0));
        assert_eq!(board.count(App::is_at_rest), 1);

        board.begin(0, "app:2", Some(2));
        board.deployment(0, Role::Target, pods(1, "app:2"), at(1));
        board.ready(0);
        for (seconds, weight) in [(2, 10), (3, 10), (12, 20)] {
            assert!(board.is_good(0));
            board.route(0, weight, at(seconds));
        }
        let rollout = board.snapshot().remove(0).rollout.unwrap();
        assert!(rollout.ready.is_some());
        assert_eq!(rollout.intervals().collect::<Vec<_>>(), [INTERVAL], "the same weight twice is no step");
        let bad = rollout.bad.expect("it turns bad within the interval that begins with the second step");
        assert!(bad >= at(12) && bad < at(22));

        board.turn_bad(0);
        assert!(!board.is_good(0));
        board.route(0, 0, at(13));
        assert!(!board.snapshot()[0].has_ended(), "its pods still run");
        board.deployment(0, Role::Target, pods(0, "app:2"), at(14));
        board.route(0, 10, at(15));
        let app = board.snapshot().remove(0);
        assert!(app.has_ended());
        let rollout = app.rollout.unwrap();
        assert_eq!((rollout.back, rollout.rose_again), (Some(at(13)), true));
        assert!(rollout.told.is_some());
    }

    #[test]
    fn what_is_good_stays_good() {
        let board = Board::new(2, INTERVAL);
        board.begin(1, "app:2", None);
        assert!(board.is_good(0) && board.is_good(1) && board.is_good(7));
        assert!(board.snapshot()[1].rollout.as_ref().unwrap().told.is_none());
    }
}
