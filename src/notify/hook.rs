//! Webhooks: somebody is asked, or told, and answers with a status.
//!
//! Invariant: no header's value reaches a sentence, not even when the answer repeats it.

use super::answer::{Answer, seconds};
use super::text::shorten;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The header that is the same whenever the same question is asked again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Ties together what belongs to one rollout, for tracing (W3C Trace Context).
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Headers that frame the request, or that Serin sets itself.
const OWN: [HeaderName; 8] =
    [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE, IDEMPOTENCY_KEY, TRACE_PARENT];

/// More than anybody needs, and less than servers take.
const MAX_HEADERS: usize = 32;

/// How much of an answer's body a sentence repeats, in characters.
const MAX_EXCERPT: usize = 160;

/// Words of a secret that are shorter than this are too common to be taken out of an answer.
const MIN_SECRET: usize = 4;

/// The wait before the second attempt; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait between two attempts.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// What one webhook is asked, or told.
#[derive(Clone)]
pub struct Call {
    /// Where the request goes.
    pub url: String,
    /// Which rollout it is about.
    pub subject: Subject,
    /// What the user wrote, and what is told.
    pub metadata: BTreeMap<String, String>,
    /// The same whenever the same question is asked again, and no other's.
    pub id: Id,
    /// What the Secret holds.
    pub headers: HeaderMap,
}

/// Which rollout a webhook is asked about, and how it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The Canary.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Where the rollout is.
    pub phase: String,
    /// Names everything that the version is made of.
    pub checksum: String,
    /// The version.
    pub revision: String,
    /// Percent of the traffic on it.
    pub weight: i32,
    /// Steps reached.
    pub step: i32,
    /// Checks passed, in strategies that count them.
    pub iterations: i32,
    /// Why it is where it is, as a sentence.
    pub reason: String,
    /// The same throughout one rollout.
    pub trace: Id,
}

/// A name that is made of what it names: sixteen bytes, in hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Id(String);

/// Why a webhook cannot even be asked. No sentence shows a header's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unaskable {
    /// Not an HTTP URL.
    #[error("its url is not an HTTP URL; write one that begins with https:// or http://")]
    NotHttp,
    /// A status, an event or a log would show it.
    #[error("its url holds a user or a password; put the header authorization into a Secret and name it in secretRef")]
    HoldsCredentials,
    /// No header.
    #[error("the secret's key {0} is not the name of a header; write letters, digits and dashes")]
    BadName(String),
    /// A header that no user can set.
    #[error("the secret's key {0} is a header that Serin sets itself; remove it")]
    OwnHeader(String),
    /// No header can carry it.
    #[error("the value of the secret's key {0} cannot be a header's; write ASCII on one line")]
    BadValue(String),
    /// Too much.
    #[error("the secret has {0} keys; write at most {MAX_HEADERS}")]
    TooMany(usize),
}

impl Id {
    /// A name for these parts, in this order.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        let hex = |text: String, byte: &u8| text + &format!("{byte:02x}");
        Self(hash.finalize().iter().take(16).fold(String::new(), hex))
    }

    /// A number between 0 and 1 that is another one for every `turn`.
    fn chance(&self, turn: u32) -> f64 {
        let Self(digits) = Self::of(&[&self.0, &turn.to_string()]);
        let number = u32::from_str_radix(digits.get(..8).unwrap_or_default(), 16).unwrap_or_default();
        f64::from(number) / f64::from(u32::MAX)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The URL may hold a secret, and headers mostly are one.
impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, subject, metadata, id, headers } = self;
        let names: Vec<_> = headers.keys().collect();
        let mut call = formatter.debug_struct("Call");
        call.field("subject", subject).field("metadata", metadata).field("id", id).field("headers", &names);
        call.finish_non_exhaustive()
    }
}

