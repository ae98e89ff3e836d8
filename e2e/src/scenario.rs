//! A scenario: a namespace of its own, everything worth knowing when it fails, and nothing left when it ends.

use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use kube::Client;
use serde_json::Value;

use crate::app::{App, Split};
use crate::cables::Operator;
use crate::environment;
use crate::load::Gateway;
use crate::objects::{Kind, Objects};
use crate::wait::{once, wait_for};

/// So much of Serin's log is shown when a scenario fails.
const LOG_LINES: i64 = 60;
/// Serin lets go of a Canary at once; much later than that it has forgotten its finalizer.
const RELEASE_LIMIT: Duration = Duration::from_mins(1);

/// A namespace on the cluster, and the gateway in front of it.
pub struct Scenario {
    objects: Objects,
    gateway: Gateway,
}

/// Runs a scenario in a namespace of its own, which goes afterwards unless `E2E_KEEP` is set.
///
/// # Errors
/// When the scenario fails; what can be known about it has been printed by then.
///
/// # Panics
/// When the scenario does.
pub async fn scenario(name: &str, body: impl AsyncFnOnce(&Scenario) -> Result<()>) -> Result<()> {
    let scenario = Scenario::create(name).await?;
    let started = Instant::now();
    println!("{name} in namespace {}", scenario.namespace());
    let outcome = AssertUnwindSafe(body(&scenario)).catch_unwind().await;
    if matches!(outcome, Ok(Ok(()))) {
        println!("{name} passed after {:.1} s", started.elapsed().as_secs_f64());
    } else {
        println!("{name} failed after {:.1} s", started.elapsed().as_secs_f64());
        scenario.explain().await;
    }
    let removed = scenario.remove().await;
    match outcome {
        Ok(result) => result.and(removed),
        Err(panic) => resume_unwind(panic),
    }
}

impl Scenario {
    /// # Errors
    /// When there is no cluster.
    pub async fn create(name: &str) -> Result<Self> {
        let client = Client::try_default().await.context("no cluster: run `source e2e/cluster/env.sh` first")?;
        let objects = Objects::new(client, &format!("e2e-{name}-{}", short_id()));
        let gateway = environment::gateway()?;
        objects.create_namespace().await.context("is the cluster up?")?;
        Ok(Self { objects, gateway })
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        self.objects.namespace()
    }

    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The app that most scenarios have only one of.
    #[must_use]
    pub fn app(&self) -> App {
        App::new(&self.objects, &self.gateway, "app", &format!("{}.demo", self.namespace()))
    }

    /// An app with another name and another host name.
    #[must_use]
    pub fn app_named(&self, name: &str) -> App {
        App::new(&self.objects, &self.gateway, name, &format!("{name}.{}.demo", self.namespace()))
    }

    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator::new(self.objects.client())
    }

    /// Deletes the namespace, and waits until Serin has let go of what is in it.
    ///
    /// # Errors
    /// When a Canary is held back by its finalizer.
    pub async fn remove(&self) -> Result<()> {
        if environment::keeps_namespaces() {
            println!("namespace {} stays, as E2E_KEEP says", self.namespace());
            return Ok(());
        }
        self.objects.delete_namespace().await?;
        let released = async || Ok(once(self.objects.list(Kind::Canary, "").await?.is_empty()));
        wait_for("Serin lets go of the Canaries of the namespace", RELEASE_LIMIT, released).await
    }

    /// Prints what is known about the namespace and about Serin; what cannot be read is said and left out.
    pub async fn explain(&self) {
        println!("---- namespace {} at {}", self.namespace(), jiff::Timestamp::now());
        for (kind, show) in
            [(Kind::Canary, canary as fn(&Value) -> String), (Kind::HttpRoute, route), (Kind::Deployment, deployment)]
        {
            self.show(kind, show).await;
        }
        self.show(Kind::DaemonSet, daemon_set).await;
        self.show(Kind::Pod, pod).await;
        self.show(Kind::Event, event).await;
        println!("---- the last {LOG_LINES} lines of Serin's log");
        match self.operator().logs(LOG_LINES).await {
            Ok(logs) => println!("{logs}"),
            Err(error) => println!("cannot be read: {error:#}"),
        }
        println!("----");
    }

    async fn show(&self, kind: Kind, show: fn(&Value) -> String) {
        match self.objects.list(kind, "").await {
            Ok(objects) => {
                let mut lines: Vec<_> = objects.iter().map(show).collect();
                lines.sort();
                for line in lines {
                    println!("{kind:?} {line}");
                }
            }
            Err(error) => println!("{kind:?}: {error:#}"),
        }
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("without a name")
}

fn canary(object: &Value) -> String {
    format!("{} status: {:#}", name(object), object["status"])
}

fn route(object: &Value) -> String {
    let name = name(object);
    match Split::of(object, name) {
        Some(split) => format!("{name}: {split:?}, status {}", object["status"]),
        None => format!("{name}: {}, status {}", object["spec"]["rules"], object["status"]),
    }
}

fn deployment(object: &Value) -> String {
    let (spec, status) = (&object["spec"], &object["status"]);
    let (wants, has, ready) = (&spec["replicas"], &status["replicas"], &status["readyReplicas"]);
    format!("{}: wants {wants}, has {has}, ready {ready}", name(object))
}

fn daemon_set(object: &Value) -> String {
    format!("{}: {}, {}", name(object), object["spec"]["template"]["spec"]["nodeSelector"], object["status"])
}

fn pod(object: &Value) -> String {
    let state = &object["status"]["containerStatuses"][0];
    format!("{}: {}, ready {}, {}", name(object), object["status"]["phase"], state["ready"], state["state"])
}

fn event(object: &Value) -> String {
    let time = object["eventTime"].as_str().or(object["deprecatedLastTimestamp"].as_str()).unwrap_or_default();
    let regarding = &object["regarding"];
    format!("{time} {} {}: {}, {}", regarding["kind"], regarding["name"], object["reason"], object["note"])
}

/// Five letters and digits that no other run has: the standard library seeds its hash maps at random.
fn short_id() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = RandomState::new().hash_one(std::process::id());
    let mut id = String::new();
    for _ in 0..5 {
        id.push(char::from(ALPHABET[usize::try_from(random % 32).unwrap_or_default()]));
        random /= 32;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_valid_and_different() {
        let ids: std::collections::BTreeSet<_> = (0..100).map(|_| short_id()).collect();
        assert!(ids.len() > 95, "{ids:?}");
        assert!(ids.iter().all(|id| id.len() == 5 && id.chars().all(|letter| letter.is_ascii_alphanumeric())));
    }
}
