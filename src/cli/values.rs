//! Values of flags that need more than a type: each parser's message says what to write instead.

use std::time::Duration;

use axum::http::Uri;
use jiff::SignedDuration;

/// A duration as people write it: `10s`, `1m 30s`, `250ms`.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let example = "write for example 10s, 1m30s or 250ms";
    let duration: SignedDuration = text.parse().map_err(|error| format!("{error}; {example}"))?;
    if duration.is_negative() { Err(format!("a duration cannot be negative; {example}")) } else { Ok(duration) }
}

/// A duration that leaves time for something to happen.
pub(super) fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = duration(text)?.unsigned_abs();
    if deadline.is_zero() {
        Err("nothing answers within no time; write for example 5s".to_owned())
    } else {
        Ok(deadline)
    }
}

/// The address of an HTTP server.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let example = "write for example http://prometheus:9090";
    let uri: Uri = text.parse().map_err(|error| format!("{error}; {example}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!("an address begins with http:// or https:// and names a host; {example}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_write_them() {
        assert_eq!(duration("10s"), Ok(SignedDuration::from_secs(10)));
        assert_eq!(duration("1m 30s"), Ok(SignedDuration::from_secs(90)));
        assert_eq!(duration("1m30s"), Ok(SignedDuration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(SignedDuration::from_millis(250)));
        assert_eq!(duration("0s"), Ok(SignedDuration::ZERO));
    }

    #[test]
    fn a_refused_duration_says_what_to_write() {
        for text in ["-5s", "5s ago", "10", "", "soon"] {
            let message = duration(text).unwrap_err();
            assert!(message.ends_with("; write for example 10s, 1m30s or 250ms"), "{text:?}: {message}");
        }
        assert!(duration("-5s").unwrap_err().starts_with("a duration cannot be negative"));
        assert!(deadline("0s").unwrap_err().ends_with("write for example 5s"));
    }

    #[test]
    fn an_address_is_a_url_with_a_host() {
        assert_eq!(http_url("http://prometheus:9090/"), Ok("http://prometheus:9090".to_owned()));
        assert_eq!(http_url("https://metrics.example/prefix"), Ok("https://metrics.example/prefix".to_owned()));
        for text in ["prometheus:9090", "prometheus", "/metrics", "ftp://host", ""] {
            assert!(http_url(text).unwrap_err().ends_with("write for example http://prometheus:9090"), "{text:?}");
        }
    }
}
