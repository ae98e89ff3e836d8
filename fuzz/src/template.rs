//! Query templates.

use crate::parts;
use serin::metrics::{MAX_QUERY_BYTES, Variables, render};
use std::collections::BTreeMap;

/// The longest sentence about a template, in characters, all variables that there are included.
const LONGEST_SENTENCE: usize = 1_000;

/// The value of a variable in the first line, and the template behind it: the query is bounded, and so is what it takes to
/// make it; what is wrong is said in a short sentence.
///
/// # Panics
/// When that is not so.
pub fn query_template(bytes: &[u8]) {
    let [value, template] = parts(bytes).map(|part| String::from_utf8_lossy(part).into_owned());
    let name = |name: &str| name.to_owned();
    let variables = Variables {
        name: name("web"),
        namespace: name("shop"),
        target: name("web"),
        service: name("web"),
        interval: name("1m"),
        variables: BTreeMap::from([(name("code"), value)]),
        ..Variables::default()
    };
    let rendered = render(&template, &variables);
    match &rendered {
        Ok(query) => assert!(query.len() <= MAX_QUERY_BYTES, "{} bytes", query.len()),
        Err(invalid) => {
            let sentence = invalid.to_string();
            assert!(sentence.chars().count() <= LONGEST_SENTENCE, "{} characters: {sentence}", sentence.len());
        }
    }
    assert_eq!(rendered, render(&template, &variables), "the same again");
}
