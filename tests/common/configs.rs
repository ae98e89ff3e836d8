//! The app with a ConfigMap and a Secret.

use super::app::{self, NAME, NAMESPACE};
use super::cluster::Cluster;
use serde_json::{Value, json};
use serin_testing::{CANARIES, CONFIG_MAPS, DEPLOYMENTS, SECRETS};

/// What nobody may read, but in a Secret.
pub(crate) const PASSWORD: &str = "hunter2";

/// The same, as a Secret holds it.
pub(crate) const ENCODED: &str = "aHVudGVyMg==";

/// A ConfigMap with data of both kinds.
pub(crate) fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"color": "blue"}, "binaryData": {"binary": "AAEC"},
    })
}

/// A Secret of the app's own.
pub(crate) fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"password": ENCODED},
    })
}

/// The app, with a ConfigMap and a Secret, and no Canary yet.
pub(crate) async fn with_configs() -> Cluster {
    let cluster = Cluster::with_app().await;
    cluster.put(CONFIG_MAPS, config_map("settings"));
    cluster.put(CONFIG_MAPS, config_map("unrelated"));
    cluster.put(SECRETS, secret("token"));
    cluster.edit(DEPLOYMENTS, NAME, |deployment| {
        let spec = &mut deployment["spec"]["template"]["spec"];
        spec["volumes"] = json!([{"name": "token", "secret": {"secretName": "token"}}]);
        spec["containers"][0]["env"] =
            json!([{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}}]);
    });
    cluster.react();
    cluster
}

/// The same with its Canary, initialised and at rest.
pub(crate) async fn at_rest() -> Cluster {
    let mut cluster = with_configs().await;
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
    cluster.forget();
    cluster
}
