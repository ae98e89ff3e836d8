//! What the server makes of a write.

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use serin_testing::{ApiServer, CANARIES, CONFIG_MAPS, DEPLOYMENTS, HTTP_ROUTES};

use crate::support::{NAMESPACE, canaries, canary, config_map, deployment, deployments, parse, refused};

fn versions(object: &Value) -> (i64, &str) {
    let metadata = &object["metadata"];
    (metadata["generation"].as_i64().unwrap(), metadata["resourceVersion"].as_str().unwrap())
}

#[test]
fn the_generation_counts_changes_of_the_content() {
    let server = ApiServer::new();
    let created = server.put(CANARIES, canary("web")).unwrap();
    assert_eq!(versions(&created), (1, "1"));
    let patch = |patch: Value| server.patch(CANARIES, NAMESPACE, "web", &patch).unwrap();
    let annotated = patch(json!({ "metadata": { "annotations": { "note": "x" } } }));
    assert_eq!(versions(&annotated), (1, "2"));
    let reported = patch(json!({ "status": { "phase": "Initialized" } }));
    assert_eq!(versions(&reported), (1, "3"));
    let changed = patch(json!({ "spec": { "steps": [20] } }));
    assert_eq!(versions(&changed), (2, "4"));
    let unchanged = patch(json!({ "spec": { "steps": [20], "absent": null } }));
    assert_eq!(versions(&unchanged), (2, "4"));
}

#[test]
fn annotations_count_as_content_of_a_deployment() {
    let server = ApiServer::new();
    server.put(DEPLOYMENTS, deployment("web", "v1")).unwrap();
    let labelled = json!({ "metadata": { "labels": { "note": "x" } } });
    let labelled = server.patch(DEPLOYMENTS, NAMESPACE, "web", &labelled).unwrap();
    assert_eq!(versions(&labelled), (1, "2"));
    let annotated = json!({ "metadata": { "annotations": { "note": "x" } } });
    let annotated = server.patch(DEPLOYMENTS, NAMESPACE, "web", &annotated).unwrap();
    assert_eq!(versions(&annotated), (2, "3"));
}

#[tokio::test]
async fn status_and_content_are_written_apart() {
    let server = ApiServer::new();
    let api = canaries(&server);
    let created = api.create(&PostParams::default(), &parse(canary("web"))).await.unwrap();
    assert_eq!(created.data.get("status"), None);

    let both = Patch::Merge(json!({
        "metadata": { "labels": { "note": "x" } },
        "spec": { "steps": [20] },
        "status": { "phase": "Progressing" },
    }));
    let parameters = PatchParams::default();
    let reported = api.patch_status("web", &parameters, &both).await.unwrap();
    assert_eq!(reported.data["status"], json!({ "phase": "Progressing" }));
    assert_eq!(reported.data["spec"], created.data["spec"]);
    assert_eq!(reported.metadata.labels, None);
    assert_eq!(reported.metadata.generation, Some(1));

    let forged = Patch::Merge(json!({ "spec": { "steps": [30] }, "status": { "phase": "Done" } }));
    let patched = api.patch("web", &parameters, &forged).await.unwrap();
    assert_eq!(patched.data["status"], json!({ "phase": "Progressing" }));
    assert_eq!(patched.data["spec"], json!({ "steps": [30] }));

    let mut replacement = patched.clone();
    replacement.data = json!({ "spec": {}, "status": { "phase": "Done" } });
    let replaced = api.replace_status("web", &PostParams::default(), &replacement).await.unwrap();
    assert_eq!(replaced.data["status"], json!({ "phase": "Done" }));
    assert_eq!(replaced.data["spec"], json!({ "steps": [30] }));
    let stale = api.replace_status("web", &PostParams::default(), &replacement).await;
    assert_eq!(refused(stale), (409, "Conflict".to_owned()));
}

#[tokio::test]
async fn a_selector_is_for_life() {
    let server = ApiServer::new();
    server.put(DEPLOYMENTS, deployment("web", "v1")).unwrap();
    let patch = json!({ "spec": { "selector": { "matchLabels": { "app": "other" } } } });
    let outcome = deployments(&server).patch("web", &PatchParams::default(), &Patch::Merge(patch)).await;
    assert_eq!(refused(outcome), (422, "Invalid".to_owned()));
}

#[test]
fn server_fields_cannot_be_forged() {
    let server = ApiServer::new();
    let mut forged = config_map("one", "a");
    forged["metadata"]["uid"] = json!("mine");
    forged["metadata"]["creationTimestamp"] = json!("1999-01-01T00:00:00Z");
    forged["metadata"]["deletionTimestamp"] = json!("1999-01-01T00:00:00Z");
    server.set_clock(|| Timestamp::constant(1_800_000_000, 0));
    let created = server.put(CONFIG_MAPS, forged).unwrap();
    assert_eq!(created["metadata"]["uid"], "00000000-0000-4000-8000-000000000001");
    assert_eq!(created["metadata"]["creationTimestamp"], "2027-01-15T08:00:00Z");
    assert_eq!(created["metadata"]["deletionTimestamp"], Value::Null);
}

#[test]
fn defaults_are_filled_in_and_are_no_change() {
    let server = ApiServer::new();
    server.add_defaults(HTTP_ROUTES, |route| {
        for rule in route["spec"]["rules"].as_array_mut().into_iter().flatten() {
            for backend in rule["backendRefs"].as_array_mut().into_iter().flatten() {
                if backend["weight"].is_null() {
                    backend["weight"] = json!(1);
                }
            }
        }
    });
    let route = json!({
        "metadata": { "name": "web", "namespace": NAMESPACE },
        "spec": { "rules": [{ "backendRefs": [{ "name": "web" }] }] },
    });
    let first = server.put(HTTP_ROUTES, route.clone()).unwrap();
    assert_eq!(first["spec"]["rules"][0]["backendRefs"][0]["weight"], 1);
    assert_eq!(server.put(HTTP_ROUTES, route).unwrap(), first);
}

#[test]
fn an_update_in_place_sees_the_latest_object() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    let mut attempts = 0;
    let updated = server.update(CONFIG_MAPS, NAMESPACE, "one", |object| {
        attempts += 1;
        if attempts == 1 {
            let meanwhile = json!({ "data": { "other": "b" } });
            server.patch(CONFIG_MAPS, NAMESPACE, "one", &meanwhile).unwrap();
        }
        object["data"]["key"] = json!("c");
    });
    assert_eq!(updated.unwrap()["data"], json!({ "key": "c", "other": "b" }));
    assert_eq!(attempts, 2);
    assert!(server.update(CONFIG_MAPS, NAMESPACE, "two", |_| ()).unwrap_err().is_not_found());
}
