//! Faults, and the record of what was asked.

use std::{collections::BTreeSet, time::Duration};

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use serde_json::json;
use serin_testing::{ApiServer, CONFIG_MAPS, Fault, Verb};
use tokio::time::{Instant, timeout};

use crate::support::{NAMESPACE, canaries, canary, config_map, config_maps, deployments, parse, refused};

#[tokio::test(start_paused = true)]
async fn each_fault_does_what_it_says() {
    let server = ApiServer::new();
    let api = config_maps(&server);
    let faults = [
        Fault::Fail(503, "ServiceUnavailable"),
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Delay(Duration::from_secs(5)),
        Fault::Hang,
    ];
    let mut remaining = faults.into_iter();
    server.set_faults(move |_| remaining.next().unwrap_or(Fault::Pass));
    let create = async |name: &str| {
        let object = parse(config_map(name, "a"));
        api.create(&PostParams::default(), &object).await
    };
    let stored = |name: &str| server.get(CONFIG_MAPS, NAMESPACE, name).is_some();

    assert_eq!(refused(create("refused").await), (503, "ServiceUnavailable".to_owned()));
    assert!(matches!(create("before").await, Err(kube::Error::Service(_))));
    assert!(matches!(create("after").await, Err(kube::Error::Service(_))));
    let started = Instant::now();
    create("late").await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert!(timeout(Duration::from_mins(1), create("never")).await.is_err());
    create("well").await.unwrap();
    let stored: Vec<_> =
        ["refused", "before", "after", "late", "never", "well"].into_iter().filter(|name| stored(name)).collect();
    assert_eq!(stored, ["after", "late", "well"]);

    let statuses: Vec<_> = server.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(503), None, Some(201), Some(201), None, Some(201)]);
}

#[tokio::test(start_paused = true)]
async fn a_process_can_be_stopped_after_a_write() {
    let server = ApiServer::new();
    let mut writes_left = 2;
    server.set_faults(move |request| {
        if writes_left == 0 {
            return Fault::Hang;
        }
        writes_left -= u64::from(request.is_write());
        Fault::Pass
    });
    let api = config_maps(&server);
    let process = async {
        for name in ["one", "two", "three"] {
            let object = parse(config_map(name, "a"));
            api.create(&PostParams::default(), &object).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_mins(1), process).await.is_err());
    server.clear_faults();
    let survivors = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(survivors.items.len(), 2);
}

#[tokio::test]
async fn requests_are_recorded() {
    let server = ApiServer::new();
    let api = config_maps(&server);
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    api.get("one").await.unwrap();
    let patch = json!({ "data": { "key": "b" } });
    let merge = Patch::Merge(&patch);
    api.patch("one", &PatchParams::default(), &merge).await.unwrap();

    assert_eq!(server.requests().len(), 2);
    let writes = server.writes();
    let [write] = writes.as_slice() else {
        panic!("one of the requests is a write");
    };
    assert_eq!((write.ordinal, write.verb, write.status), (2, Verb::Patch, Some(200)));
    assert_eq!((write.group.as_str(), write.target().as_str()), ("", "configmaps"));
    assert_eq!(write.namespace.as_deref(), Some(NAMESPACE));
    assert_eq!(write.name.as_deref(), Some("one"));
    assert_eq!(write.content_type.as_deref(), Some("application/merge-patch+json"));
    assert_eq!(write.body, patch);

    server.clear_log();
    api.get("one").await.unwrap();
    assert_eq!(server.requests()[0].ordinal, 3);
}

#[tokio::test]
async fn the_grants_a_client_needs_are_known() {
    let server = ApiServer::new();
    let api = canaries(&server);
    api.create(&PostParams::default(), &parse(canary("web"))).await.unwrap();
    let status = Patch::Merge(json!({ "status": { "phase": "Initialized" } }));
    api.patch_status("web", &PatchParams::default(), &status).await.unwrap();
    deployments(&server).list(&ListParams::default()).await.unwrap();
    deployments(&server).watch(&WatchParams::default(), "0").await.map(drop).unwrap();
    let apply = Patch::Apply(config_map("one", "a"));
    config_maps(&server).patch("one", &PatchParams::apply("tests"), &apply).await.unwrap();
    config_maps(&server).delete("one", &DeleteParams::default()).await.unwrap();

    let expected = [
        ("", "configmaps", "create"),
        ("", "configmaps", "delete"),
        ("", "configmaps", "patch"),
        ("apps", "deployments", "list"),
        ("apps", "deployments", "watch"),
        ("serin.dev", "canaries", "create"),
        ("serin.dev", "canaries/status", "patch"),
    ];
    let expected: BTreeSet<_> =
        expected.map(|(group, target, verb)| (group.to_owned(), target.to_owned(), verb.to_owned())).into();
    assert_eq!(server.verbs_used(), expected);
}
