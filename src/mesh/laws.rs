//! Laws that hold for every mesh in the registry, and for every strategy.

use super::{Affinity, App, Mesh, Route, Wanted, all};
use crate::domain::{Routing, Split, Traffic, Weight};
use serde_json::{Value, json};

fn app() -> App {
    App {
        namespace: "shop".into(),
        name: "web".into(),
        port: 80,
        route: Route { gateways: vec![json!({"name": "gw"})], ..Route::default() },
        matches: vec![],
        affinity: None,
        mirror: Weight::FULL,
        owner: json!({"apiVersion": "serin.dev/v1beta1", "kind": "Canary", "name": "web", "uid": "u-1", "controller": true}),
    }
}

fn header(kind: &str, name: &str, value: &str) -> Value {
    json!({"headers": [{"type": kind, "name": name, "value": value}]})
}

/// An A/B test of those who have one of these headers.
fn test(conditions: &[Value]) -> App {
    App { matches: conditions.to_vec(), ..app() }
}

fn affine(primary_cookie: Option<&str>) -> App {
    let affinity = Affinity {
        cookie: "app.new".into(),
        primary_cookie: primary_cookie.map(str::to_owned),
        max_age: 86_400,
        primary_max_age: 10,
        domain: None,
        path: Some("/".into()),
        http_only: true,
        secure: false,
        same_site: None,
        partitioned: false,
    };
    App { affinity: Some(affinity), ..app() }
}

/// Each strategy that a route can hold.
fn strategies() -> Vec<(&'static str, App)> {
    let insider = header("Exact", "x-user", "insider");
    let query = json!({"queryParams": [{"type": "Exact", "name": "beta", "value": "1"}]});
    vec![
        ("weights", app()),
        ("A/B", test(&[insider])),
        ("A/B of two", test(&[header("RegularExpression", "x-team", "^v2$"), query])),
        ("affinity", affine(None)),
        ("affinity to both", affine(Some("app.old"))),
    ]
}

/// The meshes that write objects of their own; without one the app's Service is switched (`workload::apex`).
fn routers() -> impl Iterator<Item = (&'static str, &'static dyn Mesh)> {
    all().filter(|(provider, _)| *provider != "kubernetes")
}

fn gateway() -> &'static dyn Mesh {
    super::by_name("gatewayapi:v1").unwrap()
}

/// What a user may have before Serin comes, for each mesh: the first is nothing at all.
fn found(provider: &str) -> Vec<Vec<Option<Value>>> {
    match provider {
        "gatewayapi:v1" | "gatewayapi:v1beta1" => {
            vec![vec![None], vec![Some(users_route())], vec![Some(route_with_insiders())]]
        }
        other => panic!("add what a user of {other} may have before Serin comes"),
    }
}

fn users_route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop", "annotations": {"team": "blue"}},
        "spec": {"parentRefs": [{"name": "gw"}], "x-unknown": {"kept": true}, "rules": [
            {"name": "api",
             "matches": [{"path": {"type": "PathPrefix", "value": "/api"}}, {"path": {"type": "Exact", "value": "/"}, "method": "GET"}],
             "timeouts": {"request": "5s"},
             "filters": [{"type": "RequestHeaderModifier"}, {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "tap", "port": 80}}}],
             "backendRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80, "weight": 1, "filters": [{"x": 1}]}]},
            {"backendRefs": [{"name": "legacy", "port": 80}, {"name": "web", "namespace": "elsewhere", "port": 80}]},
            {"filters": [{"type": "RequestRedirect"}]},
        ]},
    })
}

/// A route whose user treats insiders in a way of his own: the rule looks like one that an A/B test inserts.
fn route_with_insiders() -> Value {
    let mut route = users_route();
    let web = json!([{"group": "", "kind": "Service", "name": "web", "port": 80, "weight": 1}]);
    let path = json!({"type": "PathPrefix", "value": "/"});
    let insider = header("Exact", "x-user", "insider")["headers"].take();
    route["spec"]["rules"] = json!([
        {"matches": [{"path": path, "headers": insider}], "backendRefs": web},
        {"matches": [{"path": path}], "backendRefs": web},
        {"backendRefs": [{"name": "legacy", "port": 80}]},
    ]);
    route["metadata"] = json!({"name": "web", "namespace": "shop"});
    route
}

