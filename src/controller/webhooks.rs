//! Calling webhooks: within a time, again when that may help, and never more at once than is allowed.
//!
//! Invariant: no value of a header and no address reaches a sentence, a log or a status. A Secret is read for one call, and
//! not kept.

use super::egress::{Egress, Refused, Response, exchange};
use super::secrets::Secrets;
use crate::api::{Canary, CanaryStatus, HistoryEntry, Webhook, WebhookType, duration};
use crate::notify::{Answer, MAX_ANSWER_BYTES, hook};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use jiff::Timestamp;
use kube::ResourceExt;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How long one attempt may take when the spec does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The way to webhooks: the network, or what a simulation has in its place.
pub trait WayOut: Send + Sync {
    /// Sends a request, without a look at the certificate of who answers if it is to be `insecure`.
    fn send(&self, request: http::Request<Vec<u8>>, insecure: bool) -> BoxFuture<'_, Result<Response, Unsent>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Nothing may be sent there.
    Refused(Refused),
    /// Nobody answers, and why.
    Unreachable(String),
}

impl WayOut for Egress {
    fn send(&self, request: http::Request<Vec<u8>>, insecure: bool) -> BoxFuture<'_, Result<Response, Unsent>> {
        async move {
            let client = self.to(&request.uri().to_string(), insecure).map_err(Unsent::Refused)?;
            let answer = exchange(client, request, MAX_ANSWER_BYTES).await;
            answer.map_err(|error| Unsent::Unreachable(cause(&error)))
        }
        .boxed()
    }
}

/// Calls webhooks.
pub struct Caller {
    secrets: Secrets,
    /// Where requests leave.
    pub way_out: Arc<dyn WayOut>,
    /// As many requests at a time as the settings allow.
    open: Semaphore,
}

impl Caller {
    pub(super) fn new(secrets: Secrets, egress: Egress, at_once: usize) -> Self {
        Self { secrets, way_out: Arc::new(egress), open: Semaphore::new(at_once) }
    }

    /// Calls a webhook until it says yes or no, or has not answered often enough.
    ///
    /// # Errors
    /// Says why it is not a yes.
    pub(super) async fn call(&self, webhook: &Webhook, mut call: hook::Call) -> Result<(), String> {
        call.headers = self.headers(webhook, &call.subject.namespace).await?;
        let limit = limit(webhook);
        let attempts = 1 + webhook.retries.map_or(0, |retries| u32::try_from(retries).unwrap_or(0));
        let mut failed = 0;
        loop {
            let answer = self.attempt(&call, webhook.disable_tls, limit).await;
            let (why, after) = match answer {
                Answer::Taken => return Ok(()),
                Answer::Refused(why) => return Err(why),
                Answer::Later { why, after } => (why, after),
            };
            failed += 1;
            if failed >= attempts {
                return Err(if attempts == 1 { why } else { format!("{why} (attempt {failed} of {attempts})") });
            }
            sleep(call.wait(failed, after)).await;
        }
    }

    async fn attempt(&self, call: &hook::Call, insecure: bool, limit: Duration) -> Answer {
        // The semaphore is never closed.
        let _open = self.open.acquire().await.ok();
        let request = match call.request() {
            Ok(request) => request,
            Err(unaskable) => return Answer::Refused(unaskable.to_string()),
        };
        match timeout(limit, self.way_out.send(request, insecure)).await {
            Ok(Ok(Response { status, headers, body })) => call.answer(status, &headers, &body),
            Ok(Err(Unsent::Refused(refused))) => Answer::Refused(refused.to_string()),
            Ok(Err(Unsent::Unreachable(why))) => {
                Answer::Later { why: format!("it cannot be reached: {why}"), after: None }
            }
            Err(_) => Answer::Later { why: format!("no answer within {limit:?}"), after: None },
        }
    }

