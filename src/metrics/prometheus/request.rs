//! From a query to what the controller sends.

use crate::{
    domain::Unknown,
    metrics::{Credentials, Query, address},
};
use jiff::SignedDuration;
use prometheus_http_query::{Client, InstantQueryBuilder};
use reqwest::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Headers that frame the request itself; a wrong one would make it hang or become two.
const FRAMING: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE];

/// Shorter words are too common to be taken out of a message.
const MIN_SECRET: usize = 4;

/// The request, ready for `get_raw()`. The provider is told to give up by itself at the deadline, too, which has to be
/// at least a millisecond.
///
/// # Errors
/// [`Unknown::NotAsked`] when address, headers or credentials cannot be sent; no message shows a value of them.
pub fn request(
    http: &reqwest::Client,
    query: &Query,
    deadline: SignedDuration,
) -> Result<InstantQueryBuilder, Unknown> {
    let Query { address, text, headers, insecure_skip_verify: _, credentials } = query;
    let base = address::base(address).map_err(|error| Unknown::NotAsked(error.to_string()))?;
    let client = Client::from(http.clone(), &base).map_err(|error| Unknown::NotAsked(error.to_string()))?;
    let timeout = i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut request = client.query(text).timeout(timeout);
    for (name, value) in headers {
        let (name, value) = header(name, value, credentials.is_some()).map_err(Unknown::NotAsked)?;
        request = request.header(name, value);
    }
    if let Some(credentials) = credentials {
        request = request.header(AUTHORIZATION, authorization(http, credentials)?);
    }
    Ok(request)
}

/// The words by which a query says who is asking, the longest first: what is left of one when another is taken out of it
/// would not be found any more.
#[must_use]
pub fn secrets(http: &reqwest::Client, query: &Query) -> Vec<String> {
    let said = query.credentials.as_ref().and_then(|credentials| authorization(http, credentials).ok());
    let said = said.and_then(|value| value.to_str().map(str::to_owned).ok());
    let login = match &query.credentials {
        Some(Credentials::Basic { username, password }) => vec![username.clone(), password.clone()],
        Some(Credentials::Bearer(token)) => vec![token.clone()],
        None => vec![],
    };
    let values = query.headers.iter().map(|(_, value)| value.clone());
    let whole: Vec<_> = values.chain(said).chain(login).collect();
    let words = whole.iter().flat_map(|value| value.split_whitespace()).map(str::to_owned);
    let secrets: BTreeSet<_> = words.chain(whole.iter().cloned()).filter(|word| word.len() >= MIN_SECRET).collect();
    let mut secrets: Vec<_> = secrets.into_iter().collect();
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    secrets
}

fn header(name: &str, value: &str, has_credentials: bool) -> Result<(HeaderName, HeaderValue), String> {
    let invalid_name = |_| format!("the header name {name:?} is not valid; write letters, digits and dashes");
    let parsed: HeaderName = name.parse().map_err(invalid_name)?;
    let invalid_value = |_| format!("the value of the header {name} is not valid; write it on one line");
    let mut value: HeaderValue = value.parse().map_err(invalid_value)?;
    if FRAMING.contains(&parsed) {
        return Err(format!("the header {name} is set by Serin itself; remove it"));
    }
    if parsed == AUTHORIZATION && has_credentials {
        return Err("both secretRef and the header authorization say who is asking; remove one of them".to_owned());
    }
    value.set_sensitive(true);
    Ok((parsed, value))
}

/// Reqwest knows how to write this header, and that no log may show it.
fn authorization(http: &reqwest::Client, credentials: &Credentials) -> Result<HeaderValue, Unknown> {
    let draft = http.get("http://localhost");
    let draft = match credentials {
        Credentials::Basic { username, password } => draft.basic_auth(username, Some(password)),
        Credentials::Bearer(token) => draft.bearer_auth(token),
    };
    let value = draft.build().ok().and_then(|draft| draft.headers().get(AUTHORIZATION).cloned());
    value.ok_or_else(|| Unknown::NotAsked("the secret holds letters that no header can carry; write ASCII".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> reqwest::Client {
        // Only the first test of a process can install it, which is enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::new()
    }

    fn query() -> Query {
        Query {
            address: "http://prometheus:9090".into(),
            text: "up".into(),
            headers: Vec::new(),
            insecure_skip_verify: false,
            credentials: None,
        }
    }

    fn refused(query: &Query) -> String {
        let outcome = request(&http(), query, SignedDuration::from_secs(5));
        let Err(Unknown::NotAsked(sentence)) = outcome else { panic!("it was accepted") };
        assert!(!sentence.contains("hunter"), "{sentence}");
        sentence
    }

    fn with_header(name: &str, value: &str) -> Query {
        Query { headers: vec![(name.into(), value.into())], ..query() }
    }

    #[test]
    fn a_query_becomes_a_request() {
        let credentials = Some(Credentials::Bearer("abc".into()));
        let query = Query { credentials, ..with_header("X-Scope-OrgID", "team") };
        assert!(request(&http(), &query, SignedDuration::from_secs(5)).is_ok());
    }

    #[test]
    fn credentials_are_written_as_the_standards_say_and_hidden_from_logs() {
        let basic = Credentials::Basic { username: "Aladdin".into(), password: "open sesame".into() };
        let value = authorization(&http(), &basic).unwrap();
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(value.is_sensitive());
        let value = authorization(&http(), &Credentials::Bearer("abc".into())).unwrap();
        assert_eq!((value.to_str().unwrap(), value.is_sensitive()), ("Bearer abc", true));
        assert!(authorization(&http(), &Credentials::Bearer("a\nb".into())).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_showing_a_value() {
        insta::assert_snapshot!(refused(&with_header("a b", "hunter")), @r#"the header name "a b" is not valid; write letters, digits and dashes"#);
        insta::assert_snapshot!(refused(&with_header("a", "hunter\nb")), @"the value of the header a is not valid; write it on one line");
        insta::assert_snapshot!(refused(&with_header("Content-Length", "7")), @"the header Content-Length is set by Serin itself; remove it");
        let twice =
            Query { credentials: Some(Credentials::Bearer("hunter".into())), ..with_header("Authorization", "hunter") };
        insta::assert_snapshot!(refused(&twice), @"both secretRef and the header authorization say who is asking; remove one of them");
        let address = "http://me:hunter@x".into();
        insta::assert_snapshot!(refused(&Query { address, ..query() }), @"the address holds a user or a password; put them into a secret and name it in secretRef");
    }

    #[test]
    fn every_word_that_says_who_is_asking_is_a_secret() {
        let of = |credentials| {
            let headers = vec![("x-api-key".into(), "hunter4".into()), ("x-org".into(), "me".into())];
            secrets(&http(), &Query { headers, credentials: Some(credentials), ..query() })
        };
        let basic = of(Credentials::Basic { username: "hunter1".into(), password: "hunter2".into() });
        assert_eq!(
            basic,
            ["Basic aHVudGVyMTpodW50ZXIy", "aHVudGVyMTpodW50ZXIy", "hunter1", "hunter2", "hunter4", "Basic"]
        );
        let bearer = of(Credentials::Bearer("hunter3".into()));
        assert_eq!(bearer, ["Bearer hunter3", "hunter3", "hunter4", "Bearer"]);
        assert_eq!(secrets(&http(), &Query { headers: vec![], credentials: None, ..query() }), Vec::<String>::new());
    }
}
