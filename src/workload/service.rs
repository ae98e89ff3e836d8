//! A `v1` Service as target: what is rolled out is where it leads, and nobody's pods are scaled.
//!
//! Invariant: the target is never written. `<name>-primary` leads where the promoted version led, `<name>-canary` where the
//! target leads now. How many pods that is, their Endpoints say, and of which version they speak: their controller copies
//! a Service's labels in the very write in which it follows its selector.

use super::{
    App, Error, Labels, REVISION, Selector, Wanted, Workload, labelling, metadata_name, primary_name, services,
};
use crate::domain::{Pods, Routing, Scale, Traffic};
use crate::object;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::borrow::Cow;

pub(super) struct Service;

/// What the two Services take over from the target at once: how a client's requests are spread, not where they go.
const COPIED: [&str; 3] = ["sessionAffinity", "sessionAffinityConfig", "internalTrafficPolicy"];

impl Workload for Service {
    fn resource(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"))
    }

    /// The primaries of other kinds have a Service of that name in front of them.
    fn is_primary(&self, object: &Value) -> bool {
        object::get(object, &["metadata", "labels", REVISION]).is_some()
    }

    /// Its versions differ in their selectors as a whole, for which the first label stands.
    fn selector(&self, app: &App, target: &Value) -> Result<Selector, Error> {
        let name = || metadata_name(target).to_owned();
        let labels = object::get(target, &["spec", "selector"]).and_then(Value::as_object);
        let first = labels.and_then(|labels| labels.iter().find_map(|(key, value)| Some((key, value.as_str()?))));
        let (key, value) = first.ok_or_else(|| Error::NoSelector { name: name() })?;
        let ports: Vec<_> = ports(target).map(|port| port["port"].to_string()).collect();
        let port = app.port["port"].to_string();
        if !ports.contains(&port) {
            return Err(Error::NoPort { name: name(), port, ports: ports.join(", ") });
        }
        Ok(Selector { key: key.clone(), value: value.to_owned() })
    }

    fn supported(&self, _: &Value) -> Result<(), Error> {
        Ok(())
    }

    /// Selector and ports, without what the API server chooses or fills in.
    fn template<'a>(&self, target: &'a Value) -> Cow<'a, Value> {
        let selector = object::get(target, &["spec", "selector"]).unwrap_or(&Value::Null);
        Cow::Owned(json!({"selector": selector, "ports": ports(target).map(plain).collect::<Vec<_>>()}))
    }

    fn original(&self, primary: &Value, _: &Selector) -> Value {
        self.template(primary).into_owned()
    }

    /// By itself it knows nothing of pods.
    fn pods(&self, _: &Value) -> Pods {
        Pods::default()
    }

    fn counted_by(&self) -> Option<ApiResource> {
        Some(ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Endpoints")))
    }

    fn counted(&self, object: &Value, endpoints: Option<&Value>) -> Pods {
        let Some(endpoints) = endpoints else { return Pods::default() };
        let of = object::get(endpoints, &["metadata", "labels", REVISION]).and_then(Value::as_str);
        let [available, waiting] = ["addresses", "notReadyAddresses"].map(|list| addresses(endpoints, list));
        let total = available + waiting;
        Pods {
            wanted: total.max(1),
            updated: total,
            available,
            total,
            current: of == Some(mark(&self.template(object)).as_str()),
        }
    }

    /// The mark on its Endpoints tells whether somebody has edited it since.
    fn is_made_of(&self, _: &Value, _: &Value, _: &Selector) -> bool {
        true
    }

    /// A Service counts no generations in most versions of Kubernetes, so where it leads is the number.
    fn generation(&self, object: &Value) -> i64 {
        i64::from_str_radix(&mark(&self.template(object)), 16).unwrap_or_default().max(1)
    }

    fn replicas(&self, _: &Value) -> u32 {
        0
    }

    /// The primary's is the primary itself.
    fn services(&self, app: &App, _: &Selector, target: &Value, found: [Option<&Value>; 2]) -> [Option<Value>; 2] {
        let name = format!("{}-canary", app.target);
        let canary = leading(app, &name, target, found[1], Some(&self.template(target)), &app.metadata.canary);
        [None, Some(canary)]
    }

    /// It is the target, and the user's.
    fn apex(&self, _: &App, _: &Selector, _: &Value, _: Traffic, _: Option<&Value>) -> Option<Value> {
        None
    }

    /// Clients of the target get what it leads to, whatever Serin does; those of the route get the primary.
    fn apex_on_primary(&self, _: &Selector, _: Option<&Value>, routing: &Routing) -> bool {
        matches!(routing, Routing::Split(..) | Routing::Mixed)
    }

    fn primary(&self, app: &App, target: &Value, found: Option<&Value>, wanted: Wanted<'_>) -> Result<Value, Error> {
        if wanted.template.is_none() && found.is_none() {
            return Err(Error::Record(wanted.revision.0.clone()));
        }
        let name = primary_name(&app.target);
        let mut primary = leading(app, &name, target, found, wanted.template, &app.metadata.primary);
        let none = Selector { key: String::new(), value: String::new() };
        labelling::follow(&mut primary, target, &app.labelling.included, &none);
        if wanted.template.is_some() {
            object::set_metadata(&mut primary, "annotations", [(REVISION, wanted.revision.0.as_str())]);
        }
        Ok(primary)
    }

    fn scaled(&self, target: &Value, _: Scale) -> Value {
        target.clone()
    }
}

