//! What a strategy needs of a route besides the weights: rules of its own before the app's, and copies of requests.
//!
//! Invariant: an inserted rule is known by three signs together: it sends to canary and primary in this order, to
//! nothing else, and the route's annotation names its matches. A rule of the user's that Serin splits has the other
//! order, so none is ever taken for an inserted one, whatever it matches.

use super::{matching, rules};
use crate::domain::{Split, Traffic, Weight};
use crate::mesh::{Affinity, App, Wanted, pattern};
use crate::object;
use rules::Rule;
use serde_json::{Value, json};

/// Names the matches of the rules that Serin inserted.
const INSERTED: &str = "serin.dev/inserted-rules";

/// Before Gateway API 1.2 a rule could have so many matches; later ones allow more.
const MOST_MATCHES: usize = 8;

/// So many rules a route can have.
const MOST_RULES: usize = 16;

/// So many matches all rules of a route can have together.
const MOST_MATCHES_IN_ALL: usize = 128;

/// Whose cookies do not matter.
const NOBODY: Wanted<'static> = Wanted { traffic: Traffic::Untouched, canary: "", primary: "" };

/// The route with the split in it.
pub(super) fn split(app: &App, wanted: &Wanted<'_>, to: Split, route: &Value) -> Value {
    split_as(app, wanted, to, route, knows_share(app, route))
}

/// The same, where it is known whether the cluster's routes can say which share of the requests is copied.
pub(super) fn split_as(app: &App, wanted: &Wanted<'_>, to: Split, route: &Value, share: bool) -> Value {
    // Where the strategy cannot be written the primary has everything; `impossible` says why.
    with_split(app, wanted, to, route, share)
        .or_else(|_| {
            let plain = App { matches: vec![], affinity: None, ..app.clone() };
            with_split(&plain, wanted, Split::of(Weight::ZERO), route, share)
        })
        .unwrap_or_else(|_| route.clone())
}

fn with_split(app: &App, wanted: &Wanted<'_>, to: Split, route: &Value, share: bool) -> Result<Value, String> {
    let mut changed = bare(app, route);
    let Some(found) = changed.pointer("/spec/rules").and_then(Value::as_array).cloned() else { return Ok(changed) };
    let (mut all, mut marks) = (Vec::new(), Vec::new());
    for mut rule in found {
        let Some(pair) = rules::pair(app, &rule, of_rule(app, to.weight)) else {
            all.push(rule);
            continue;
        };
        let inserted = before(app, wanted, to.weight, &rule)?;
        marks.extend(inserted.iter().map(matching::mark));
        all.extend(inserted);
        rule["backendRefs"] = Value::from(pair.to_vec());
        copy(app, &mut rule, to.mirror, share);
        all.push(rule);
    }
    limits(app, &all)?;
    if !app.matches.is_empty() && to.weight > Weight::ZERO && marks.is_empty() {
        return Err(format!("no request that HTTPRoute {} sends to the app can hold to analysis.match", app.name));
    }
    changed["spec"]["rules"] = all.into();
    remember(&mut changed, (!marks.is_empty()).then(|| marks.join(",")));
    Ok(changed)
}

/// The route without anything of a strategy, and with the app's own Service.
pub(super) fn rejoin(app: &App, route: &Value) -> Value {
    let mut changed = bare(app, route);
    let rules = changed.pointer_mut("/spec/rules").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        if let Some(whole) = rules::whole(app, rule) {
            rule["backendRefs"] = json!([whole]);
        }
    }
    changed
}

/// The route without what a strategy put into it; the pairs stay.
pub(super) fn bare(app: &App, route: &Value) -> Value {
    let mut changed = route.clone();
    let marks = remembered(route);
    let marks: Vec<_> = marks.iter().flat_map(|marks| marks.split(',')).collect();
    if let Some(rules) = changed.pointer_mut("/spec/rules").and_then(Value::as_array_mut) {
        rules.retain(|rule| !is_inserted(app, rule, &marks));
        for rule in rules.iter_mut() {
            copy(app, rule, Weight::ZERO, true);
        }
    }
    remember(&mut changed, None);
    changed
}

/// Why the strategy cannot be written into the route, which is `bare` without it, as a sentence.
pub(super) fn impossible(app: &App, bare: &Value, route: &Value) -> Option<String> {
    if app.mirror.canary() > 0 && app.mirror < Weight::FULL && !knows_share(app, route) {
        return Some(
            "this cluster's HTTPRoutes copy all requests or none (Gateway API before 1.2 knows no percent); leave \
             analysis.mirrorWeight out"
                .to_owned(),
        );
    }
    if is_plain(app) {
        return limits(app, rules::all(bare)).err();
    }
    with_split(app, &NOBODY, Split::of(probe(app)), route, true).err()
}

/// A weight at which the strategy has all its rules.
fn probe(app: &App) -> Weight {
    let half = Weight::try_from(50).unwrap_or_default();
    if app.affinity.is_some() { half } else { Weight::FULL }
}

