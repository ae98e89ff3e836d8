//! Conditions in a status.
//!
//! Invariant: `lastTransitionTime` moves only when the condition's status does.

use serde_json::{Value, json};

/// The condition of a type.
pub(super) fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// A condition whose last transition is carried over from the earlier conditions, or is now.
pub(super) fn next(earlier: &[Value], kind: &str, holds: bool, reason: &str, message: &str, now: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let since = find(earlier, kind)
        .filter(|condition| condition["status"] == status)
        .and_then(|condition| condition["lastTransitionTime"].as_str())
        .unwrap_or(now);
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    })
}
