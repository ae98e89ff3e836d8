//! What a pass rests on, asked of the API server itself.
//!
//! Invariant: a watch that is behind may hold a pass up. It must not make it start pods, stop them, name a version, give an app
//! back to its target, or let a Canary go.

use super::cache::{Identity, Key, identity};
use super::configs;
use super::context::Context;
use super::error::Error;
use super::lanes::Lane;
use super::observe::Found;
use super::rollout::Rollout;
use crate::api::Canary;
use crate::domain::{CanaryPods, Farewell, Phase, State};
use crate::object;
use kube::ResourceExt;
use serde_json::Value;

/// Whether a decision may be recorded: what it rests on is so. Traffic that is taken back asks nothing.
pub(super) async fn before_recording(
    context: &Context,
    rollout: &Rollout,
    canary: &Canary,
    (state, next): (&State, &State),
    found: &Found,
) -> Result<(), Error> {
    if starts(state, next) {
        still_that_version(context, rollout, found.target.as_deref().map(identity).as_ref(), found).await?;
    }
    if takes_over(state, next, found) {
        still_there(context, &rollout.primary(), found.primary.as_deref().map(identity).as_ref()).await?;
    }
    if gives_up(state, next, found) {
        still_as_found(context, &rollout.primary(), None).await?;
    }
    if gives_to_nobody(next, found) {
        still_as_found(context, &rollout.target(), None).await?;
    }
    if starts_over(state, next) {
        let objects = [(rollout.primary(), &found.primary), (rollout.service(""), &found.apex)];
        for (key, found) in objects.into_iter().chain(rollout.routes().into_iter().zip(&found.routes)) {
            still_as_found(context, &key, found.as_deref()).await?;
        }
    }
    if counts_on_routes(state, next) {
        still_led_so(context, rollout, canary, found).await?;
    }
    Ok(())
}

/// Whether a Canary may go: how its app is led now it stays, and nobody will put right what a watch did not show in time. A target
/// may have come since it was recorded that the app is given back to nobody.
pub(super) async fn before_letting_go(context: &Context, rollout: &Rollout, found: &Found) -> Result<(), Error> {
    if found.target.is_none() {
        still_as_found(context, &rollout.target(), None).await?;
    }
    let routes = rollout.routes().into_iter().zip(&found.routes);
    for (key, found) in routes.chain([(rollout.service(""), &found.apex)]) {
        still_as_found(context, &key, context.cache.newer(&key, found.clone()).as_deref()).await?;
    }
    Ok(())
}

/// Whether a Canary that gives way may go: it has nothing that it would have to hand back, whatever a watch shows.
pub(super) async fn before_giving_way(context: &Context, rollout: &Rollout) -> Result<(), Error> {
    for (_, key) in rollout.objects() {
        let now = context.look_up(Lane::Work, &key).await?;
        if now.is_some_and(|now| object::owned_by(&now, &rollout.uid)) {
            return Err(Error::Supersede(key.to_string()));
        }
    }
    Ok(())
}

/// Whether the target still is what a pass is `about`, and its configs are those of the version that was seen: they may have changed
/// since pods began with them, and their watch be behind ever since.
pub(super) async fn still_that_version(
    context: &Context,
    rollout: &Rollout,
    about: Option<&Identity>,
    found: &Found,
) -> Result<(), Error> {
    still_there(context, &rollout.target(), about).await?;
    match &found.version {
        Some(version) => configs::still_so(context, rollout, &version.configs).await,
        None => Ok(()),
    }
}

/// Whether an object still is what a pass is about: watches may be behind, or the whole process may have stood still.
/// Prometheus answers for the pods that there are, and pods that somebody else has started may have begun with other configs.
pub(super) async fn still_there(context: &Context, key: &Key, about: Option<&Identity>) -> Result<(), Error> {
    let now = context.look_up(Lane::Work, key).await?.ok_or_else(|| Error::Lag(key.to_string()))?;
    if about == Some(&identity(&now)) { Ok(()) } else { Err(Error::Supersede(key.to_string())) }
}

/// Whether a Canary still is what was read or written last. What it is instead is remembered: otherwise the passes that follow
/// would ask the same again, one after the other, until the watch shows it.
pub(super) async fn still_newest(context: &Context, lane: Lane, key: &Key, canary: &Canary) -> Result<(), Error> {
    still_at(context, lane, key, canary.resource_version().as_deref()).await
}

/// Whether traffic still is led as it was found: a watch that is behind may show that none reaches pods that some reaches,
/// because another process has led it since. Nobody does without a record.
async fn still_led_so(context: &Context, rollout: &Rollout, canary: &Canary, found: &Found) -> Result<(), Error> {
    let apex = [(rollout.service(""), &found.apex)];
    let routes = rollout.routes();
    let led: Vec<_> = if routes.is_empty() { apex.into() } else { routes.into_iter().zip(&found.routes).collect() };
    for (key, found) in led {
        if !context.cache.is_led_by(&key, found.as_deref(), canary) {
            still_as_found(context, &key, found.as_deref()).await?;
        }
    }
    Ok(())
}

async fn still_as_found(context: &Context, key: &Key, found: Option<&Value>) -> Result<(), Error> {
    still_at(context, Lane::Work, key, found.and_then(version)).await
}

async fn still_at(context: &Context, lane: Lane, key: &Key, expected: Option<&str>) -> Result<(), Error> {
    let now = context.look_up(lane, key).await?;
    if now.as_ref().and_then(version) == expected { Ok(()) } else { Err(Error::Supersede(key.to_string())) }
}

/// The version of an object, as the API server writes it.
fn version(object: &Value) -> Option<&str> {
    object["metadata"]["resourceVersion"].as_str()
}

/// Whether a decision starts pods, and counts on it that they begin with the configs of the version.
fn starts(state: &State, next: &State) -> bool {
    let configured = next.target.as_ref().is_some_and(|target| !target.configs.0.is_empty());
    let is_up = |state: &State| state.canary == CanaryPods::Up;
    configured && !is_up(state) && is_up(next) && matches!(next.phase, Phase::Progressing(_))
}

/// Whether a decision trusts the version of a primary that was there before.
fn takes_over(state: &State, next: &State, found: &Found) -> bool {
    state.promoted.is_none() && next.promoted.is_some() && found.primary.is_some()
}

/// Whether a decision gives up a primary that was there before, because none was seen.
fn gives_up(state: &State, next: &State, found: &Found) -> bool {
    let is_new = state.promoted.is_some() && next.promoted != state.promoted;
    is_new && matches!(next.phase, Phase::Initializing { .. }) && found.primary.is_none()
}

/// Whether an app is given back to nobody, because no target was seen: with what follows its traffic leaves the primary, whether
/// that is on record already or not.
fn gives_to_nobody(next: &State, found: &Found) -> bool {
    matches!(next.phase, Phase::Terminating { stage: Farewell::Released, .. }) && found.target.is_none()
}

/// Whether a decision gives the app back to its target, because nothing was seen that would serve in its place.
fn starts_over(state: &State, next: &State) -> bool {
    matches!((&state.phase, &next.phase), (Phase::Initialized { .. }, Phase::Initializing { .. }))
}

/// Whether a decision counts on it that no traffic reaches pods that are to be stopped.
fn counts_on_routes(state: &State, next: &State) -> bool {
    let drains = |state: &State| {
        matches!(state.canary, CanaryPods::Draining { .. })
            || matches!(state.phase, Phase::Terminating { stage: Farewell::Draining, .. })
    };
    drains(next) && !drains(state)
}
