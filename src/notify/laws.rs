//! Laws that hold for every channel in the registry.

use super::{Answer, Channel, Endpoint, Message, Severity, Unsendable, all, answer, by_name, request};
use crate::domain::{Check, Limits, Unknown};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeSet;

/// The smallest limit of all channels is Teams', 28 KB, of which some say that it is rather 21.
const MAX_BODY: usize = 20 * 1024;

/// Programs get everything; this is what every broker of CloudEvents has to forward.
const MAX_DATA: usize = 64 * 1024;

/// The channels that programs read.
const PROGRAMS: [&str; 2] = ["generic", "cloudevents"];

/// A version that was taken back.
pub(super) fn message() -> Message {
    let check =
        |metric: &str, answer| Check { metric: metric.into(), limits: Limits { min: Some(99.0), max: None }, answer };
    Message {
        id: "6e0d3a1c-77.RolledBack".into(),
        time: "2026-01-01T00:00:20Z".parse().unwrap(),
        cluster: Some("prod-eu".into()),
        namespace: "shop".into(),
        canary: "web".into(),
        target: "Deployment/web".into(),
        severity: Severity::Error,
        reason: "RolledBack".into(),
        text: "all traffic goes to the primary: success_rate is 97.5, below the minimum 99 (failed check 1 of 1)"
            .into(),
        phase: "Failed".into(),
        weight: 0,
        step: Some("2/3".into()),
        revision: Some("6ebea71b19".into()),
        checks: vec![check("success_rate", Ok(97.5)), check("latency", Err(Unknown::NoSamples))],
    }
}

fn messages() -> Vec<Message> {
    let bare = Message { cluster: None, step: None, revision: None, checks: vec![], ..message() };
    let nasty = Message {
        text: r#"<!channel> @everyone "quoted" \ & *bold* _x_ [link](http://x) `code` <users/all> ä€𝄞"#.into(),
        severity: Severity::Warn,
        ..message()
    };
    let long = Message {
        namespace: "n".repeat(63),
        canary: "c".repeat(253),
        cluster: Some("€".repeat(5000)),
        target: format!("Deployment/{}", "d".repeat(253)),
        text: "<&>€\n".repeat(5000),
        checks: vec![Check { metric: "<€".repeat(500), ..message().checks[0].clone() }; 64],
        ..message()
    };
    let nothing = Message { text: String::new(), target: String::new(), phase: String::new(), ..bare.clone() };
    let not_a_number = Check { answer: Ok(f64::NAN), ..message().checks[0].clone() };
    let odd = Message { checks: vec![not_a_number], severity: Severity::Info, ..message() };
    vec![message(), bare, nasty, long, nothing, odd]
}

/// Where everything that can be chosen is chosen, and everything that is secret says so.
fn endpoint() -> Endpoint {
    Endpoint {
        address: Some("https://chat.example:8443/hooks/hunter?key=hunter".into()),
        token: Some("hunter".into()),
        channel: Some("releases".into()),
        username: Some("canary".into()),
        proxy: None,
    }
}

fn body(channel: &dyn Channel, message: &Message) -> Value {
    let request = request(channel, message, &endpoint()).expect("it can be sent");
    serde_json::from_slice(request.body()).expect("the body is JSON")
}

/// All texts of a body, as they are read: without what only escapes.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            vec![
                text.clone(),
                plain,
                text.replace('\\', ""),
                text.replace("\\\\", "\u{0}").replace('\\', "").replace('\u{0}', "\\"),
            ]
        }
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![],
    }
}

#[test]
fn every_channel_tells_title_and_text_of_every_message() {
    for (name, channel) in all() {
        for message in messages() {
            let texts = texts(&body(channel, &message));
            let has = |wanted: &str| texts.iter().any(|text| text.contains(wanted));
            assert!(has(&message.title()), "{name}: no title {:?} in {texts:?}", message.title());
            let text = message.text();
            // An escaped text that is too long is cut once more.
            let begin: String = if message.text.len() > 2000 { text.chars().take(300).collect() } else { text };
            assert!(has(&begin), "{name}: no text {begin:?} in {texts:?}");
        }
    }
}