    async fn headers(&self, webhook: &Webhook, namespace: &str) -> Result<HeaderMap, String> {
        let Some(reference) = &webhook.secret_ref else { return Ok(HeaderMap::new()) };
        let name = &reference.name;
        let missing = || format!("its secret {name} does not exist; create it in namespace {namespace}");
        let data = self.secrets.read(namespace, name).await.map_err(|why| format!("secret {name}: {why}"))?;
        hook::headers(&data.ok_or_else(missing)?).map_err(|wrong| wrong.to_string())
    }
}

/// How long one attempt may take.
fn limit(webhook: &Webhook) -> Duration {
    let written = webhook.timeout.as_deref().and_then(|text| duration("timeout", text).ok());
    written.map_or(TIMEOUT, jiff::SignedDuration::unsigned_abs)
}

/// The innermost error: what surrounds it only says that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let innermost = std::iter::successors(error.source(), |&error| error.source()).last();
    innermost.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

/// What a Canary's webhook is asked now: the same question as long as the same state is recorded, but for those that are
/// asked `again` while others have not answered.
pub(super) fn call(canary: &Canary, webhook: &Webhook, again: u32) -> hook::Call {
    let kind = webhook.when();
    let subject = subject(canary, kind);
    let uid = canary.uid().unwrap_or_default();
    let round = round(&canary.status.clone().unwrap_or_default(), kind);
    let id = hook::Id::of(&[&uid, &subject.revision, kind.name(), &webhook.name, &round, &again.to_string()]);
    hook::Call { url: webhook.url.clone(), subject, metadata: webhook.metadata.clone(), id, headers: HeaderMap::new() }
}

/// What tells one round of questions from the next.
fn round(status: &CanaryStatus, kind: WebhookType) -> String {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    if let (WebhookType::PostRollout, Some(ending)) = (kind, &status.owed) {
        // Whatever has begun since, it is the same end.
        let is_about = |entry: &&HistoryEntry| entry.revision.as_ref() == Some(&ending.revision);
        let ended = status.history.iter().rev().find(is_about).map(|entry| entry.time);
        return format!("{} {}", ending.succeeded, time(ended));
    }
    let CanaryStatus { phase, since, asked_at, canary_weight, iterations, failed_checks, inconclusive_checks, .. } =
        status;
    let CanaryStatus { check_due, prepared, gate, gate_approved, .. } = status;
    let (since, asked) = (time(*since), time(*asked_at));
    let counts = format!("{canary_weight} {iterations} {failed_checks} {inconclusive_checks}");
    format!("{phase:?} {since} {asked} {counts} {check_due} {prepared} {gate:?} {gate_approved}")
}

fn subject(canary: &Canary, kind: WebhookType) -> hook::Subject {
    let status = canary.status.clone().unwrap_or_default();
    let ending = status.owed.filter(|_| kind == WebhookType::PostRollout);
    let last = status.history.last().map(|entry| entry.message.clone());
    let reason = status.failure.or(status.waiting.map(|waiting| waiting.message)).or(last);
    let phase = match (kind, &ending) {
        (_, Some(ending)) => if ending.succeeded { "Succeeded" } else { "Failed" }.to_owned(),
        (WebhookType::PostRollout | WebhookType::Rollback | WebhookType::Event, None) => {
            status.phase.unwrap_or_default()
        }
        // What is asked about an analysis is asked in the phase that Flagger says it is.
        (
            WebhookType::Unset
            | WebhookType::Rollout
            | WebhookType::PreRollout
            | WebhookType::ConfirmRollout
            | WebhookType::ConfirmTrafficIncrease
            | WebhookType::ConfirmPromotion,
            None,
        ) => "Progressing".to_owned(),
    };
    let revision = ending.map(|ending| ending.revision).or(status.target.map(|target| target.revision));
    let revision = revision.unwrap_or_default();
    hook::Subject {
        name: canary.name_any(),
        namespace: canary.namespace().unwrap_or_default(),
        phase,
        checksum: revision.clone(),
        trace: hook::Id::of(&[&canary.uid().unwrap_or_default(), &revision]),
        revision,
        weight: status.canary_weight,
        step: status.step,
        iterations: status.iterations,
        reason: reason.unwrap_or_default(),
    }
}
