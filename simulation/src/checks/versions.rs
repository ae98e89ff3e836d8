//! S3: what a version is made of, on record and in the primary.

use super::Checks;
use crate::app::{self, text};
use crate::kubelet;
use serde_json::Value;
use serin_testing::ApiServer;

impl Checks {
    pub(super) fn primary_changed(&mut self, after: Option<&Value>) {
        match after {
            None => self.wrong.push("S2: the primary is deleted".to_owned()),
            Some(primary) if app::replicas(primary) == 0 => self.wrong.push("S2: the primary is stopped".to_owned()),
            Some(_) => {}
        }
    }

    /// What a record says is what is promoted, so it is looked up when it is made.
    pub(super) fn version_recorded(&mut self, record: Option<&Value>, server: &ApiServer) {
        let Some(record) = record else { return };
        let name = text(record, "/metadata/name");
        let canary = self.canary.as_deref().map_or("", |canary| text(canary, "/metadata/uid"));
        if text(record, "/metadata/ownerReferences/0/uid") != canary {
            // The garbage collector is about to follow its Canary.
            return;
        }
        let mut template = record["data"]["template"].clone();
        for config in record["data"]["configs"].as_array().into_iter().flatten() {
            let places =
                ["/spec/containers/0/env/0/valueFrom/configMapKeyRef/name", "/spec/volumes/0/secret/secretName"];
            for place in places {
                if let Some(name) = template.pointer_mut(place).filter(|name| **name == config["name"]) {
                    *name = config["copy"].clone();
                }
            }
        }
        let version = kubelet::version(server, &template);
        let revision = name.strip_prefix("web-").unwrap_or(name).to_owned();
        if self.trusted.contains(&revision) {
            self.allowed.insert(version.clone());
        }
        if let Some(known) = self.versions.insert(revision, version.clone())
            && known != version
        {
            self.wrong.push(format!("S3: the record {name} was {known}, and is {version} now"));
        }
    }

    pub(super) fn copy_deleted(&mut self, name: &str) {
        let used = self.primary.as_ref().is_some_and(|primary| primary["spec"]["template"].to_string().contains(name));
        if used {
            self.wrong.push(format!("S3: {name} is deleted, which the primary uses"));
        }
    }
}