impl Call {
    /// The same, but told of a transition instead of asked.
    #[must_use]
    pub fn telling(mut self, text: &str, warning: bool, time: Timestamp) -> Self {
        let kind = if warning { "Warning" } else { "Normal" };
        let told = [("eventMessage", text), ("eventType", kind), ("timestamp", &time.as_millisecond().to_string())];
        self.metadata.extend(told.map(|(key, value)| (key.to_owned(), value.to_owned())));
        self
    }

    /// # Errors
    /// When nothing can be sent to the URL.
    pub fn request(&self) -> Result<Request<Vec<u8>>, Unaskable> {
        let uri: Uri = self.url.parse().map_err(|_| Unaskable::NotHttp)?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(Unaskable::NotHttp)?;
        if authority.as_str().contains('@') {
            return Err(Unaskable::HoldsCredentials);
        }
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(Unaskable::NotHttp);
        }
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let span = self.id.0.get(..16).unwrap_or_default();
        let own =
            [(IDEMPOTENCY_KEY, self.id.to_string()), (TRACE_PARENT, format!("00-{}-{span}-01", self.subject.trace))];
        headers.extend(own.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))));
        let mut request = Request::new(self.body().to_string().into_bytes());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn body(&self) -> Value {
        let Subject { name, namespace, phase, checksum, revision, weight, step, iterations, reason, trace } =
            &self.subject;
        json!({
            "name": name,
            "namespace": namespace,
            "phase": phase,
            "checksum": checksum,
            "metadata": self.metadata,
            "canaryWeight": weight,
            "step": step,
            "iterations": iterations,
            "revision": revision,
            "reason": reason,
            "traceId": trace.to_string(),
        })
    }

    /// What an answer means: any 2xx is a yes, and only what may pass by itself is worth another attempt.
    #[must_use]
    pub fn answer(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
        if status.is_success() {
            return Answer::Taken;
        }
        let excerpt = shorten(self.without_secrets(&String::from_utf8_lossy(body)).trim(), MAX_EXCERPT);
        let number = status.as_u16();
        let why = match excerpt.as_str() {
            _ if status.is_redirection() => format!("HTTP {number}; write the url that it redirects to"),
            "" => format!("HTTP {number}"),
            excerpt => format!("HTTP {number}: {excerpt}"),
        };
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let after = headers.get(RETRY_AFTER).and_then(|value| seconds(value.to_str().ok()?));
            Answer::Later { why, after }
        } else {
            Answer::Refused(why)
        }
    }

    /// How long to wait after so many failed attempts: twice as long each time, not at the same moment as everybody else,
    /// and no shorter than the answer asks for.
    #[must_use]
    pub fn wait(&self, failed: u32, after: Option<Duration>) -> Duration {
        let longest = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1))).min(LAST_WAIT);
        let wait = longest.mul_f64(0.5 + self.id.chance(failed) / 2.0);
        wait.max(after.unwrap_or_default()).min(LAST_WAIT)
    }

    /// A text without the values of headers, and without the words that these are made of.
    fn without_secrets(&self, text: &str) -> String {
        let values = self.headers.values().filter_map(|value| value.to_str().ok());
        let mut secrets: Vec<_> =
            values.flat_map(|value| std::iter::once(value).chain(value.split_whitespace())).collect();
        secrets.retain(|secret| secret.len() >= MIN_SECRET);
        // The longest first: what is left of a value when a word of it is gone would not be found any more.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

/// The headers that a Secret holds: its keys are their names.
///
/// # Errors
/// Names the key that is wrong, and never shows a value.
pub fn headers(data: &BTreeMap<String, Vec<u8>>) -> Result<HeaderMap, Unaskable> {
    if data.len() > MAX_HEADERS {
        return Err(Unaskable::TooMany(data.len()));
    }
    let header = |(key, value): (&String, &Vec<u8>)| {
        let name: HeaderName = key.parse().map_err(|_| Unaskable::BadName(key.clone()))?;
        if OWN.contains(&name) {
            return Err(Unaskable::OwnHeader(key.clone()));
        }
        // Without the line end that `kubectl create secret --from-file` keeps.
        let value = std::str::from_utf8(value).map_err(|_| Unaskable::BadValue(key.clone()))?.trim();
        let mut value = HeaderValue::from_str(value).ok().filter(|value| value.to_str().is_ok());
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        Ok((name, value.ok_or_else(|| Unaskable::BadValue(key.clone()))?))
    };
    data.iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
    }

    fn call() -> Call {
        Call {
            url: "https://gate.example/check?team=blue".into(),
            subject: Subject {
                name: "web".into(),
                namespace: "shop".into(),
                phase: "Progressing".into(),
                checksum: "6ebea71b19".into(),
                revision: "6ebea71b19".into(),
                weight: 30,
                step: 2,
                iterations: 0,
                reason: "the next check is at 00:00:20Z".into(),
                trace: Id::of(&["uid", "6ebea71b19"]),
            },
            metadata: BTreeMap::from([("cmd".into(), "hey -z 1m http://web-canary".into())]),
            id: Id::of(&["uid", "6ebea71b19", "rollout", "load"]),
            headers: headers(&secret(&[("Authorization", b"Bearer hunter2hunter2\n")])).unwrap(),
        }
    }

    #[test]
    fn a_request_says_what_flaggers_does_and_more() {
        let request = call().request().unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::POST, "https://gate.example/check?team=blue")
        );
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("authorization"), "Bearer hunter2hunter2");
        assert!(request.headers()["authorization"].is_sensitive());
        assert_eq!(header("idempotency-key"), call().id.to_string());
        let [version, trace, span, flags] = header("traceparent").split('-').collect::<Vec<_>>()[..]
            .try_into()
            .map(|it: [&str; 4]| it.map(str::to_owned))
            .unwrap();
        assert_eq!((version.as_str(), trace.len(), span.len(), flags.as_str()), ("00", 32, 16, "01"));
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["traceId"], trace.as_str());
        insta::assert_snapshot!(body, @r#"
        {"canaryWeight":30,"checksum":"6ebea71b19","iterations":0,"metadata":{"cmd":"hey -z 1m http://web-canary"},"name":"web","namespace":"shop","phase":"Progressing","reason":"the next check is at 00:00:20Z","revision":"6ebea71b19","step":2,"traceId":"73b29cf7b179d3803b01c01413cf337b"}
        "#);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let shown = format!("{:?}", Call { url: "http://gate/hunter2".into(), ..call() });
        assert!(!shown.contains("hunter2") && shown.contains("authorization"), "{shown}");
    }

    #[test]
    fn an_event_is_told_in_the_metadata() {
        let time: Timestamp = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let told = call().telling("canary weight 10: its pods are ready", false, time).body();
        insta::assert_snapshot!(told["metadata"], @r#"
        {"cmd":"hey -z 1m http://web-canary","eventMessage":"canary weight 10: its pods are ready","eventType":"Normal","timestamp":"1767225601500"}
        "#);
        assert_eq!(call().telling("", true, time).metadata["eventType"], "Warning");
    }

    #[test]
    fn any_2xx_is_a_yes_and_everything_else_a_no_that_says_why() {
        let answer = |status: u16, body: &str| {
            call().answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
        };
        for status in [200, 201, 202, 203, 204, 205, 206, 226, 299] {
            assert_eq!(answer(status, "whatever"), Answer::Taken, "{status}");
        }
        for (status, later) in
            [(403, false), (404, false), (408, false), (429, true), (500, true), (503, true), (599, true)]
        {
            let expected = format!("HTTP {status}: not before Monday");
            match answer(status, " not before\nMonday\r\n") {
                Answer::Later { why, after: None } if later => assert_eq!(why, expected),
                Answer::Refused(why) if !later => assert_eq!(why, expected),
                other => panic!("{status}: {other:?}"),
            }
        }
        assert_eq!(answer(302, "<html>"), Answer::Refused("HTTP 302; write the url that it redirects to".into()));
        assert_eq!(answer(418, " \n"), Answer::Refused("HTTP 418".into()));
        let Answer::Refused(long) = answer(400, &"ä".repeat(5000)) else { panic!("it is a no") };
        assert!(long.chars().count() <= MAX_EXCERPT + 10 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn an_answer_that_repeats_a_secret_is_not_passed_on() {
        for body in
            ["bad token hunter2hunter2", "got {authorization: Bearer hunter2hunter2}", "hunter2hunter2hunter2hunter2"]
        {
            let answer = call().answer(StatusCode::FORBIDDEN, &HeaderMap::new(), body.as_bytes());
            let Answer::Refused(why) = answer else { panic!("it is a no") };
            assert!(!why.contains("hunter2hunter2"), "{why}");
        }
    }

    #[test]
    fn a_server_can_ask_for_patience_within_a_bound() {
        let patience = |text: &str| {
            let asked = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            let Answer::Later { after, .. } = call().answer(StatusCode::SERVICE_UNAVAILABLE, &asked, b"") else {
                return None;
            };
            after
        };
        assert_eq!(patience("7"), Some(Duration::from_secs(7)));
        assert_eq!(patience("3600"), Some(LAST_WAIT));
        let call = call();
        assert_eq!(call.wait(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        let mut longest = FIRST_WAIT;
        for failed in 1..12 {
            let wait = call.wait(failed, None);
            assert!(wait >= longest / 2 && wait <= longest, "{failed}: {wait:?}");
            longest = (longest * 2).min(LAST_WAIT);
        }
        let other = Call { id: Id::of(&["other"]), ..call.clone() };
        assert_ne!(call.wait(1, None), other.wait(1, None), "not all at the same moment");
    }

    #[test]
    fn a_secret_holds_headers_by_name() {
        let refused = |key: &str, value: &[u8]| {
            let why = headers(&secret(&[(key, value)])).unwrap_err().to_string();
            assert!(!why.contains("hunter"), "{why}");
            why
        };
        insta::assert_snapshot!(refused("a b", b"hunter"), @r"
        the secret's key a b is not the name of a header; write letters, digits and dashes
        ");
        insta::assert_snapshot!(refused("Content-Length", b"7"), @r"
        the secret's key Content-Length is a header that Serin sets itself; remove it
        ");
        insta::assert_snapshot!(refused("idempotency-key", b"hunter"), @r"
        the secret's key idempotency-key is a header that Serin sets itself; remove it
        ");
        insta::assert_snapshot!(refused("x-key", b"hun\nter"), @r"
        the value of the secret's key x-key cannot be a header's; write ASCII on one line
        ");
        refused("x-key", b"hunter\xff");
        refused("x-key", "hunter\u{e4}".as_bytes());
        let many = (0..40).map(|number| (format!("x-{number}"), vec![])).collect();
        assert_eq!(headers(&many).unwrap_err(), Unaskable::TooMany(40));
    }

    #[test]
    fn what_is_no_url_is_not_asked() {
        let refused = |url: &str| Call { url: url.into(), ..call() }.request().unwrap_err();
        for url in ["", "gate", "/check", "ftp://gate", "http://", "http://a b"] {
            assert_eq!(refused(url), Unaskable::NotHttp, "{url}");
        }
        assert_eq!(refused("https://me:hunter@gate"), Unaskable::HoldsCredentials);
    }

    #[test]
    fn an_id_is_of_its_parts_in_their_order() {
        assert_eq!(Id::of(&["a", "b"]), Id::of(&["a", "b"]));
        for other in [&["b", "a"][..], &["ab"], &["a", "b", ""], &["", "ab"]] {
            assert_ne!(Id::of(&["a", "b"]), Id::of(other));
        }
    }
}
