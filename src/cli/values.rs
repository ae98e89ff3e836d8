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

/// Several values in one, with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List(pub(super) Vec<String>);

impl List {
    fn of(text: &str) -> Self {
        Self(text.split(',').map(|part| part.trim().to_owned()).collect())
    }
}

/// Names of labels, at least one.
pub(super) fn label_keys(text: &str) -> Result<List, String> {
    let list = List::of(text);
    match list.0.iter().find(|key| !is_label_key(key)) {
        Some(wrong) => {
            Err(format!("{wrong:?} is not the name of a label; write for example app,app.kubernetes.io/name"))
        }
        None => Ok(list),
    }
}

/// What names of labels begin with, or `*`; nothing at all is none.
pub(super) fn prefixes(text: &str) -> Result<List, String> {
    if text.trim().is_empty() {
        return Ok(List::default());
    }
    let list = List::of(text);
    let is_prefix = |text: &str| text == "*" || (!text.is_empty() && text.chars().all(is_of_label));
    match list.0.iter().find(|prefix| !is_prefix(prefix)) {
        Some(wrong) => Err(format!(
            "no name of a label begins with {wrong:?}; write for example example.com/,team, and * alone means all"
        )),
        None => Ok(list),
    }
}

fn is_label_key(key: &str) -> bool {
    let is_part = |part: &str, longest: usize| {
        let ends = [part.chars().next(), part.chars().last()];
        (1..=longest).contains(&part.len())
            && part.chars().all(|letter| is_of_label(letter) && letter != '/')
            && ends.into_iter().flatten().all(|end| end.is_ascii_alphanumeric())
    };
    match key.split_once('/') {
        Some((domain, name)) => is_part(domain, 253) && is_part(name, 63),
        None => is_part(key, 63),
    }
}

fn is_of_label(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_./".contains(letter)
}

/// The name of a namespace.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a name is missing; leave --namespace out to watch all namespaces".to_owned());
    }
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if text.len() <= 63 && text.chars().all(is_part) && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("a namespace has up to 63 lower-case letters, digits and dashes; write for example shop".to_owned())
    }
}

/// A host without a port, or several at once with `*`.
pub(super) fn host_pattern(text: &str) -> Result<String, String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-._*".contains(letter);
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if is_address || (!text.is_empty() && text.chars().all(is_part)) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a host; write for example *.example.com, without a scheme and a port"))
    }
}

/// A label selector as `kubectl --selector` takes it. The API server has the last word on it, but says it only when
/// everything is running.
pub(super) fn label_selector(text: &str) -> Result<String, String> {
    let wrong = |term: &str| format!("{term:?} selects no label; write for example tier=gold or tier in (gold,silver)");
    for term in terms(text) {
        if !is_term(term.trim()) {
            return Err(wrong(term.trim()));
        }
    }
    Ok(text.to_owned())
}

/// The parts between commas that are in no parentheses.
fn terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    selector.split(move |letter| {
        inside = letter == '(' || inside && letter != ')';
        letter == ',' && !inside
    })
}

fn is_term(term: &str) -> bool {
    if let Some(key) = term.strip_prefix('!') {
        return is_word(key.trim());
    }
    let set = [" notin ", " in "].into_iter().find_map(|operator| term.split_once(operator));
    if let Some((key, values)) = set {
        let values = values.trim().strip_prefix('(').and_then(|values| values.strip_suffix(')'));
        return is_word(key.trim())
            && values.is_some_and(|values| values.split(',').all(|value| is_word(value.trim())));
    }
    match ["!=", "==", "="].into_iter().find_map(|operator| term.split_once(operator)) {
        Some((key, value)) => is_word(key.trim()) && (value.trim().is_empty() || is_word(value.trim())),
        None => is_word(term),
    }
}

/// What keys and values are made of.
fn is_word(text: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    !text.is_empty() && text.chars().all(is_part)
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
    fn names_of_labels_are_listed_with_commas() {
        let list = |names: &[&str]| Ok(List(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(label_keys("app, app.kubernetes.io/name"), list(&["app", "app.kubernetes.io/name"]));
        for text in ["", "app,", "a b", "-app", "a/b/c", "app/"] {
            assert!(
                label_keys(text).unwrap_err().ends_with("write for example app,app.kubernetes.io/name"),
                "{text:?}"
            );
        }
        assert_eq!(prefixes("example.com/,team"), list(&["example.com/", "team"]));
        assert_eq!(prefixes("*"), list(&["*"]));
        assert_eq!(prefixes(""), list(&[]), "as a chart writes it");
        for text in ["team*", ",", "a b"] {
            assert!(prefixes(text).unwrap_err().ends_with("* alone means all"), "{text:?}");
        }
    }

    #[test]
    fn selectors_are_those_of_kubectl() {
        let good =
            ["tier=gold", "tier == gold", "tier!=gold", "tier", "!tier", "serin.dev/tier in (gold, silver),!legacy"];
        for text in good {
            assert_eq!(label_selector(text), Ok(text.to_owned()));
        }
        for text in ["", "tier=gold,", "tier in gold", "tier in (gold", "=gold", "tier gold", "tier=(gold)", "!"] {
            assert!(label_selector(text).unwrap_err().contains("write for example tier=gold"), "{text:?}");
        }
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
