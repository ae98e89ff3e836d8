//! Recording: the version first, then the decision, and nothing else until that is done.

use super::context::Context;
use super::error::Error;
use super::observe::{self, Found};
use super::rollout::{Rollout, records};
use crate::api::{Canary, CanaryStatus};
use crate::domain::{Revision, State};
use crate::object;
use crate::workload;
use kube::ResourceExt;
use serde_json::Value;

/// Keeps the Canary until its app is handed back.
pub(super) const FINALIZER: &str = "serin.dev/finalizer";

/// Records kept besides those in use, so that a person can look at what ran before.
const SPARE_RECORDS: usize = 3;

/// The Canary with Serin's finalizer, or without it.
pub(super) async fn finalizer(
    context: &Context,
    rollout: &Rollout,
    canary: &Canary,
    present: bool,
) -> Result<Canary, Error> {
    if canary.finalizers().iter().any(|name| name == FINALIZER) == present {
        return Ok(canary.clone());
    }
    let decode = |source| Error::Decode { object: rollout.key.to_string(), source };
    let found = serde_json::to_value(canary).map_err(decode)?;
    let mut finalizers: Vec<_> = canary.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
    if present {
        finalizers.push(FINALIZER.to_owned());
    }
    let mut wanted = found.clone();
    object::set(&mut wanted, &["metadata", "finalizers"], finalizers.into());
    let changed = context.change(&rollout.key, &found, &wanted).await?;
    serde_json::from_value(changed).map_err(decode)
}

/// Makes sure that every version that `state` names is on record, as far as it can still be seen.
pub(super) async fn versions(context: &Context, rollout: &Rollout, state: &State, found: &Found) -> Result<(), Error> {
    let (Some(target), Some(Ok(selector))) = (&found.target, &found.selector) else { return Ok(()) };
    let template = rollout.workload.template(target);
    if let Some(fence) = state.target.as_ref().filter(|fence| fence.hash.0 == object::hash(template)) {
        version(context, rollout, &fence.revision, template, fence.generation).await?;
    }
    // A primary that was there before Serin is the only trace of its version.
    if let (Some(promoted), Some(primary)) = (&state.promoted, &found.primary)
        && observe::primary_revision(rollout, primary, selector) == *promoted
    {
        version(context, rollout, promoted, &rollout.workload.original(primary, selector), 0).await?;
    }
    Ok(())
}

async fn version(
    context: &Context,
    rollout: &Rollout,
    revision: &Revision,
    template: &Value,
    generation: i64,
) -> Result<(), Error> {
    let key = rollout.record(revision);
    if context.cache.get(&key).is_some() {
        return Ok(());
    }
    match context.create(&key, &workload::record(&rollout.app, revision, template, generation)).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Records the decision, if there is anything new in it. A conflict means that nothing was recorded.
pub(super) async fn status(context: &Context, canary: &Canary, status: CanaryStatus) -> Result<Canary, Error> {
    if canary.status.as_ref() == Some(&status) {
        return Ok(canary.clone());
    }
    context.replace_status(&Canary { status: Some(status), ..canary.clone() }).await
}

/// Deletes old records that nothing refers to, oldest first.
pub(super) async fn collect(context: &Context, rollout: &Rollout, state: &State) -> Result<(), Error> {
    let uid = &rollout.uid;
    let in_use: Vec<_> = [state.promoted.as_ref(), state.target.as_ref().map(|target| &target.revision)]
        .into_iter()
        .flatten()
        .map(|revision| rollout.record(revision).name)
        .collect();
    let mut spare = context.cache.list(&records().kind, |object| {
        object.owner_references().iter().any(|owner| owner.uid == *uid) && !in_use.contains(&object.name_any())
    });
    spare.sort_by_key(|record| record["revision"].as_i64());
    let excess = spare.len().saturating_sub(SPARE_RECORDS);
    for record in spare.into_iter().take(excess) {
        let mut key = rollout.key.clone();
        key.resource = records();
        key.name = record["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        context.delete(&key).await?;
    }
    Ok(())
}
