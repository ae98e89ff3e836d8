//! A template gives a query of bounded length, or a sentence; it cannot loop.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serin::metrics::{MAX_QUERY_BYTES, Variables, render};

fuzz_target!(|input: (&str, &str)| {
    let (template, value) = input;
    let variables = Variables {
        name: "podinfo".into(),
        namespace: "shop".into(),
        target: "podinfo".into(),
        service: "podinfo".into(),
        ingress: String::new(),
        route: String::new(),
        interval: "1m".into(),
        variables: [("reporter".to_owned(), value.to_owned())].into(),
    };
    match render(template, &variables) {
        Ok(query) => assert!(query.len() <= MAX_QUERY_BYTES),
        Err(invalid) => assert!(!invalid.to_string().is_empty()),
    }
});
