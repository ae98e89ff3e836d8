//! Finalizers, preconditions and the garbage collector.

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use serin_testing::{ApiServer, CANARIES, CONFIG_MAPS, SERVICES};

use crate::support::{NAMESPACE, canaries, canary, config_map, config_maps, refused};

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let server = ApiServer::new();
    let mut held = canary("web");
    held["metadata"]["finalizers"] = json!(["serin.dev/weights"]);
    server.put(CANARIES, held).unwrap();
    let api = canaries(&server);
    let marked = api.delete("web", &DeleteParams::default()).await.unwrap();
    let marked = marked.left().expect("the object is still there");
    assert!(marked.metadata.deletion_timestamp.is_some());
    assert_eq!(marked.metadata.generation, Some(2));
    let revision = server.revision();
    api.delete("web", &DeleteParams::default()).await.unwrap();
    assert_eq!(server.revision(), revision);

    let parameters = PatchParams::default();
    let more = Patch::Merge(json!({ "metadata": { "finalizers": ["serin.dev/weights", "late"] } }));
    let outcome = api.patch("web", &parameters, &more).await;
    assert_eq!(refused(outcome), (422, "Invalid".to_owned()));
    let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let last = api.patch("web", &parameters, &none).await.unwrap();
    assert_eq!(last.metadata.finalizers, None);
    assert_eq!(server.get(CANARIES, NAMESPACE, "web"), None);
}

#[tokio::test]
async fn a_deletion_can_be_conditional() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    let stale = DeleteParams {
        preconditions: Some(Preconditions { resource_version: Some("7".to_owned()), uid: None }),
        ..DeleteParams::default()
    };
    let outcome = config_maps(&server).delete("one", &stale).await;
    assert_eq!(refused(outcome), (409, "Conflict".to_owned()));
    assert!(server.delete(CONFIG_MAPS, NAMESPACE, "one").is_ok());
    assert!(server.delete(CONFIG_MAPS, NAMESPACE, "one").unwrap_err().is_not_found());
}

#[test]
fn garbage_follows_its_owners() {
    let server = ApiServer::new();
    let owner = server.put(CANARIES, canary("web")).unwrap();
    let owned_by = |name: &str, uids: &[&str]| {
        let owners: Vec<_> = uids.iter().map(|uid| json!({ "uid": uid })).collect();
        json!({ "metadata": { "name": name, "namespace": NAMESPACE, "ownerReferences": owners } })
    };
    let owner_uid = owner["metadata"]["uid"].as_str().unwrap();
    let child = server.put(SERVICES, owned_by("child", &[owner_uid])).unwrap();
    let child_uid = child["metadata"]["uid"].as_str().unwrap();
    server.put(CONFIG_MAPS, owned_by("grandchild", &[child_uid])).unwrap();
    let free = server.put(CONFIG_MAPS, config_map("free", "a")).unwrap();
    let free_uid = free["metadata"]["uid"].as_str().unwrap();
    server.put(CONFIG_MAPS, owned_by("shared", &[child_uid, free_uid])).unwrap();

    server.collect_garbage();
    assert_eq!(server.list(SERVICES, None).len(), 1);
    server.delete(CANARIES, NAMESPACE, "web").unwrap();
    server.collect_garbage();
    assert_eq!(server.list(SERVICES, None), Vec::<serde_json::Value>::new());
    let names: Vec<_> = server
        .list(CONFIG_MAPS, None)
        .iter()
        .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["free", "shared"]);
}

#[test]
fn garbage_with_finalizers_is_marked() {
    let server = ApiServer::new();
    let mut held = config_map("held", "a");
    held["metadata"]["finalizers"] = json!(["wait"]);
    held["metadata"]["ownerReferences"] = json!([{ "uid": "gone" }]);
    server.put(CONFIG_MAPS, held).unwrap();
    server.collect_garbage();
    let held = server.get(CONFIG_MAPS, NAMESPACE, "held").unwrap();
    assert!(held["metadata"]["deletionTimestamp"].is_string());
}