fn percent(percent: i64) -> Weight {
    Weight::try_from(percent).unwrap()
}

fn weights() -> impl Iterator<Item = Weight> {
    (0..=100).map(percent)
}

/// As in a rollout from version `a1` to `b2`.
fn wanted(traffic: Traffic) -> Wanted<'static> {
    Wanted { traffic, canary: "b2", primary: "a1" }
}

fn render(mesh: &dyn Mesh, app: &App, wanted: &Wanted<'_>, found: &[Option<Value>]) -> Vec<Option<Value>> {
    mesh.render(app, wanted, &found.iter().map(Option::as_ref).collect::<Vec<_>>())
}

fn observe(mesh: &dyn Mesh, app: &App, found: &[Option<Value>]) -> Routing {
    mesh.observe(app, &found.iter().map(Option::as_ref).collect::<Vec<_>>())
}

fn split(mesh: &dyn Mesh, app: &App, to: Split, found: &[Option<Value>]) -> Vec<Option<Value>> {
    render(mesh, app, &wanted(Traffic::Split(to)), found)
}

fn back(mesh: &dyn Mesh, app: &App, found: &[Option<Value>]) -> Vec<Option<Value>> {
    render(mesh, app, &wanted(Traffic::Target), found)
}

fn shown(mesh: &dyn Mesh, app: &App, objects: &[Option<Value>]) -> Option<Weight> {
    match observe(mesh, app, objects) {
        Routing::Split(weight, _) => Some(weight),
        Routing::Missing | Routing::Whole(_) | Routing::Mixed | Routing::Unusable(_) => None,
    }
}

/// The splits that a rollout goes through, one of each sort.
fn splits() -> Vec<Split> {
    let copied = |share| Split { weight: Weight::ZERO, mirror: percent(share) };
    vec![Split::of(Weight::ZERO), copied(30), copied(100), Split::of(percent(40)), Split::of(Weight::FULL)]
}

#[test]
fn what_is_rendered_is_what_is_observed() {
    for (provider, mesh) in routers() {
        for (strategy, app) in strategies() {
            for found in found(provider) {
                for weight in weights() {
                    let rendered = split(mesh, &app, Split::of(weight), &found);
                    assert_eq!(shown(mesh, &app, &rendered), Some(weight), "{provider} {strategy}");
                }
                for to in splits() {
                    let rendered = split(mesh, &app, to, &found);
                    assert_eq!(shown(mesh, &app, &rendered), Some(to.weight), "{provider} {strategy} {to:?}");
                }
            }
        }
    }
}

#[test]
fn rendering_again_changes_nothing() {
    for (provider, mesh) in routers() {
        for (strategy, app) in strategies() {
            for found in found(provider) {
                let splits = splits().into_iter().map(Traffic::Split);
                for traffic in [Traffic::Untouched, Traffic::Target].into_iter().chain(splits) {
                    let once = render(mesh, &app, &wanted(traffic), &found);
                    assert_eq!(render(mesh, &app, &wanted(traffic), &once), once, "{provider} {strategy} {traffic:?}");
                }
            }
        }
    }
}

#[test]
fn a_weight_can_follow_any_other() {
    for (provider, mesh) in routers() {
        for (strategy, app) in strategies() {
            for found in found(provider) {
                let mut objects = found;
                for weight in weights().chain([Weight::ZERO]) {
                    objects = split(mesh, &app, Split::of(weight), &objects);
                    assert_eq!(shown(mesh, &app, &objects), Some(weight), "{provider} {strategy}");
                }
            }
        }
    }
}

