//! Telling: events, log and metrics, after everything is done, and as well as can be.

use super::context::Context;
use super::rollout::Rollout;
use crate::api::Canary;
use crate::domain::{Note, Outcome};
use crate::telemetry::chain;
use futures::future::join_all;
use kube::Resource;
use kube::runtime::events::{Event, EventType};

/// The longest text that an event can hold, in bytes.
const EVENT_LIMIT: usize = 1024;

pub(super) async fn tell(context: &Context, rollout: &Rollout, canary: &Canary, notes: &[Note], outcome: Option<&Outcome>) {
    let (namespace, name) = (&rollout.key.namespace, &rollout.key.name);
    for check in outcome.iter().flat_map(|outcome| &outcome.0) {
        let verdict = format!("{:?}", check.verdict());
        context.metrics.check(namespace, name, &check.metric, &verdict, check.answer.as_ref().ok().copied());
    }
    if let Some(status) = &canary.status {
        let weight = u8::try_from(status.canary_weight).unwrap_or_default();
        context.metrics.canary_observed(namespace, name, status.phase.as_deref().unwrap_or_default(), weight);
    }
    for note in notes {
        context.metrics.transition(&note.reason.to_string());
        if note.warning {
            tracing::warn!(reason = %note.reason, "{}", note.text);
        } else {
            tracing::info!(reason = %note.reason, "{}", note.text);
        }
    }
    let events = notes.iter().map(|note| publish(context, canary, note.warning, note.reason.to_string(), &note.text));
    join_all(events).await;
}

/// Publishes one event; that it could not be is logged, and costs nothing else.
pub(super) async fn publish(context: &Context, canary: &Canary, warning: bool, reason: String, text: &str) {
    let event = Event {
        type_: if warning { EventType::Warning } else { EventType::Normal },
        action: reason.clone(),
        reason,
        note: Some(shortened(text).to_owned()),
        secondary: None,
    };
    let reference = canary.object_ref(&());
    let key = super::context::canary_key(canary);
    if let Err(error) = context.call("publish an event of", &key, context.recorder.publish(&event, &reference)).await {
        tracing::warn!(error = chain(&error), "an event could not be published");
    }
}

fn shortened(text: &str) -> &str {
    let end = (0..=EVENT_LIMIT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(EVENT_LIMIT);
        assert_eq!(shortened(&long).len(), EVENT_LIMIT);
        assert_eq!(shortened(&format!("x{long}")).len(), EVENT_LIMIT - 1);
    }
}
