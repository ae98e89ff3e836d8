//! The outcomes that come without an answer.

use super::{answer::MAX_ANSWER_BYTES, shorten};
use crate::{domain::Unknown, metrics::prometheus_duration};
use jiff::SignedDuration;
use prometheus_http_query::Error;
use std::error::Error as _;

/// When `get_raw()` failed.
#[must_use]
pub fn not_sent(address: &str, error: &Error, deadline: SignedDuration) -> Unknown {
    match error {
        Error::Client(error) => match error.inner() {
            Some(error) => not_read(address, error, deadline),
            None => Unknown::Unreachable(address.to_owned(), error.to_string()),
        },
        error => Unknown::NotAsked(error.to_string()),
    }
}

/// When the body could not be read to its end.
#[must_use]
pub fn not_read(address: &str, error: &reqwest::Error, deadline: SignedDuration) -> Unknown {
    if error.is_timeout() {
        too_late(address, deadline)
    } else if error.is_builder() {
        Unknown::NotAsked(format!("the request could not be built ({}); check the address", cause(error)))
    } else {
        Unknown::Unreachable(address.to_owned(), cause(error))
    }
}

/// When the controller stopped waiting.
#[must_use]
pub fn too_late(address: &str, deadline: SignedDuration) -> Unknown {
    Unknown::Timeout(address.to_owned(), prometheus_duration(deadline))
}

/// When the body goes on after [`MAX_ANSWER_BYTES`].
#[must_use]
pub fn too_large(address: &str) -> Unknown {
    let reason = format!("it is longer than {MAX_ANSWER_BYTES} bytes; aggregate the query, for example with sum()");
    Unknown::Garbled(address.to_owned(), reason)
}

/// The innermost error: what surrounds it only says that a request failed, and would repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let innermost = std::iter::successors(error.source(), |&error| error.source()).last();
    shorten(&innermost.map_or_else(|| "the request failed".to_owned(), ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "http://prometheus:9090";

    #[test]
    fn a_deadline_and_a_flood_have_their_own_sentences() {
        let late = too_late(ADDRESS, SignedDuration::from_secs(5));
        insta::assert_snapshot!(late, @"http://prometheus:9090 did not answer within 5s");
        insta::assert_snapshot!(too_large(ADDRESS), @"http://prometheus:9090 answered with something that is not a query result: it is longer than 1048576 bytes; aggregate the query, for example with sum()");
    }

    #[test]
    fn a_request_that_cannot_be_built_was_not_asked() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let error = reqwest::Client::new().get("http://").build().unwrap_err();
        let unknown = not_read(ADDRESS, &error, SignedDuration::from_secs(5));
        insta::assert_snapshot!(unknown, @"the request could not be built (empty host); check the address");
        let unknown = not_sent(ADDRESS, &Error::EmptySeriesSelector, SignedDuration::from_secs(5));
        assert!(matches!(unknown, Unknown::NotAsked(_)), "{unknown:?}");
    }
}
