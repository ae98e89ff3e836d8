//! Gateway API: the rules of one HTTPRoute that send to the app get two weighted backends.
//!
//! A route that exists is the user's: in each rule that sends to the app's Service, that backend becomes the pair of
//! primary and canary, with all its other fields; every other rule, filter and field stays as it is. What a strategy
//! needs besides is in rules of its own, which stand before the user's and go without a trace (`strategy`).

mod acceptance;
mod matching;
mod own;
mod rules;
mod strategy;

use super::{App, Key, Mesh, Wanted};
use crate::domain::{Routing, Traffic};
use crate::object;
use kube::core::{ApiResource, GroupVersionKind};
use rules::Rule;
use serde_json::{Value, json};

/// HTTPRoutes, in one version of their API.
pub(super) struct GatewayApi(pub(super) &'static str);

impl Mesh for GatewayApi {
    fn resources(&self) -> Vec<ApiResource> {
        vec![self.http_route()]
    }

    fn reads(&self, app: &App) -> Vec<Key> {
        vec![Key { resource: self.http_route(), name: app.name.clone() }]
    }

    fn render(&self, app: &App, wanted: &Wanted<'_>, found: &[Option<&Value>]) -> Vec<Option<Value>> {
        let found = found.first().copied().flatten();
        let rendered = match (wanted.traffic, found) {
            (Traffic::Untouched, found) => found.cloned(),
            (Traffic::Split(to), None) => Some(own::route(&self.http_route(), app, wanted, to, json!({}))),
            (Traffic::Split(to), Some(route)) if is_own(app, route) => {
                Some(own::route(&self.http_route(), app, wanted, to, route.clone()))
            }
            (Traffic::Split(to), Some(route)) => Some(strategy::split(app, wanted, to, route)),
            (Traffic::Target, None) => None,
            (Traffic::Target, Some(route)) => Some(strategy::rejoin(app, route)),
        };
        vec![rendered]
    }

    fn observe(&self, app: &App, found: &[Option<&Value>]) -> Routing {
        let Some(&Some(route)) = found.first() else {
            return match app.route.gateways.as_slice() {
                [] => Routing::Unusable(format!(
                    "there is no HTTPRoute {name}, and service.gatewayRefs does not say which Gateway a new one \
                     belongs to; create the route, or write gatewayRefs",
                    name = app.name
                )),
                _ => Routing::Missing,
            };
        };
        let bare = strategy::bare(app, route);
        if let Some(why) = unusable(app, &bare).or_else(|| strategy::impossible(app, &bare, route)) {
            return Routing::Unusable(why);
        }
        let untouched = bare == *route;
        if untouched && rules::ours(app, route).all(|rule| rule == Rule::Whole) {
            return Routing::Whole(acceptance::of(route));
        }
        match strategy::shown(app, &bare, route) {
            Some(weight) => Routing::Split(weight, acceptance::of(route)),
            None => Routing::Mixed,
        }
    }
}

impl GatewayApi {
    fn http_route(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", self.0, "HTTPRoute"))
    }
}

/// Why the user's rules cannot be split, as a sentence.
fn unusable(app: &App, route: &Value) -> Option<String> {
    let name = &app.name;
    if let Some(port) = rules::other_port(app, route) {
        return Some(format!(
            "HTTPRoute {name} sends to port {port} of the app, but service.port is {}; write the same port in both",
            app.port
        ));
    }
    let mut kinds = rules::kinds(app, route).filter(|rule| *rule != Rule::Foreign).peekable();
    if kinds.peek().is_none() {
        return Some(format!(
            "no rule of HTTPRoute {name} sends to Service {name}; add {{name: {name}, port: {}}} to the backendRefs of \
             the rule that is to be split",
            app.port
        ));
    }
    kinds.any(|rule| rule == Rule::Shared).then(|| {
        format!(
            "a rule of HTTPRoute {name} sends to Service {name} and to other backends too; give {name} a rule of its own"
        )
    })
}

fn is_own(app: &App, route: &Value) -> bool {
    app.owner["uid"].as_str().is_some_and(|uid| object::owned_by(route, uid))
}
