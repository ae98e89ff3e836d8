//! The Deployment controller and the kubelet: pods that come one after the other, some of them never.
//!
//! Invariant: a rolling update never makes fewer pods available than three quarters of what is wanted, as by default.

use crate::app::{self, NAMESPACE, PRIMARY, Quality, SETTINGS, TOKEN, Version};
use serde_json::{Map, Value, json};
use serin_testing::{ApiServer, CONFIG_MAPS, DEPLOYMENTS, SECRETS};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A pod.
pub(crate) struct Pod {
    pub(crate) number: u64,
    pub(crate) version: Version,
    pub(crate) ready: bool,
    /// It has been ready.
    served: bool,
    template: u64,
}

/// All pods, by Deployment.
#[derive(Default)]
pub(crate) struct Kubelet {
    pods: BTreeMap<String, Vec<Pod>>,
    made: u64,
}

impl Kubelet {
    /// Makes and removes pods as a Deployment asks for, and writes its status; answers with the pods that began.
    pub(crate) fn sync(&mut self, server: &ApiServer, name: &str) -> Vec<(u64, Version)> {
        let Some(deployment) = server.look_at(DEPLOYMENTS, NAMESPACE, name) else {
            self.pods.remove(name);
            return vec![];
        };
        let pods = self.pods.entry(name.to_owned()).or_default();
        let template = hash(&deployment["spec"]["template"]);
        let wanted = usize::try_from(app::replicas(&deployment)).unwrap_or_default();
        roll(pods, template, wanted);
        let mut begun = vec![];
        while begins(pods, template, wanted) {
            self.made += 1;
            let version = version(server, &deployment["spec"]["template"]);
            begun.push((self.made, version.clone()));
            pods.push(Pod { number: self.made, version, ready: false, served: false, template });
        }
        let status = status(pods, template, &deployment);
        if deployment["status"] != status {
            // It was there a moment ago, and nobody else is here.
            let _ = server.update(DEPLOYMENTS, NAMESPACE, name, |deployment| deployment["status"] = status.clone());
        }
        begun
    }

    pub(crate) fn pods(&self, name: &str) -> &[Pod] {
        self.pods.get(name).map_or(&[], Vec::as_slice)
    }

    /// Changes whether a pod is ready; says whether it is there.
    pub(crate) fn set_ready(&mut self, name: &str, number: u64, ready: bool) -> bool {
        let pods = self.pods.get_mut(name).into_iter().flatten();
        let Some(pod) = pods.into_iter().find(|pod| pod.number == number) else { return false };
        pod.ready = ready;
        pod.served |= ready;
        true
    }

    /// The versions of the pods that Prometheus can say anything of, also of one that has crashed this moment.
    pub(crate) fn measured(&self, name: &str) -> BTreeSet<Version> {
        self.pods(name).iter().filter(|pod| pod.served).map(|pod| pod.version.clone()).collect()
    }

    /// The versions of the pods that can take requests.
    pub(crate) fn ready(&self, name: &str) -> BTreeSet<Version> {
        self.pods(name).iter().filter(|pod| pod.ready).map(|pod| pod.version.clone()).collect()
    }
}

/// Whether a pod of a version ever becomes ready.
pub(crate) fn starts(deployment: &str, version: &Version) -> bool {
    let missing = version.settings == MISSING || version.token == MISSING;
    match Quality::of(&version.image) {
        Quality::Good | Quality::Bad => !missing,
        Quality::Broken => false,
        Quality::Stuck => deployment != PRIMARY && !missing,
    }
}

/// What a config that is not there holds.
const MISSING: &str = "nothing";

/// What pods of a template are made of, now.
pub(crate) fn version(server: &ApiServer, template: &Value) -> Version {
    let held = |kind, name: &str, missing: &str| match name {
        "" => String::new(),
        name => server
            .look_at(kind, NAMESPACE, name)
            .map_or(missing.to_owned(), |config| app::text(&config, "/data/value").to_owned()),
    };
    let settings = app::text(template, "/spec/containers/0/env/0/valueFrom/configMapKeyRef/name");
    let token = app::text(template, "/spec/volumes/0/secret/secretName");
    Version {
        image: app::text(template, "/spec/containers/0/image").to_owned(),
        restarted: app::text(template, "/metadata/annotations/restarted").to_owned(),
        settings: held(CONFIG_MAPS, settings, MISSING),
        token: held(SECRETS, token, MISSING),
    }
}

/// The configs that a template refers to.
pub(crate) fn uses(template: &Value, config: &str) -> bool {
    [SETTINGS, TOKEN].contains(&config)
        && (app::text(template, "/spec/containers/0/env/0/valueFrom/configMapKeyRef/name") == config
            || app::text(template, "/spec/volumes/0/secret/secretName") == config)
}

/// Removes the pods that may go.
fn roll(pods: &mut Vec<Pod>, template: u64, wanted: usize) {
    let mut excess = pods.iter().filter(|pod| pod.template == template).count().saturating_sub(wanted);
    for ready in [false, true] {
        pods.retain(|pod| {
            let goes = excess > 0 && pod.template == template && pod.ready == ready;
            excess -= usize::from(goes);
            !goes
        });
    }
    if wanted == 0 {
        pods.clear();
    }
    let least = wanted - wanted / 4;
    let mut available = pods.iter().filter(|pod| pod.ready).count();
    pods.retain(|pod| {
        let goes = pod.template != template && (!pod.ready || available > least);
        available -= usize::from(goes && pod.ready);
        !goes
    });
}

/// Whether one more pod may begin.
fn begins(pods: &[Pod], template: u64, wanted: usize) -> bool {
    let new = pods.iter().filter(|pod| pod.template == template).count();
    new < wanted && (pods.len() == new || pods.len() < wanted + wanted.div_ceil(4))
}

fn status(pods: &[Pod], template: u64, deployment: &Value) -> Value {
    let ready = pods.iter().filter(|pod| pod.ready).count();
    let updated = pods.iter().filter(|pod| pod.template == template).count();
    let counts = [
        ("replicas", pods.len()),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", pods.len() - ready),
    ];
    // Zeros are left out, as by the real one.
    let counts =
        counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), json!(count)));
    let mut status: Map<_, _> = counts.collect();
    status.insert("observedGeneration".to_owned(), deployment["metadata"]["generation"].clone());
    status.into()
}

fn hash(template: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    hasher.finish()
}
