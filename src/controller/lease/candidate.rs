//! Waiting for the Lease, and taking it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::record::{claimed, wait_before_taking};
use super::store::{Error, Store};
use super::term::Term;
use super::{Expiry, LEASE, Leadership};
use crate::telemetry::chain;

/// A candidate looks at the Lease at least this often, and at most twice as often.
const LOOK: Duration = Duration::from_secs(2);

/// A process that would lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    store: Store,
    identity: String,
    expiry: watch::Sender<Expiry>,
}

impl Candidate {
    /// `identity` must be that of no other living process: a Lease under the same identity is taken for our own from
    /// before a restart, and resumed without a wait.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let store = Store::new(client, namespace, name);
        Self { store, identity: identity.to_owned(), expiry: watch::Sender::default() }
    }

    /// The handle to ask before each write. It says no until the Lease is ours.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership { expiry: self.expiry.subscribe() }
    }

    /// Waits for the Lease, however long it takes; what goes wrong on the way is logged and tried again.
    pub async fn lead(&self) -> Term {
        let mut sighting = None;
        let mut trouble = String::new();
        let mut looks: u64 = 0;
        loop {
            match self.look(&mut sighting).await {
                Ok(Some(term)) => return term,
                Ok(None) => trouble.clear(),
                Err(error) => warn_once(&error, &mut trouble),
            }
            sleep(self.pause(looks)).await;
            looks = looks.wrapping_add(1);
        }
    }

    /// One look at the Lease, and the take-over when it is free. `None`: somebody else's.
    async fn look(&self, sighting: &mut Option<Sighting>) -> Result<Option<Term>, Error> {
        let found = self.store.read().await?;
        let seen = Sighting::after(sighting.take(), found.clone(), Instant::now());
        let seen = sighting.insert(seen);
        if !seen.is_free_for(&self.identity) {
            return Ok(None);
        }

        let record = claimed(seen.record.as_ref(), &self.identity);
        let metadata = found.map_or_else(|| self.store.fresh_metadata(), |lease| lease.metadata);
        let sent = Instant::now();
        let written = self.store.write(&Lease { metadata, spec: Some(record.clone()) }).await?;
        Ok(written.map(|lease| Term::new(self.store.clone(), lease.metadata, record, sent, self.expiry.clone())))
    }

    /// Half of [`LOOK`] to all of it. Spread by identity and not by chance: candidates still fall out of step.
    fn pause(&self, looks: u64) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&self.identity, looks).hash(&mut hasher);
        let percent = u32::try_from(50 + hasher.finish() % 51).unwrap_or(100);
        LOOK * percent / 100
    }
}

/// Every two seconds the same line would drown the rest of the log.
fn warn_once(error: &Error, last: &mut String) {
    let line = chain(error);
    if line != *last {
        tracing::warn!(error = line, "the Lease is out of reach; trying on");
        *last = line;
    }
}

/// What a candidate last saw, and since when it has been like that.
struct Sighting {
    /// Any write gives the Lease a new version. Compared for equality only.
    version: Option<String>,
    /// `None` when there is no Lease.
    record: Option<LeaseSpec>,
    /// Taken after the record arrived, so it is never earlier than the write of the record.
    since: Instant,
    /// Nothing has changed since the first look.
    first: bool,
}

impl Sighting {
    fn after(last: Option<Self>, found: Option<Lease>, now: Instant) -> Self {
        let (version, record) = match found {
            Some(lease) => (lease.metadata.resource_version, Some(lease.spec.unwrap_or_default())),
            None => (None, None),
        };
        match last {
            Some(last) if last.version == version => last,
            last => Self { version, record, since: now, first: last.is_none() },
        }
    }

    fn is_free_for(&self, identity: &str) -> bool {
        let wait = match &self.record {
            Some(record) => wait_before_taking(record, identity),
            None if self.first => Duration::ZERO,
            // Deleted under our eyes: the one who held it may still be certain.
            None => LEASE,
        };
        self.since.elapsed() >= wait
    }
}
