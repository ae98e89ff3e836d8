//! `keda.sh` ScaledObject: it would start the pods of a target that has none, so it is paused while it is to have none.

use super::{Bound, Copy, Misfit, PAUSED_BY, Reference, Scaler, unknown_trigger, words};
use crate::object;
use crate::workload::primary_name;
use serde_json::Value;

pub(super) struct ScaledObject;

/// By this KEDA keeps a target at a number of pods.
const PAUSED: &str = "autoscaling.keda.sh/paused-replicas";

/// What that annotation was before Serin set it, if it was there.
const BEFORE: &str = "serin.dev/paused-before";

impl Scaler for ScaledObject {
    fn kind(&self) -> &'static str {
        "ScaledObject"
    }

    fn group(&self) -> &'static str {
        "keda.sh"
    }

    fn versions(&self) -> &'static [&'static str] {
        &["v1alpha1"]
    }

    fn needs(&self) -> &'static str {
        "KEDA"
    }

    fn range(&self) -> [Bound; 2] {
        [Bound { field: "minReplicaCount", default: 0 }, Bound { field: "maxReplicaCount", default: 100 }]
    }

    fn adapt(&self, spec: &mut Value, copy: &Copy<'_>) {
        let Copy { app, reference, selector: _, own: _, floor } = copy;
        let primary = primary_name(&app.target);
        // KEDA makes an HPA of this name for each ScaledObject.
        if let Some(name) = spec.pointer_mut("/advanced/horizontalPodAutoscalerConfig/name")
            && let Some(given) = name.as_str()
        {
            *name = primary_name(given).into();
        }
        let least = spec.get("minReplicaCount").map_or(0, crate::workload::as_count);
        let idle = spec.get("idleReplicaCount").map(crate::workload::as_count);
        // So few pods are no floor, and KEDA refuses a number that is not below the least.
        if idle.is_some_and(|idle| *floor > 0 || idle >= least)
            && let Some(spec) = spec.as_object_mut()
        {
            spec.remove("idleReplicaCount");
        }
        let triggers = spec.get_mut("triggers").and_then(Value::as_array_mut);
        for trigger in triggers.into_iter().flatten() {
            let given = trigger["name"].as_str().and_then(|name| reference.queries.get(name)).cloned();
            let query = object::get(trigger, &["metadata", "query"]).and_then(Value::as_str);
            let query = given.or_else(|| Some(words::replaced(query?, &app.target, &primary)));
            if let Some(query) = query {
                object::set(trigger, &["metadata", "query"], query.into());
            }
        }
    }

    fn fits(&self, reference: &Reference, own: &Value) -> Result<(), Misfit> {
        unknown_trigger(reference, own)
    }

    /// A pause at 0 that is there already is taken over: it is what another rollout tool leaves behind.
    fn paused(&self, own: &Value, canary: &str, pause: bool) -> Value {
        let annotation = |key| object::get(own, &["metadata", "annotations", key]).and_then(Value::as_str);
        let mut changed = own.clone();
        match (pause, annotation(PAUSED_BY)) {
            (true, by) => {
                if let (None, Some(before)) = (by, annotation(PAUSED).filter(|before| *before != "0")) {
                    object::set_metadata(&mut changed, "annotations", [(BEFORE, before)]);
                }
                object::set_metadata(&mut changed, "annotations", [(PAUSED, "0"), (PAUSED_BY, canary)]);
            }
            (false, Some(_)) => {
                match annotation(BEFORE) {
                    Some(before) => object::set_metadata(&mut changed, "annotations", [(PAUSED, before)]),
                    None => object::remove_metadata(&mut changed, "annotations", &[PAUSED]),
                }
                object::remove_metadata(&mut changed, "annotations", &[PAUSED_BY, BEFORE]);
            }
            (false, None) => {}
        }
        changed
    }
}
