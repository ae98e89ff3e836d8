//! Watches, raw and through `kube::runtime::watcher`.

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    api::{WatchEvent, WatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::json;
use serin_testing::{ApiServer, CONFIG_MAPS, Verb};

use crate::support::{NAMESPACE, config_map, config_maps};

/// What happened, in a form that is easy to compare.
async fn next(events: &mut (impl Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin)) -> String {
    let name = |object: ConfigMap| object.metadata.name.unwrap();
    match events.next().await.expect("a watcher never ends") {
        Ok(Event::Init) => "init".to_owned(),
        Ok(Event::InitApply(object)) => format!("init {}", name(object)),
        Ok(Event::InitDone) => "done".to_owned(),
        Ok(Event::Apply(object)) => format!("apply {}", name(object)),
        Ok(Event::Delete(object)) => format!("delete {}", name(object)),
        Err(watcher::Error::WatchError(status)) => format!("error {}", status.code),
        Err(error) => panic!("{error}"),
    }
}

fn opened(server: &ApiServer, verb: Verb) -> usize {
    let requests = server.requests();
    requests.iter().filter(|request| request.verb == verb).count()
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_what_there_is_and_what_comes() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    let mut events = pin!(watcher(config_maps(&server), watcher::Config::default()));
    for expected in ["init", "init one", "done"] {
        assert_eq!(next(&mut events).await, expected);
    }
    server.put(CONFIG_MAPS, config_map("two", "a")).unwrap();
    server.put(CONFIG_MAPS, config_map("two", "a")).unwrap();
    server.put(CONFIG_MAPS, config_map("one", "b")).unwrap();
    server.delete(CONFIG_MAPS, NAMESPACE, "two").unwrap();
    for expected in ["apply two", "apply one", "delete two"] {
        assert_eq!(next(&mut events).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_watch_is_resumed_where_it_was() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    let mut events = pin!(watcher(config_maps(&server), watcher::Config::default()));
    for _ in 0..3 {
        next(&mut events).await;
    }
    server.put(CONFIG_MAPS, config_map("two", "a")).unwrap();
    assert_eq!(next(&mut events).await, "apply two");
    server.put(CONFIG_MAPS, config_map("three", "a")).unwrap();
    server.close_watches();
    server.put(CONFIG_MAPS, config_map("four", "a")).unwrap();
    assert_eq!(next(&mut events).await, "apply three");
    assert_eq!(next(&mut events).await, "apply four");
    assert_eq!((opened(&server, Verb::List), opened(&server, Verb::Watch)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_compaction_is_gone() {
    let server = ApiServer::new();
    let mut events = pin!(watcher(config_maps(&server), watcher::Config::default()));
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    for expected in ["init", "init one", "done"] {
        assert_eq!(next(&mut events).await, expected);
    }
    server.put(CONFIG_MAPS, config_map("two", "a")).unwrap();
    server.compact(server.revision());
    for expected in ["error 410", "init", "init one", "init two", "done"] {
        assert_eq!(next(&mut events).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_needs_no_list() {
    let server = ApiServer::new();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    let config = watcher::Config::default().streaming_lists();
    let mut events = pin!(watcher(config_maps(&server), config));
    for expected in ["init", "init one", "done"] {
        assert_eq!(next(&mut events).await, expected);
    }
    server.put(CONFIG_MAPS, config_map("two", "a")).unwrap();
    assert_eq!(next(&mut events).await, "apply two");
    assert_eq!(opened(&server, Verb::List), 0);
}

#[tokio::test(start_paused = true)]
async fn leaving_the_selection_is_a_deletion() {
    let server = ApiServer::new();
    let parameters = WatchParams::default().labels("app=web");
    let api = config_maps(&server);
    let mut events = api.watch(&parameters, "0").await.unwrap().boxed();
    server.put(CONFIG_MAPS, config_map("one", "a")).unwrap();
    for label in ["web", "web2"] {
        let patch = json!({ "metadata": { "labels": { "app": label } } });
        server.patch(CONFIG_MAPS, NAMESPACE, "one", &patch).unwrap();
    }
    let WatchEvent::Added(added) = events.try_next().await.unwrap().unwrap() else {
        panic!("entering the selection is an addition");
    };
    assert_eq!(added.metadata.resource_version.as_deref(), Some("2"));
    let WatchEvent::Deleted(deleted) = events.try_next().await.unwrap().unwrap() else {
        panic!("leaving the selection is a deletion");
    };
    assert_eq!(deleted.metadata.resource_version.as_deref(), Some("3"));
    assert_eq!(deleted.metadata.labels.unwrap()["app"], "web");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_its_time_is_up() {
    let server = ApiServer::new();
    let started = tokio::time::Instant::now();
    let parameters = WatchParams::default().timeout(60);
    let events = config_maps(&server).watch(&parameters, "0").await.unwrap();
    assert_eq!(events.try_collect::<Vec<_>>().await.unwrap().len(), 0);
    assert_eq!(started.elapsed(), Duration::from_mins(1));
}
