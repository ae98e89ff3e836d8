//! Creating, reading, replacing and listing objects.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;
use serin_testing::{ApiServer, CONFIG_MAPS};

use crate::support::{NAMESPACE, canaries, canary, config_map, config_maps, parse, refusal, refused};

#[tokio::test]
async fn an_object_is_created_read_replaced_and_deleted() {
    let server = ApiServer::new();
    let api = config_maps(&server);
    let created = api.create(&PostParams::default(), &parse(config_map("one", "a"))).await.unwrap();
    assert_eq!(created.metadata.resource_version.as_deref(), Some("1"));
    assert_eq!(created.metadata.generation, None);
    assert_eq!(created.metadata.uid.as_deref(), Some("00000000-0000-4000-8000-000000000001"));
    let created_at = created.metadata.creation_timestamp.clone().unwrap();
    assert_eq!(created_at.0.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(api.get("one").await.unwrap(), created);

    let mut next = created.clone();
    next.data = Some([("key".to_owned(), "b".to_owned())].into());
    let replaced = api.replace("one", &PostParams::default(), &next).await.unwrap();
    assert_eq!(replaced.metadata.resource_version.as_deref(), Some("2"));
    assert_eq!(replaced.metadata.uid, created.metadata.uid);

    assert!(api.delete("one", &DeleteParams::default()).await.unwrap().is_right());
    assert_eq!(refused(api.get("one").await), (404, "NotFound".to_owned()));
    assert_eq!(server.revision(), 3);
}

#[tokio::test]
async fn names_are_unique_and_can_be_generated() {
    let server = ApiServer::new();
    let api = config_maps(&server);
    let parameters = PostParams::default();
    api.create(&parameters, &parse(config_map("one", "a"))).await.unwrap();
    let again = refusal(api.create(&parameters, &parse(config_map("one", "b"))).await);
    assert_eq!(
        (again.code, again.reason.as_str(), again.message.as_str()),
        (409, "AlreadyExists", "configmaps \"one\" already exists")
    );

    let generated: ConfigMap = parse(json!({ "metadata": { "generateName": "part-" } }));
    let first = api.create(&parameters, &generated).await.unwrap();
    let second = api.create(&parameters, &generated).await.unwrap();
    assert!(first.metadata.name.as_deref().unwrap().starts_with("part-"));
    assert_ne!(first.metadata.name, second.metadata.name);
    let nameless: ConfigMap = parse(json!({ "metadata": {} }));
    assert_eq!(refused(api.create(&parameters, &nameless).await).0, 422);
}

#[tokio::test]
async fn a_stale_or_foreign_object_is_a_conflict() {
    let server = ApiServer::new();
    let api = config_maps(&server);
    let parameters = PostParams::default();
    let mut stale = api.create(&parameters, &parse(config_map("one", "a"))).await.unwrap();
    server.patch(CONFIG_MAPS, NAMESPACE, "one", &json!({ "data": { "key": "b" } })).unwrap();
    let outcome = api.replace("one", &parameters, &stale).await;
    assert_eq!(refused(outcome), (409, "Conflict".to_owned()));

    stale.metadata.resource_version = None;
    api.replace("one", &parameters, &stale).await.unwrap();
    stale.metadata.uid = Some("another".to_owned());
    let outcome = api.replace("one", &parameters, &stale).await;
    assert_eq!(refused(outcome), (409, "Conflict".to_owned()));
}

#[tokio::test]
async fn custom_resources_are_replaced_by_version_only() {
    let server = ApiServer::new();
    let api = canaries(&server);
    let parameters = PostParams::default();
    let mut created = api.create(&parameters, &parse(canary("web"))).await.unwrap();
    created.metadata.resource_version = None;
    let outcome = api.replace("web", &parameters, &created).await;
    assert_eq!(refused(outcome), (422, "Invalid".to_owned()));
}

#[tokio::test]
async fn an_object_cannot_contradict_its_url() {
    let server = ApiServer::new();
    let elsewhere = json!({ "metadata": { "name": "one", "namespace": "elsewhere" } });
    let outcome = config_maps(&server).create(&PostParams::default(), &parse(elsewhere)).await;
    assert_eq!(refused(outcome), (400, "BadRequest".to_owned()));
}

#[tokio::test]
async fn lists_select_by_label_name_and_namespace() {
    let server = ApiServer::new();
    for (namespace, name, labels) in [
        (NAMESPACE, "a", json!({ "app": "web", "tier": "front" })),
        (NAMESPACE, "b", json!({ "app": "job" })),
        (NAMESPACE, "c", json!({})),
        ("other", "d", json!({ "app": "web" })),
    ] {
        let metadata = json!({ "name": name, "namespace": namespace, "labels": labels });
        server.put(CONFIG_MAPS, json!({ "metadata": metadata })).unwrap();
    }
    for (selector, expected) in [
        ("app=web", "a"),
        ("app==web,tier", "a"),
        ("app in (web, job)", "ab"),
        ("app notin (web)", "bc"),
        ("app!=web", "bc"),
        ("app", "ab"),
        ("!app", "c"),
        ("", "abc"),
    ] {
        let parameters = ListParams::default().labels(selector);
        let listed = config_maps(&server).list(&parameters).await.unwrap();
        assert_eq!(names(&listed.items), expected, "{selector}");
        assert_eq!(listed.metadata.resource_version.as_deref(), Some("4"));
    }
    let by_name = ListParams::default().fields("metadata.name=b").match_any();
    let listed = config_maps(&server).list(&by_name).await.unwrap();
    assert_eq!(names(&listed.items), "b");
    let everywhere: Api<ConfigMap> = Api::all(server.client());
    let listed = everywhere.list(&ListParams::default()).await.unwrap();
    assert_eq!(names(&listed.items), "dabc");

    for parameters in [ListParams::default().labels("app in web"), ListParams::default().fields("data.key=a")] {
        let outcome = config_maps(&server).list(&parameters).await;
        assert_eq!(refused(outcome), (400, "BadRequest".to_owned()));
    }
}

fn names(objects: &[ConfigMap]) -> String {
    let names = objects.iter().filter_map(|object| object.metadata.name.as_deref());
    names.collect()
}
