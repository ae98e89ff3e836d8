//! The objects of a user's app, as a user writes them.

use serde_json::{Value, json};

/// Where everything is.
pub(crate) const NAMESPACE: &str = "shop";

/// The name of the app, of its Deployment, Service, route and Canary.
pub(crate) const NAME: &str = "web";

/// The app in a version of its own, with three pods.
pub(crate) fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"team": "blue"}},
        "spec": {
            "replicas": 3,
            "minReadySeconds": 1,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME, "tier": "front"}},
                "spec": {"containers": [{"name": "main", "image": image, "ports": [{"containerPort": 8080}]}]},
            },
        },
    })
}

/// The same as a DaemonSet, with a rule that keeps its pods apart.
pub(crate) fn daemon_set(image: &str) -> Value {
    let mut daemon_set = deployment(image);
    daemon_set["kind"] = "DaemonSet".into();
    if let Some(spec) = daemon_set["spec"].as_object_mut() {
        spec.remove("replicas");
    }
    daemon_set["spec"]["updateStrategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    daemon_set["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": NAME}},
    }]);
    daemon_set
}

/// The Service that the app had before Serin came.
pub(crate) fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {"team": "blue"}},
        "spec": {
            "clusterIP": "10.0.0.7",
            "selector": {"app": NAME, "tier": "front"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    })
}

/// The route that the app had before Serin came: one rule is about the app, two are not.
pub(crate) fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {"team": "blue"}},
        "spec": {
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
            "hostnames": ["shop.example"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-team", "value": "blue"}]}}],
                    "backendRefs": [{"group": "", "kind": "Service", "name": NAME, "port": 80, "weight": 1}],
                },
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/legacy"}}],
                    "backendRefs": [{"name": "legacy", "port": 80}],
                },
            ],
        },
    })
}

/// The Canary: steps of 10, 30 and 60 percent, ten seconds each, and one metric.
pub(crate) fn canary() -> Value {
    json!({
        "apiVersion": "serin.dev/v1beta1",
        "kind": "Canary",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "progressDeadlineSeconds": 60,
            "service": {"port": 80, "targetPort": 8080, "gatewayRefs": [{"name": "gateway"}]},
            "analysis": {
                "interval": "10s",
                "threshold": 1,
                "stepWeights": [10, 30, 60],
                "metrics": [{"name": "request-success-rate", "thresholdRange": {"min": 99}}],
            },
        },
    })
}

/// The weights of [`canary`], and the last step to none.
pub(crate) const STEPS: [i64; 4] = [0, 10, 30, 60];