/// Whether the strategy is weights alone, so that no rule is ever inserted. A pass looks at its route several times, and
/// this way it need not be rendered to be understood.
fn is_plain(app: &App) -> bool {
    app.matches.is_empty() && app.affinity.is_none()
}

/// The canary's share that the route shows, which is `bare` without the strategy; `None` when it is not what any split would
/// be.
pub(super) fn shown(app: &App, bare: &Value, route: &Value) -> Option<Weight> {
    if is_plain(app) && rules::ours(app, route).count() == rules::ours(app, bare).count() {
        let mut kinds = rules::ours(app, route);
        let Some(Rule::Split(weight)) = kinds.next() else { return None };
        return kinds.all(|rule| rule == Rule::Split(weight)).then_some(weight);
    }
    let seen = skeleton(app, route);
    let of = |(rule, _): &(Rule, String)| match rule {
        Rule::Split(weight) => Some(*weight),
        Rule::Foreign | Rule::Whole | Rule::Uneven | Rule::Shared => None,
    };
    let candidates = [Weight::ZERO].into_iter().chain(seen.iter().filter_map(of));
    candidates.into_iter().find(|weight| {
        let expected = with_split(app, &NOBODY, Split::of(*weight), route, true);
        expected.is_ok_and(|expected| skeleton(app, &expected) == seen)
    })
}

/// What a split looks like: the weights of the app's rules in their order and, of an A/B test, what they match. What
/// the cookies hold is no part of it, because it depends on the versions.
fn skeleton(app: &App, route: &Value) -> Vec<(Rule, String)> {
    let ours = rules::all(route).iter().map(|rule| (Rule::of(app, rule), rule)).filter(|(of, _)| *of != Rule::Foreign);
    let mark = |rule| if app.matches.is_empty() { String::new() } else { matching::mark(rule) };
    ours.map(|(of, rule)| (of, mark(rule))).collect()
}

/// The share of the app's own rules, which take what no rule before them has taken.
fn of_rule(app: &App, weight: Weight) -> Weight {
    let partial = weight > Weight::ZERO && weight < Weight::FULL;
    if !app.matches.is_empty() || (app.affinity.is_some() && partial) { Weight::ZERO } else { weight }
}

/// The rules that go before one of the app's.
fn before(app: &App, wanted: &Wanted<'_>, weight: Weight, rule: &Value) -> Result<Vec<Value>, String> {
    let matches = matching::of(rule);
    if !app.matches.is_empty() {
        if weight == Weight::ZERO {
            return Ok(vec![]);
        }
        let narrowed = matching::narrowed(&matches, &app.matches).map_err(|why| sentence(app, &why))?;
        let chunks = narrowed.chunks(MOST_MATCHES);
        return Ok(chunks.filter_map(|matches| inserted(app, rule, matches.to_vec(), weight)).collect());
    }
    match &app.affinity {
        None => Ok(vec![]),
        Some(affinity) => affine(app, affinity, wanted, weight, rule, &matches),
    }
}

/// The rules by which clients stay on the version that they were given.
fn affine(
    app: &App,
    affinity: &Affinity,
    wanted: &Wanted<'_>,
    weight: Weight,
    rule: &Value,
    matches: &[Value],
) -> Result<Vec<Value>, String> {
    let holding = |cookie: String| -> Result<Vec<Value>, String> {
        let condition = json!({"headers": [{"type": "RegularExpression", "name": "Cookie", "value": cookie}]});
        matching::narrowed(matches, &[condition]).map_err(|why| sentence(app, &why))
    };
    let Affinity { cookie, primary_cookie, .. } = affinity;
    if weight == Weight::FULL {
        return Ok(vec![]);
    }
    if weight == Weight::ZERO {
        let mut gone = inserted(app, rule, holding(pattern::cookie(cookie, ".*"))?, Weight::ZERO);
        if let Some(gone) = &mut gone {
            give_cookie(app, gone, &rules::primary(app), &affinity.forget(cookie))?;
        }
        return Ok(gone.into_iter().collect());
    }
    let mut all =
        vec![inserted(app, rule, holding(pattern::cookie(cookie, &pattern::escaped(wanted.canary)))?, Weight::FULL)];
    let mut open = inserted(app, rule, matches.to_vec(), weight);
    if let Some(open) = &mut open {
        let value = affinity.set(cookie, wanted.canary, affinity.max_age);
        give_cookie(app, open, &rules::canary(app), &value)?;
    }
    if let Some(name) = primary_cookie {
        let held = holding(pattern::cookie(name, &pattern::escaped(wanted.primary)))?;
        all.push(inserted(app, rule, held, Weight::ZERO));
        if let Some(open) = &mut open {
            let value = affinity.set(name, wanted.primary, affinity.primary_max_age);
            give_cookie(app, open, &rules::primary(app), &value)?;
        }
    }
    all.push(open);
    Ok(all.into_iter().flatten().collect())
}

