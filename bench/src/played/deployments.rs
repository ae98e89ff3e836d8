//! The Deployment controller: pods that are ready some time after they are asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::TryStreamExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, Object};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Client, ResourceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::board::{self, Board, Pods, Role};

/// How many writes of one player are on their way at a time: no more than the real ones have.
pub(super) const WRITES: usize = 16;

/// Pods are gone sooner than they come.
const STOP: Duration = Duration::from_millis(50);

/// What is read of a Deployment; the rest is not even parsed.
type Deployment = Object<Spec, Status>;

#[derive(Clone, Debug, Deserialize)]
struct Spec {
    replicas: Option<u32>,
    template: Template,
}

#[derive(Clone, Debug, Deserialize)]
struct Template {
    spec: PodSpec,
}

#[derive(Clone, Debug, Deserialize)]
struct PodSpec {
    containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    observed_generation: i64,
    #[serde(default)]
    replicas: u32,
}

/// Plays until it is dropped. Pods are ready `start` after they are asked for.
///
/// # Errors
/// Never by itself: what fails is tried again when the watch is begun again.
pub async fn play(client: Client, board: Arc<Board>, start: Duration) -> Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
    let api: Api<Deployment> = Api::all_with(client.clone(), &resource);
    let asked = Mutex::default();
    let player = Arc::new(Player { client, resource, board, start, asked, writes: Semaphore::new(WRITES) });
    let mut events = std::pin::pin!(watch(api, watcher::Config::default()).default_backoff());
    loop {
        // The watch tells of an error and then begins again by itself.
        let Ok(Some(event)) = events.try_next().await else { continue };
        match event {
            Event::Apply(deployment) | Event::InitApply(deployment) => {
                player.see(&deployment);
                let observed = deployment.status.as_ref().map_or(0, |status| status.observed_generation);
                if observed < generation(&deployment)
                    && player.asked().insert(uid(&deployment), deployment.clone()).is_none()
                {
                    tokio::spawn(Arc::clone(&player).settle(uid(&deployment)));
                }
            }
            Event::Delete(deployment) => {
                player.asked().remove(&uid(&deployment));
            }
            Event::Init | Event::InitDone => {}
        }
    }
}

struct Player {
    client: Client,
    resource: ApiResource,
    board: Arc<Board>,
    start: Duration,
    /// What each Deployment asks for that is not as asked yet, by its UID. One task looks after each: writes of two could
    /// overtake each other, and the status would stay at what was asked for before.
    asked: Mutex<HashMap<String, Deployment>>,
    writes: Semaphore,
}

impl Player {
    fn see(&self, deployment: &Deployment) {
        if let Some((index, role)) = board::deployment(&deployment.name_any()) {
            let pods = Pods {
                wanted: Some(wanted(deployment)),
                total: deployment.status.as_ref().map_or(0, |status| status.replicas),
                image: image(deployment).to_owned(),
            };
            self.board.deployment(index, role, pods, Instant::now());
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Deployment>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a Deployment asks for until nothing is left to do.
    async fn settle(self: Arc<Self>, uid: String) {
        loop {
            let Some(deployment) = self.asked().get(&uid).cloned() else { return };
            let wanted = wanted(&deployment);
            sleep(if wanted == 0 { STOP } else { self.start }).await;
            let is_told = self.tell(&deployment, wanted).await.is_ok();
            let mut asked = self.asked();
            if is_told && asked.get(&uid).is_none_or(|newest| generation(newest) == generation(&deployment)) {
                asked.remove(&uid);
                return;
            }
        }
    }

    /// Says in the status that all is as asked. Of one that is gone there is nothing to say.
    async fn tell(&self, deployment: &Deployment, wanted: u32) -> kube::Result<()> {
        // It is never closed.
        let _permit = self.writes.acquire().await;
        let (name, namespace) = (deployment.name_any(), deployment.namespace().unwrap_or_default());
        let api: Api<Deployment> = Api::namespaced_with(self.client.clone(), &namespace, &self.resource);
        let patch = Patch::Merge(status(generation(deployment), wanted));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            other => other?,
        };
        if let Some((index, Role::Target)) = board::deployment(&name).filter(|_| wanted > 0) {
            self.board.ready(index);
        }
        Ok(())
    }
}

fn generation(deployment: &Deployment) -> i64 {
    deployment.metadata.generation.unwrap_or_default()
}

fn uid(deployment: &Deployment) -> String {
    deployment.metadata.uid.clone().unwrap_or_default()
}

fn wanted(deployment: &Deployment) -> u32 {
    deployment.spec.replicas.unwrap_or(1)
}

fn image(deployment: &Deployment) -> &str {
    deployment.spec.template.spec.containers.first().map_or("", |container| &container.image)
}

/// All pods are ready. Counts of zero are left out, as by the real one.
fn status(generation: i64, pods: u32) -> Value {
    let count = (pods > 0).then_some(pods);
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "All pods are there."});
    json!({"status": {
        "observedGeneration": generation,
        "replicas": count,
        "updatedReplicas": count,
        "readyReplicas": count,
        "availableReplicas": count,
        "conditions": [
            condition("Available", "MinimumReplicasAvailable"),
            condition("Progressing", "NewReplicaSetAvailable"),
        ],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_a_deployment_is_enough() {
        let deployment: Deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "app00001", "generation": 3},
            "spec": {"template": {"metadata": {}, "spec": {"containers": [{"name": "main", "image": "app:1"}]}}},
            "status": {},
        }))
        .unwrap();
        assert_eq!((wanted(&deployment), image(&deployment)), (1, "app:1"));
        assert_eq!(deployment.status.unwrap().observed_generation, 0);
    }

    #[test]
    fn without_pods_no_count_is_left() {
        let status = status(4, 0);
        assert_eq!(status["status"]["observedGeneration"], 4);
        assert!(status["status"]["readyReplicas"].is_null());
    }
}
