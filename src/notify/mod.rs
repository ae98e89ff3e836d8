//! How it is told: a message becomes an HTTP request, and what came back an answer; one file for each channel.
//!
//! Invariant, checked by the laws below for every channel: every message becomes a request whose body is JSON of a
//! bounded size with title and text in it. Nothing here sends, waits or looks at a clock, and no address, token or body
//! of an answer reaches a message for people.
//!
//! A new channel is one file and one line in `REGISTRY`.

mod answer;
mod cloudevents;
mod discord;
mod endpoint;
mod gchat;
mod generic;
pub mod hook;
#[cfg(test)]
mod laws;
mod message;
mod msteams;
mod rocket;
mod slack;
mod text;

pub use answer::{Answer, MAX_ANSWER_BYTES};
pub use endpoint::{Endpoint, Unsendable};
pub use message::{Message, Severity};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use serde_json::Value;

/// The header that is the same whenever the same transition is told again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Somewhere to tell a message.
pub trait Channel: Send + Sync {
    /// The message, as this channel reads it.
    fn body(&self, message: &Message, endpoint: &Endpoint) -> Value;

    /// Where it goes: what was written, or what is always the same.
    fn address(&self, endpoint: &Endpoint) -> Option<String> {
        endpoint.address.clone()
    }

    /// What the body is.
    fn media_type(&self) -> &'static str {
        "application/json"
    }

    /// Whether a token is sent along; elsewhere the address itself is the secret.
    fn takes_token(&self) -> bool {
        false
    }

    /// What an answer says besides its status, for channels that do not mean what the status says.
    fn complaint(&self, status: StatusCode, body: &[u8]) -> Option<Answer> {
        let _ = (status, body);
        None
    }
}

/// Every channel, by the name that an AlertProvider's `type` and the metrics have.
const REGISTRY: [(&str, &dyn Channel); 7] = [
    ("slack", &slack::Slack),
    ("msteams", &msteams::Teams),
    ("discord", &discord::Discord),
    ("rocket", &rocket::Rocket),
    ("gchat", &gchat::GoogleChat),
    ("generic", &generic::Generic),
    ("cloudevents", &cloudevents::CloudEvents),
];

/// All channels, in the order of the registry.
pub fn all() -> impl Iterator<Item = (&'static str, &'static dyn Channel)> {
    REGISTRY.into_iter()
}

/// The channel of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static dyn Channel> {
    all().find_map(|(known, channel)| (known == name).then_some(channel))
}

/// The request that tells `message` at `endpoint`. Its address may be a secret: it is to be sent, and not to be shown.
///
/// # Errors
/// When address or token cannot be sent; the sentence shows neither.
pub fn request(channel: &dyn Channel, message: &Message, endpoint: &Endpoint) -> Result<Request<Vec<u8>>, Unsendable> {
    let address = endpoint::uri(channel.address(endpoint).as_deref().ok_or(Unsendable::NoAddress)?)?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(channel.media_type()));
    if let Ok(id) = HeaderValue::from_str(&message.id) {
        headers.insert(IDEMPOTENCY_KEY, id);
    }
    if let Some(token) = endpoint.token.as_ref().filter(|_| channel.takes_token()) {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Unsendable::BadToken)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut request = Request::new(channel.body(message, endpoint).to_string().into_bytes());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = address;
    *request.headers_mut() = headers;
    Ok(request)
}

/// What an answer means.
#[must_use]
pub fn answer(channel: &dyn Channel, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    let after = headers.get(RETRY_AFTER).and_then(|value| answer::seconds(value.to_str().ok()?));
    channel.complaint(status, body).unwrap_or_else(|| answer::by_status(status)).after(after)
}
