//! Gateway API: the rules of one HTTPRoute that send to the app get two weighted backends.
//!
//! A route that exists is the user's: in each rule that sends to the app's Service, that backend becomes the pair of
//! primary and canary, with all its other fields; every other rule, filter and field stays as it is.

mod acceptance;

use super::{App, Key, Mesh};
use crate::domain::{Routing, Traffic, Weight};
use crate::object;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

pub(super) struct GatewayApi;

impl Mesh for GatewayApi {
    fn resources(&self) -> Vec<ApiResource> {
        vec![http_route()]
    }

    fn reads(&self, app: &App) -> Vec<Key> {
        vec![Key { resource: http_route(), name: app.name.clone() }]
    }

    fn render(&self, app: &App, traffic: Traffic, found: &[Option<Value>]) -> Vec<Option<Value>> {
        let found = found.first().and_then(Option::as_ref);
        let rendered = match (traffic, found) {
            (Traffic::Untouched, found) => found.cloned(),
            (Traffic::Split(to), None) => Some(own_route(app, to.weight, json!({}))),
            (Traffic::Split(to), Some(route)) if is_own(app, route) => Some(own_route(app, to.weight, route.clone())),
            (Traffic::Split(to), Some(route)) => Some(with_rules(route, |backends| split(app, backends, to.weight))),
            (Traffic::Target, None) => None,
            (Traffic::Target, Some(route)) => Some(with_rules(route, |backends| rejoin(app, backends))),
        };
        vec![rendered]
    }

    fn observe(&self, app: &App, found: &[Option<Value>]) -> Routing {
        let name = &app.name;
        let Some(route) = found.first().and_then(Option::as_ref) else {
            return match app.route.gateways.as_slice() {
                [] => Routing::Unusable(format!(
                    "there is no HTTPRoute {name}, and service.gatewayRefs does not say which Gateway a new one \
                     belongs to; create the route, or write gatewayRefs"
                )),
                _ => Routing::Missing,
            };
        };
        if let Some(port) = other_port(app, route) {
            return Routing::Unusable(format!(
                "HTTPRoute {name} sends to port {port} of the app, but service.port is {}; write the same port in both",
                app.port
            ));
        }
        let kinds: Vec<_> = backend_lists(route).map(|backends| Rule::of(app, backends)).collect();
        if kinds.contains(&Rule::Shared) {
            return Routing::Unusable(format!(
                "a rule of HTTPRoute {name} sends to Service {name} and to other backends too; give {name} a rule of \
                 its own"
            ));
        }
        let mut ours = kinds.into_iter().filter(|rule| *rule != Rule::Foreign);
        let Some(first) = ours.next() else {
            return Routing::Unusable(format!(
                "no rule of HTTPRoute {name} sends to Service {name}; add {{name: {name}, port: {}}} to the \
                 backendRefs of the rule that is to be split",
                app.port
            ));
        };
        if ours.any(|rule| rule != first) {
            return Routing::Mixed;
        }
        match first {
            Rule::Whole => Routing::Whole(acceptance::of(route)),
            Rule::Split(weight) => Routing::Split(weight, acceptance::of(route)),
            Rule::Uneven | Rule::Foreign | Rule::Shared => Routing::Mixed,
        }
    }
}

fn http_route() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"))
}

/// What a rule has to do with the app.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Nothing.
    Foreign,
    /// It sends to the app's own Service.
    Whole,
    /// It sends to primary and canary, with this share for the canary.
    Split(Weight),
    /// It sends to primary and canary, but not to a hundred in all.
    Uneven,
    /// It sends to others too.
    Shared,
}

impl Rule {
    fn of(app: &App, backends: &[Value]) -> Self {
        let named = |name: &str| backends.iter().find(|backend| is_service(app, backend, name));
        let [apex, primary, canary] = [app.name.clone(), primary(app), canary(app)].map(|name| named(&name));
        let ours = [apex, primary, canary].into_iter().flatten().count();
        match (apex, primary, canary) {
            (None, None, None) => Self::Foreign,
            _ if backends.len() > ours => Self::Shared,
            (Some(_), None, None) => Self::Whole,
            (None, Some(primary), Some(canary)) if weight(primary) + weight(canary) == 100 => {
                Weight::try_from(weight(canary)).map_or(Self::Uneven, Self::Split)
            }
            _ => Self::Uneven,
        }
    }
}

/// A weight that is not written is 1.
fn weight(backend: &Value) -> i64 {
    backend.get("weight").and_then(Value::as_i64).unwrap_or(1)
}

