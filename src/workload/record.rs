//! A version on record: a ControllerRevision that the Canary owns, holding the pod template.

use super::App;
use crate::domain::Revision;
use crate::object;
use serde_json::{Value, json};

/// The label that finds all records of a Canary.
const CANARY: &str = "serin.dev/canary";

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

/// The record of a version, in the order in which versions came.
#[must_use]
pub fn record(app: &App, revision: &Revision, template: &Value, generation: i64) -> Value {
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
    record
}

/// The pod template that a record holds.
#[must_use]
pub fn template(record: &Value) -> Option<&Value> {
    record.get("data")?.get("template")
}
