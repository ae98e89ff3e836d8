//! Recording: the version first, then the decision, and nothing else until that is done.

use super::cache::Key;
use super::configs;
use super::context::Context;
use super::error::Error;
use super::lanes::Lane;
use super::observe::{self, Found};
use super::rollout::{Rollout, records};
use super::verify::still_newest;
use crate::api::{Canary, CanaryStatus};
use crate::domain::{Revision, State, Target};
use crate::object;
use crate::workload;
use crate::workload::configs::Config;
use kube::ResourceExt;
use serde_json::Value;
use std::collections::BTreeMap;

/// Keeps the Canary until its app is handed back.
pub(super) const FINALIZER: &str = "serin.dev/finalizer";

/// Records kept besides those in use, so that a person can look at what ran before.
const SPARE_RECORDS: usize = 3;

/// Whether Serin's finalizer is there.
pub(super) fn is_held(canary: &Canary) -> bool {
    canary.finalizers().iter().any(|name| name == FINALIZER)
}

/// Puts Serin's finalizer to the Canary, or takes it away; answers with the Canary if it was another one.
pub(super) async fn finalizer(
    context: &Context,
    rollout: &Rollout,
    canary: &Canary,
    present: bool,
) -> Result<Option<Box<Canary>>, Error> {
    if is_held(canary) == present {
        return Ok(None);
    }
    let found = as_object(rollout, canary)?;
    let mut finalizers: Vec<_> = canary.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
    if present {
        finalizers.push(FINALIZER.to_owned());
    }
    let mut wanted = found.clone();
    object::set(&mut wanted, &["metadata", "finalizers"], finalizers.into());
    let changed = context.change(Lane::Work, &rollout.key, &found, &wanted).await?;
    serde_json::from_value(changed)
        .map(Some)
        .map_err(|source| Error::Decode { object: rollout.key.to_string(), source })
}

/// The Canary as an object like any other.
pub(super) fn as_object(rollout: &Rollout, canary: &Canary) -> Result<Value, Error> {
    serde_json::to_value(canary).map_err(|source| Error::Decode { object: rollout.key.to_string(), source })
}

/// Makes sure that every version that `state` names is on record, as far as it can still be seen.
pub(super) async fn versions(context: &Context, rollout: &Rollout, state: &State, found: &Found) -> Result<(), Error> {
    let (Some(target), Some(seen), Some(Ok(selector))) = (&found.target, &found.version, &found.selector) else {
        return Ok(());
    };
    let is_seen =
        |fence: &&Target| fence.hash == seen.template && fence.configs == seen.configs() && seen.incomplete.is_none();
    if let Some(fence) = state.target.as_ref().filter(is_seen) {
        let template = rollout.workload.template(target);
        version(context, rollout, &fence.revision, &template, &seen.configs, fence.generation).await?;
    }
    // A primary that was there before is the only trace of its version; what somebody made of it since is another one.
    if let (Some(promoted), Some(primary)) = (&state.promoted, &found.primary)
        && rollout.recorded(context, promoted).is_none()
    {
        let original = rollout.workload.original(primary, selector);
        if observe::made_of(&original) == *promoted {
            version(context, rollout, promoted, &original, &BTreeMap::new(), 0).await?;
        }
    }
    Ok(())
}

/// Puts a version on record, with what the record is about: a record that is there can be carried out.
async fn version(
    context: &Context,
    rollout: &Rollout,
    revision: &Revision,
    template: &Value,
    configs: &BTreeMap<Config, String>,
    generation: i64,
) -> Result<(), Error> {
    let key = rollout.record(revision);
    match context.cache.kept(&key).map(|record| record.holder()) {
        Some(Some(holder)) if holder.uid == rollout.uid => return Ok(()),
        // Neither the record nor the copies that it names will stay.
        Some(_) => return Err(Error::Inherit(key.to_string())),
        None => {}
    }
    configs::copies(context, rollout, configs).await?;
    match context.create(&key, &workload::record(&rollout.app, revision, template, configs, generation)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_there() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the copies anew that somebody deleted, as far as what they held can still be seen.
pub(super) async fn copies(context: &Context, rollout: &Rollout, state: &State, found: &Found) -> Result<(), Error> {
    let Some(seen) = found.version.as_ref().filter(|seen| !seen.configs.is_empty()) else { return Ok(()) };
    let versions = [state.promoted.as_ref(), state.target.as_ref().map(|target| &target.revision)];
    for revision in versions.into_iter().flatten() {
        if let Some(record) = rollout.recorded(context, revision) {
            configs::restore(context, rollout, &workload::recorded_configs(&record), seen).await?;
        }
    }
    Ok(())
}

/// Records the decision, if there is anything new in it. A conflict means that nothing was recorded.
pub(super) async fn status(
    context: &Context,
    lane: Lane,
    canary: &Canary,
    status: CanaryStatus,
) -> Result<Box<Canary>, Error> {
    let mut canary = Box::new(canary.clone());
    if canary.status.as_ref() == Some(&status) {
        return Ok(canary);
    }
    canary.status = Some(status);
    context.replace_status(lane, canary).await
}

/// Deletes old records that nothing refers to, oldest first, and the copies of configs that no record in use and no pod of
/// the primary needs. What is in use is said by the newest record alone, so that is asked for first: nothing else would tell
/// that this one is old.
pub(super) async fn collect(context: &Context, rollout: &Rollout, canary: &Canary, state: &State) -> Result<(), Error> {
    let seen = |key: Key| context.cache.get(&key).map(|found| (key, found));
    let unused: Vec<_> = unused(context, rollout, state).into_iter().filter_map(seen).collect();
    if !unused.is_empty() {
        still_newest(context, Lane::Work, &rollout.key, canary).await?;
    }
    for (key, found) in unused {
        context.delete(&key, &found).await?;
    }
    Ok(())
}

fn unused(context: &Context, rollout: &Rollout, state: &State) -> Vec<Key> {
    let uid = &rollout.uid;
    let versions = [state.promoted.as_ref(), state.target.as_ref().map(|target| &target.revision)];
    let versions: Vec<_> = versions.into_iter().flatten().collect();
    let copies = configs::unused(context, rollout, &versions);
    let in_use: Vec<_> = versions.into_iter().map(|revision| rollout.record(revision).name).collect();
    let names = context.cache.marked_names(&records().kind, uid);
    let is_spare = |name: &str| !in_use.iter().any(|used| used == name);
    let excess = names.iter().filter(|name| is_spare(name)).count().saturating_sub(SPARE_RECORDS);
    if excess == 0 {
        return copies;
    }
    let mut spare = context.cache.marked(&records().kind, uid);
    spare.retain(|record| record["metadata"]["name"].as_str().is_some_and(is_spare));
    // Not every kind counts its generations.
    let age = |record: &Value| record["metadata"]["creationTimestamp"].as_str().map(str::to_owned);
    spare.sort_by_key(|record| (age(record), record["revision"].as_i64()));
    let records = spare.into_iter().take(excess).map(|record| Key {
        resource: records(),
        name: record["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        ..rollout.key.clone()
    });
    copies.into_iter().chain(records).collect()
}
