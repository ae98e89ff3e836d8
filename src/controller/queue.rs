//! Whose turn it is: Canaries that something has happened to, and those whose time has come.
//!
//! Invariant: at most one pass over a Canary runs at a time, and what happens during one leads to another after it. A turn
//! costs the same however many Canaries there are.

use super::claims::NamespacedName;
use futures::{FutureExt, Stream, StreamExt};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long after something has happened the pass begins: what belongs together, as a write of ours, the gateway's answer to it
/// and what the watches show of both, then leads to one pass and not to one each.
const MOMENT: Duration = Duration::from_millis(50);

/// After how long a pass is taken again that ended by a bug in it.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// Longer than anything that a pass waits for, and short enough for any clock.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 30);

/// Takes a pass over every Canary that `wakes` names, from when all is `ready` until `stop`; then those end that run. A pass
/// answers after how long the next one is due if nothing happens before.
pub(super) async fn run<Pass>(
    wakes: impl Stream<Item = NamespacedName>,
    ready: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
    pass: impl Fn(NamespacedName) -> Pass,
) where
    Pass: Future<Output = Option<Duration>> + Send + 'static,
{
    let (mut wakes, mut stop, mut ready) = (pin!(wakes.fuse()), pin!(stop), pin!(ready.fuse()));
    let (mut turns, mut passes, mut is_ready) = (Turns::default(), JoinSet::new(), false);
    loop {
        while is_ready && let Some(name) = turns.begin(Instant::now()) {
            passes.spawn(guarded(name.clone(), pass(name)));
        }
        let due = turns.due().filter(|_| is_ready);
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = &mut ready, if !is_ready => is_ready = true,
            Some(Ok((name, next))) = passes.join_next(), if !passes.is_empty() => {
                turns.end(name, next.map(|after| Instant::now() + after.min(LONGEST_WAIT)));
            }
            Some(name) = wakes.next() => turns.wake(name, Instant::now() + MOMENT),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
    while passes.join_next().await.is_some() {}
}

/// A bug that one Canary brings to light must not stop the others.
async fn guarded(
    name: NamespacedName,
    pass: impl Future<Output = Option<Duration>>,
) -> (NamespacedName, Option<Duration>) {
    let next = AssertUnwindSafe(pass).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(canary = %name, "the pass ended by a bug; please report what stands above");
        Some(AFTER_PANIC)
    });
    (name, next)
}

/// The turns of all Canaries that have one.
#[derive(Default)]
struct Turns {
    turns: HashMap<NamespacedName, Turn>,
    due: BTreeSet<(Instant, NamespacedName)>,
}

/// The turn of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Due(Instant),
    Running,
    /// Something has happened since the pass began.
    RunningAgain,
}

impl Turns {
    /// Something has happened to a Canary.
    fn wake(&mut self, name: NamespacedName, at: Instant) {
        match self.turns.get_mut(&name) {
            Some(turn @ (Turn::Running | Turn::RunningAgain)) => *turn = Turn::RunningAgain,
            Some(Turn::Due(before)) if *before <= at => {}
            Some(Turn::Due(_)) | None => self.set(name, at),
        }
    }

    /// Begins the pass that is due first, if its time has come.
    fn begin(&mut self, now: Instant) -> Option<NamespacedName> {
        self.due().filter(|at| *at <= now)?;
        let (_, name) = self.due.pop_first()?;
        self.turns.insert(name.clone(), Turn::Running);
        Some(name)
    }

    /// A pass has ended; the next one is due then, or in a moment if something has happened meanwhile.
    fn end(&mut self, name: NamespacedName, next: Option<Instant>) {
        let again = self.turns.remove(&name) == Some(Turn::RunningAgain);
        if let Some(at) = if again { Some(Instant::now() + MOMENT) } else { next } {
            self.set(name, at);
        }
    }