/// A Service of Serin's own that leads where `template` says; without one, where it does now.
fn leading(
    app: &App,
    name: &str,
    target: &Value,
    found: Option<&Value>,
    template: Option<&Value>,
    labels: &Labels,
) -> Value {
    let now = found.map(|found| Service.template(found).into_owned());
    let template = template.cloned().or(now).unwrap_or_default();
    let mut service = services::own(app, found, name, template["selector"].clone(), &template["ports"], labels);
    let headless = object::get(target, &["spec", "clusterIP"]).is_some_and(|address| address == "None");
    if headless && found.is_none() {
        object::set(&mut service, &["spec", "clusterIP"], "None".into());
    }
    object::set_metadata(&mut service, "labels", [(REVISION, mark(&template).as_str())]);
    for field in COPIED {
        match object::get(target, &["spec", field]) {
            Some(value) => object::set(&mut service, &["spec", field], value.clone()),
            None => drop(service["spec"].as_object_mut().and_then(|spec| spec.remove(field))),
        }
    }
    service
}

/// What a Service and its Endpoints say of where it leads.
fn mark(template: &Value) -> String {
    object::hash(template)
}

fn ports(service: &Value) -> impl Iterator<Item = &Value> {
    object::get(service, &["spec", "ports"]).and_then(Value::as_array).into_iter().flatten()
}

/// A port as it was written: with the API server's defaults, and without the node's port.
fn plain(port: &Value) -> Value {
    let or = |field: &str, default: Value| port.get(field).filter(|value| !value.is_null()).cloned().unwrap_or(default);
    let mut plain = json!({
        "port": port["port"],
        "protocol": or("protocol", "TCP".into()),
        "targetPort": or("targetPort", port["port"].clone()),
    });
    for field in ["name", "appProtocol"] {
        if let Some(value) = port.get(field).filter(|value| !value.is_null()) {
            plain[field] = value.clone();
        }
    }
    plain
}

fn addresses(endpoints: &Value, list: &str) -> u32 {
    let subsets = endpoints.get("subsets").and_then(Value::as_array).into_iter().flatten();
    let count = subsets.filter_map(|subset| subset.get(list)?.as_array()).map(Vec::len).sum::<usize>();
    u32::try_from(count).unwrap_or(u32::MAX)
}
