//! Why a pass could not be finished.

use super::lanes;
use std::time::Duration;

/// Why a pass could not be finished. It is tried again; what was recorded stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or nothing.
    #[error("could not {verb} {object}")]
    Call {
        /// What was to be done.
        verb: &'static str,
        /// To what.
        object: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("could not {verb} {object}: no answer within {}s", limit.as_secs())]
    TimeOut {
        /// What was to be done.
        verb: &'static str,
        /// To what.
        object: String,
        /// How long it was given.
        limit: Duration,
    },
    /// There was no place for the call in time.
    #[error("could not {verb} {object}: the API server asks for patience, or is slow; see --api-concurrency")]
    Wait {
        /// What was to be done.
        verb: &'static str,
        /// To what.
        object: String,
    },
    /// There is no place for the pass now; it is begun again when there is one.
    #[error("every place for a pass is taken; see --concurrency")]
    Crowd {
        /// The new version has traffic, so it goes first.
        serves: bool,
        /// There is something to ask first.
        asks: bool,
        /// After how long it is to be looked whether the traffic has to go.
        look: Duration,
    },
    /// Traffic is to leave the canary, and has not yet.
    #[error("could not take the traffic back")]
    Retreat(#[source] Box<Error>),
    /// Somebody else wrote in between; the next pass sees what.
    #[error("{0} was changed by somebody else in the middle of this pass")]
    Supersede(String),
    /// It is gone, and the watch does not show that yet.
    #[error("{0} is gone, which its watch has not shown yet")]
    Lag(String),
    /// What is to be made is there, of another owner that is gone.
    #[error("{0} is of a deleted Canary of this name; its deletion by the garbage collector is waited for")]
    Inherit(String),
    /// The API server, or a webhook in it, changed what was written.
    #[error("{0} does not keep what Serin writes; look for a webhook or a controller that changes it back")]
    Keep(String),
    /// Not the leader, or not sure.
    #[error("this instance cannot be sure that it leads; it writes nothing")]
    Lead,
    /// What was read is no object of its kind.
    #[error("could not read {object} as what it should be")]
    Decode {
        /// What was read.
        object: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A Secret that is part of the version is not known.
    #[error("could not find out what the target's version is")]
    Unread {
        /// Why.
        source: Box<Error>,
        /// When the next pass is due whatever becomes of it.
        due: Option<Duration>,
    },
    /// What is to be written makes no patch.
    #[error("could not build a patch for {object}")]
    Patch {
        /// What was to be written.
        object: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A version cannot be rendered.
    #[error("could not render the primary")]
    Render(#[source] crate::workload::Error),
    /// The operator cannot start.
    #[error("could not start: {0}")]
    Start(String),
}

impl Error {
    /// Whether somebody else was quicker, which the next pass mends by itself.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Retreat(source) => source.is_conflict(),
            Self::Supersede(_) => true,
            _ => self.code() == Some(409),
        }
    }

    /// Whether the API server is to be given time: nothing is wrong, and nothing was carried out.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        match self {
            Self::Retreat(source) | Self::Unread { source, .. } => source.is_turned_away(),
            Self::Call { source, .. } => lanes::is_turned_away(source),
            Self::Wait { .. } => true,
            _ => false,
        }
    }

    /// Whether what was to be made is there already. A conflict with something else, such as a quota that was counted
    /// anew, has the same code, and then nothing is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self, Self::Call { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_already_exists()))
    }

    /// Whether nobody knows what became of a write: it may have been carried out.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        match self {
            Self::Retreat(source) => source.is_unheard(),
            Self::TimeOut { .. } => true,
            Self::Call { source, .. } => !matches!(&**source, kube::Error::Api(_)),
            _ => false,
        }
    }

    /// The HTTP status that the API server answered with.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Retreat(source) => source.code(),
            Self::Call { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}
