//! Text that fits, and that no channel takes for markup.

/// At most so many characters, on one line, with a sign that something is missing.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    let line = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut short: String = line.clone().take(limit).collect();
    if line.count() > limit {
        short.pop();
        short.push('…');
    }
    short
}

/// For channels that read `&`, `<` and `>`: as entities, and still at most so many characters.
pub(super) fn entities(text: &str, limit: usize) -> String {
    let mut escaped = String::new();
    let mut length = 0;
    for letter in text.chars() {
        let entity = match letter {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        length += entity.len().max(1);
        if length >= limit {
            escaped.push('…');
            break;
        }
        if entity.is_empty() { escaped.push(letter) } else { escaped.push_str(entity) }
    }
    escaped
}

/// For channels that read Markdown: with a backslash before all that means something.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if matches!(letter, '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '#') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_ends_in_a_sign() {
        assert_eq!(shorten("a\nb\u{1b}", 10), "a b ");
        assert_eq!(shorten("äöüß", 4), "äöüß");
        assert_eq!(shorten("äöüßx", 4), "äöü…");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(entities("<!channel> & all", 100), "&lt;!channel&gt; &amp; all");
        assert_eq!(entities("a<<<", 8), "a&lt;…");
        assert_eq!(markdown("a_b *c* [d](e)"), "a\\_b \\*c\\* \\[d\\](e)");
    }
}
