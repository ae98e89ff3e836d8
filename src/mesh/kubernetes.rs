//! No gateway: the app's own Service selects the primary's pods or, all at once, the canary's.
//!
//! That Service is made with the other two (`workload::apex`). One that leads to the canary says so in an annotation,
//! because its selector is also that of an app without Serin. What is rendered here is the way back alone: it must wait
//! for nothing, not even for a target, and the primary's Service says where it leads.

use super::{App, Key, Mesh, Wanted};
use crate::domain::{Acceptance, Routing, Traffic, Weight};
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

    fn render(&self, _app: &App, wanted: &Wanted<'_>, found: &[Option<&Value>]) -> Vec<Option<Value>> {
        let mut rendered = vec![None; found.len()];
        if let [Some(apex), primary, ..] = found
            && matches!(wanted.traffic, Traffic::Split(to) if to.weight < Weight::FULL)
        {
            let mut apex = (*apex).clone();
            if let Some(selector) = primary.and_then(selector)
                && object::is_switched(&apex)
            {
                object::set(&mut apex, &["spec", "selector"], selector.clone());
                object::set_switched(&mut apex, false);
            }
            rendered[0] = Some(apex);
        }
        rendered
    }

    fn observe(&self, _app: &App, found: &[Option<&Value>]) -> Routing {
        let [Some(apex), primary, canary] = found else { return Routing::Missing };
        let leads_to = |version: Option<&Value>| {
            version.is_some_and(|version| selector(version).is_some() && selector(version) == selector(apex))
        };
        let switched = object::is_switched(apex);
        match (leads_to(*primary), leads_to(*canary)) {
            (true, _) if !switched => Routing::Split(Weight::ZERO, Acceptance::Accepted),
            (_, true) if switched => Routing::Split(Weight::FULL, Acceptance::Accepted),
            _ if switched => Routing::Mixed,
            _ => Routing::Whole(Acceptance::Accepted),
        }
    }
}

fn selector(service: &Value) -> Option<&Value> {
    object::get(service, &["spec", "selector"])
}

fn service() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"))
}
