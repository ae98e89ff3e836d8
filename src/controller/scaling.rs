//! The autoscalers of an app: what is found of them, and what is made of that.
//!
//! Invariant: the copy is made anew from the user's scaler in every pass, so an edit of that reaches the primary at once.
//! Floor and pause come from the recorded state: a crash between any two writes ends in the same place.

use super::apply::Intent;
use super::cache::Key;
use super::context::Context;
use super::error::Error;
use super::lanes::Lane;
use super::rollout::Rollout;
use crate::domain::{Phase, Scale};
use crate::workload::Selector;
use crate::workload::autoscaler::{self, Copy, Misfit, PAUSED_BY, Reference, resumed};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::Value;
use std::sync::Arc;

/// What a Canary refers to as its autoscaler, in the version in which it is watched.
pub(super) struct Autoscaler {
    pub(super) reference: Reference,
    /// `None` when the API server does not serve the kind.
    pub(super) resource: Option<ApiResource>,
}

/// The autoscalers of one app, as they are.
pub(super) struct Scaling {
    /// The user's.
    pub(super) own: Option<Arc<Value>>,
    /// The primary's.
    pub(super) copy: Option<Arc<Value>>,
    /// Whether the user's can be followed.
    pub(super) fits: Result<(), Misfit>,
}

/// What is found of them; nothing without a reference.
pub(super) fn look(context: &Context, rollout: &Rollout) -> Option<Scaling> {
    let Autoscaler { reference, .. } = rollout.autoscaler.as_ref()?;
    let Some([own, copy]) = rollout.scalers() else {
        let (kind, needs) = (reference.scaler.kind(), reference.scaler.needs());
        return Some(Scaling { own: None, copy: None, fits: Err(Misfit::Unserved { kind, needs }) });
    };
    let [own, copy] = [own, copy].map(|key| context.cache.get(&key));
    let fits = reference.check(&rollout.workload.resource().kind, &rollout.app.target, own.as_deref());
    Some(Scaling { own, copy, fits })
}

impl Scaling {
    /// The user's scaler, if it can be followed.
    fn usable(&self) -> Option<&Value> {
        self.own.as_deref().filter(|_| self.fits.is_ok())
    }

    /// How many pods the primary may have; as many as one likes when nothing says.
    pub(super) fn most(&self, rollout: &Rollout) -> u32 {
        let spec = self.usable().or(self.copy.as_deref()).and_then(|scaler| scaler.get("spec"));
        match (spec, &rollout.autoscaler) {
            (Some(spec), Some(autoscaler)) => autoscaler.reference.range(spec)[1],
            _ => u32::MAX,
        }
    }
}

impl Intent<'_> {
    /// The copy that scales the primary. One whose original is gone stays as it is.
    pub(super) async fn copy_of_scaler(&self, selector: &Selector) -> Result<(), Error> {
        let (Some(scaling), Some(Autoscaler { reference, resource: Some(resource) }), Some([_, key])) =
            (&self.found.scaling, &self.rollout.autoscaler, self.rollout.scalers())
        else {
            return Ok(());
        };
        let floor = self.state.floor();
        let render = |found: Option<&Value>| {
            let copy = match scaling.usable() {
                Some(own) => {
                    let copy = Copy { app: &self.rollout.app, reference, selector, own, floor };
                    Some(copy.render(resource, found))
                }
                None => found.cloned(),
            };
            Ok(copy.map(|copy| self.kept(copy)))
        };
        self.converge(&key, scaling.copy.as_ref(), render).await
    }

    /// The user's scaler rests while the target is to have no pods, and only then.
    pub(super) async fn pause_scaler(&self) -> Result<(), Error> {
        let (Some(scaling), Some(autoscaler), Some([key, _])) =
            (&self.found.scaling, &self.rollout.autoscaler, self.rollout.scalers())
        else {
            return Ok(());
        };
        let rests = match self.state.scale(self.plan, self.now) {
            Scale::Zero => true,
            Scale::AtLeast(_) => false,
            Scale::Keep if matches!(self.state.phase, Phase::Terminating { .. }) => false,
            Scale::Keep => return Ok(()),
        };
        let (scaler, canary) = (autoscaler.reference.scaler, &self.rollout.app.canary);
        let render = |found: Option<&Value>| {
            // That of another target is none of this Canary's business, but for a pause from before.
            Ok(found.map(|own| match scaling.fits {
                Ok(()) => scaler.paused(own, canary, rests),
                Err(_) => resumed(scaler, own, canary),
            }))
        };
        self.converge(&key, scaling.own.as_ref(), render).await
    }

    /// Takes back what was done for a reference of before: its copy goes, and so does its pause.
    pub(super) async fn former_scalers(&self) -> Result<(), Error> {
        let Self { context, rollout, .. } = self;
        let now = rollout.scalers();
        let names = now.as_ref().map(|keys| [keys[0].name.as_str(), keys[1].name.as_str()]);
        for scaler in autoscaler::all() {
            let Some(resource) = context.cache.resource(scaler.kind()) else { continue };
            let is_now = now.as_ref().is_some_and(|keys| keys[0].resource == *resource);
            let [own, copy] = names.filter(|_| is_now).unwrap_or_default();
            let key = |object: &Value| Key {
                resource: resource.clone(),
                namespace: rollout.key.namespace.clone(),
                name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            };
            let is_other = |object: &Value, name| object["metadata"]["name"].as_str() != Some(name);
            let copies = context.cache.marked(scaler.kind(), &rollout.uid);
            for object in copies.iter().filter(|object| is_other(object, copy)) {
                self.newest.get_or_try_init(|| self.still_newest(Lane::Work)).await?;
                context.delete(&key(object), object).await?;
            }
            let paused = context.cache.marked(scaler.kind(), &pause_of(&rollout.key.namespace, &rollout.app.canary));
            for object in paused.iter().filter(|object| is_other(object, own)) {
                let render = |found: Option<&Value>| Ok(found.map(|own| resumed(scaler, own, &rollout.app.canary)));
                self.converge(&key(object), Some(object), render).await?;
            }
        }
        Ok(())
    }
}

/// By which the scalers are found that rest for a Canary.
fn pause_of(namespace: &str, canary: &str) -> String {
    format!("{namespace}/{canary}")
}

/// The same for the Canary that a scaler rests for, if it does.
pub(super) fn paused_for(scaler: &DynamicObject) -> Option<Box<str>> {
    let canary = scaler.annotations().get(PAUSED_BY)?;
    Some(pause_of(scaler.metadata.namespace.as_deref().unwrap_or_default(), canary).into())
}
