//! How many passes write at the same time, and who of them goes first.
//!
//! Invariant: Canaries at rest, however many they are, leave some places to those whose new version has traffic. Looking
//! needs no place, and neither does taking traffic back: only a pass that may take its time waits here.

use crate::telemetry::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Of so many places one is kept for Canaries whose new version has traffic.
const KEPT: usize = 4;

/// The places.
#[derive(Debug)]
pub(super) struct Slots {
    all: Semaphore,
    /// Those of them that a Canary without traffic on its new version may have.
    at_rest: Semaphore,
    /// How many passes wait for one.
    waiting: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// A place of one pass, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    _place: Option<SemaphorePermit<'a>>,
    _at_rest: Option<SemaphorePermit<'a>>,
}

impl Slots {
    /// So many of them; at least 1.
    pub(super) fn new(count: usize, metrics: Arc<Metrics>) -> Self {
        let at_rest = (count - count.div_ceil(KEPT)).max(1);
        Self { all: Semaphore::new(count), at_rest: Semaphore::new(at_rest), waiting: AtomicUsize::new(0), metrics }
    }

    /// A place, if one is free now. `serves`: the new version has traffic.
    pub(super) fn find(&self, serves: bool) -> Option<Slot<'_>> {
        let at_rest = if serves { None } else { Some(self.at_rest.try_acquire().ok()?) };
        Some(Slot { _place: Some(self.all.try_acquire().ok()?), _at_rest: at_rest })
    }

    /// Waits for a place.
    pub(super) async fn wait(&self, serves: bool) -> Slot<'_> {
        let _waiting = Waiting::new(self);
        // The semaphores are never closed.
        let at_rest = if serves { None } else { self.at_rest.acquire().await.ok() };
        Slot { _place: self.all.acquire().await.ok(), _at_rest: at_rest }
    }
}

/// Counts one who waits, until it is dropped.
struct Waiting<'a>(&'a Slots);

impl<'a> Waiting<'a> {
    fn new(slots: &'a Slots) -> Self {
        slots.metrics.queue_depth(slots.waiting.fetch_add(1, Ordering::Relaxed) + 1);
        Self(slots)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.metrics.queue_depth(self.0.waiting.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn slots(count: usize) -> (Slots, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        (Slots::new(count, Arc::clone(&metrics)), metrics)
    }

    #[test]
    fn those_at_rest_leave_a_place_to_those_with_traffic() {
        for count in [2, 3, 4, 8, 64] {
            let (slots, _) = slots(count);
            let taken: Vec<_> = std::iter::from_fn(|| slots.find(false)).collect();
            assert!(!taken.is_empty() && taken.len() < count, "{count}: {}", taken.len());
            assert!(slots.wait(false).now_or_never().is_none());
            let left: Vec<_> = std::iter::from_fn(|| slots.find(true)).collect();
            assert_eq!(taken.len() + left.len(), count);
            drop(left);
            assert!(slots.find(false).is_none() && slots.find(true).is_some());
        }
        let (single, _) = slots(1);
        assert!(single.find(false).is_some(), "one place is everybody's");
    }

    #[test]
    fn those_with_traffic_may_have_every_place() {
        let (slots, _) = slots(8);
        let all: Vec<_> = std::iter::from_fn(|| slots.find(true)).collect();
        assert_eq!(all.len(), 8);
        assert!(slots.find(false).is_none());
        drop(all);
        assert!(slots.find(false).is_some(), "a place that was not to be had is not kept either");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_counted_until_it_gives_up() {
        let (slots, metrics) = slots(1);
        let first = slots.find(true);
        let depth = |expected: &str| assert!(metrics.encode().contains(&format!("serin_queue_depth {expected}\n")));
        let mut second = Box::pin(slots.wait(false));
        assert!(futures::poll!(&mut second).is_pending());
        depth("1");
        drop(second);
        depth("0");
        drop(first);
        slots.wait(false).await;
        depth("0");
    }
}
