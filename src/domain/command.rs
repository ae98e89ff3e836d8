//! What a person or a pipeline orders by an annotation on the Canary.

/// An order as it was found. It is taken once: what was taken is in the state until it is no longer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What was written, for example `approve`.
    pub written: String,
    /// The field manager that wrote it.
    pub by: String,
}

/// What can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Open the gate that is waited at.
    Approve,
    /// Hold the weight; checks go on, and a breach is still taken back.
    Pause,
    /// No longer hold it.
    Resume,
    /// Skip the rest of the analysis.
    Promote,
    /// Take the version back.
    Abort,
    /// Analyse the failed version again.
    Retry,
}

impl Order {
    /// All that can be written, in the order in which a sentence lists it.
    pub const ALL: [(&'static str, Self); 6] = [
        ("approve", Self::Approve),
        ("pause", Self::Pause),
        ("resume", Self::Resume),
        ("promote", Self::Promote),
        ("abort", Self::Abort),
        ("retry", Self::Retry),
    ];

    /// The order that `written` names.
    #[must_use]
    pub fn of(written: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == written).map(|(_, order)| *order)
    }
}
