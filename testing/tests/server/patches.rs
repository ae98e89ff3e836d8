//! The three patch formats over HTTP.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use serin_testing::{ApiServer, CONFIG_MAPS, HTTP_ROUTES};

use crate::support::{NAMESPACE, config_map, config_maps, refusal, refused};

fn operations(operations: Value) -> Patch<()> {
    Patch::Json(serde_json::from_value(operations).unwrap())
}

/// A route patch through the typed client would need the Gateway API's types; the URL does not.
async fn patch_route(server: &ApiServer, patch: Patch<()>) -> kube::Result<Value> {
    let url = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes");
    let request = kube::core::Request::new(url).patch("web", &PatchParams::default(), &patch).unwrap();
    server.client().request(request).await
}

#[tokio::test]
async fn operations_reach_into_lists() {
    let server = ApiServer::new();
    let backends = json!([{ "name": "a", "weight": 100 }, { "name": "b", "weight": 0 }]);
    let route = json!({
        "metadata": { "name": "web", "namespace": NAMESPACE },
        "spec": { "rules": [{ "backendRefs": backends }] },
    });
    server.put(HTTP_ROUTES, route).unwrap();
    let shift = operations(json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": "1" },
        { "op": "test", "path": "/spec/rules/0/backendRefs/0/name", "value": "a" },
        { "op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 90 },
        { "op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 10 },
        { "op": "add", "path": "/spec/rules/0/backendRefs/-", "value": { "name": "c" } },
    ]));
    let patched = patch_route(&server, shift.clone()).await.unwrap();
    assert_eq!(
        patched["spec"]["rules"][0]["backendRefs"],
        json!([{ "name": "a", "weight": 90 }, { "name": "b", "weight": 10 }, { "name": "c" }])
    );
    assert_eq!(patched["metadata"]["generation"], 2);

    let stale = refusal(patch_route(&server, shift).await);
    assert_eq!((stale.code, stale.reason.as_str()), (422, "Invalid"));
    let out_of_range = operations(json!([{ "op": "remove", "path": "/spec/rules/7" }]));
    assert_eq!(refused(patch_route(&server, out_of_range).await).0, 422);
    assert_eq!(server.get(HTTP_ROUTES, NAMESPACE, "web").unwrap(), patched);
}

#[tokio::test]
async fn a_merge_removes_nulls_and_minds_the_version() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    let api = config_maps(&server);
    let parameters = PatchParams::default();
    let patch = json!({ "data": { "key": null, "other": "b" } });
    let patched = api.patch("one", &parameters, &Patch::Merge(patch)).await.unwrap();
    let expected = [("other".to_owned(), "b".to_owned())];
    assert_eq!(patched.data, Some(expected.into()));

    let stale = json!({ "metadata": { "resourceVersion": "1" }, "data": { "key": "c" } });
    let outcome = api.patch("one", &parameters, &Patch::Merge(stale)).await;
    assert_eq!(refused(outcome), (409, "Conflict".to_owned()));
    let foreign = json!({ "metadata": { "uid": "another" } });
    let outcome = api.patch("one", &parameters, &Patch::Merge(foreign)).await;
    assert_eq!(refused(outcome), (422, "Invalid".to_owned()));
    let strategic = Patch::Strategic(json!({ "data": {} }));
    let outcome = api.patch("one", &parameters, &strategic).await;
    assert_eq!(refused(outcome), (415, "UnsupportedMediaType".to_owned()));
    let absent = Patch::Merge(json!({ "data": {} }));
    assert_eq!(refused(api.patch("two", &parameters, &absent).await).0, 404);
}

#[tokio::test]
async fn an_apply_creates_or_merges() {
    let server = ApiServer::new();
    let api = config_maps(&server);
    let parameters = PatchParams::apply("tests");
    let apply = Patch::Apply(config_map("one", "a"));
    let created = api.patch("one", &parameters, &apply).await.unwrap();
    assert_eq!(created.metadata.resource_version.as_deref(), Some("1"));
    let again = api.patch("one", &parameters, &apply).await.unwrap();
    assert_eq!(again, created);
    let statuses: Vec<_> = server.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(201), Some(200)]);

    let anonymous = api.patch("one", &PatchParams::default(), &apply).await;
    assert_eq!(refused(anonymous), (422, "Invalid".to_owned()));
    let untyped = Patch::Apply(json!({ "data": { "key": "b" } }));
    let outcome = api.patch("one", &parameters, &untyped).await;
    assert_eq!(refused(outcome), (400, "BadRequest".to_owned()));
}
