//! The name of an app in a query, whatever language that is in.
//!
//! Invariant: what only looks like the name stays: a part of another name, and what a value is compared with or filed under.

/// The query with the word `from` replaced, wherever it stands in quotes; where it never does, wherever it stands.
///
/// `web` is no word of `web-api`, `web_requests`, `web:rate` or `web.example.com`, and in `web="web"` it is one once.
pub(super) fn replaced(query: &str, from: &str, to: &str) -> String {
    let words = words(query, from);
    let quoted = words.iter().any(|(_, quoted)| *quoted);
    let mut out = String::with_capacity(query.len());
    let mut done = 0;
    for (at, _) in words.into_iter().filter(|(_, is_quoted)| *is_quoted == quoted) {
        out.push_str(&query[done..at]);
        out.push_str(to);
        done = at + from.len();
    }
    out.push_str(&query[done..]);
    out
}

/// Where the word stands, and whether that is in quotes.
fn words(query: &str, word: &str) -> Vec<(usize, bool)> {
    let mut found = vec![];
    let mut open: Option<char> = None;
    let mut escaped = false;
    let mut before = None;
    for (at, character) in query.char_indices() {
        let rest = &query[at..];
        if let (Some(after), false) = (rest.strip_prefix(word), word.is_empty())
            && !before.is_some_and(is_part)
            && !after.chars().next().is_some_and(is_part)
            && !is_key(after)
        {
            found.push((at, open.is_some()));
        }
        let is_quote = "\"'`".contains(character) && !escaped;
        open = match open {
            None if is_quote => Some(character),
            Some(quote) if is_quote && quote == character => None,
            open => open,
        };
        escaped = character == '\\' && !escaped;
        before = Some(character);
    }
    found
}

fn is_part(character: char) -> bool {
    character.is_alphanumeric() || "-_.".contains(character)
}

/// Whether what comes after a word makes it the name of a label, a tag or a column.
fn is_key(after: &str) -> bool {
    let after = after.trim_start_matches(['"', '\'', '`']).trim_start();
    ["=", ":", "!=", "!~"].into_iter().any(|sign| after.starts_with(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_changes() {
        let cases = [
            (r#"sum(rate(requests{app="web"}[1m]))"#, r#"sum(rate(requests{app="web-primary"}[1m]))"#),
            (r#"requests{app="web-two"}"#, r#"requests{app="web-two"}"#),
            (r#"requests{app="my-web"}"#, r#"requests{app="my-web"}"#),
            (r#"web_requests{app=~"web|api"}"#, r#"web_requests{app=~"web-primary|api"}"#),
            (r#"web:rate{app='web',host="web.example.com"}"#, r#"web:rate{app='web-primary',host="web.example.com"}"#),
            (
                r#"sum by (web) (r{web="web", web=~"(web)"})"#,
                r#"sum by (web) (r{web="web-primary", web=~"(web-primary)"})"#,
            ),
            (r#"r{web !~ "a\"web"}"#, r#"r{web !~ "a\"web-primary"}"#),
            (r#"{"term": {"web": "web"}}"#, r#"{"term": {"web": "web-primary"}}"#),
            ("avg:requests{app:web,web:two}", "avg:requests{app:web-primary,web:two}"),
            ("select count(*) from web", "select count(*) from web-primary"),
            ("select count(*) from web where name = 'web'", "select count(*) from web where name = 'web-primary'"),
            ("web web", "web-primary web-primary"),
            ("webweb", "webweb"),
            (r#"{app="web-primary"}"#, r#"{app="web-primary"}"#),
            ("ü web ü", "ü web-primary ü"),
            ("", ""),
        ];
        for (query, expected) in cases {
            assert_eq!(replaced(query, "web", "web-primary"), expected);
        }
        assert_eq!(replaced("web", "", "x"), "web");
    }

    #[test]
    fn a_name_is_replaced_once() {
        for query in ["web", "a web b", "web-primary", "web,web-primary", r#"{app="web"}"#] {
            let once = replaced(query, "web", "web-primary");
            assert_eq!(replaced(&once, "web", "web-primary"), once);
        }
    }
}
