//! ConfigMaps and Secrets as part of a version: which ones a pod template uses, what is in them, and the copies that the
//! primary uses in their place.
//!
//! Invariant: a copy is named by its content and never changes, so pod template and configs switch together, forth and
//! back. Nothing here shows what a Secret holds but its copy.

mod copies;
mod places;
#[cfg(test)]
mod tests;

pub use copies::{copy, copy_name};
pub use places::{references, renamed};

use crate::domain::{Configs, Revision};
use crate::object;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// The annotations by which somebody keeps a ConfigMap or Secret out of the version: Serin's, and that of Flagger.
pub const TRACKING: [&str; 2] = ["serin.dev/config-tracking", "flagger.app/config-tracking"];

/// Stands for the checksum of an optional config that is not there.
pub const ABSENT: &str = "absent";

/// The types of Secrets that an app's own configuration has. Others, such as tokens of service accounts, are made and
/// renewed by the cluster, and stay shared.
const SECRET_TYPES: [&str; 4] = ["Opaque", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth", "kubernetes.io/tls"];

/// What holds configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Everybody may read it who may read the app.
    ConfigMap,
    /// Its content must not be seen.
    Secret,
}

/// A ConfigMap or a Secret of the Canary's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Config {
    /// Which of the two.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// What is known of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The checksum of what it holds.
    Is(String),
    /// It is not part of the version: everybody uses the same one.
    Shared,
    /// There is none.
    Missing,
    /// It is there, but what it holds is not known now.
    Unread,
}

/// What a target would be rolled out as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its name.
    pub revision: Revision,
    /// The hash of the pod template alone.
    pub template: Revision,
    /// The configs that are part of it, and the checksum of each; [`ABSENT`] for an optional one that is not there.
    pub configs: BTreeMap<Config, String>,
    /// What it needs to be a version, as a sentence.
    pub incomplete: Option<String>,
}

/// The version that a pod template makes with the configs as `content` knows them.
///
/// Without configs its name is the hash of the template alone.
#[must_use]
pub fn version(template: &Value, content: impl Fn(&Config) -> Content) -> Version {
    let mut configs = BTreeMap::new();
    let (mut missing, mut unread) = (vec![], vec![]);
    for (config, optional) in references(template) {
        match content(&config) {
            Content::Is(checksum) => drop(configs.insert(config, checksum)),
            Content::Missing if optional => drop(configs.insert(config, ABSENT.to_owned())),
            Content::Missing => missing.push(config.title()),
            Content::Unread => unread.push(config.title()),
            Content::Shared => {}
        }
    }
    let hash = object::hash(template);
    let named = || json!({"template": template, "configs": checksums(&configs).0});
    Version {
        revision: Revision(if configs.is_empty() { hash.clone() } else { object::hash(&named()) }),
        template: Revision(hash),
        incomplete: sentence(&missing, &unread),
        configs,
    }
}

impl Version {
    /// Its configs, in the core's words.
    #[must_use]
    pub fn configs(&self) -> Configs {
        checksums(&self.configs)
    }
}

/// The checksum of what a config holds; `None` when it is of a kind that is not part of any version.
#[must_use]
pub fn checksum(kind: Kind, config: &Value) -> Option<String> {
    let part = |field: &str| config.get(field).filter(|part| part.as_object().is_some_and(|part| !part.is_empty()));
    match kind {
        Kind::ConfigMap => Some(object::checksum(&json!({"data": part("data"), "binaryData": part("binaryData")}))),
        Kind::Secret => {
            let kind = config["type"].as_str().unwrap_or("Opaque");
            SECRET_TYPES.contains(&kind).then(|| object::checksum(&json!({"type": kind, "data": part("data")})))
        }
    }
}

impl Config {
    /// A ConfigMap's.
    #[must_use]
    pub fn map(name: &str) -> Self {
        Self { kind: Kind::ConfigMap, name: name.to_owned() }
    }

    /// A Secret's.
    #[must_use]
    pub fn secret(name: &str) -> Self {
        Self { kind: Kind::Secret, name: name.to_owned() }
    }

    /// As sentences name it.
    fn title(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name)
    }
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ConfigMap, Self::Secret];

    /// As Kubernetes names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The kind of objects that Kubernetes names so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// As the status has it: `configmap/<name>`, `secret/<name>`.
impl fmt::Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.as_str().to_lowercase(), self.name)
    }
}

fn checksums(configs: &BTreeMap<Config, String>) -> Configs {
    Configs(configs.iter().map(|(config, checksum)| (config.to_string(), checksum.clone())).collect())
}

fn sentence(missing: &[String], unread: &[String]) -> Option<String> {
    let missing = match missing {
        [] => None,
        [one] => Some(format!(
            "{one}, which the pod template needs, does not exist; create it, or mark the reference as optional"
        )),
        many => Some(format!(
            "{}, which the pod template needs, do not exist; create them, or mark the references as optional",
            many.join(" and ")
        )),
    };
    let unread = (!unread.is_empty()).then(|| format!("{} could not be read yet", unread.join(" and ")));
    let sentences: Vec<_> = [missing, unread].into_iter().flatten().collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}