    /// When the next pass is due.
    fn due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, name: NamespacedName, at: Instant) {
        if let Some(Turn::Due(before)) = self.turns.insert(name.clone(), Turn::Due(at)) {
            self.due.remove(&(before, name.clone()));
        }
        self.due.insert((at, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::mpsc;
    use std::sync::{Arc, Mutex};
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    fn name(name: &str) -> NamespacedName {
        NamespacedName::new("shop", name)
    }

    /// A queue whose passes take a second each, and note when they began.
    struct Passes {
        wakes: mpsc::UnboundedSender<NamespacedName>,
        stop: oneshot::Sender<()>,
        began: Arc<Mutex<Vec<(u64, String)>>>,
        task: tokio::task::JoinHandle<()>,
    }

    fn open(ready: Duration, next: fn(&str) -> Option<Duration>) -> Passes {
        let (wakes, woken) = mpsc::unbounded();
        let (stop, stopped) = oneshot::channel::<()>();
        let began: Arc<Mutex<Vec<_>>> = Arc::default();
        let (start, notes) = (Instant::now(), Arc::clone(&began));
        let pass = move |name: NamespacedName| {
            let notes = Arc::clone(&notes);
            async move {
                notes.lock().unwrap().push((start.elapsed().as_secs(), name.name.clone()));
                sleep(Duration::from_secs(1)).await;
                next(&name.name)
            }
        };
        let task = tokio::spawn(run(woken, sleep(ready), async move { drop(stopped.await) }, pass));
        Passes { wakes, stop, began, task }
    }

    impl Passes {
        fn wake(&self, one: &str) {
            self.wakes.unbounded_send(name(one)).unwrap();
        }

        fn began(&self) -> Vec<(u64, String)> {
            std::mem::take(&mut *self.began.lock().unwrap())
        }
    }

    fn at(times: &[u64], name: &str) -> Vec<(u64, String)> {
        times.iter().map(|at| (*at, name.to_owned())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_during_a_pass_leads_to_one_more() {
        let passes = open(Duration::ZERO, |_| None);
        passes.wake("web");
        sleep(Duration::from_millis(500)).await;
        for _ in 0..5 {
            passes.wake("web");
        }
        sleep(Duration::from_mins(1)).await;
        assert_eq!(passes.began(), at(&[0, 1], "web"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_is_due_in_time_or_when_something_happens_before() {
        let passes = open(Duration::ZERO, |_| Some(Duration::from_secs(10)));
        passes.wake("web");
        sleep(Duration::from_secs(25)).await;
        assert_eq!(passes.began(), at(&[0, 11, 22], "web"));
        passes.wake("web");
        sleep(Duration::from_secs(20)).await;
        assert_eq!(passes.began(), at(&[25, 36], "web"), "the pass that was due at 33 was made at 25");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_before_all_is_ready_and_then_each_begins_once() {
        let passes = open(Duration::from_secs(7), |_| None);
        for one in ["web", "web", "web"] {
            passes.wake(one);
            sleep(Duration::from_secs(1)).await;
        }
        assert!(passes.began().is_empty());
        sleep(Duration::from_mins(1)).await;
        assert_eq!(passes.began(), at(&[7], "web"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_panics_is_taken_again_and_stops_no_other() {
        let passes = open(Duration::ZERO, |name| if name == "bad" { panic!("planted") } else { None });
        passes.wake("bad");
        passes.wake("good");
        sleep(Duration::from_secs(45)).await;
        let began = passes.began();
        let of = |one: &str| began.iter().filter(|(_, name)| name == one).map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!((of("good"), of("bad")), (vec![0], vec![0, 31]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_lets_passes_end_and_begins_no_other() {
        let passes = open(Duration::ZERO, |_| Some(Duration::ZERO));
        passes.wake("web");
        sleep(Duration::from_millis(500)).await;
        passes.wake("other");
        passes.wake("web");
        let Passes { stop, task, began, wakes: _wakes } = passes;
        stop.send(()).unwrap();
        let stopped = Instant::now();
        task.await.unwrap();
        assert_eq!(stopped.elapsed(), MOMENT + Duration::from_millis(500), "of a pass that began after a moment");
        assert_eq!(*began.lock().unwrap(), at(&[0], "web"));
    }

    #[test]
    fn turns_that_are_over_leave_nothing_behind() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        turns.wake(name("web"), now);
        turns.wake(name("web"), now);
        turns.wake(name("api"), now + Duration::from_secs(5));
        turns.wake(name("api"), now);
        assert_eq!((turns.turns.len(), turns.due.len()), (2, 2));
        while let Some(name) = turns.begin(now) {
            turns.end(name, None);
        }
        assert_eq!((turns.turns.len(), turns.due.len(), turns.due()), (0, 0, None));
    }
}
