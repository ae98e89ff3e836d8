//! What Prometheus and webhooks answer.

use crate::parts;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use http::{StatusCode, Uri};
use serin::metrics::prometheus;
use serin::notify::{self, Answer, hook};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest sentence that an answer may lead to, in characters: it goes into a status.
const LONGEST_SENTENCE: usize = 400;

/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The HTTP status in the first line, and the body behind it: an answer is a finite number, or a short sentence.
///
/// # Panics
/// When it is neither.
pub fn prometheus_answer(bytes: &[u8]) {
    let [status, body] = parts(bytes);
    match prometheus::parse("http://prometheus:9090", status_in(status), body) {
        Ok(number) => assert!(number.is_finite(), "{number}"),
        Err(unknown) => check_sentence(&unknown.to_string()),
    }
}

/// HTTP status, `Retry-After`, a Secret's value, and the body: what becomes of an answer is short, holds nothing of the
/// Secret, and has an end. The chats read the same answer.
///
/// # Panics
/// When that is not so.
pub fn webhook_answer(bytes: &[u8]) {
    let [status, after, secret, body] = parts(bytes);
    let status = status_in(status);
    let mut headers = HeaderMap::new();
    headers.extend(HeaderValue::from_bytes(after).ok().map(|after| (RETRY_AFTER, after)));
    let data = BTreeMap::from([("authorization".to_owned(), secret.to_vec())]);
    let call = hook::Call {
        url: "http://gate/check".to_owned(),
        subject: hook::Subject::default(),
        metadata: BTreeMap::new(),
        id: hook::Id::of(&["fuzz"]),
        headers: hook::headers(&data).unwrap_or_default(),
    };
    let answer = call.answer(status, &headers, body);
    assert_eq!(answer == Answer::Taken, status.is_success());
    if let Answer::Later { why, .. } | Answer::Refused(why) = &answer {
        let words = call.headers.values().filter_map(|value| value.to_str().ok()).flat_map(str::split_whitespace);
        for word in words.filter(|word| is_telling(word, status)) {
            assert!(!why.contains(word), "{word:?} is in {why:?}");
        }
    }
    check(&answer);
    if let Answer::Later { after, .. } = answer {
        for failed in [0, 1, 7, u32::MAX] {
            assert!(call.wait(failed, after) <= LONGEST_WAIT);
        }
    }
    for (_, channel) in notify::all() {
        check(&notify::answer(channel, status, &headers, body));
    }
    // Where a hostile spec may send all this to.
    let url = String::from_utf8_lossy(body).into_owned();
    if let Ok(request) = (hook::Call { url, ..call }).request() {
        let uri: &Uri = request.uri();
        assert!(matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty()));
    }
}

fn check(answer: &Answer) {
    match answer {
        Answer::Taken => {}
        Answer::Refused(why) => check_sentence(why),
        Answer::Later { why, after } => {
            check_sentence(why);
            assert!(after.unwrap_or_default() <= LONGEST_WAIT, "{after:?}");
        }
    }
}

fn check_sentence(sentence: &str) {
    assert!(!sentence.is_empty() && sentence.chars().count() <= LONGEST_SENTENCE, "{} characters", sentence.len());
    assert!(!sentence.contains(char::is_control), "{sentence:?}");
}

/// Shorter words are too common to be taken out, and those that Serin's own sentences use cannot be.
fn is_telling(word: &str, status: StatusCode) -> bool {
    let ours = format!("HTTP {}: ; write the url that it redirects to", status.as_u16());
    word.len() >= 4 && !ours.contains(word)
}

fn status_in(line: &[u8]) -> StatusCode {
    let digits = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
    digits.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::OK)
}
