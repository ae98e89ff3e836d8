//! The autoscaler of an app: the user's own, which scales the target, and its copy, which scales the primary.
//!
//! Invariant: the copy says what the user's says, whenever that changes, but for what has to be the primary's. Of the
//! user's own nothing is changed but the pause of one that would start the pods of a target that is to have none.

mod hpa;
#[cfg(test)]
mod laws;
mod scaled_object;
mod words;

use super::{App, Selector, labelling, metadata_name, primary_name};
use crate::object;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// On the user's scaler: the Canary that paused it.
pub const PAUSED_BY: &str = "serin.dev/paused-by";

/// A kind of autoscaler. Pure, hence testable without a cluster.
pub trait Scaler: Send + Sync {
    /// Its kind.
    fn kind(&self) -> &'static str;

    /// Its API group.
    fn group(&self) -> &'static str;

    /// The versions in which it can be read and written, the best one first.
    fn versions(&self) -> &'static [&'static str];

    /// What has to be there for the API server to serve it.
    fn needs(&self) -> &'static str;

    /// Where it says how few and how many pods there may be, and what that is if it does not.
    fn range(&self) -> [Bound; 2];

    /// Makes the rest of the copy's spec the primary's.
    fn adapt(&self, _spec: &mut Value, _copy: &Copy<'_>) {}

    /// Why a reference does not fit the user's scaler, as a sentence.
    ///
    /// # Errors
    /// Says what to write instead.
    fn fits(&self, _reference: &Reference, _own: &Value) -> Result<(), Misfit> {
        Ok(())
    }

    /// The user's scaler while the target is to have no pods, or while it may have some. One that leaves a target
    /// without pods alone by itself needs no pause.
    fn paused(&self, own: &Value, _canary: &str, _pause: bool) -> Value {
        own.clone()
    }
}

/// The registry: the one line to add for a new kind.
const SCALERS: &[&dyn Scaler] = &[&hpa::HorizontalPodAutoscaler, &scaled_object::ScaledObject];

/// All kinds of autoscalers.
pub fn all() -> impl Iterator<Item = &'static dyn Scaler> {
    SCALERS.iter().copied()
}

/// The autoscaler of a kind.
#[must_use]
pub fn by_kind(kind: &str) -> Option<&'static dyn Scaler> {
    all().find(|scaler| scaler.kind() == kind)
}

/// A kind in one of its versions.
#[must_use]
pub fn resource(scaler: &dyn Scaler, version: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(scaler.group(), version, scaler.kind()))
}

/// A field of a scaler's spec that counts pods.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Its name.
    pub field: &'static str,
    /// What it is when it is not there.
    pub default: u32,
}

/// The user's scaler, as the Canary names it, and what is to be different for the primary.
#[derive(Clone)]
pub struct Reference {
    /// Its kind.
    pub scaler: &'static dyn Scaler,
    /// Its name.
    pub name: String,
    /// How few pods the primary may have; `None` for as few as the target.
    pub least: Option<u32>,
    /// How many pods the primary may have; `None` for as many as the target.
    pub most: Option<u32>,
    /// The queries of the primary's triggers, by the triggers' names.
    pub queries: BTreeMap<String, String>,
}

/// What a copy is made of.
pub struct Copy<'a> {
    /// The app.
    pub app: &'a App,
    /// What the Canary says.
    pub reference: &'a Reference,
    /// The label that tells the versions apart.
    pub selector: &'a Selector,
    /// The user's scaler.
    pub own: &'a Value,
    /// So many pods at least, whatever the scaler says otherwise; 0 for none.
    pub floor: u32,
}

/// Why the user's scaler cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The API server does not know the kind.
    #[error(
        "spec.autoscalerRef: the API server serves no {kind}; install {needs} and restart Serin, or remove autoscalerRef"
    )]
    Unserved {
        /// The kind.
        kind: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// There is no such scaler.
    #[error("spec.autoscalerRef: there is no {kind} {name}; create it, or remove autoscalerRef")]
    Missing {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It scales something else.
    #[error(
        "spec.autoscalerRef: {kind} {name} scales {found}; write {target} in its spec.scaleTargetRef, or name the \
         scaler of {target}"
    )]
    Elsewhere {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What it scales.
        found: String,
        /// What it should.
        target: String,
    },
    /// A query for a trigger that is not there.
    #[error(
        "spec.autoscalerRef.primaryScalerQueries: {kind} {name} has no trigger {trigger}; write one of: {known}. A \
         trigger is called what its name field says"
    )]
    Trigger {
        /// The scaler's kind.
        kind: &'static str,
        /// The scaler's name.
        name: String,
        /// The trigger that is meant.
        trigger: String,
        /// Those that there are.
        known: String,
    },
}

