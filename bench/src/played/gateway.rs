//! The gateway: it accepts every route as it is, and says so.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures::TryStreamExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, Object};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Client, ResourceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::deployments::WRITES;
use crate::board::{self, Board};

/// When every condition has changed; nobody reads it.
const SINCE: &str = "2026-01-01T00:00:00Z";

type Route = Object<Spec, Status>;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    parent_refs: Vec<Value>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    backend_refs: Vec<Backend>,
}

#[derive(Clone, Debug, Deserialize)]
struct Backend {
    name: String,
    /// Without one it is 1.
    weight: Option<u8>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    parents: Vec<Parent>,
}

#[derive(Clone, Debug, Deserialize)]
struct Parent {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    observed_generation: i64,
}

/// Plays until it is dropped, and notes every weight that the watch shows.
///
/// # Errors
/// Never by itself: what fails is tried again when the watch is begun again.
pub async fn play(client: Client, board: Arc<Board>) -> Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
    let api: Api<Route> = Api::all_with(client.clone(), &resource);
    let writes = Arc::new(Semaphore::new(WRITES));
    let mut events = std::pin::pin!(watch(api, watcher::Config::default()).default_backoff());
    loop {
        // The watch tells of an error and then begins again by itself.
        let Ok(Some(event)) = events.try_next().await else { continue };
        let (Event::Apply(route) | Event::InitApply(route)) = event else { continue };
        if let Some(index) = board::index_in(&route.name_any()) {
            board.route(index, canary_weight(&route).unwrap_or_default(), Instant::now());
        }
        if reported(&route) < route.metadata.generation.unwrap_or_default() {
            tokio::spawn(accept(client.clone(), resource.clone(), Arc::clone(&writes), route));
        }
    }
}

async fn accept(client: Client, resource: ApiResource, writes: Arc<Semaphore>, route: Route) {
    // It is never closed.
    let _permit = writes.acquire().await;
    let api: Api<Route> = Api::namespaced_with(client, &route.namespace().unwrap_or_default(), &resource);
    let status = status(&route);
    // When it is gone there is nothing to say.
    let _ = api.patch_status(&route.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
}

/// The canary's share in the first rule that has one; nothing when no rule splits.
fn canary_weight(route: &Route) -> Option<u8> {
    let backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
    let canary = backends.into_iter().find(|backend| backend.name.ends_with("-canary"))?;
    Some(canary.weight.unwrap_or(1))
}

/// The newest generation of which all conditions speak.
fn reported(route: &Route) -> i64 {
    let parents = route.status.iter().flat_map(|status| &status.parents);
    let conditions = parents.flat_map(|parent| &parent.conditions);
    conditions.map(|condition| condition.observed_generation).min().unwrap_or_default()
}

fn status(route: &Route) -> Value {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": SINCE,
            "observedGeneration": route.metadata.generation,
        })
    };
    let parents = route.spec.parent_refs.iter().map(|parent| {
        json!({
            "parentRef": parent,
            "controllerName": "bench.serin.dev/gateway",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        })
    });
    json!({"status": {"parents": parents.collect::<Vec<_>>()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(backends: &Value, observed: &[i64]) -> Route {
        let conditions: Vec<_> =
            observed.iter().map(|generation| json!({"type": "Accepted", "observedGeneration": generation})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "app00001", "generation": 3},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": backends}]},
            "status": {"parents": [{"conditions": conditions}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_canarys_weight_is_that_of_its_backend() {
        let split = json!([{"name": "app00001-primary", "weight": 70}, {"name": "app00001-canary", "weight": 30}]);
        assert_eq!(canary_weight(&route(&split, &[])), Some(30));
        assert_eq!(canary_weight(&route(&json!([{"name": "app00001"}]), &[])), None);
    }

    #[test]
    fn a_route_is_reported_on_when_all_conditions_are() {
        let split = json!([]);
        assert_eq!(reported(&route(&split, &[3, 2])), 2);
        assert_eq!(reported(&route(&split, &[])), 0);
        let status = status(&route(&split, &[]));
        assert_eq!(status["status"]["parents"][0]["conditions"][1]["observedGeneration"], 3);
        assert_eq!(status["status"]["parents"][0]["parentRef"]["name"], "gateway");
    }
}
