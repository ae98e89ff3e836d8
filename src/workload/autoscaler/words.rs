//! Whole words in a query.

/// The text with every whole word `from` replaced. What can be part of a name or of a metric's name ends no word: `web` is
/// not in `web-api`, `web_requests`, `web:rate` or `web.example.com`.
pub(super) fn replaced(text: &str, from: &str, to: &str) -> String {
    if from.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(from) {
        let (head, tail) = rest.split_at(at);
        let after = &tail[from.len()..];
        let before_it = head.chars().next_back().or(before);
        let is_word = ![before_it, after.chars().next()].into_iter().flatten().any(is_part);
        out.push_str(head);
        out.push_str(if is_word { to } else { from });
        before = from.chars().next_back();
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_part(character: char) -> bool {
    character.is_alphanumeric() || "-_.:".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_change() {
        let cases = [
            (r#"sum(rate(requests{app="web"}[1m]))"#, r#"sum(rate(requests{app="web-primary"}[1m]))"#),
            (r#"requests{app="web-two"}"#, r#"requests{app="web-two"}"#),
            (r#"requests{app="my-web"}"#, r#"requests{app="my-web"}"#),
            (r#"web_requests{app=~"web|api"}"#, r#"web_requests{app=~"web-primary|api"}"#),
            (r#"web:rate{app='web',host="web.example.com"}"#, r#"web:rate{app='web-primary',host="web.example.com"}"#),
            ("select count(*) from web", "select count(*) from web-primary"),
            ("web web", "web-primary web-primary"),
            ("webweb", "webweb"),
            (r#"{app="web-primary"}"#, r#"{app="web-primary"}"#),
            ("ü web ü", "ü web-primary ü"),
            ("", ""),
        ];
        for (query, expected) in cases {
            assert_eq!(replaced(query, "web", "web-primary"), expected);
        }
    }

    #[test]
    fn a_word_is_replaced_once() {
        for text in ["web", "a web b", "web-primary", "web,web-primary"] {
            let once = replaced(text, "web", "web-primary");
            assert_eq!(replaced(&once, "web", "web-primary"), once);
        }
        assert_eq!(replaced("aa", "a", "b"), "aa", "two of them side by side are another word");
        assert_eq!(replaced("web", "", "x"), "web");
    }
}
