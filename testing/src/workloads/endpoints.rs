//! An Endpoints controller for pods that are known by their number only.
//!
//! Invariant: like the real one, it copies a Service's labels in the very write in which it follows its selector.

use serde_json::{Value, json};

use crate::{ApiServer, DAEMON_SETS, DEPLOYMENTS, ENDPOINTS, SERVICES, fields};

/// Writes the Endpoints that each Service with a selector has, from what Deployments and DaemonSets say of their pods.
pub fn settle_endpoints(server: &ApiServer) {
    let kinds =
        [(DEPLOYMENTS, "replicas", "availableReplicas"), (DAEMON_SETS, "currentNumberScheduled", "numberAvailable")];
    let pods: Vec<_> = kinds
        .into_iter()
        .flat_map(|(kind, total, available)| {
            server.list(kind, None).into_iter().map(move |owner| {
                let count = |field: &str| owner["status"][field].as_u64().unwrap_or_default();
                let (total, available) = (count(total), count(available));
                (owner, available.min(total), total.saturating_sub(available))
            })
        })
        .collect();
    for service in server.list(SERVICES, None) {
        let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else {
            continue;
        };
        let text = |pointer| fields::text(&service, pointer).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let selected = |owner: &Value| {
            let labels = &owner["spec"]["template"]["metadata"]["labels"];
            owner["metadata"]["namespace"] == namespace && selector.iter().all(|(key, value)| labels[key] == *value)
        };
        let mut lists = [vec![], vec![]];
        for (owner, available, waiting) in pods.iter().filter(|(owner, ..)| selected(owner)) {
            for (list, count) in lists.iter_mut().zip([*available, *waiting]) {
                list.extend((0..count).map(|number| json!({"targetRef": {"kind": "Pod", "name": pod(owner, number)}})));
            }
        }
        let [ready, waiting] = lists;
        let mut subset = json!({});
        for (field, list) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            if !list.is_empty() {
                subset[field] = list.into();
            }
        }
        let subsets = if subset == json!({}) { json!([]) } else { json!([subset]) };
        let wanted = json!({
            "apiVersion": "v1", "kind": "Endpoints", "subsets": subsets,
            "metadata": {"name": name, "namespace": namespace, "labels": service["metadata"]["labels"]},
        });
        match server.get(ENDPOINTS, namespace, name) {
            None => drop(server.put(ENDPOINTS, wanted)),
            Some(_) => drop(server.update(ENDPOINTS, namespace, name, |endpoints| {
                endpoints["subsets"] = wanted["subsets"].clone();
                endpoints["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
            })),
        }
    }
    for endpoints in server.list(ENDPOINTS, None) {
        let text = |pointer| fields::text(&endpoints, pointer).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        if server.get(SERVICES, namespace, name).is_none() {
            // It may be gone by now.
            let _ = server.delete(ENDPOINTS, namespace, name);
        }
    }
}

fn pod(owner: &Value, number: u64) -> String {
    format!("{}-{number}", owner["metadata"]["name"].as_str().unwrap_or_default())
}
