//! The Lease object in the API server: each request with a deadline, each write with the version that was read.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::timeout;

/// One request may take this long. Shorter than the time between renewals, so that a hung connection costs one of them
/// and not all.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why a request about the Lease came to nothing.
#[derive(Debug, Error)]
pub enum Error {
    /// The read failed.
    #[error("could not read the Lease {name}")]
    ReadLease {
        /// The Lease.
        name: String,
        /// What kube says.
        source: kube::Error,
    },
    /// The first write failed, for another reason than that someone else was first.
    #[error("could not create the Lease {name}")]
    CreateLease {
        /// The Lease.
        name: String,
        /// What kube says.
        source: kube::Error,
    },
    /// A later write failed, for another reason than that someone else was first.
    #[error("could not replace the Lease {name}")]
    ReplaceLease {
        /// The Lease.
        name: String,
        /// What kube says.
        source: kube::Error,
    },
    /// No answer in time.
    #[error("could not hear from the Kubernetes API about the Lease {name} within {} s", DEADLINE.as_secs())]
    HearAnswer {
        /// The Lease.
        name: String,
    },
    /// The record kept changing under our hands.
    #[error("could not replace the Lease {name}, because others keep writing to it")]
    OutpaceWriters {
        /// The Lease.
        name: String,
    },
}

/// One Lease by its name.
#[derive(Clone, Debug)]
pub(super) struct Store {
    leases: Api<Lease>,
    name: String,
}

impl Store {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), name: name.to_owned() }
    }

    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    pub(super) async fn read(&self) -> Result<Option<Lease>, Error> {
        let found = self.answer(self.leases.get_opt(&self.name)).await?;
        found.map_err(|source| Error::ReadLease { name: self.name(), source })
    }

    /// Creates or replaces, whichever the resource version asks for. `None`: the record is not what it was, or not there.
    pub(super) async fn write(&self, lease: &Lease) -> Result<Option<Lease>, Error> {
        let parameters = PostParams::default();
        if lease.metadata.resource_version.is_none() {
            let created = self.answer(self.leases.create(&parameters, lease)).await?;
            return unless(created, &[409]).map_err(|source| Error::CreateLease { name: self.name(), source });
        }
        let replaced = self.answer(self.leases.replace(&self.name, &parameters, lease)).await?;
        unless(replaced, &[404, 409]).map_err(|source| Error::ReplaceLease { name: self.name(), source })
    }

    /// The metadata of a Lease that does not exist yet.
    pub(super) fn fresh_metadata(&self) -> ObjectMeta {
        ObjectMeta { name: Some(self.name()), ..ObjectMeta::default() }
    }

    async fn answer<Answer>(&self, request: impl Future<Output = Answer>) -> Result<Answer, Error> {
        timeout(DEADLINE, request).await.map_err(|_| Error::HearAnswer { name: self.name() })
    }
}

/// `None` for the answers that say that somebody else was first.
fn unless<Answer>(answer: Result<Answer, kube::Error>, codes: &[u16]) -> Result<Option<Answer>, kube::Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if codes.contains(&status.code) => Ok(None),
        Err(error) => Err(error),
    }
}
