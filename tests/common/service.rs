//! An app whose versions are Deployments of their own, and whose Service says which of them is meant.

use super::app::{self, NAME};
use super::cluster::{BROKEN, Cluster};
use serde_json::{Value, json};
use serin_testing::{CANARIES, DEPLOYMENTS, HTTP_ROUTES, SERVICES};

/// The pods of one version of the app, which the user runs.
fn pods_of(version: &str, image: &str) -> Value {
    let mut deployment = app::deployment(image);
    deployment["metadata"]["name"] = format!("web-{version}").into();
    for path in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        deployment.pointer_mut(path).unwrap()["version"] = version.into();
    }
    deployment
}

/// A Canary whose target is the app's Service.
pub(crate) fn service_canary() -> Value {
    let mut canary = app::canary();
    canary["spec"]["targetRef"] = json!({"apiVersion": "v1", "kind": "Service", "name": NAME});
    canary
}

/// A cluster with the pods of four versions, of which the third never becomes ready, and a Service and a route that lead to the first.
pub(crate) async fn with_service() -> Cluster {
    let mut cluster = Cluster::new().await;
    cluster.counts = true;
    cluster.put(DEPLOYMENTS, pods_of("v1", "web:1"));
    cluster.put(DEPLOYMENTS, pods_of("v2", "web:2"));
    cluster.put(DEPLOYMENTS, pods_of("v3", BROKEN));
    cluster.put(DEPLOYMENTS, pods_of("v4", "web:4"));
    let mut service = app::service();
    service["spec"]["selector"] = json!({"app": NAME, "version": "v1"});
    cluster.put(SERVICES, service);
    cluster.put(HTTP_ROUTES, app::route());
    cluster.react();
    cluster
}

/// The same, with its Canary at rest.
pub(crate) async fn service_at_rest() -> Cluster {
    let mut cluster = with_service().await;
    cluster.put(CANARIES, service_canary());
    cluster.settle().await;
    cluster.forget();
    cluster
}

/// The user lets the Service lead to another version.
pub(crate) fn lead_to(cluster: &Cluster, version: &str) {
    cluster.edit(SERVICES, NAME, |service| service["spec"]["selector"]["version"] = version.into());
}
