//! The route as Serin makes it when there is none.

use super::{rules, strategy};
use crate::domain::{Split, Weight};
use crate::mesh::{App, Wanted};
use crate::object;
use kube::core::ApiResource;
use serde_json::{Value, json};

/// The whole route, beginning from what was found of it.
pub(super) fn route(resource: &ApiResource, app: &App, wanted: &Wanted<'_>, to: Split, found: Value) -> Value {
    let fresh = json!({ "metadata": {}, "spec": spec(app) });
    let fresh = strategy::split_as(app, wanted, to, &fresh, strategy::knows_share(app, &found));
    let mut route = found;
    route["apiVersion"] = resource.api_version.clone().into();
    route["kind"] = resource.kind.clone().into();
    object::set(&mut route, &["metadata", "name"], app.name.clone().into());
    object::set(&mut route, &["metadata", "namespace"], app.namespace.clone().into());
    object::own(&mut route, &app.owner);
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
    };
    for (kind, entries) in [("labels", pairs(&app.route.labels)), ("annotations", pairs(&app.route.annotations))] {
        object::set_metadata(&mut route, kind, entries.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    }
    object::put(&mut route, "spec", fresh["spec"].clone());
    strategy::remember(&mut route, strategy::remembered(&fresh));
    route
}

fn spec(app: &App) -> Value {
    let backend = |name, weight: u8| json!({ "name": name, "port": app.port, "weight": weight });
    let [primary, canary] = [Weight::ZERO.primary(), Weight::ZERO.canary()];
    let mut rule = json!({
        "backendRefs": [backend(rules::primary(app), primary), backend(rules::canary(app), canary)],
    });
    let route = &app.route;
    if !route.matches.is_empty() {
        rule["matches"] = route.matches.clone().into();
    }
    if !route.filters.is_empty() {
        rule["filters"] = route.filters.clone().into();
    }
    for (field, timeout) in [("request", &route.timeout), ("backendRequest", &route.backend_timeout)] {
        if let Some(timeout) = timeout {
            rule["timeouts"][field] = timeout.clone().into();
        }
    }
    let mut spec = json!({ "parentRefs": route.gateways, "rules": [rule] });
    if !route.hosts.is_empty() {
        spec["hostnames"] = route.hosts.clone().into();
    }
    spec
}