#[test]
fn people_and_programs_read_what_else_is_known() {
    for (name, channel) in all() {
        let texts = texts(&body(channel, &message()));
        for wanted in ["Failed", "6ebea71b19", "Deployment/web", "prod-eu", "latency", "2/3"] {
            assert!(texts.iter().any(|text| text.contains(wanted)), "{name}: no {wanted} in {texts:?}");
        }
    }
}

#[test]
fn every_body_has_a_limit() {
    for (name, channel) in all() {
        for message in messages() {
            let request = request(channel, &message, &endpoint()).unwrap();
            let limit = if PROGRAMS.contains(&name) { MAX_DATA } else { MAX_BODY };
            assert!(request.body().len() <= limit, "{name}: {} bytes", request.body().len());
            assert!(message.title().chars().count() <= 256);
        }
    }
}

#[test]
fn nothing_is_empty_where_a_channel_wants_something() {
    for (name, channel) in all().filter(|(name, _)| !PROGRAMS.contains(name)) {
        let bare = messages().swap_remove(1);
        let body = body(channel, &bare);
        assert!(!texts(&body).iter().any(|text| text.trim().is_empty()), "{name}: {body}");
    }
}

#[test]
fn every_request_can_be_told_from_another_and_shows_no_token() {
    for (name, channel) in all() {
        let request = request(channel, &message(), &endpoint()).unwrap();
        assert_eq!(request.method(), Method::POST, "{name}");
        assert_eq!(request.headers()["idempotency-key"], "6e0d3a1c-77.RolledBack", "{name}");
        assert!(request.headers()["content-type"].to_str().unwrap().contains("json"), "{name}");
        let token = request.headers().get("authorization");
        assert_eq!(token.is_some(), channel.takes_token(), "{name}");
        assert!(!format!("{:?}", request.headers()).contains("hunter"), "{name}");
        assert!(!String::from_utf8_lossy(request.body()).contains("hunter"), "{name}");
        assert!(!format!("{:?}", endpoint()).contains("hunter"), "{name}");
        // The same transition is the same request.
        let again = super::request(channel, &message(), &endpoint()).unwrap();
        assert_eq!((again.body(), again.uri()), (request.body(), request.uri()), "{name}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_without_showing_it() {
    for (name, channel) in all() {
        let send = |endpoint: Endpoint| request(channel, &message(), &endpoint).unwrap_err();
        assert_eq!(send(Endpoint::default()), Unsendable::NoAddress, "{name}");
        let address = |text: &str| Endpoint { address: Some(text.into()), ..Endpoint::default() };
        assert_eq!(send(address("hunter.example")), Unsendable::NotHttp, "{name}");
        assert_eq!(send(address("https://me:hunter@x")), Unsendable::HoldsCredentials, "{name}");
        if channel.takes_token() {
            assert_eq!(send(Endpoint { token: Some("hunter\n".into()), ..endpoint() }), Unsendable::BadToken, "{name}");
        }
    }
}

#[test]
fn every_answer_means_something_and_none_is_repeated() {
    let bodies = [&b""[..], b"ok", b"{}", b"null", b"hunter2 <html>", b"\xff", br#"{"ok":false,"error":"hunter2!"}"#];
    for (name, channel) in all() {
        for (status, body) in [200, 204, 301, 400, 403, 404, 413, 429, 500, 503].iter().zip(bodies.iter().cycle()) {
            let status = StatusCode::from_u16(*status).unwrap();
            let answer = answer(channel, status, &HeaderMap::new(), body);
            assert!(!format!("{answer:?}").contains("hunter"), "{name}: {answer:?}");
            assert_eq!(answer == Answer::Taken, status.is_success(), "{name} {status}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        let limited = answer(channel, StatusCode::TOO_MANY_REQUESTS, &headers, b"");
        let Answer::Later { after, .. } = limited else { panic!("{name}: {limited:?}") };
        assert_eq!(after.map(|wait| wait.as_secs()), Some(7), "{name}");
    }
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = all().map(|(name, _)| name).collect();
    assert_eq!(names.len(), all().count());
    assert!(by_name("slack").is_some() && by_name("pager").is_none());
}
