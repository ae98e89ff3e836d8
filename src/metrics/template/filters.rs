//! What a value can be passed through on its way into a query.
//!
//! Invariant: no result is longer than a query may be, so that a chain of filters cannot grow without bound.

use super::MAX_QUERY_BYTES;
use minijinja::{Error, ErrorKind};

/// Text as it is written within double quotes in `PromQL`.
pub(super) fn escape(text: &str) -> Result<String, Error> {
    bounded(text.chars().flat_map(quoted).collect())
}

/// Text that a regular expression takes literally, as it is written within double quotes in `PromQL`.
pub(super) fn regex(text: &str) -> Result<String, Error> {
    let special = |letter| r"\.+*?()|[]{}^$".contains(letter);
    let literal: String =
        text.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter])).collect();
    escape(&literal)
}

fn quoted(letter: char) -> impl Iterator<Item = char> {
    let (prefix, letter) = match letter {
        '"' | '\\' => (Some('\\'), letter),
        '\n' => (Some('\\'), 'n'),
        '\r' => (Some('\\'), 'r'),
        _ => (None, letter),
    };
    prefix.into_iter().chain([letter])
}

fn bounded(text: String) -> Result<String, Error> {
    if text.len() > MAX_QUERY_BYTES {
        return Err(Error::new(ErrorKind::InvalidOperation, "the value is too long"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dot_of_a_name_matches_only_a_dot() {
        assert_eq!(regex("web-1.2").unwrap(), r"web-1\\.2");
        assert_eq!(regex(r#"a"|\"#).unwrap(), r#"a\"\\|\\\\"#);
        assert_eq!(escape("a\"\\\n.").unwrap(), r#"a\"\\\n."#);
    }

    #[test]
    fn a_chain_of_filters_does_not_grow_without_bound() {
        let mut text = "\\".repeat(1_000);
        let outcome = (0..20).try_for_each(|_| regex(&text).map(|longer| text = longer));
        assert!(outcome.is_err());
    }

    proptest! {
        #[test]
        fn an_escaped_text_never_ends_its_string(text in any::<String>()) {
            let mut letters = escape(&text).unwrap();
            letters.push('"');
            let mut letters = letters.chars();
            let mut before_the_quote = String::new();
            while let Some(letter) = letters.next() {
                match letter {
                    '"' => break,
                    '\\' => before_the_quote.push(match letters.next().unwrap() {
                        'n' => '\n',
                        'r' => '\r',
                        other => other,
                    }),
                    _ => before_the_quote.push(letter),
                }
            }
            prop_assert_eq!(letters.next(), None);
            prop_assert_eq!(before_the_quote, text);
        }
    }
}
