//! In which order calls reach the API server: so many at a time, and those that take traffic back ahead of all others.
//!
//! Invariant: what goes by the lane of retreats waits for nothing that goes by another: neither for its place, nor for the
//! time that the API server asked the others to stay away. Watches and the Lease are no calls of this kind: they go by
//! themselves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// How long a call waits for its place, and for an API server that asks it to come later, before its pass is taken again:
/// as long as it may then be under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same for what nobody depends on.
const COURTESY: Duration = Duration::from_secs(2);

/// How long is waited when the API server does not say: what it asks for most of the time.
const USUAL_PAUSE: Duration = Duration::from_secs(1);

/// A pause is no longer than this, whatever is asked for: nobody waits longer for its end.
const LONGEST_PAUSE: Duration = PATIENCE;

/// A retreat that was refused is tried again after this long, and each time after twice as long. Nothing is carried out of
/// what is refused so, so it costs an API server under load next to nothing.
const FIRST_TRY: Duration = Duration::from_millis(25);
const LAST_TRY: Duration = Duration::from_millis(400);

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// It takes traffic off the canary, or is needed to.
    Retreat,
    /// Everything that a pass cannot do without.
    Work,
    /// It tells somebody something, and may be left out: it yields first.
    Courtesy,
}

/// The places of all lanes. A cheap handle: all clones are the same lanes.
#[derive(Clone, Debug)]
pub(super) struct Lanes(Arc<Places>);

#[derive(Debug)]
struct Places {
    /// As many calls at a time as the settings allow.
    work: Semaphore,
    /// A part of them.
    courtesy: Semaphore,
    /// As many again, for retreats alone.
    retreat: Semaphore,
    /// From when on others than retreats may go on.
    open: Mutex<Instant>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There was no place in time.
    NoPlace,
    /// No call may be made any more.
    NoTime,
    /// It was not answered within this time.
    Late(Duration),
    /// The API server's own.
    Said(kube::Error),
}

impl Lanes {
    /// Lanes for so many calls at a time, and as many again for retreats.
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Places {
            work: Semaphore::new(at_once),
            courtesy: Semaphore::new(at_once.div_ceil(4)),
            retreat: Semaphore::new(at_once),
            open: Mutex::new(Instant::now()),
        }))
    }

    /// Makes a call when it is its turn, and again while the API server asks for patience. `limit` is how long the call may
    /// be under way; it is asked right before each attempt, and nothing is sent when it says zero.
    ///
    /// # Errors
    /// When it is not its turn in time, or when it is not answered well.
    pub(super) async fn call<T, Call: Future<Output = Result<T, kube::Error>>>(
        &self,
        lane: Lane,
        limit: impl Fn() -> Duration,
        send: impl Fn() -> Call,
    ) -> Result<T, Refusal> {
        let end = Instant::now() + lane.patience();
        let mut next_try = FIRST_TRY;
        loop {
            let place = timeout_at(end, self.place(lane)).await.map_err(|_| Refusal::NoPlace)?;
            let limit = limit();
            if limit.is_zero() {
                return Err(Refusal::NoTime);
            }
            let answer = timeout(limit, send()).await.map_err(|_| Refusal::Late(limit))?;
            drop(place);
            let Err(error) = answer else { return answer.map_err(Refusal::Said) };
            let again = match (lane, pause_asked_for(&error)) {
                (Lane::Retreat, _) if is_turned_away(&error) => Instant::now() + next_try,
                (Lane::Work | Lane::Courtesy, Some(pause)) => self.pause(pause),
                (Lane::Retreat | Lane::Work | Lane::Courtesy, _) => return Err(Refusal::Said(error)),
            };
            if again >= end {
                return Err(Refusal::Said(error));
            }
            if lane == Lane::Retreat {
                sleep(next_try).await;
                next_try = (next_try * 2).min(LAST_TRY);
            }
        }
    }

    /// How long the API server still wants to be left alone.
    pub(super) fn paused(&self) -> Duration {
        self.opening().saturating_duration_since(Instant::now())
    }

    async fn place(&self, lane: Lane) -> Place<'_> {
        let places = &*self.0;
        // The semaphores are never closed.
        let yielding = match lane {
            Lane::Courtesy => places.courtesy.acquire().await.ok(),
            Lane::Retreat | Lane::Work => None,
        };
        let place = match lane {
            Lane::Retreat => places.retreat.acquire().await.ok(),
            Lane::Work | Lane::Courtesy => {
                let place = places.work.acquire().await.ok();
                self.opened().await;
                place
            }
        };
        Place { _own: place, _yielding: yielding }
    }

    /// Returns when the API server does not ask for patience any more.
    async fn opened(&self) {
        loop {
            let opening = self.opening();
            if opening <= Instant::now() {
                return;
            }
            sleep_until(opening).await;
        }
    }

    fn opening(&self) -> Instant {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everything but retreats away from the API server; answers until when.
    fn pause(&self, pause: Duration) -> Instant {
        let now = Instant::now();
        let until = now + pause;
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open <= now {
            tracing::warn!("the API server asks for patience; for {pause:?} it gets nothing but retreats");
        }
        *open = until.max(*open);
        *open
    }
}

