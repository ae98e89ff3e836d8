//! Telling: events, log, metrics and alerts, after everything is done, and as well as can be.

use super::alerts;
use super::context::{Context, MANAGER, canary_key};
use super::rollout::Rollout;
use crate::api::Canary;
use crate::domain::{Answers, Note};
use crate::telemetry::chain;
use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

/// The longest text that an event can hold, in bytes.
const EVENT_LIMIT: usize = 1024;

/// How much of a Canary's name its events repeat: names end at 253 bytes, and version and reason need some.
const NAME_LIMIT: usize = 180;

pub(super) async fn tell(context: &Context, rollout: &Rollout, canary: &Canary, notes: &[Note], answers: &Answers) {
    let outcome = answers.outcome.as_ref();
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
    alerts::raise(context, rollout, canary, notes, answers);
    // Every request counts where there are many rollouts: the steps are in the history, the log and the alerts.
    let events = notes.iter().filter(|note| note.warning || !note.reason.is_step());
    let events = events.map(|note| publish(context, canary, note.warning, note.reason.to_string(), &note.text));
    join_all(events).await;
}

/// Publishes one event; that it could not be is logged, and costs nothing else. Each has its own sentence, so none is
/// counted as another of its kind; the name tells the same one, should it be told twice.
pub(super) async fn publish(context: &Context, canary: &Canary, warning: bool, reason: String, text: &str) {
    let key = canary_key(canary);
    let version = canary.resource_version().unwrap_or_default();
    let prefix = key.name.get(..NAME_LIMIT).unwrap_or(&key.name).trim_end_matches(['-', '.']);
    let event = Event {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.clone()),
            name: Some(format!("{prefix}.{version}.{}", reason.to_lowercase())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(context.clock.now())),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        action: Some(reason.clone()),
        reason: Some(reason),
        note: Some(shortened(text).to_owned()),
        regarding: Some(canary.object_ref(&())),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(MANAGER.to_owned()),
        ..Event::default()
    };
    if let Err(error) = context.publish(&key, &event).await {
        tracing::warn!(error = chain(&error), "an event could not be published");
    }
}

pub(super) fn shortened(text: &str) -> &str {
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
