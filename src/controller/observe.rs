//! Looking: facts from the caches, numbers from the metric providers, and no judgement.

mod ask;
mod round;

pub(super) use ask::may_ask;
pub use ask::{Network, send};
pub(super) use round::ask;

use super::context::Context;
use super::rollout::Rollout;
use super::scaling::{self, Scaling};
use super::{configs, orders};
use crate::api::Canary;
use crate::domain::{Led, Primary, Revision, Routing, TargetSeen, World};
use crate::object;
use crate::workload::configs::Version;
use crate::workload::{self, REVISION, Selector};
use serde_json::Value;
use std::sync::Arc;

/// The objects that a rollout is about, as they are.
pub(super) struct Found {
    pub(super) target: Option<Arc<Value>>,
    pub(super) primary: Option<Arc<Value>>,
    pub(super) apex: Option<Arc<Value>>,
    pub(super) versions: [Option<Arc<Value>>; 2],
    pub(super) routes: Vec<Option<Arc<Value>>>,
    /// Where these lead.
    pub(super) routing: Routing,
    /// What counts the pods of primary and canary, for a target that does not itself.
    pub(super) counts: [Option<Arc<Value>>; 2],
    /// The autoscalers; nothing when the Canary names none.
    pub(super) scaling: Option<Scaling>,
    /// The label that tells the versions apart; an error when the target has none, nothing without a target.
    pub(super) selector: Option<Result<Selector, workload::Error>>,
    /// What the target would be rolled out as; nothing without a target.
    pub(super) version: Option<Version>,
}

impl Found {
    /// The routes, as a mesh reads them.
    pub(super) fn routes(&self) -> Vec<Option<&Value>> {
        self.routes.iter().map(Option::as_deref).collect()
    }
}

/// Everything that is known without asking anybody.
pub(super) fn look(context: &Context, rollout: &Rollout) -> Found {
    let get = |key| context.cache.get(&key);
    let target = get(rollout.target());
    let routes: Vec<_> = rollout.routes().into_iter().map(get).collect();
    let objects: Vec<_> = routes.iter().map(Option::as_deref).collect();
    Found {
        routing: rollout.mesh.observe(&rollout.routed, &objects),
        selector: target.as_ref().map(|target| rollout.workload.selector(&rollout.app, target)),
        version: target.as_ref().map(|target| configs::look(context, rollout, target)),
        target,
        scaling: scaling::look(context, rollout),
        primary: get(rollout.primary()),
        apex: get(rollout.service("")),
        versions: [get(rollout.service("-primary")), get(rollout.service("-canary"))],
        routes,
        counts: ["-primary", "-canary"].map(|suffix| get(rollout.count(suffix)?)),
    }
}

/// The version that a primary was given. One that this Canary has given none is of the version that its pods are made of,
/// whatever somebody else wrote on it: it may have been edited since, and there is no record by which that would be seen.
fn primary_revision(
    context: &Context,
    rollout: &Rollout,
    canary: &Canary,
    primary: &Value,
    selector: &Selector,
) -> Revision {
    let given = object::get(primary, &["metadata", "annotations", REVISION]).and_then(Value::as_str);
    let given = given.filter(|_| object::owned_by(primary, &rollout.uid)).map(|given| Revision(given.to_owned()));
    given
        .filter(|given| !is_awaited(canary) || is_as_given(context, rollout, primary, selector, given))
        .unwrap_or_else(|| made_of(&rollout.workload.original(primary, selector)))
}

/// Whether somebody waits for the primary to run what it was given: only then it is looked whether it still is that.
fn is_awaited(canary: &Canary) -> bool {
    let phase = canary.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Initializing" | "Promoting"))
}

/// Whether nobody has edited a primary since it was given a version; of one without a record nobody can tell.
fn is_as_given(context: &Context, rollout: &Rollout, primary: &Value, selector: &Selector, given: &Revision) -> bool {
    let record = rollout.recorded(context, given);
    let template = record.as_deref().and_then(workload::recorded_template);
    template.is_none_or(|template| rollout.workload.is_made_of(primary, &template, selector))
}

/// The name of the version that pods of a template are, as far as the template says.
pub(super) fn made_of(template: &Value) -> Revision {
    Revision(object::hash(template))
}

/// Whether the target can be rolled out; one that is missing can be waited for.
pub(super) fn usable(rollout: &Rollout, found: &Found) -> Result<(), workload::Error> {
    let Some(target) = &found.target else { return Ok(()) };
    rollout.workload.selector(&rollout.app, target)?;
    rollout.workload.supported(target)?;
    let scaler = found.scaling.as_ref().and_then(|scaling| scaling.copy.as_ref());
    let made = [found.primary.as_ref(), scaler, found.versions[0].as_ref(), found.versions[1].as_ref()];
    let made = made.into_iter().flatten();
    match made.into_iter().find(|object| !object::is_serins(object)) {
        None => Ok(()),
        Some(foreign) => Err(workload::Error::Taken {
            kind: foreign["kind"].as_str().unwrap_or_default().to_owned(),
            name: foreign["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        }),
    }
}

/// The same, in the core's words.
pub(super) fn world(context: &Context, rollout: &Rollout, found: &Found, canary: &Canary) -> World {
    let workload = rollout.workload;
    let [of_primary, of_canary] = &found.counts;
    let selector = found.selector.as_ref().and_then(|selector| selector.as_ref().ok());
    // Without its scaler the target cannot be rolled out as it was meant.
    let misfit = found.scaling.as_ref().and_then(|scaling| scaling.fits.as_ref().err()).map(ToString::to_string);
    World {
        now: context.clock.now(),
        deleted: canary.metadata.deletion_timestamp.is_some(),
        command: orders::found(canary),
        target: found.target.as_ref().zip(found.version.as_ref()).map(|(target, version)| TargetSeen {
            revision: version.revision.clone(),
            template: version.template.clone(),
            configs: version.configs(),
            incomplete: version.incomplete.clone().or_else(|| misfit.clone()),
            generation: workload.generation(target),
            uid: object::get(target, &["metadata", "uid"]).and_then(Value::as_str).unwrap_or_default().to_owned(),
            replicas: workload.replicas(target),
            pods: workload.counted(target, of_canary.as_deref()),
        }),
        primary: found.primary.as_ref().map(|primary| Primary {
            revision: selector.map(|selector| primary_revision(context, rollout, canary, primary, selector)),
            pods: workload.counted(primary, of_primary.as_deref()),
            most: found.scaling.as_ref().map(|scaling| scaling.most(rollout)),
        }),
        apex_on_primary: selector
            .is_some_and(|selector| workload.apex_on_primary(selector, found.apex.as_deref(), &found.routing)),
        routing: found.routing.clone(),
        led: rollout
            .routes()
            .iter()
            .zip(&found.routes)
            .filter_map(|(key, found)| context.cache.led_as(key, found.as_deref()))
            .reduce(Led::and),
    }
}