/// A spec can change at any moment, and a process can stop between any two writes.
#[test]
fn of_the_strategy_before_nothing_is_left() {
    for (provider, mesh) in routers() {
        for found in found(provider) {
            for (before, old) in strategies() {
                for first in splits() {
                    let changed = split(mesh, &old, first, &found);
                    for (after, new) in strategies() {
                        for second in splits() {
                            assert_eq!(
                                split(mesh, &new, second, &changed),
                                split(mesh, &new, second, &split(mesh, &new, second, &found)),
                                "{provider} from {before} {first:?} to {after} {second:?}"
                            );
                        }
                        let spec = |objects: &[Option<Value>]| objects[0].as_ref().map(|route| route["spec"].clone());
                        let plain = split(mesh, &app(), Split::of(Weight::ZERO), &found);
                        assert_eq!(
                            spec(&back(mesh, &new, &changed)),
                            spec(&back(mesh, &app(), &plain)),
                            "{provider} from {before} to {after}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn handing_back_restores_what_was_found() {
    for (provider, mesh) in routers() {
        for (strategy, app) in strategies() {
            for found in found(provider).into_iter().filter(|found| found.iter().all(Option::is_some)) {
                for to in splits() {
                    let split = split(mesh, &app, to, &found);
                    assert_ne!(split, found, "{provider}");
                    assert_eq!(back(mesh, &app, &split), found, "{provider} {strategy} {to:?}");
                    assert!(matches!(observe(mesh, &app, &found), Routing::Whole(_)), "{provider} {strategy}");
                }
            }
        }
    }
}

/// The rules that are not about the app, and what the others hold besides their backends.
fn not_ours(route: &Value) -> Vec<Value> {
    let rules = route["spec"]["rules"].as_array().unwrap();
    rules.iter().map(|rule| if is_apps(rule) { without(rule, "backendRefs") } else { rule.clone() }).collect()
}

fn is_apps(rule: &Value) -> bool {
    let backends = rule["backendRefs"].as_array().into_iter().flatten();
    backends.into_iter().any(|backend| {
        let name = backend["name"].as_str().unwrap_or_default();
        name.starts_with("web") && backend.get("namespace").is_none()
    })
}

fn without(value: &Value, field: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove(field);
    value
}

#[test]
fn what_is_not_ours_is_unchanged() {
    for (strategy, app) in strategies() {
        for original in [users_route(), route_with_insiders()] {
            for to in splits() {
                let rendered = split(gateway(), &app, to, &[Some(original.clone())])[0].clone().unwrap();
                let canary_first = |rule: &Value| rule["backendRefs"][0]["name"] == "web-canary";
                let mut kept = rendered.clone();
                let rules = kept["spec"]["rules"].as_array_mut().unwrap();
                rules.retain(|rule| !canary_first(rule));
                for rule in rules.iter_mut() {
                    let filters = rule.get("filters").and_then(Value::as_array).cloned();
                    let to_canary = |filter: &Value| filter["requestMirror"]["backendRef"]["name"] == "web-canary";
                    let users: Vec<_> = filters.into_iter().flatten().filter(|filter| !to_canary(filter)).collect();
                    rule["filters"] = users.into();
                    if rule["filters"] == json!([]) {
                        *rule = without(rule, "filters");
                    }
                }
                assert_eq!(not_ours(&kept), not_ours(&original), "{strategy} {to:?}");
                assert_eq!(rendered["spec"]["x-unknown"], original["spec"]["x-unknown"]);
                assert_eq!(rendered["metadata"]["annotations"]["team"], original["metadata"]["annotations"]["team"]);
            }
        }
    }
    let rendered = split(gateway(), &app(), Split::of(Weight::ZERO), &[Some(users_route())])[0].clone().unwrap();
    assert_eq!(rendered["metadata"], users_route()["metadata"]);
    assert_eq!(
        rendered["spec"]["rules"][0]["backendRefs"][1],
        json!({"group": "", "kind": "Service", "name": "web-canary", "port": 80, "weight": 0, "filters": [{"x": 1}]})
    );
}

/// One line for each rule: which headers it compares, and where it sends.
fn told(route: &Value) -> Vec<String> {
    let rule = |rule: &Value| {
        let matches = rule["matches"].as_array().into_iter().flatten();
        let headers = matches.flat_map(|one| one["headers"].as_array().cloned().unwrap_or_default());
        let headers: Vec<_> = headers.map(|header| format!("{}={}", header["name"], header["value"])).collect();
        let backends = rule["backendRefs"].as_array().into_iter().flatten().map(|backend| {
            let cookie = &backend["filters"].as_array().and_then(|all| {
                all.iter().find_map(|filter| filter["responseHeaderModifier"]["add"][0]["value"].as_str())
            });
            let cookie = cookie.map(|cookie| format!(" ({cookie})")).unwrap_or_default();
            format!("{} {}{cookie}", backend["name"].as_str().unwrap_or_default(), backend["weight"])
        });
        format!("{} -> {}", headers.join(" | "), backends.collect::<Vec<_>>().join(", ")).replace('"', "")
    };
    route["spec"]["rules"].as_array().into_iter().flatten().map(rule).collect()
}

fn simple_route() -> Value {
    let mut route = users_route();
    route["spec"]["rules"] = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    route
}

#[test]
fn a_test_sends_those_who_match_to_the_canary_and_nobody_else() {
    let app = test(&[header("Exact", "x-user", "insider"), header("RegularExpression", "x-user", "^v2.*$")]);
    let rendered = split(gateway(), &app, Split::of(Weight::FULL), &[Some(simple_route())])[0].clone().unwrap();
    assert_eq!(
        told(&rendered),
        ["x-user=insider | x-user=^v2.*$ -> web-canary 100, web-primary 0", " -> web-primary 100, web-canary 0",]
    );
    let at_rest = split(gateway(), &app, Split::of(Weight::ZERO), &[Some(rendered)])[0].clone().unwrap();
    assert_eq!(told(&at_rest), [" -> web-primary 100, web-canary 0"]);
    assert_eq!(at_rest["metadata"], simple_route()["metadata"]);
}

#[test]
fn a_test_holds_for_every_rule_of_the_app_and_for_what_each_takes() {
    let rendered = split(
        gateway(),
        &test(&[header("Exact", "X-User", "insider")]),
        Split::of(Weight::FULL),
        &[Some(route_with_insiders())],
    );
    let rendered = rendered[0].clone().unwrap();
    let rules = &rendered["spec"]["rules"];
    // Who is an insider already needs no second comparison.
    assert_eq!(rules[0]["matches"], rules[1]["matches"]);
    assert_eq!(rules[2]["matches"][0]["headers"][0]["value"], "insider");
    assert_eq!(rules.as_array().map(Vec::len), Some(5));
    let two = split(
        gateway(),
        &test(&[header("Exact", "x-user", "insider")]),
        Split::of(Weight::FULL),
        &[Some(users_route())],
    );
    let first = two[0].clone().unwrap()["spec"]["rules"][0].take();
    assert_eq!(
        first["matches"],
        json!([
            {"path": {"type": "PathPrefix", "value": "/api"}, "headers": [{"type": "Exact", "name": "x-user", "value": "insider"}]},
            {"path": {"type": "Exact", "value": "/"}, "method": "GET", "headers": [{"type": "Exact", "name": "x-user", "value": "insider"}]},
        ])
    );
    assert_eq!(first["timeouts"], users_route()["spec"]["rules"][0]["timeouts"]);
    assert_eq!(first["filters"], users_route()["spec"]["rules"][0]["filters"]);
    assert_eq!(first.get("name"), None, "names of rules are unique");
}

#[test]
fn cookies_keep_clients_where_they_are_and_are_taken_back_afterwards() {
    let app = affine(Some("app.old"));
    let at = |weight| {
        let rendered = split(gateway(), &app, Split::of(percent(weight)), &[Some(simple_route())]);
        told(rendered[0].as_ref().unwrap())
    };
    assert_eq!(
        at(30),
        [
            r"Cookie=^(.*;\\s*)?app\\.new=b2(\\s*;.*)?$ -> web-canary 100, web-primary 0",
            r"Cookie=^(.*;\\s*)?app\\.old=a1(\\s*;.*)?$ -> web-canary 0, web-primary 100",
            " -> web-canary 30 (app.new=b2; Max-Age=86400; Path=/; HttpOnly), web-primary 70 (app.old=a1; Max-Age=10; Path=/; HttpOnly)",
            " -> web-primary 100, web-canary 0",
        ]
    );
    assert_eq!(
        at(0),
        [
            r"Cookie=^(.*;\\s*)?app\\.new=.*(\\s*;.*)?$ -> web-canary 0, web-primary 100 (app.new=; Max-Age=0; Path=/; HttpOnly)",
            " -> web-primary 100, web-canary 0",
        ]
    );
    assert_eq!(at(100), [" -> web-primary 0, web-canary 100"]);
}

#[test]
fn a_rule_that_a_user_touched_is_never_deleted() {
    let app = test(&[header("Exact", "x-user", "insider")]);
    let running = split(gateway(), &app, Split::of(Weight::FULL), &[Some(simple_route())])[0].clone().unwrap();
    let mut edited = running.clone();
    edited["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] = "outsider".into();
    let mut forgotten = running;
    forgotten["metadata"]["annotations"] = json!({});
    for (touched, kept) in [(edited, "outsider"), (forgotten, "insider")] {
        assert_eq!(observe(gateway(), &app, &[Some(touched.clone())]), Routing::Mixed);
        let mended = split(gateway(), &app, Split::of(Weight::FULL), &[Some(touched)])[0].clone().unwrap();
        assert_eq!(shown(gateway(), &app, &[Some(mended.clone())]), Some(Weight::FULL));
        let back = back(gateway(), &app, &[Some(mended)])[0].clone().unwrap();
        assert_eq!(told(&back), [format!("x-user={kept} -> web 1"), " -> web 1".to_owned()]);
    }
}

#[test]
fn an_inserted_rule_follows_the_rule_that_it_is_of() {
    let app = test(&[header("Exact", "x-user", "insider")]);
    let mut edited = split(gateway(), &app, Split::of(Weight::FULL), &[Some(simple_route())])[0].clone().unwrap();
    edited["spec"]["rules"][1]["matches"] = json!([{"path": {"type": "Exact", "value": "/new"}}]);
    assert_eq!(observe(gateway(), &app, &[Some(edited.clone())]), Routing::Mixed);
    let mended = split(gateway(), &app, Split::of(Weight::FULL), &[Some(edited)])[0].clone().unwrap();
    assert_eq!(mended["spec"]["rules"].as_array().map(Vec::len), Some(2));
    assert_eq!(mended["spec"]["rules"][0]["matches"][0]["path"]["value"], "/new");
}

#[test]
fn defaults_of_the_server_hide_no_inserted_rule() {
    let app = test(&[header("Exact", "x-user", "insider")]);
    let mut written = split(gateway(), &app, Split::of(Weight::FULL), &[Some(simple_route())])[0].clone().unwrap();
    for rule in written["spec"]["rules"].as_array_mut().unwrap() {
        if rule.get("matches").is_none() {
            rule["matches"] = json!([{"path": {"type": "PathPrefix", "value": "/"}}]);
        }
        for backend in rule["backendRefs"].as_array_mut().unwrap() {
            backend["group"] = "".into();
            backend["kind"] = "Service".into();
        }
    }
    let again = split(gateway(), &app, Split::of(Weight::FULL), &[Some(written.clone())]);
    assert_eq!(again, [Some(written)]);
}

#[test]
fn copies_go_to_the_canary_until_it_has_requests_of_its_own() {
    let to = |mirror, weight| Split { weight: percent(weight), mirror: percent(mirror) };
    for found in [None, Some(users_route())] {
        let copied = split(gateway(), &app(), to(25, 0), std::slice::from_ref(&found))[0].clone().unwrap();
        let filter = copied["spec"]["rules"][0]["filters"].as_array().unwrap().last().unwrap().clone();
        let backend = json!({"group": "", "kind": "Service", "name": "web-canary", "port": 80});
        assert_eq!(filter, json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend, "percent": 25}}));
        let stepped = split(gateway(), &app(), to(0, 10), &[Some(copied)])[0].clone().unwrap();
        let count = |route: &Value| route.to_string().matches("RequestMirror").count();
        assert_eq!(count(&stepped), usize::from(found.is_some()), "the user's own copies stay");
    }
}

/// The API server drops fields that it does not know.
#[test]
fn a_cluster_without_shares_of_copies_says_so() {
    let partly = App { mirror: percent(25), ..app() };
    let to = Split { weight: Weight::ZERO, mirror: percent(25) };
    for found in [None, Some(users_route())] {
        let mut written = split(gateway(), &partly, to, &[found])[0].clone().unwrap();
        let filters = written["spec"]["rules"][0]["filters"].as_array_mut().unwrap();
        filters.last_mut().unwrap()["requestMirror"].as_object_mut().unwrap().remove("percent");
        let pruned = split(gateway(), &partly, to, &[Some(written)]);
        assert_eq!(split(gateway(), &partly, to, &pruned), pruned, "it is not written over and over");
        assert!(sentence(&partly, pruned[0].clone()).contains("leave analysis.mirrorWeight out"));
        let whole = Split { mirror: Weight::FULL, ..to };
        assert_eq!(split(gateway(), &app(), whole, &pruned), pruned, "all requests can be copied there");
        assert_eq!(shown(gateway(), &app(), &pruned), Some(Weight::ZERO));
    }
}

fn sentence(app: &App, found: Option<Value>) -> String {
    match observe(gateway(), app, &[found]) {
        Routing::Unusable(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_route_that_cannot_be_split_says_what_to_write() {
    let lost = App { route: Route::default(), ..app() };
    assert!(sentence(&lost, None).contains("write gatewayRefs"));
    let other_port = App { port: 8080, ..app() };
    assert!(sentence(&other_port, Some(users_route())).contains("write the same port in both"));
    let mut shared = users_route();
    shared["spec"]["rules"][1]["backendRefs"][1]["namespace"] = "shop".into();
    assert!(sentence(&app(), Some(shared)).contains("a rule of its own"));
    let mut foreign = users_route();
    foreign["spec"]["rules"] = json!([{"backendRefs": [{"name": "legacy", "port": 80}]}]);
    assert!(sentence(&app(), Some(foreign)).contains("{name: web, port: 80}"));
}

#[test]
fn a_strategy_that_does_not_fit_says_what_to_write_and_leaves_everything_on_the_primary() {
    let many: Vec<_> = (0..17).map(|number| header("Exact", &format!("x-{number}"), "1")).collect();
    let mut crowded = simple_route();
    for _ in 0..13 {
        crowded["spec"]["rules"].as_array_mut().unwrap().push(json!({"backendRefs": [{"name": "legacy", "port": 80}]}));
    }
    let compares = |header: Value| {
        let mut route = simple_route();
        route["spec"]["rules"][0]["matches"] = json!([{"headers": [header]}]);
        route
    };
    let cookie = json!({"type": "RegularExpression", "name": "cookie", "value": "a=1"});
    let mut sets_cookie = simple_route();
    sets_cookie["spec"]["rules"][0]["backendRefs"][0]["filters"] = json!([
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "set-cookie", "value": "a=1"}]}},
    ]);
    let insiders = test(&[header("Exact", "x-user", "insider")]);
    for (app, found, hint) in [
        (test(&many), crowded, "17 rules"),
        (test(&[header("RegularExpression", "Cookie", "b=1")]), compares(cookie.clone()), "another header"),
        (insiders, compares(json!({"name": "X-User", "value": "outsider"})), "no request"),
        (affine(None), compares(cookie), "another header"),
        (affine(None), sets_cookie, "sets a cookie already"),
    ] {
        assert!(
            matches!(observe(gateway(), &app, &[Some(found.clone())]), Routing::Unusable(why) if why.contains(hint)),
            "{hint}"
        );
        for weight in [0, 50, 100] {
            let rendered = split(gateway(), &app, Split::of(percent(weight)), &[Some(found.clone())])[0].clone();
            let rules = rendered.unwrap()["spec"]["rules"].take();
            let text = rules.to_string();
            assert!(!text.contains("\"web-canary\",\"port\":80,\"weight\":50"), "{hint}");
            assert_eq!(
                rules.as_array().map(Vec::len),
                found["spec"]["rules"].as_array().map(Vec::len),
                "{hint} at {weight}"
            );
        }
    }
}

#[test]
fn weights_that_somebody_changed_are_seen() {
    for (strategy, app) in strategies() {
        let mut rendered = split(gateway(), &app, Split::of(percent(40)), &[Some(users_route())]);
        rendered[0].as_mut().unwrap()["spec"]["rules"][0]["backendRefs"][0]["weight"] = 7.into();
        assert_eq!(observe(gateway(), &app, &rendered), Routing::Mixed, "{strategy}");
        let mut rendered = split(gateway(), &app, Split::of(percent(40)), &[Some(users_route())]);
        let rules = rendered[0].as_mut().unwrap()["spec"]["rules"].as_array_mut().unwrap();
        if rules.len() > 3 {
            rules.remove(0);
            let expected = if app.affinity.is_some() { None } else { Some(Weight::ZERO) };
            assert_eq!(shown(gateway(), &app, &rendered), expected, "{strategy}");
        }
    }
}

#[test]
fn without_a_gateway_the_services_are_looked_at_and_led_back() {
    let mesh = super::by_name("kubernetes").unwrap();
    let service = |selector: &str| json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": selector}}});
    let switched = |selector: &str| {
        let mut service = service(selector);
        crate::object::set_switched(&mut service, true);
        service
    };
    let versions = [Some(service("web-primary")), Some(service("web"))];
    let routing = |apex: Option<Value>| {
        let [primary, canary] = versions.clone();
        observe(mesh, &app(), &[apex, primary, canary])
    };
    assert_eq!(mesh.reads(&app()).len(), 3);
    assert_eq!(routing(None), Routing::Missing);
    assert!(matches!(routing(Some(service("web-primary"))), Routing::Split(Weight::ZERO, _)));
    assert!(matches!(routing(Some(switched("web"))), Routing::Split(Weight::FULL, _)));
    assert!(matches!(routing(Some(service("web"))), Routing::Whole(_)));
    for apex in [switched("web-primary"), switched("other")] {
        assert_eq!(routing(Some(apex)), Routing::Mixed);
    }
    let [primary, canary] = versions.clone();
    let at_canary = [Some(switched("web")), primary.clone(), canary.clone()];
    for percent in [0, 50] {
        let rendered = split(mesh, &app(), Split::of(self::percent(percent)), &at_canary);
        assert_eq!(rendered, [Some(service("web-primary")), None, None]);
        assert!(matches!(routing(rendered[0].clone()), Routing::Split(Weight::ZERO, _)));
    }
    assert_eq!(split(mesh, &app(), Split::of(Weight::FULL), &at_canary), [None, None, None]);
    let before = [Some(service("web")), primary, canary];
    let rendered = split(mesh, &app(), Split::of(Weight::ZERO), &before);
    assert_eq!(rendered, [before[0].clone(), None, None], "the first time it waits for the primary");
}
