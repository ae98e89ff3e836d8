//! Orders that somebody gives by an annotation on the Canary: what is written, by whom, and its removal once it is on
//! record that it was taken.

use super::commit;
use super::context::Context;
use super::error::Error;
use super::lanes::Lane;
use super::rollout::Rollout;
use crate::api::Canary;
use crate::domain::{Command, State};
use crate::object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::ResourceExt;
use serde_json::{Value, json};

/// The annotation.
const COMMAND: &str = "serin.dev/command";

/// The order that is found on a Canary, and the field manager that wrote it.
pub(super) fn found(canary: &Canary) -> Option<Command> {
    let written = canary.annotations().get(COMMAND)?.trim().to_owned();
    let wrote = canary.managed_fields().iter().filter(|entry| has_written(entry));
    let last = wrote.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    let by = last.and_then(|entry| entry.manager.clone()).unwrap_or_else(|| "somebody".to_owned());
    Some(Command { written, by })
}

/// Drops what managers did besides giving orders, before an object is cached.
pub(super) fn slim_managers(managers: &mut Vec<ManagedFieldsEntry>) {
    managers.retain(has_written);
    for entry in managers {
        entry.fields_v1 = Some(FieldsV1(json!({"f:metadata": {"f:annotations": {format!("f:{COMMAND}"): {}}}})));
    }
}

fn has_written(entry: &ManagedFieldsEntry) -> bool {
    let annotation = format!("f:{COMMAND}");
    let fields = entry.fields_v1.as_ref().map(|FieldsV1(fields)| fields);
    fields.is_some_and(|fields| object::get(fields, &["f:metadata", "f:annotations", &annotation]).is_some())
}

/// Removes an order that was taken, unless somebody has written another one since. That fails, or the process dies before:
/// the next pass finds that it was taken, and removes it.
pub(super) async fn clear(context: &Context, rollout: &Rollout, canary: &Canary, state: &State) -> Result<(), Error> {
    let (Some(command), Some(taken)) = (found(canary), state.command.as_deref()) else { return Ok(()) };
    if !command.written.starts_with(taken) {
        return Ok(());
    }
    let found = commit::as_object(rollout, canary)?;
    let mut wanted = found.clone();
    if let Some(annotations) = wanted["metadata"]["annotations"].as_object_mut() {
        annotations.remove(COMMAND);
    }
    context.change(Lane::Work, &rollout.key, &found, &wanted).await.map(|_: Value| ())
}