fn primary(app: &App) -> String {
    format!("{}-primary", app.name)
}

fn canary(app: &App) -> String {
    format!("{}-canary", app.name)
}

fn is_service(app: &App, backend: &Value, name: &str) -> bool {
    let text = |field, default: &'static str| backend.get(field).and_then(Value::as_str).unwrap_or(default).to_owned();
    backend["name"] == name
        && text("kind", "Service") == "Service"
        && text("group", "").is_empty()
        && backend.get("namespace").is_none_or(|namespace| *namespace == app.namespace.as_str())
}

/// The Services of the two versions have the Canary's port only.
fn other_port<'route>(app: &App, route: &'route Value) -> Option<&'route Value> {
    let names = [app.name.clone(), primary(app), canary(app)];
    let ours = |backend: &&Value| names.iter().any(|name| is_service(app, backend, name));
    let ports = backend_lists(route).flatten().filter(ours).filter_map(|backend| backend.get("port"));
    ports.into_iter().find(|port| **port != app.port)
}

fn backend_lists(route: &Value) -> impl Iterator<Item = &[Value]> {
    let rules = object::get(route, &["spec", "rules"]).and_then(Value::as_array);
    rules.into_iter().flatten().filter_map(|rule| rule.get("backendRefs")?.as_array()).map(Vec::as_slice)
}

fn with_rules(route: &Value, change: impl Fn(&[Value]) -> Option<Vec<Value>>) -> Value {
    let mut route = route.clone();
    let rules = route.pointer_mut("/spec/rules").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        let changed = rule.get("backendRefs").and_then(Value::as_array).and_then(|backends| change(backends));
        if let Some(changed) = changed {
            rule["backendRefs"] = changed.into();
        }
    }
    route
}

/// The pair of primary and canary in place of what the rule sends to now; `None` for a rule that is not ours.
fn split(app: &App, backends: &[Value], weight: Weight) -> Option<Vec<Value>> {
    if matches!(Rule::of(app, backends), Rule::Foreign | Rule::Shared) {
        return None;
    }
    let find = |name: &str| backends.iter().find(|backend| is_service(app, backend, name));
    let stable = find(&primary(app)).or_else(|| find(&app.name)).or_else(|| find(&canary(app)))?;
    let new = find(&canary(app)).unwrap_or(stable);
    let to = |backend: &Value, name: String, weight: u8| {
        let mut backend = backend.clone();
        backend["name"] = name.into();
        backend["weight"] = weight.into();
        backend
    };
    Some(vec![to(stable, primary(app), weight.primary()), to(new, canary(app), weight.canary())])
}

/// The app's own Service in place of the pair.
fn rejoin(app: &App, backends: &[Value]) -> Option<Vec<Value>> {
    if !matches!(Rule::of(app, backends), Rule::Split(_) | Rule::Uneven) {
        return None;
    }
    let stable =
        backends.iter().find(|backend| is_service(app, backend, &primary(app))).or_else(|| backends.first())?;
    let mut whole = stable.clone();
    whole["name"] = app.name.clone().into();
    whole["weight"] = 1.into();
    Some(vec![whole])
}

fn is_own(app: &App, route: &Value) -> bool {
    app.owner["uid"].as_str().is_some_and(|uid| object::owned_by(route, uid))
}

/// The route as Serin makes it when there is none.
fn own_route(app: &App, weight: Weight, found: Value) -> Value {
    let mut route = found;
    let key = http_route();
    route["apiVersion"] = key.api_version.into();
    route["kind"] = key.kind.into();
    object::set(&mut route, &["metadata", "name"], app.name.clone().into());
    object::set(&mut route, &["metadata", "namespace"], app.namespace.clone().into());
    object::own(&mut route, &app.owner);
    object::put(&mut route, "spec", own_spec(app, weight));
    route
}

fn own_spec(app: &App, weight: Weight) -> Value {
    let backend = |name, weight: u8| json!({ "name": name, "port": app.port, "weight": weight });
    let mut rule = json!({
        "backendRefs": [backend(primary(app), weight.primary()), backend(canary(app), weight.canary())],
    });
    if !app.route.matches.is_empty() {
        rule["matches"] = app.route.matches.clone().into();
    }
    if let Some(timeout) = &app.route.timeout {
        rule["timeouts"] = json!({ "request": timeout });
    }
    let mut spec = json!({ "parentRefs": app.route.gateways, "rules": [rule] });
    if !app.route.hosts.is_empty() {
        spec["hostnames"] = app.route.hosts.clone().into();
    }
    spec
}