/// A place is free again when this is dropped.
struct Place<'a> {
    _own: Option<SemaphorePermit<'a>>,
    _yielding: Option<SemaphorePermit<'a>>,
}

impl Lane {
    fn patience(self) -> Duration {
        match self {
            Self::Retreat | Self::Work => PATIENCE,
            Self::Courtesy => COURTESY,
        }
    }
}

/// Whether the API server has turned a call away, and carried nothing out.
pub(super) fn is_turned_away(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 429 | 503))
}

/// For how long the API server asks to be left alone. That one kind of object cannot be served, which is a 503 too, is no
/// such wish.
fn pause_asked_for(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else { return None };
    let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let pause = match status.code {
        429 | 503 if asked > 0 => Duration::from_secs(asked.into()),
        429 => USUAL_PAUSE,
        _ => return None,
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::{join_all, pending, ready};
    use kube::core::Status;
    use std::cell::Cell;

    const LIMIT: Duration = Duration::from_secs(10);

    fn refusal(code: u16, seconds: u32) -> kube::Error {
        let details = serde_json::from_value(serde_json::json!({"retryAfterSeconds": seconds})).unwrap();
        kube::Error::Api(Status::failure("no", "Busy").with_code(code).with_details(details).boxed())
    }

    async fn go(lanes: &Lanes, lane: Lane) -> Result<(), Refusal> {
        lanes.call(lane, || LIMIT, || ready(Ok(()))).await
    }

    /// A call that is refused so many times, and then answered with how often it was made.
    async fn insist(lanes: &Lanes, lane: Lane, refused: u32, error: impl Fn() -> kube::Error) -> Result<u32, Refusal> {
        let tries = Cell::new(0);
        let send = || {
            tries.set(tries.get() + 1);
            ready(if tries.get() <= refused { Err(error()) } else { Ok(tries.get()) })
        };
        lanes.call(lane, || LIMIT, send).await
    }

    /// Takes all places but those of retreats for as long as it is polled.
    async fn hold(lanes: &Lanes, lane: Lane) {
        let calls = (0..100).map(|_| lanes.call(lane, || LIMIT * 100, pending::<Result<(), kube::Error>>));
        join_all(calls).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_are_under_way_than_there_are_places() {
        let lanes = Lanes::new(8);
        let (open, most) = (Cell::new(0), Cell::new(0));
        for (lane, places) in [(Lane::Work, 8), (Lane::Retreat, 8), (Lane::Courtesy, 2)] {
            most.set(0);
            let send = || async {
                open.set(open.get() + 1);
                most.set(most.get().max(open.get()));
                sleep(Duration::from_millis(10)).await;
                open.set(open.get() - 1);
                Ok(())
            };
            let answers = join_all((0..100).map(|_| lanes.call(lane, || LIMIT, send))).await;
            assert!(answers.iter().all(Result::is_ok));
            assert_eq!((most.get(), open.get()), (places, 0), "{lane:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_retreat_waits_for_no_place_and_no_pause_of_others() {
        let lanes = Lanes::new(1);
        let began = Instant::now();
        for lane in [Lane::Work, Lane::Courtesy] {
            let mut others = Box::pin(hold(&lanes, lane));
            assert!(futures::poll!(&mut others).is_pending());
            go(&lanes, Lane::Retreat).await.unwrap();
        }
        lanes.pause(LONGEST_PAUSE);
        go(&lanes, Lane::Retreat).await.unwrap();
        assert_eq!(Instant::now(), began);
        go(&lanes, Lane::Work).await.unwrap();
        assert_eq!(began.elapsed(), LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retreat_that_is_turned_away_is_tried_again_at_once() {
        for code in [429, 503] {
            let lanes = Lanes::new(1);
            let began = Instant::now();
            assert_eq!(insist(&lanes, Lane::Retreat, 4, || refusal(code, 30)).await.unwrap(), 5);
            assert_eq!(began.elapsed(), Duration::from_millis(25 + 50 + 100 + 200));
            assert_eq!(lanes.paused(), Duration::ZERO, "what a retreat is told is about it alone");
            let error = insist(&lanes, Lane::Retreat, u32::MAX, || refusal(code, 30)).await.unwrap_err();
            assert!(matches!(error, Refusal::Said(_)));
            assert!(began.elapsed() <= PATIENCE + Duration::from_secs(1));
        }
        let other = insist(&Lanes::new(1), Lane::Retreat, 1, || refusal(500, 0)).await;
        assert!(matches!(other, Err(Refusal::Said(_))), "it may have been carried out");
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_wait_as_long_as_the_api_server_asks() {
        for (code, asked, waited) in [(429, 3, 3), (503, 3, 3), (429, 0, 1), (429, 9, 9)] {
            let lanes = Lanes::new(4);
            let began = Instant::now();
            let (first, second) = futures::join!(
                insist(&lanes, Lane::Work, 1, || refusal(code, asked)),
                insist(&lanes, Lane::Work, 0, || { refusal(code, asked) })
            );
            assert_eq!((first.unwrap(), second.unwrap()), (2, 1));
            assert_eq!(began.elapsed(), Duration::from_secs(waited), "{code} {asked}");
        }
        let lanes = Lanes::new(4);
        insist(&lanes, Lane::Work, 1, || refusal(503, 0)).await.unwrap_err();
        assert_eq!(lanes.paused(), Duration::ZERO, "one kind of object is not served");
        insist(&lanes, Lane::Work, 1, || refusal(429, 3600)).await.unwrap_err();
        assert_eq!(lanes.paused(), LONGEST_PAUSE, "whatever is asked for");
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_tells_something_yields_first() {
        let lanes = Lanes::new(4);
        let mut telling = Box::pin(hold(&lanes, Lane::Courtesy));
        assert!(futures::poll!(&mut telling).is_pending());
        go(&lanes, Lane::Work).await.unwrap();
        lanes.pause(Duration::from_secs(5));
        let began = Instant::now();
        let (told, worked) = futures::join!(go(&lanes, Lane::Courtesy), go(&lanes, Lane::Work));
        assert!(matches!(told, Err(Refusal::NoPlace)) && worked.is_ok());
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_after_a_wait_that_was_too_long() {
        let lanes = Lanes::new(1);
        lanes.pause(Duration::from_secs(5));
        let leads_until = Instant::now() + Duration::from_secs(4);
        let was_sent = Cell::new(false);
        let send = || {
            was_sent.set(true);
            ready(Ok(()))
        };
        let left = || leads_until.saturating_duration_since(Instant::now());
        assert!(matches!(lanes.call(Lane::Work, left, send).await, Err(Refusal::NoTime)));
        assert!(!was_sent.get());
        let late = lanes.call(Lane::Work, || LIMIT, pending::<Result<(), kube::Error>>).await;
        assert!(matches!(late, Err(Refusal::Late(LIMIT))));
    }
}
