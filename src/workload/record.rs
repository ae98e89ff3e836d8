//! A version on record: a ControllerRevision that the Canary owns, holding the pod template, and the checksums and copies
//! of the configs that it uses.

use super::App;
use super::configs::{self, Config, Kind};
use crate::domain::Revision;
use crate::object;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The label that finds all records of a Canary, and all copies of configs.
pub const CANARY: &str = "serin.dev/canary";

/// The name of a version's record.
#[must_use]
pub fn name(app: &App, revision: &Revision) -> String {
    format!("{}-{revision}", app.canary)
}

/// The label of a Canary's records; long names, which labels cannot hold, are cut.
#[must_use]
pub fn label(app: &App) -> (&'static str, &str) {
    (CANARY, app.canary.get(..63).unwrap_or(&app.canary))
}

/// A config of a recorded version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The config.
    pub config: Config,
    /// The checksum of what it held.
    pub checksum: String,
    /// The name of its copy.
    pub copy: String,
}

/// The record of a version, in the order in which versions came.
#[must_use]
pub fn record(
    app: &App,
    revision: &Revision,
    template: &Value,
    configs: &BTreeMap<Config, String>,
    generation: i64,
) -> Value {
    let (key, value) = label(app);
    let mut record = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name(app, revision),
            "namespace": app.namespace,
            "labels": {"app.kubernetes.io/managed-by": "serin", key: value},
            "ownerReferences": [app.owner],
        },
        "revision": generation,
        "data": {"template": template},
    });
    object::leave_alone(&mut record);
    if !configs.is_empty() {
        let entry = |(config, checksum): (&Config, &String)| {
            let copy = configs::copy_name(app, config, checksum);
            json!({"kind": config.kind.as_str(), "name": config.name, "checksum": checksum, "copy": copy})
        };
        record["data"]["configs"] = configs.iter().map(entry).collect();
    }
    record
}

/// The pod template that a record holds, as the primary is to have it: with the copies of the configs.
#[must_use]
pub fn template(record: &Value) -> Option<Value> {
    let template = record.get("data")?.get("template")?;
    let recorded = configs(record);
    let copy = |config: &Config| {
        recorded.iter().find(|recorded| recorded.config == *config).map(|recorded| recorded.copy.clone())
    };
    Some(configs::renamed(template, copy))
}

/// The configs that a record holds.
#[must_use]
pub fn configs(record: &Value) -> Vec<Recorded> {
    let read = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().map(str::to_owned);
        let config = Config { kind: Kind::named(entry["kind"].as_str()?)?, name: text("name")? };
        Some(Recorded { config, checksum: text("checksum")?, copy: text("copy")? })
    };
    let entries = record.pointer("/data/configs").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(read).collect()
}
