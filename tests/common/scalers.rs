//! Autoscalers as users write them, and what they do.

use super::app::{self, NAME, NAMESPACE};
use super::cluster::Cluster;
use serde_json::{Value, json};
use serin_testing::{AUTOSCALERS, CANARIES, DEPLOYMENTS, GroupVersionResource, HTTP_ROUTES, SCALED_OBJECTS, SERVICES};

/// An HPA of two to six pods.
pub(crate) fn hpa() -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"team": "blue"}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": 2,
            "maxReplicas": 6,
            "metrics": [{
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99}},
            }],
        },
    })
}

/// A ScaledObject with a query about the app.
pub(crate) fn scaled_object() -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"team": "blue"}, "annotations": {"team": "blue"}},
        "spec": {
            "scaleTargetRef": {"name": NAME},
            "minReplicaCount": 2,
            "maxReplicaCount": 6,
            "triggers": [{
                "type": "prometheus",
                "name": "requests",
                "metadata": {"serverAddress": "http://prometheus", "query": "sum(rate(requests{app=\"web\"}[30s]))", "threshold": "5"},
            }],
        },
    })
}

/// The Canary of an app with a scaler of this kind.
pub(crate) fn canary(kind: &str) -> Value {
    let mut canary = app::canary();
    canary["spec"]["autoscalerRef"] = json!({"kind": kind, "name": NAME});
    canary
}

/// The app with an HPA, and no Canary yet.
pub(crate) async fn with_hpa() -> Cluster {
    let cluster = Cluster::with_app().await;
    cluster.put(AUTOSCALERS, hpa());
    cluster
}

/// The app with a ScaledObject, and no Canary yet.
pub(crate) async fn with_scaled_object() -> Cluster {
    let cluster = Cluster::with_app().await;
    cluster.put(SCALED_OBJECTS, scaled_object());
    cluster
}

/// The same with its Canary, initialised and at rest.
pub(crate) async fn at_rest(kind: &str) -> Cluster {
    let mut cluster = if kind == "ScaledObject" { with_scaled_object().await } else { with_hpa().await };
    cluster.put(CANARIES, canary(kind));
    cluster.settle().await;
    cluster.forget();
    cluster
}

/// The autoscalers find that so many pods are needed, and keep to their ranges; a target without pods is left alone.
pub(crate) fn autoscale(cluster: &Cluster, canary: i64, primary: i64) {
    for (name, replicas) in [(NAME, canary), ("web-primary", primary)] {
        let Some(scaler) = cluster.find(AUTOSCALERS, name) else { continue };
        let bound = |field: &str| scaler["spec"][field].as_i64().unwrap_or(1);
        let replicas = replicas.clamp(bound("minReplicas"), bound("maxReplicas"));
        if cluster.replicas(name) > 0 {
            cluster.edit(DEPLOYMENTS, name, |deployment| deployment["spec"]["replicas"] = replicas.into());
        }
    }
}

/// Everything of the app but its Canary.
pub(crate) const KINDS: [GroupVersionResource; 5] = [AUTOSCALERS, DEPLOYMENTS, HTTP_ROUTES, SCALED_OBJECTS, SERVICES];
