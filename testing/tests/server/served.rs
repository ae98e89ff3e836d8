//! Which paths the server knows, and in which form it answers.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serin_testing::{ApiServer, CONFIG_MAPS, GroupVersionResource, Resource, SCALED_OBJECTS};

use crate::support::{NAMESPACE, config_map, config_maps, parse, refused};

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let server = ApiServer::new();
    let pods: Api<Pod> = Api::namespaced(server.client(), NAMESPACE);
    assert_eq!(refused(pods.get("web").await).0, 404);
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    assert_eq!(refused(config_maps(&server).get_status("one").await).0, 404);
    assert_eq!(refused(server.client().apiserver_version().await).0, 404);
}

#[tokio::test]
async fn a_resource_can_go_and_come_back() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    server.stop_serving(CONFIG_MAPS);
    assert_eq!(refused(config_maps(&server).get("one").await).0, 404);
    assert!(server.get(CONFIG_MAPS, NAMESPACE, "one").is_some());
    server.serve(Resource::built_in(CONFIG_MAPS, "ConfigMap"));
    config_maps(&server).get("one").await.unwrap();
}

#[tokio::test]
async fn a_test_can_add_resources() {
    let server = ApiServer::new();
    let namespaces = GroupVersionResource::new("", "v1", "namespaces");
    server.serve(Resource { namespaced: false, status: true, ..Resource::built_in(namespaces, "Namespace") });
    let api: Api<Namespace> = Api::all(server.client());
    let namespace = parse(serde_json::json!({ "metadata": { "name": NAMESPACE } }));
    api.create(&PostParams::default(), &namespace).await.unwrap();
    assert_eq!(api.get(NAMESPACE).await.unwrap().metadata.namespace, None);
    api.get_status(NAMESPACE).await.unwrap();
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn what_is_served_can_be_asked() {
    let server = ApiServer::new();
    let client = server.client();
    let names = |list: APIResourceList| list.resources.into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(client.list_api_group_resources("keda.sh/v1alpha1").await.unwrap()), ["scaledobjects"]);
    server.stop_serving(SCALED_OBJECTS);
    assert_eq!(refused(client.list_api_group_resources("keda.sh/v1alpha1").await).0, 404);
    assert!(names(client.list_core_api_resources("v1").await.unwrap()).contains(&"services".to_owned()));
    assert_eq!(server.requests(), [], "no rights are needed for that");
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    let api = config_maps(&server);
    let one = api.get_metadata("one").await.unwrap();
    assert_eq!(one.metadata.name.as_deref(), Some("one"));
    let all = api.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.len(), 1);
    assert_eq!(all.items[0].metadata, one.metadata);
}
