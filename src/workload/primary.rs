//! What the primaries of all kinds have in common: the record, renamed, and the parts of the target that follow it.

use super::{App, Error, REVISION, Selector, Wanted, Workload, labelling, primary_name, rename};
use crate::object;
use kube::core::ApiResource;
use serde_json::{Value, json};

/// The primary as it has to be, beginning from what was found. `copied` are the fields of the spec that follow the
/// target at once: they say how pods are replaced, not what they are.
pub(super) fn render(
    workload: &dyn Workload,
    copied: &[&str],
    app: &App,
    target: &Value,
    found: Option<&Value>,
    wanted: Wanted<'_>,
) -> Result<Value, Error> {
    let selector = workload.selector(app, target)?;
    let mut primary = match found {
        Some(found) => found.clone(),
        None => new(app, &workload.resource(), &selector),
    };
    object::own(&mut primary, &app.owner);
    labelling::follow(&mut primary, target, &app.labelling.included, &selector);
    if let Some(template) = wanted.template {
        let given = object::get(&primary, &["metadata", "annotations", REVISION]);
        let same = given.and_then(Value::as_str) == Some(wanted.revision.0.as_str());
        if !same || !workload.is_made_of(&primary, template, &selector) {
            let template = rename::renamed(template, &selector, &app.namespace);
            object::set(&mut primary, &["spec", "template"], template);
        }
        object::set_metadata(&mut primary, "annotations", [(REVISION, wanted.revision.0.as_str())]);
    } else if found.is_none() {
        return Err(Error::Record(wanted.revision.0.clone()));
    }
    for field in copied {
        if let Some(value) = object::get(target, &["spec", field]) {
            object::set(&mut primary, &["spec", field], value.clone());
        }
    }
    Ok(primary)
}

fn new(app: &App, resource: &ApiResource, selector: &Selector) -> Value {
    json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": primary_name(&app.target),
            "namespace": app.namespace,
            "labels": {selector.key.clone(): selector.primary()},
        },
        "spec": {"selector": {"matchLabels": {selector.key.clone(): selector.primary()}}},
    })
}
