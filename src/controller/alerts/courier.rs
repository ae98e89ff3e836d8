//! Delivering one alert: find out where it goes, send it, and try again when that may help.
//!
//! Invariant: no address, token or body of an answer reaches the log.

use super::settings::AlertSettings;
use super::{Alert, Recipient};
use crate::api::{AlertProvider, AlertProviderSpec};
use crate::controller::egress::{Egress, Response, exchange};
use crate::controller::scoped::Scoped;
use crate::controller::secrets::Secrets;
use crate::controller::webhooks::Caller;
use crate::notify::{self, Answer, Channel, Endpoint, MAX_ANSWER_BYTES, Message};
use crate::telemetry::{Metrics, chain};
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long one attempt may take, the reading of its Secret included. Chats answer within a second.
const DEADLINE: Duration = Duration::from_secs(5);

/// How much of that a process that just started may take to see the AlertProviders.
const LISTED: Duration = Duration::from_secs(2);

/// The waits before the second and the third attempt: a connection that broke, and a server that restarts.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Delivers alerts.
pub(super) struct Courier {
    pub(super) secrets: Secrets,
    pub(super) settings: AlertSettings,
    pub(super) providers: Scoped<Store<AlertProvider>>,
    pub(super) egress: Egress,
    pub(super) caller: Arc<Caller>,
    pub(super) metrics: Arc<Metrics>,
}

impl Courier {
    pub(super) fn new(
        secrets: Secrets,
        settings: AlertSettings,
        providers: Scoped<Store<AlertProvider>>,
        (egress, caller): (Egress, Arc<Caller>),
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { secrets, settings, providers, egress, caller, metrics }
    }

    /// Sends an alert, or gives up on it. Either way it is counted.
    pub(super) async fn deliver(&self, alert: Alert) {
        let channel = self.channel(&alert.to);
        match self.insist(&alert).await {
            Ok(()) => {
                self.metrics.alert(channel, "sent");
                tracing::debug!(channel, id = alert.message.id, "an alert was sent");
            }
            Err(why) => {
                self.metrics.alert(channel, "failed");
                let Message { namespace, canary, reason, .. } = &*alert.message;
                let to = told(&alert.to);
                tracing::warn!(namespace, canary, reason, channel, "an alert for {to} was not sent: {why}");
            }
        }
    }

    /// There is no room for an alert.
    pub(super) fn discard(&self, alert: &Alert) {
        let channel = self.channel(&alert.to);
        self.metrics.alert(channel, "dropped");
        let Message { namespace, canary, reason, .. } = &*alert.message;
        let to = told(&alert.to);
        tracing::warn!(namespace, canary, reason, channel, "an alert for {to} was dropped: too many wait before it");
    }

    async fn insist(&self, alert: &Alert) -> Result<(), String> {
        if let Some(told) = &alert.call {
            let (webhook, call) = &**told;
            return self.caller.call(webhook, call.clone()).await;
        }
        let mut waits = BACKOFF.into_iter();
        loop {
            let answer = timeout(DEADLINE, self.attempt(alert)).await;
            let late = || Answer::Later { why: format!("no answer within {}s", DEADLINE.as_secs()), after: None };
            match answer.unwrap_or_else(|_| late()) {
                Answer::Taken => return Ok(()),
                Answer::Refused(why) => return Err(why),
                Answer::Later { why, after } => match waits.next() {
                    Some(wait) => sleep(after.unwrap_or_default().max(wait)).await,
                    None => return Err(format!("{why} (attempt {} of {0})", BACKOFF.len() + 1)),
                },
            }
        }
    }

