//! What a channel answers.

use http::StatusCode;
use std::time::Duration;

/// How much of an answer is read: a word or a short object.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// The longest wait that an answer can ask for: longer, and what is told is old news.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What a channel answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has the message.
    Taken,
    /// It may take it later.
    Later {
        /// What it said.
        why: String,
        /// When it asked for more patience than usual.
        after: Option<Duration>,
    },
    /// It will not take it, however often it is asked.
    Refused(String),
}

impl Answer {
    pub(super) fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), after: None }
    }

    pub(super) fn after(self, after: Option<Duration>) -> Self {
        match self {
            Self::Later { why, .. } => Self::Later { why, after },
            Self::Taken | Self::Refused(_) => self,
        }
    }
}

/// What most channels mean by a status.
pub(super) fn by_status(status: StatusCode) -> Answer {
    let why = format!("HTTP {}", status.as_u16());
    match status {
        _ if status.is_success() => Answer::Taken,
        _ if status.is_redirection() => Answer::Refused(format!("{why}: write the address that it redirects to")),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Answer::later(why),
        _ if status.is_server_error() => Answer::later(why),
        _ => Answer::Refused(why),
    }
}

/// The wait that `Retry-After` asks for; dates are not read, as nobody sends them here.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(MAX_WAIT))
}

/// An error code such as `channel_not_found`, and nothing else that an answer may hold.
pub(super) fn code(text: &str) -> Option<&str> {
    let text = text.trim();
    let is_code = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_code.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_it_is_worth_another_try() {
        for (status, worth) in
            [(200, None), (202, None), (204, None), (302, Some(false)), (400, Some(false)), (404, Some(false))]
                .into_iter()
                .chain([(408, Some(true)), (429, Some(true)), (500, Some(true)), (503, Some(true))])
        {
            let answer = by_status(StatusCode::from_u16(status).unwrap());
            match worth {
                None => assert_eq!(answer, Answer::Taken, "{status}"),
                Some(true) => assert_eq!(answer, Answer::later(format!("HTTP {status}"))),
                Some(false) => assert!(matches!(answer, Answer::Refused(_)), "{status}"),
            }
        }
    }

    #[test]
    fn patience_has_an_end() {
        assert_eq!(seconds("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(seconds("3600"), Some(MAX_WAIT));
        for text in ["-1", "NaN", "inf", "Wed, 21 Oct 2015 07:28:00 GMT", ""] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_code_is_passed_on() {
        assert_eq!(code("channel_not_found\n"), Some("channel_not_found"));
        for text in ["", "<html>", "token=abc", "No such channel", &"a".repeat(65)] {
            assert_eq!(code(text), None, "{text}");
        }
    }
}
