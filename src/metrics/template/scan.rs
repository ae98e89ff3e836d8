//! Where the expressions of a template are.
//!
//! Invariant: an expression that leaves here is made of names, literals, comparisons and filters. Arithmetic is left
//! out for a reason: `[1] * 100000000` would take gigabytes before any limit of minijinja is reached.

use super::{InvalidTemplate, MAX_QUERY_BYTES};

/// The longest expression, in bytes. The parser of minijinja calls itself for every filter of a chain, and a few thousand
/// would overflow the stack.
const MAX_EXPRESSION_BYTES: usize = 256;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Segment<'a> {
    /// Copied as it is.
    Text(&'a str),
    /// What stands between `{{` and `}}`.
    Expression(&'a str),
}

/// Cuts the template into pieces. `{{-` and `-}}` take the white space beside them away and `{{/* … */}}` is a comment,
/// as in Go's templates.
pub(super) fn segments(template: &str) -> Result<Vec<Segment<'_>>, InvalidTemplate> {
    if template.len() > MAX_QUERY_BYTES {
        return Err(InvalidTemplate::TooLong);
    }
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((before, inside)) = rest.split_once("{{") {
        let end = closing(inside).ok_or_else(|| InvalidTemplate::Unclosed(beginning(inside)))?;
        let (content, after) = (&inside[..end], &inside[end + 2..]);
        // `{{-1}}` is a number in Go as it is here: a trim marker has white space behind it.
        let trimmed = content.strip_prefix('-').filter(|content| content.starts_with(char::is_whitespace));
        found.push(Segment::Text(if trimmed.is_some() { before.trim_end() } else { before }));
        let content = trimmed.unwrap_or(content);
        let (content, after) = match content.strip_suffix('-') {
            Some(content) => (content, after.trim_start()),
            None => (content, after),
        };
        let content = content.trim();
        if !(content.starts_with("/*") && content.ends_with("*/")) {
            found.push(Segment::Expression(checked(content)?));
        }
        rest = after;
    }
    found.push(Segment::Text(rest));
    Ok(found)
}

/// Enough of a text to find it again, without making a message of it.
pub(super) fn beginning(text: &str) -> String {
    let text = text.trim();
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(59).chain(['…']).collect() }
}

/// Where the `}}` is that is not within a string.
fn closing(inside: &str) -> Option<usize> {
    outside_of_strings(inside).find(|(at, _)| inside[*at..].starts_with("}}")).map(|(at, _)| at)
}

fn checked(expression: &str) -> Result<&str, InvalidTemplate> {
    let problem = |problem: String| {
        let expression = beginning(expression);
        Err(InvalidTemplate::BadExpression { expression, problem })
    };
    if expression.is_empty() {
        return problem("is nothing; write a variable such as namespace".to_owned());
    }
    if expression.len() > MAX_EXPRESSION_BYTES {
        return problem(format!(
            "goes on for more than {MAX_EXPRESSION_BYTES} bytes; write a variable such as namespace"
        ));
    }
    let allowed =
        |letter: char| letter.is_alphanumeric() || letter.is_whitespace() || "_.,|()[]=!<>:-'\"".contains(letter);
    match outside_of_strings(expression).find(|(_, letter)| !allowed(*letter)) {
        Some((_, letter)) => problem(format!("holds {letter:?}; write a variable, perhaps with a filter behind a |")),
        None => Ok(expression),
    }
}

/// The letters that are no part of a string, with their places; the quotes are.
fn outside_of_strings(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    let mut escaped = false;
    text.char_indices().filter(move |(_, letter)| match quote {
        None => {
            quote = Some(*letter).filter(|letter| matches!(letter, '"' | '\''));
            true
        }
        Some(_) if escaped => {
            escaped = false;
            false
        }
        Some(open) => {
            escaped = *letter == '\\';
            let closes = *letter == open;
            quote = Some(open).filter(|_| !closes);
            closes
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Segment::*, *};

    #[test]
    fn text_is_left_alone() {
        let promql = "# {% if %} {# x #}\nsum(rate(x{a=~\"b{1,2}\"}[1m])) }}\n";
        assert_eq!(segments(promql), Ok(vec![Text(promql)]));
    }

    #[test]
    fn expressions_are_found_and_white_space_is_trimmed_as_in_go() {
        assert_eq!(segments("a {{ b }} c"), Ok(vec![Text("a "), Expression("b"), Text(" c")]));
        assert_eq!(segments("a {{- b -}} c"), Ok(vec![Text("a"), Expression("b"), Text("c")]));
        assert_eq!(segments("a {{-1}} c"), Ok(vec![Text("a "), Expression("-1"), Text(" c")]));
        assert_eq!(segments("a{{/* }b{ * */}}c"), Ok(vec![Text("a"), Text("c")]));
        assert_eq!(segments("{x=\"{{ b }}\"}"), Ok(vec![Text("{x=\""), Expression("b"), Text("\"}")]));
        assert_eq!(segments("{{ b|default('}}*') }}"), Ok(vec![Text(""), Expression("b|default('}}*')"), Text("")]));
    }

    #[test]
    fn what_could_be_costly_is_refused() {
        for template in
            ["{{ [1] * 9 }}", "{{ 'a' ~ 'b' }}", "{{ {} }}", "{{ 'a\\'' * 9 }}", "{{ \"'\" * 9 }}", "{{ 2 + 2 }}"]
        {
            assert!(matches!(segments(template), Err(InvalidTemplate::BadExpression { .. })), "{template}");
        }
        assert_eq!(segments("{{ a"), Err(InvalidTemplate::Unclosed("a".into())));
        assert_eq!(segments("{{ 'a }}"), Err(InvalidTemplate::Unclosed("'a }}".into())));
        assert_eq!(segments(&" ".repeat(MAX_QUERY_BYTES + 1)), Err(InvalidTemplate::TooLong));
    }
}
