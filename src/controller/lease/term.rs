//! Holding the Lease, and giving it back.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::ObjectMeta;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::record::{is_held, is_same_term, released, renewed};
use super::store::{Error, Store};
use super::{Expiry, LEASE, Leadership, Lost, MARGIN, RENEWAL};
use crate::telemetry::chain;

/// A failed renewal is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// The time from winning the Lease to losing or releasing it.
#[derive(Debug)]
pub struct Term {
    store: Store,
    /// As last read or written: with the version that the next write is based on.
    metadata: ObjectMeta,
    /// As last written.
    record: LeaseSpec,
    /// When the last successful renewal was sent.
    renewed: Instant,
    expiry: watch::Sender<Expiry>,
}

impl Term {
    /// `sent` is the instant before the request that won the Lease; from now on `expiry` tells until when it is certain.
    pub(super) fn new(
        store: Store,
        metadata: ObjectMeta,
        record: LeaseSpec,
        sent: Instant,
        expiry: watch::Sender<Expiry>,
    ) -> Self {
        expiry.send_replace(Some(certain_until(sent)));
        Self { store, metadata, record, renewed: sent, expiry }
    }

    /// The handle to ask before each write.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership { expiry: self.expiry.subscribe() }
    }

    /// Renews the Lease for as long as that succeeds in time. May be dropped at any point and called again.
    pub async fn keep(&mut self) -> Lost {
        let mut due = self.renewed + RENEWAL;
        let mut failure = None;
        loop {
            let expiry = certain_until(self.renewed);
            sleep_until(due.min(expiry)).await;
            // Also after a pause of the whole process, in which somebody else may have begun to lead.
            if Instant::now() >= expiry {
                return Lost::RenewInTime { name: self.store.name(), source: failure };
            }
            // Cut off at the end, which the next turn then sees: a hung renewal does not put it off.
            let Ok(renewal) = timeout_at(expiry, self.renew()).await else { continue };
            match renewal {
                Ok(()) => {
                    failure = None;
                    due = self.renewed + RENEWAL;
                }
                Err(Trouble::Passing(error)) => {
                    tracing::warn!(error = chain(&error), "the Lease was not renewed; trying again");
                    failure = Some(error);
                    due = Instant::now() + RETRY;
                }
                Err(Trouble::Final(lost)) => {
                    self.expiry.send_replace(Some(Instant::now()));
                    return lost;
                }
            }
        }
    }

    /// Gives the Lease back, so that the next candidate takes over at its next look. Certainty ends with the call, not
    /// with its success.
    ///
    /// # Errors
    ///
    /// When the API server did not take it; then the Lease ends by itself.
    pub async fn release(mut self) -> Result<(), Error> {
        self.expiry.send_replace(Some(Instant::now()));
        match self.put(released(&self.record)).await {
            // Somebody else's Lease is none of our business any more.
            Ok(()) | Err(Trouble::Final(_)) => Ok(()),
            Err(Trouble::Passing(error)) => Err(error),
        }
    }

    async fn renew(&mut self) -> Result<(), Trouble> {
        let sent = Instant::now();
        self.put(renewed(&self.record)).await?;
        self.renewed = sent;
        self.expiry.send_replace(Some(certain_until(sent)));
        Ok(())
    }

    /// Writes our record. When it is not as we left it, looks who wrote, and tries once more if the Lease is still ours.
    async fn put(&mut self, record: LeaseSpec) -> Result<(), Trouble> {
        for _ in 0..2 {
            let wanted = Lease { metadata: self.metadata.clone(), spec: Some(record.clone()) };
            if let Some(written) = self.store.write(&wanted).await? {
                self.metadata = written.metadata;
                self.record = record;
                return Ok(());
            }
            self.metadata = self.find_ours().await?;
        }
        Err(Trouble::Passing(Error::OutpaceWriters { name: self.store.name() }))
    }

    /// The metadata as they are now, if the Lease is still ours: after an edit by hand, or after a write of ours whose
    /// answer was lost. Without a holder, or deleted, it is ours too: who saw us in it waits before taking it.
    async fn find_ours(&self) -> Result<ObjectMeta, Trouble> {
        let Some(found) = self.store.read().await? else { return Ok(self.store.fresh_metadata()) };
        let record = found.spec.unwrap_or_default();
        if is_held(&record) && !is_same_term(&self.record, &record) {
            let holder = record.holder_identity.unwrap_or_default();
            return Err(Trouble::Final(Lost::FindOther { name: self.store.name(), holder }));
        }
        Ok(found.metadata)
    }
}

fn certain_until(sent: Instant) -> Instant {
    sent + LEASE - MARGIN
}

/// What stands in the way of a write of the leader.
enum Trouble {
    /// Worth another try.
    Passing(Error),
    /// The end of the term.
    Final(Lost),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Passing(error)
    }
}
