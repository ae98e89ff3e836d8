//! Leader election by a Lease: at most one process writes, and it knows for how long it may.
//!
//! Invariant: whenever [`Leadership::is_certain`] says yes, no other candidate that follows these rules can lead. It
//! rests on two clocks that are never compared with each other. The leader counts from the moment *before* it sent its
//! last successful renewal and stops `MARGIN` before the Lease ends; a candidate counts from the moment *after* it
//! received a record that has not changed since, and waits at least as long as the Lease lasts. So a leader that is
//! cut off, paused or slow falls silent before anybody else may speak, without having to be told. The times in the
//! Lease itself are for people to read.
//!
//! What is left is a write that is sent in time and arrives more than `MARGIN` late. It cannot commit a decision,
//! because status writes carry the resource version that was read.

mod candidate;
mod record;
mod store;
mod term;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

pub use candidate::Candidate;
pub use store::Error;
pub use term::Term;

/// How long a Lease lasts without a renewal: what Kubernetes' own controllers use. It bounds the time without a leader
/// after a node is lost.
const LEASE: Duration = Duration::from_secs(15);

/// Two renewals may fail before the leader stops being certain.
const RENEWAL: Duration = Duration::from_secs(5);

/// The leader's certainty ends this much before the Lease does: for a clock that runs slow and for a write that was
/// sent at the last moment and is still on its way.
const MARGIN: Duration = Duration::from_secs(3);

/// Why a leader leads no longer.
#[derive(Debug, Error)]
pub enum Lost {
    /// Somebody else is in the record.
    #[error("the Lease {name} is held by {holder} now")]
    FindOther {
        /// The Lease.
        name: String,
        /// The identity in the record.
        holder: String,
    },
    /// Time ran out before a renewal succeeded.
    #[error("the Lease {name} could not be renewed in time")]
    RenewInTime {
        /// The Lease.
        name: String,
        /// The last failure; none when the process itself stood still.
        source: Option<Error>,
    },
}

/// The right to write, for a limited time. A cheap handle: all clones say the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    expiry: watch::Receiver<Expiry>,
}

/// Until when a leader is certain; nothing before it leads for the first time.
type Expiry = Option<Instant>;

impl Leadership {
    /// Leadership without a Lease, for this long from now: for tests.
    #[must_use]
    pub fn lasting(duration: Duration) -> Self {
        Self { expiry: watch::Sender::new(Some(Instant::now() + duration)).subscribe() }
    }

    /// Leadership that somebody else decides about: for tests.
    #[must_use]
    pub fn told_by(expiry: watch::Receiver<Option<Instant>>) -> Self {
        Self { expiry }
    }

    /// Whether this process has ever led. Before that it stands by: it watches, and makes no pass.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.expiry.borrow().is_some()
    }

    /// Returns when this process leads for the first time; never, when it gives up before.
    pub async fn begun(mut self) {
        if self.expiry.wait_for(Option::is_some).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Whether a write may be sent now. Ask right before each write: the answer is good for moments only.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// How much longer [`is_certain`](Self::is_certain) says yes without another renewal; zero when it says no.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let expiry = *self.expiry.borrow();
        expiry.map(|expiry| expiry.saturating_duration_since(Instant::now())).unwrap_or_default()
    }

    /// Does something for as long as a write may be sent; `None` when that ended before it was done.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut expiry = self.expiry.clone();
        loop {
            let left = self.remaining();
            if left.is_zero() {
                return None;
            }
            let renewed = async {
                if expiry.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                done = &mut work => return Some(done),
                () = renewed => {}
                () = sleep(left) => {}
            }
        }
    }
}
