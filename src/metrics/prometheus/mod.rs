//! Prometheus, and everything that speaks its query API: Thanos, Mimir, `VictoriaMetrics` and others.
//!
//! The crate `prometheus-http-query` builds the request and decodes the result, but its own `get()` is not used: it
//! drops the status of an answer that is not JSON, it does not bound how much it reads, a string or a histogram is
//! "not JSON" to it, and its error repeats parts of the body. So the controller calls `get_raw()` on what [`request`]
//! gives, reads at most [`MAX_ANSWER_BYTES`], and hands status and body to [`parse_hiding`]. Every way in which that can
//! fail has a function here that names it: [`not_sent`], [`not_read`], [`too_late`] and [`too_large`].

mod answer;
mod failure;
mod request;

pub use answer::{MAX_ANSWER_BYTES, parse, parse_hiding};
pub use failure::{not_read, not_sent, too_large, too_late};
pub use request::{request, secrets};

/// How much of a foreign message is passed on, in characters: a status is read by people.
const MAX_MESSAGE: usize = 200;

/// One line of at most [`MAX_MESSAGE`] characters.
fn shorten(message: &str) -> String {
    let line: String = message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(shorten("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(shorten(&"ä".repeat(MAX_MESSAGE)), "ä".repeat(MAX_MESSAGE));
        assert_eq!(shorten(&"ä".repeat(MAX_MESSAGE + 1)), format!("{}…", "ä".repeat(MAX_MESSAGE)));
    }
}
