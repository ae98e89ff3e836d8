//! The only place that reads the clock.

use jiff::{Timestamp, Unit};
use tokio::time::Instant;

/// Where the time comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine.
    System,
    /// A beginning, and how far tokio's time has come since: with paused time, tests decide when it passes.
    Virtual(Timestamp, Instant),
}

impl Clock {
    /// A clock that shows `start` now, and moves with tokio's time.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self::Virtual(start, Instant::now())
    }

    /// Now, in whole milliseconds: the status is read by people.
    #[must_use]
    pub fn now(self) -> Timestamp {
        let now = match self {
            Self::System => Timestamp::now(),
            Self::Virtual(start, since) => start + since.elapsed(),
        };
        now.round(Unit::Millisecond).unwrap_or(now)
    }
}
