//! Which requests a rule takes, and which of them hold to one condition more.

use crate::object;
use serde_json::{Value, json};

/// What a rule without matches takes, and a match without a path.
fn every_path() -> Value {
    json!({"type": "PathPrefix", "value": "/"})
}

/// The matches of a rule; one that has none takes everything.
pub(super) fn of(rule: &Value) -> Vec<Value> {
    match rule.get("matches").and_then(Value::as_array) {
        Some(matches) if !matches.is_empty() => matches.clone(),
        Some(_) | None => vec![json!({"path": every_path()})],
    }
}

/// Which of the requests that `matches` take hold to one of `conditions` too.
///
/// # Errors
/// When a rule cannot say that: a sentence about the header or parameter.
pub(super) fn narrowed(matches: &[Value], conditions: &[Value]) -> Result<Vec<Value>, String> {
    let pairs = matches.iter().flat_map(|one| conditions.iter().map(move |condition| both(one, condition)));
    pairs.filter_map(Result::transpose).collect()
}

/// The requests for which both hold; `None` when there are none.
fn both(one: &Value, condition: &Value) -> Result<Option<Value>, String> {
    let mut joined = one.clone();
    // What is no match at all, which no API server with the definitions of the Gateway API stores, takes nothing.
    if !joined.is_object() {
        return Ok(None);
    }
    if joined.get("path").is_none() {
        joined["path"] = every_path();
    }
    for (field, what) in [("headers", "header"), ("queryParams", "query parameter")] {
        for wanted in list(condition, field) {
            let same = list(&joined, field).iter().find(|found| name(found, field) == name(wanted, field));
            match same {
                None => {
                    let mut longer = list(&joined, field).to_vec();
                    longer.push(wanted.clone());
                    joined[field] = longer.into();
                }
                Some(found) if found["value"] == wanted["value"] && kind(found) == kind(wanted) => {}
                Some(found) if kind(found) == "Exact" && kind(wanted) == "Exact" => return Ok(None),
                Some(_) => {
                    return Err(format!(
                        "compares {what} {} already, and a rule can compare it only once",
                        wanted["name"].as_str().unwrap_or_default()
                    ));
                }
            }
        }
    }
    Ok(Some(joined))
}

fn list<'value>(value: &'value Value, field: &str) -> &'value [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Names of headers are the same in small and capital letters, those of parameters are not.
fn name(comparison: &Value, field: &str) -> String {
    let name = comparison["name"].as_str().unwrap_or_default();
    if field == "headers" { name.to_ascii_lowercase() } else { name.to_owned() }
}

fn kind(comparison: &Value) -> &str {
    comparison.get("type").and_then(Value::as_str).unwrap_or("Exact")
}

/// Names the matches of a rule: the same before and after the API server has added its defaults.
pub(super) fn mark(rule: &Value) -> String {
    let compared = |comparison: &Value| json!([kind(comparison), comparison["name"], comparison["value"]]);
    let one = |matching: &Value| {
        let path = matching.get("path").cloned().unwrap_or_else(every_path);
        let text = |field, default: &'static str| path.get(field).and_then(Value::as_str).unwrap_or(default).to_owned();
        json!({
            "path": [text("type", "PathPrefix"), text("value", "/")],
            "method": matching.get("method"),
            "headers": list(matching, "headers").iter().map(compared).collect::<Vec<_>>(),
            "queryParams": list(matching, "queryParams").iter().map(compared).collect::<Vec<_>>(),
        })
    };
    object::hash(&of(rule).iter().map(one).collect::<Vec<_>>().into())
}
