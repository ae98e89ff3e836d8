//! Alerts: which of them a transition gives, and to whom. Who is told is decided in the pass whose status was recorded,
//! because only that pass has the notes; the telling itself is left to the [`Outbox`], which no pass waits for.

mod courier;
mod outbox;
mod settings;

pub use outbox::{Deliveries, Outbox};
pub use settings::AlertSettings;

use super::context::Context;
use super::rollout::Rollout;
use super::webhooks;
use crate::api::{AlertSeverity, Canary, InvalidSpec, Webhook, WebhookType};
use crate::domain::{Answers, Hook, Note, Outcome, Reason, Reply};
use crate::notify::{Message, Severity, hook};
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Recipient {
    /// An AlertProvider.
    Provider {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A channel that the operator's flags name; each is there once.
    Default(&'static str),
    /// A Canary's own webhook.
    Webhook {
        /// The Canary's namespace.
        namespace: String,
        /// The Canary.
        canary: String,
        /// The webhook's name.
        name: String,
    },
}

/// One alert on its way.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    pub(super) to: Recipient,
    pub(super) message: Arc<Message>,
    /// What a webhook is told, as it was written when it happened.
    pub(super) call: Option<Box<(Webhook, hook::Call)>>,
}

/// Puts an alert for every note, and every recipient that wants to know of it, into the outbox.
pub(super) fn raise(context: &Context, rollout: &Rollout, canary: &Canary, notes: &[Note], answers: &Answers) {
    let Some(outbox) = &context.outbox else { return };
    for note in notes {
        let message = Arc::new(message(context, rollout, canary, note, answers.outcome.as_ref()));
        for (to, call) in listeners(canary, note, &message) {
            outbox.put(Alert { to, message: Arc::clone(&message), call: Some(Box::new(call)) });
        }
        if is_muted(canary, note, answers) {
            continue;
        }
        let mut recipients = recipients(outbox.settings(), canary, Severity::of(note));
        recipients.retain(|recipient| match recipient {
            Recipient::Provider { namespace, .. } => {
                context.settings.tenancy.may_refer(&rollout.key.namespace, namespace).is_ok()
            }
            Recipient::Default(_) | Recipient::Webhook { .. } => true,
        });
        for to in recipients {
            outbox.put(Alert { to, message: Arc::clone(&message), call: None });
        }
    }
}

/// The webhooks that are told of everything, and what they are told.
fn listeners(canary: &Canary, note: &Note, message: &Message) -> Vec<(Recipient, (Webhook, hook::Call))> {
    let webhooks = canary.spec.analysis.iter().flat_map(|analysis| &analysis.webhooks);
    let listening = webhooks.filter(|webhook| webhook.when() == WebhookType::Event);
    let told = listening.map(|webhook| {
        let id = hook::Id::of(&[&message.id, &webhook.name]);
        let call = hook::Call { id, ..webhooks::call(canary, webhook, 0) };
        let (namespace, canary, name) = (message.namespace.clone(), message.canary.clone(), webhook.name.clone());
        let to = Recipient::Webhook { namespace, canary, name };
        (to, (webhook.clone(), call.telling(&note.text, note.warning, message.time)))
    });
    told.collect()
}

/// Whether a note is about gates of which nobody wants to be alerted.
fn is_muted(canary: &Canary, note: &Note, answers: &Answers) -> bool {
    let about_gate = matches!(note.reason, Reason::GateClosed | Reason::GateOpened);
    let gates = [Hook::ConfirmRollout, Hook::ConfirmTrafficIncrease, Hook::ConfirmPromotion];
    let replies: Vec<_> = gates.iter().filter_map(|gate| answers.hooks.get(gate)).flatten().collect();
    let webhooks = || canary.spec.analysis.iter().flat_map(|analysis| &analysis.webhooks);
    let is_mute = |reply: &&Reply| webhooks().any(|webhook| webhook.name == reply.name && webhook.mute_alert);
    about_gate && !replies.is_empty() && replies.iter().all(is_mute)
}

/// Whether a Canary may use the providers that its alerts refer to.
///
/// # Errors
/// Says what to write instead.
pub(super) fn may_tell(context: &Context, canary: &Canary) -> Result<(), InvalidSpec> {
    let from = canary.namespace().unwrap_or_default();
    let alerts = canary.spec.analysis.iter().flat_map(|analysis| &analysis.alerts);
    alerts.into_iter().try_for_each(|alert| {
        let Some(to) = &alert.provider_ref.namespace else { return Ok(()) };
        context.settings.tenancy.may_refer(&from, to).map_err(|forbidden| {
            InvalidSpec::Other(format!(
                "spec.analysis.alerts: {}: providerRef.namespace is {to}, but {forbidden}; create the AlertProvider {} in \
                 namespace {from} and leave providerRef.namespace out",
                alert.name, alert.provider_ref.name
            ))
        })
    })
}

/// A Canary's own alerts replace the operator's; the event sink gets everything. Nobody is told the same thing twice.
fn recipients(settings: &AlertSettings, canary: &Canary, severity: Severity) -> BTreeSet<Recipient> {
    let alerts = canary.spec.analysis.as_ref().map(|analysis| analysis.alerts.as_slice()).unwrap_or_default();
    let mut recipients: BTreeSet<_> = if alerts.is_empty() {
        settings.defaults().into_keys().map(Recipient::Default).collect()
    } else {
        let wanted = alerts.iter().filter(|alert| severity >= threshold(alert.severity));
        wanted
            .map(|alert| Recipient::Provider {
                namespace: alert.provider_ref.namespace.clone().or_else(|| canary.namespace()).unwrap_or_default(),
                name: alert.provider_ref.name.clone(),
            })
            .collect()
    };
    if settings.event_sink.is_some() {
        recipients.insert(Recipient::Default(settings::EVENT_SINK));
    }
    recipients
}

fn threshold(severity: Option<AlertSeverity>) -> Severity {
    match severity {
        None | Some(AlertSeverity::Unset | AlertSeverity::Info) => Severity::Info,
        Some(AlertSeverity::Warn) => Severity::Warn,
        Some(AlertSeverity::Error) => Severity::Error,
    }
}

/// The id is that of the write that recorded the transition, as an event's name is.
fn message(context: &Context, rollout: &Rollout, canary: &Canary, note: &Note, outcome: Option<&Outcome>) -> Message {
    let reason = note.reason.to_string();
    let status = canary.status.clone().unwrap_or_default();
    Message {
        id: format!("{}.{}.{reason}", rollout.uid, canary.resource_version().unwrap_or_default()),
        time: context.clock.now(),
        cluster: context.settings.alerts.cluster_name.clone(),
        namespace: rollout.key.namespace.clone(),
        canary: rollout.key.name.clone(),
        target: format!("{}/{}", rollout.workload.resource().kind, rollout.app.target),
        severity: Severity::of(note),
        reason,
        text: note.text.clone(),
        phase: status.phase.unwrap_or_default(),
        weight: status.canary_weight,
        step: status.progress,
        revision: status.target.map(|target| target.revision),
        checks: outcome.map(|outcome| outcome.0.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn canary(alerts: &Value) -> Canary {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "targetRef": {"kind": "Deployment", "name": "web"},
                "service": {"port": 80},
                "analysis": {"interval": "10s", "stepWeight": 10, "alerts": alerts},
            },
        }))
        .unwrap()
    }

    fn told(settings: &AlertSettings, alerts: &Value, severity: Severity) -> Vec<String> {
        let name = |recipient| match recipient {
            Recipient::Provider { namespace, name } => format!("{namespace}/{name}"),
            Recipient::Default(channel) => channel.to_owned(),
            Recipient::Webhook { name, .. } => name,
        };
        recipients(settings, &canary(alerts), severity).into_iter().map(name).collect()
    }

    #[test]
    fn a_severity_is_the_least_that_is_told() {
        let alerts = json!([
            {"name": "everything", "providerRef": {"name": "a"}},
            {"name": "flaggers-default", "severity": "", "providerRef": {"name": "b", "namespace": "ops"}},
            {"name": "info", "severity": "info", "providerRef": {"name": "c"}},
            {"name": "warn", "severity": "warn", "providerRef": {"name": "d"}},
            {"name": "error", "severity": "error", "providerRef": {"name": "e"}},
        ]);
        let told = |severity| told(&AlertSettings::default(), &alerts, severity);
        assert_eq!(told(Severity::Info), ["ops/b", "shop/a", "shop/c"]);
        assert_eq!(told(Severity::Warn), ["ops/b", "shop/a", "shop/c", "shop/d"]);
        assert_eq!(told(Severity::Error), ["ops/b", "shop/a", "shop/c", "shop/d", "shop/e"]);
    }

    #[test]
    fn a_canarys_own_alerts_replace_the_defaults_and_the_sink_gets_everything() {
        let settings = AlertSettings {
            slack_url: Some("https://hooks.slack.com/services/x".into()),
            event_sink: Some("http://broker".into()),
            ..AlertSettings::default()
        };
        assert_eq!(told(&settings, &json!([]), Severity::Info), ["cloudevents", "slack"]);
        let own = json!([{"name": "on-call", "severity": "error", "providerRef": {"name": "on-call"}}]);
        assert_eq!(told(&settings, &own, Severity::Info), ["cloudevents"]);
        assert_eq!(told(&settings, &own, Severity::Error), ["shop/on-call", "cloudevents"]);
    }

    #[test]
    fn one_provider_is_told_once_however_often_it_is_named() {
        let twice = json!([
            {"name": "one", "providerRef": {"name": "a"}},
            {"name": "two", "severity": "error", "providerRef": {"name": "a", "namespace": "shop"}},
        ]);
        assert_eq!(told(&AlertSettings::default(), &twice, Severity::Error), ["shop/a"]);
    }
}
