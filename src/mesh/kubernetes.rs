//! No gateway: the app's own Service selects the primary's pods or, all at once, the canary's.
//!
//! Nothing is rendered here: that Service is made with the other two (`workload::apex`). One that leads to the canary says
//! so in an annotation, because its selector is also that of an app without Serin.

use super::{App, Key, Mesh, Wanted};
use crate::domain::{Acceptance, Routing, Weight};
use crate::object;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

pub(super) struct Kubernetes;

impl Mesh for Kubernetes {
    fn resources(&self) -> Vec<ApiResource> {
        vec![service()]
    }

    fn reads(&self, app: &App) -> Vec<Key> {
        let key = |suffix: &str| Key { resource: service(), name: format!("{}{suffix}", app.name) };
        vec![key(""), key("-primary"), key("-canary")]
    }

    fn render(&self, _app: &App, _wanted: &Wanted<'_>, found: &[Option<Value>]) -> Vec<Option<Value>> {
        vec![None; found.len()]
    }

    fn observe(&self, _app: &App, found: &[Option<Value>]) -> Routing {
        let [Some(apex), primary, canary] = found else { return Routing::Missing };
        let selector = |service: &Value| object::get(service, &["spec", "selector"]).cloned();
        let leads_to = |version: &Option<Value>| version.as_ref().and_then(selector) == selector(apex);
        let switched = object::is_switched(apex);
        match (leads_to(primary) && primary.is_some(), leads_to(canary) && canary.is_some()) {
            (true, _) if !switched => Routing::Split(Weight::ZERO, Acceptance::Accepted),
            (_, true) if switched => Routing::Split(Weight::FULL, Acceptance::Accepted),
            _ if switched => Routing::Mixed,
            _ => Routing::Whole(Acceptance::Accepted),
        }
    }
}

fn service() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"))
}
