//! What every gateway's templates have to be, whichever gateway it is.

use super::*;
use crate::metrics::{Variables, render};

fn variables() -> Variables {
    Variables {
        name: "web".into(),
        namespace: "shop".into(),
        target: "web.app".into(),
        service: "web-svc".into(),
        interval: "1m".into(),
        ..Variables::default()
    }
}

fn queries(metric: &'static str) -> impl Iterator<Item = (&'static str, String)> {
    let query =
        move |gateway: &&'static str| (*gateway, render(builtin(gateway, metric).unwrap(), &variables()).unwrap());
    gateways().iter().map(query)
}

fn is_balanced(query: &str) -> bool {
    let mut open = Vec::new();
    query.chars().all(|letter| match letter {
        '(' | '[' | '{' => {
            open.push(letter);
            true
        }
        ')' => open.pop() == Some('('),
        ']' => open.pop() == Some('['),
        '}' => open.pop() == Some('{'),
        _ => true,
    }) && open.is_empty()
}

#[test]
fn every_query_is_balanced_and_about_the_canary_in_its_interval() {
    for metric in [REQUEST_SUCCESS_RATE, REQUEST_DURATION] {
        assert!(is_builtin(metric));
        for (gateway, query) in queries(metric) {
            assert!(is_balanced(&query), "{gateway}: {query}");
            assert!(query.contains("shop"), "{gateway}: {query}");
            assert!(query.contains("web-svc-canary") || query.contains("web.app") || query.contains(r"web\\.app"));
            assert!(query.contains("[1m]"), "{gateway}: {query}");
            assert!(!query.contains("{{"), "{gateway}: {query}");
        }
    }
}

#[test]
fn a_canary_whose_requests_all_fail_has_a_rate_of_zero() {
    for (gateway, query) in queries(REQUEST_SUCCESS_RATE) {
        let (good, all) = query.split_once("\n/\n").unwrap();
        assert!(good.ends_with(" or vector(0))"), "{gateway}: {good}");
        assert!(!all.contains("vector("), "{gateway}: without traffic there must be no rate: {all}");
        assert!(all.ends_with(" * 100"), "{gateway}: {all}");
    }
}

#[test]
fn a_duration_is_the_99th_percentile() {
    for (gateway, query) in queries(REQUEST_DURATION) {
        assert!(query.starts_with("histogram_quantile(0.99, sum(rate("), "{gateway}: {query}");
        assert!(query.contains("_seconds_bucket") == query.ends_with(" * 1000"), "{gateway}: {query}");
    }
}

#[test]
fn names_are_unique_and_what_is_unknown_is_nothing() {
    let unique: std::collections::BTreeSet<_> = gateways().iter().collect();
    assert_eq!(unique.len(), gateways().len());
    assert_eq!(builtin("traefik", "error-rate"), None);
    assert_eq!(builtin("unknown", REQUEST_DURATION), None);
    assert!(!is_builtin("error-rate"));
}

#[test]
fn the_documentation_shows_every_template_as_it_is() {
    let page = include_str!("../../../docs/metrics.md");
    for gateway in gateways() {
        assert!(page.contains(&format!("\n### {gateway}\n")), "{gateway}");
        for metric in [REQUEST_SUCCESS_RATE, REQUEST_DURATION] {
            let template = builtin(gateway, metric).unwrap();
            assert!(page.contains(&format!("```promql\n{template}\n```")), "{gateway}: {template}");
        }
    }
}
