//! What the rules of a route have to do with the app, and the pair of backends that they get.

use crate::domain::Weight;
use crate::mesh::App;
use crate::object;
use serde_json::Value;

/// What a rule has to do with the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
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
    pub(super) fn of(app: &App, rule: &Value) -> Self {
        let backends = backends(rule);
        let named = |name: &str| backends.iter().find(|backend| is_service(app, backend, name));
        let [apex, primary, canary] = [app.name.clone(), primary(app), canary(app)].map(|name| named(&name));
        let ours = [apex, primary, canary].into_iter().flatten().count();
        match (apex, primary, canary) {
            (None, None, None) => Self::Foreign,
            _ if backends.len() > ours => Self::Shared,
            (Some(_), None, None) => Self::Whole,
            (None, Some(primary), Some(canary)) if weight(primary).checked_add(weight(canary)) == Some(100) => {
                Weight::try_from(weight(canary)).map_or(Self::Uneven, Self::Split)
            }
            _ => Self::Uneven,
        }
    }
}

/// All rules of a route.
pub(super) fn all(route: &Value) -> &[Value] {
    object::get(route, &["spec", "rules"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What each rule has to do with the app.
pub(super) fn kinds<'a>(app: &'a App, route: &'a Value) -> impl Iterator<Item = Rule> + 'a {
    all(route).iter().map(|rule| Rule::of(app, rule))
}

/// The same of those that have anything to do with it.
pub(super) fn ours<'a>(app: &'a App, route: &'a Value) -> impl Iterator<Item = Rule> + 'a {
    kinds(app, route).filter(|rule| *rule != Rule::Foreign)
}

/// The backends of a rule.
pub(super) fn backends(rule: &Value) -> &[Value] {
    rule.get("backendRefs").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A weight that is not written is 1.
fn weight(backend: &Value) -> i64 {
    backend.get("weight").and_then(Value::as_i64).unwrap_or(1)
}

pub(super) fn primary(app: &App) -> String {
    format!("{}-primary", app.name)
}

pub(super) fn canary(app: &App) -> String {
    format!("{}-canary", app.name)
}

/// Whether a reference is to the Service of this name beside the app.
pub(super) fn is_service(app: &App, backend: &Value, name: &str) -> bool {
    let text = |field, default: &'static str| backend.get(field).and_then(Value::as_str).unwrap_or(default).to_owned();
    backend["name"] == name
        && text("kind", "Service") == "Service"
        && text("group", "").is_empty()
        && backend.get("namespace").is_none_or(|namespace| *namespace == app.namespace.as_str())
}

/// The Services of the two versions have the Canary's port only.
pub(super) fn other_port<'route>(app: &App, route: &'route Value) -> Option<&'route Value> {
    let names = [app.name.clone(), primary(app), canary(app)];
    let ours = |backend: &&Value| names.iter().any(|name| is_service(app, backend, name));
    let mut ports = all(route).iter().flat_map(backends).filter(ours).filter_map(|backend| backend.get("port"));
    ports.find(|port| **port != app.port)
}

/// The pair of primary and canary in place of what the rule sends to now; `None` for a rule that is not ours.
pub(super) fn pair(app: &App, rule: &Value, weight: Weight) -> Option<[Value; 2]> {
    if matches!(Rule::of(app, rule), Rule::Foreign | Rule::Shared) {
        return None;
    }
    let backends = backends(rule);
    let find = |name: &str| backends.iter().find(|backend| is_service(app, backend, name));
    let stable = find(&primary(app)).or_else(|| find(&app.name)).or_else(|| find(&canary(app)))?;
    let new = find(&canary(app)).unwrap_or(stable);
    let to = |backend: &Value, name: String, weight: u8| {
        let mut backend = backend.clone();
        backend["name"] = name.into();
        backend["weight"] = weight.into();
        backend
    };
    Some([to(stable, primary(app), weight.primary()), to(new, canary(app), weight.canary())])
}

/// The app's own Service in place of the pair.
pub(super) fn whole(app: &App, rule: &Value) -> Option<Value> {
    if !matches!(Rule::of(app, rule), Rule::Split(_) | Rule::Uneven) {
        return None;
    }
    let backends = backends(rule);
    let stable =
        backends.iter().find(|backend| is_service(app, backend, &primary(app))).or_else(|| backends.first())?;
    let mut whole = stable.clone();
    whole["name"] = app.name.clone().into();
    whole["weight"] = 1.into();
    Some(whole)
}