impl Reference {
    /// The name of the copy that scales the primary.
    #[must_use]
    pub fn copy_name(&self) -> String {
        primary_name(&self.name)
    }

    /// Whether the user's scaler is the target's.
    ///
    /// # Errors
    /// Says what to write instead.
    pub fn check(&self, kind: &str, target: &str, own: Option<&Value>) -> Result<(), Misfit> {
        let scaler = self.scaler;
        let missing = || Misfit::Missing { kind: scaler.kind(), name: self.name.clone() };
        let own = own.ok_or_else(missing)?;
        let text = |field| object::get(own, &["spec", "scaleTargetRef", field]).and_then(Value::as_str);
        let found = [text("kind").unwrap_or("Deployment"), text("name").unwrap_or_default()];
        if found != [kind, target] {
            return Err(Misfit::Elsewhere {
                kind: scaler.kind(),
                name: self.name.clone(),
                found: found.join(" "),
                target: format!("{kind} {target}"),
            });
        }
        scaler.fits(self, own)
    }

    /// How few and how many pods the primary may have, by what a scaler of this kind says. What the Canary says comes
    /// first, whatever becomes of the other bound.
    #[must_use]
    pub fn range(&self, spec: &Value) -> [u32; 2] {
        let [least, most] =
            self.scaler.range().map(|bound| spec.get(bound.field).map_or(bound.default, super::as_count));
        match (self.least, self.most) {
            (Some(least), Some(most)) => [least.min(most), most],
            (Some(least), None) => [least, most.max(least)],
            (None, Some(most)) => [least.min(most), most],
            (None, None) => [least, most],
        }
    }
}

impl Copy<'_> {
    /// The copy as it has to be, beginning from what was found.
    #[must_use]
    pub fn render(&self, resource: &ApiResource, found: Option<&Value>) -> Value {
        let Self { app, reference, selector, own, floor: _ } = self;
        let new = || {
            json!({
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"name": reference.copy_name(), "namespace": app.namespace},
            })
        };
        let mut copy = found.cloned().unwrap_or_else(new);
        object::own(&mut copy, &app.owner);
        labelling::follow(&mut copy, own, &app.labelling.included, selector);
        object::put(&mut copy, "spec", self.spec());
        copy
    }

    fn spec(&self) -> Value {
        let mut spec = self.own.get("spec").cloned().unwrap_or_default();
        let range = self.reference.range(&spec);
        let [least, most] = range;
        let wanted = [least.max(self.floor.min(most)), most];
        for (bound, count) in self.reference.scaler.range().into_iter().zip(wanted) {
            if spec.get(bound.field).map_or(bound.default, super::as_count) != count {
                spec[bound.field] = count.into();
            }
        }
        object::set(&mut spec, &["scaleTargetRef", "name"], primary_name(&self.app.target).into());
        self.reference.scaler.adapt(&mut spec, self);
        spec
    }
}

/// The user's scaler without a pause that this Canary put on it.
#[must_use]
pub fn resumed(scaler: &dyn Scaler, own: &Value, canary: &str) -> Value {
    let by = object::get(own, &["metadata", "annotations", PAUSED_BY]).and_then(Value::as_str);
    if by == Some(canary) { scaler.paused(own, canary, false) } else { own.clone() }
}

fn trigger_names(own: &Value) -> Vec<&str> {
    let triggers = object::get(own, &["spec", "triggers"]).and_then(Value::as_array);
    triggers.into_iter().flatten().filter_map(|trigger| trigger["name"].as_str()).collect()
}

/// A trigger that is given a query, and that the scaler does not have.
fn unknown_trigger(reference: &Reference, own: &Value) -> Result<(), Misfit> {
    let known = trigger_names(own);
    match reference.queries.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(trigger) => Err(Misfit::Trigger {
            kind: reference.scaler.kind(),
            name: metadata_name(own).to_owned(),
            trigger: trigger.clone(),
            known: if known.is_empty() { "none, for no trigger has a name".to_owned() } else { known.join(", ") },
        }),
    }
}
