//! Comparisons of texts that a gateway knows only as regular expressions.
//!
//! Each is anchored: some gateways look for a part of the text, others for the whole.

/// The whole text, as somebody wrote it.
#[must_use]
pub fn whole(pattern: &str) -> String {
    let anchored = pattern.starts_with('^') && pattern.ends_with('$') && !pattern.contains('|');
    if anchored { pattern.to_owned() } else { format!("^(?:{pattern})$") }
}

/// A text that begins with this one.
#[must_use]
pub fn beginning(text: &str) -> String {
    format!("^{}.*$", escaped(text))
}

/// A text that ends with this one.
#[must_use]
pub fn ending(text: &str) -> String {
    format!("^.*{}$", escaped(text))
}

/// A header with this cookie among others; its value is a pattern.
#[must_use]
pub fn cookie(name: &str, value: &str) -> String {
    format!("^(.*;\\s*)?{}={value}(\\s*;.*)?$", escaped(name))
}

/// A text in which nothing has a meaning of its own.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut text, letter| {
        if "\\.+*?()|[]{}^$".contains(letter) {
            text.push('\\');
        }
        text.push(letter);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_has_a_meaning_of_its_own() {
        assert_eq!(escaped(r"a.b*c(d)|[e]{f}^$+?\g-h_i"), r"a\.b\*c\(d\)\|\[e\]\{f\}\^\$\+\?\\g-h_i");
        assert_eq!(beginning("v1."), r"^v1\..*$");
        assert_eq!(ending(".example"), r"^.*\.example$");
        assert_eq!(cookie("a.b", "x"), r"^(.*;\s*)?a\.b=x(\s*;.*)?$");
    }

    #[test]
    fn a_pattern_is_anchored_once() {
        assert_eq!(whole("a|b"), "^(?:a|b)$");
        assert_eq!(whole("^a$"), "^a$");
        assert_eq!(whole("^a$|^b$"), "^(?:^a$|^b$)$");
    }
}