    async fn attempt(&self, alert: &Alert) -> Answer {
        let (name, endpoint) = match self.endpoint(&alert.to).await {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        let Some(channel) = notify::by_name(name) else { return Answer::Refused(format!("{name} is not known")) };
        match notify::request(channel, &alert.message, &endpoint) {
            Ok(request) => self.exchange(channel, request, endpoint.proxy.as_deref()).await,
            Err(unsendable) => Answer::Refused(unsendable.to_string()),
        }
    }

    async fn exchange(&self, channel: &dyn Channel, request: http::Request<Vec<u8>>, proxy: Option<&str>) -> Answer {
        let address = request.uri().to_string();
        let http = match proxy {
            Some(proxy) => self.egress.through(proxy, &address),
            None => self.egress.to(&address, false).cloned(),
        };
        let http = match http {
            Ok(http) => http,
            Err(refused) => return Answer::Refused(refused.to_string()),
        };
        match exchange(&http, request, MAX_ANSWER_BYTES).await {
            Ok(Response { status, headers, body }) => notify::answer(channel, status, &headers, &body),
            Err(error) => Answer::Later { why: chain(&error), after: None },
        }
    }

    /// Where an alert goes, as it is written now.
    async fn endpoint(&self, to: &Recipient) -> Result<(&'static str, Endpoint), Answer> {
        match to {
            Recipient::Default(channel) => {
                let endpoint = self.settings.endpoints().remove(channel).unwrap_or_default();
                Ok((channel, endpoint))
            }
            Recipient::Provider { namespace, name } => {
                // An error in it means that the watch was dropped: the process is stopping, and what is known is enough.
                let Some(providers) = self.providers.within(namespace) else {
                    return Err(Answer::Refused("its namespace is not watched".into()));
                };
                if timeout(LISTED, providers.wait_until_ready()).await.is_err() {
                    let why = "AlertProviders cannot be listed; their CRD has to be installed".into();
                    return Err(Answer::Later { why, after: None });
                }
                let found = self.provider(namespace, name);
                let provider = found.ok_or_else(|| Answer::Refused("it does not exist; create it".into()))?;
                self.provided(namespace, &provider.spec).await
            }
            Recipient::Webhook { .. } => Err(Answer::Refused("it has nothing to be told".into())),
        }
    }

    async fn provided(&self, namespace: &str, spec: &AlertProviderSpec) -> Result<(&'static str, Endpoint), Answer> {
        let AlertProviderSpec { kind, channel, username, address, proxy, secret_ref } = spec.clone();
        let endpoint = Endpoint { address, token: None, channel, username, proxy };
        let Some(reference) = secret_ref else { return Ok((kind.name(), endpoint)) };
        let data = self.secret(namespace, &reference.name).await?;
        let endpoint = endpoint.with_secret(&data);
        endpoint.map(|endpoint| (kind.name(), endpoint)).map_err(|wrong| Answer::Refused(wrong.to_string()))
    }

    /// Read when needed, and not kept.
    async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>, Answer> {
        let unread = |why| Answer::Later { why: format!("secret {name}: {why}"), after: None };
        let missing =
            || Answer::Refused(format!("its secret {name} does not exist; create it in namespace {namespace}"));
        self.secrets.read(namespace, name).await.map_err(unread)?.ok_or_else(missing)
    }

    fn provider(&self, namespace: &str, name: &str) -> Option<Arc<AlertProvider>> {
        self.providers.within(namespace)?.get(&ObjectRef::new(name).within(namespace))
    }

    /// The channel's name for the metrics, as far as it is known.
    fn channel(&self, to: &Recipient) -> &'static str {
        match to {
            Recipient::Default(channel) => channel,
            Recipient::Webhook { .. } => "webhook",
            Recipient::Provider { namespace, name } => {
                self.provider(namespace, name).map_or("unknown", |provider| provider.spec.kind.name())
            }
        }
    }
}

fn told(to: &Recipient) -> String {
    match to {
        Recipient::Provider { namespace, name } => format!("AlertProvider {namespace}/{name}"),
        Recipient::Default(channel) => format!("the operator's {channel}"),
        Recipient::Webhook { name, .. } => format!("the event webhook {name}"),
    }
}
