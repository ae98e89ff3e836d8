//! What the tests share.
//!
//! Invariant: nothing here outlives a test.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    core::Status,
};
use serde_json::{Value, json};
use serin_testing::ApiServer;

pub(crate) const NAMESPACE: &str = "shop";

pub(crate) fn config_maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client(), NAMESPACE)
}

pub(crate) fn deployments(server: &ApiServer) -> Api<Deployment> {
    Api::namespaced(server.client(), NAMESPACE)
}

pub(crate) fn canaries(server: &ApiServer) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("serin.dev", "v1beta1", "Canary");
    let resource = ApiResource::from_gvk_with_plural(&kind, "canaries");
    Api::namespaced_with(server.client(), NAMESPACE, &resource)
}

pub(crate) fn parse<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("the test's object fits its type")
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "data": { "key": value },
    })
}

pub(crate) fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": image }] },
            },
        },
    })
}

pub(crate) fn canary(name: &str) -> Value {
    json!({
        "apiVersion": "serin.dev/v1beta1",
        "kind": "Canary",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "steps": [10, 50] },
        "status": { "phase": "Made up" },
    })
}

/// The refusal a call ended with.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: kube::Result<T>) -> Box<Status> {
    match outcome {
        Err(kube::Error::Api(status)) => status,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Code and reason of a refusal.
pub(crate) fn refused<T: std::fmt::Debug>(outcome: kube::Result<T>) -> (u16, String) {
    let status = refusal(outcome);
    (status.code, status.reason)
}