/// A rule like the user's, for other requests.
fn inserted(app: &App, rule: &Value, matches: Vec<Value>, weight: Weight) -> Option<Value> {
    let [primary, canary] = rules::pair(app, rule, weight)?;
    let mut inserted = rule.clone();
    // Each rule of a route has a name of its own, if any.
    inserted.as_object_mut()?.remove("name");
    inserted["matches"] = matches.into();
    inserted["backendRefs"] = json!([canary, primary]);
    copy(app, &mut inserted, Weight::ZERO, true);
    Some(inserted)
}

fn is_inserted(app: &App, rule: &Value, marks: &[&str]) -> bool {
    let [first, second] = rules::backends(rule) else { return false };
    rules::is_service(app, first, &rules::canary(app))
        && rules::is_service(app, second, &rules::primary(app))
        && marks.contains(&matching::mark(rule).as_str())
}

/// The marks of the inserted rules, as the route remembers them.
pub(super) fn remembered(route: &Value) -> Option<String> {
    object::get(route, &["metadata", "annotations", INSERTED]).and_then(Value::as_str).map(str::to_owned)
}

/// Makes the route remember them, or forget.
pub(super) fn remember(route: &mut Value, marks: Option<String>) {
    match marks {
        Some(marks) => object::set_metadata(route, "annotations", [(INSERTED, marks.as_str())]),
        None => object::remove_metadata(route, "annotations", &[INSERTED]),
    }
}

fn limits(app: &App, all: &[Value]) -> Result<(), String> {
    let matches: usize = all.iter().map(|rule| matching::of(rule).len()).sum();
    if all.len() <= MOST_RULES && matches <= MOST_MATCHES_IN_ALL {
        return Ok(());
    }
    let name = &app.name;
    Err(format!(
        "HTTPRoute {name} would have {} rules with {matches} matches, and {MOST_RULES} rules with {MOST_MATCHES_IN_ALL} \
         matches are the most; write fewer entries in analysis.match, or move rules that are not about {name} to \
         another HTTPRoute",
        all.len()
    ))
}

fn sentence(app: &App, why: &str) -> String {
    format!(
        "a rule of HTTPRoute {} {why}; leave the comparison out of that rule, or choose another header for the analysis",
        app.name
    )
}

// ---- copies of requests ----

/// Whether the cluster's routes can say which share of the requests is copied: the API server drops what they do not
/// know, and Serin always writes it.
pub(super) fn knows_share(app: &App, route: &Value) -> bool {
    let filters = rules::all(route).iter().flat_map(|rule| list(rule, "filters"));
    !filters.filter(|filter| is_copy(app, filter)).any(|filter| filter["requestMirror"].get("percent").is_none())
}

/// Sends the canary a copy of so many of the rule's requests, and nobody else fewer.
fn copy(app: &App, rule: &mut Value, mirror: Weight, share: bool) {
    let found = list(rule, "filters");
    let mut filters: Vec<_> = found.iter().filter(|filter| !is_copy(app, filter)).cloned().collect();
    let removed = filters.len() < found.len();
    if mirror > Weight::ZERO {
        let backend = json!({"group": "", "kind": "Service", "name": rules::canary(app), "port": app.port});
        let mut filter = json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend}});
        if share {
            filter["requestMirror"]["percent"] = mirror.canary().into();
        }
        filters.push(filter);
    } else if !removed {
        return;
    }
    match rule.as_object_mut() {
        Some(rule) if filters.is_empty() => drop(rule.remove("filters")),
        Some(rule) => drop(rule.insert("filters".to_owned(), filters.into())),
        None => {}
    }
}

/// Whether a filter copies requests to the canary: nobody but Serin has a use for that.
fn is_copy(app: &App, filter: &Value) -> bool {
    filter["type"] == "RequestMirror"
        && rules::is_service(app, &filter["requestMirror"]["backendRef"], &rules::canary(app))
}

fn list<'value>(value: &'value Value, field: &str) -> &'value [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

// ---- cookies ----

/// Lets the answers of one backend set a cookie.
fn give_cookie(app: &App, rule: &mut Value, backend: &str, cookie: &str) -> Result<(), String> {
    let backends = rule.get_mut("backendRefs").and_then(Value::as_array_mut);
    let Some(backend) = backends.into_iter().flatten().find(|found| found["name"] == backend) else { return Ok(()) };
    let mut filters = list(backend, "filters").to_vec();
    let of_headers = |filter: &Value| filter["type"] == "ResponseHeaderModifier";
    let place = filters.iter().position(of_headers).unwrap_or_else(|| {
        filters.push(json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {}}));
        filters.len() - 1
    });
    let modifier = &mut filters[place]["responseHeaderModifier"];
    let is_cookie =
        |header: &Value| header["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("set-cookie"));
    if ["add", "set"].iter().any(|field| list(modifier, field).iter().any(is_cookie)) {
        return Err(format!(
            "a backend of HTTPRoute {} sets a cookie already, and can set only one; leave that filter out, or \
             analysis.sessionAffinity",
            app.name
        ));
    }
    let mut headers = list(modifier, "add").to_vec();
    headers.push(json!({"name": "Set-Cookie", "value": cookie}));
    modifier["add"] = headers.into();
    backend["filters"] = filters.into();
    Ok(())
}
