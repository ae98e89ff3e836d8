//! One function a verb.
//!
//! Invariant: a handler runs to its end under the lock, so a request is carried out whole or not
//! at all.

use std::sync::Arc;

use kube::core::response::reason;
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    call::Call,
    fields::{resource_version, set_metadata, text, uid, well_formed},
    log::{Request, Verb},
    patch::Format,
    refusal::{Refusal, bad_request, conflict, invalid, method_not_allowed, not_found, refusal},
    registry::Resource,
    rules::{Deletion, Scope},
    selector::Selection,
    state::State,
    store::Key,
    view::View,
    watch,
};

impl State {
    /// Carries a request out.
    pub(crate) fn answer(&mut self, call: Call) -> Answer {
        let Some(resource) = self.resource_for(&call.request) else {
            return Answer::Missing;
        };
        self.handle(&resource, call).unwrap_or_else(Answer::from)
    }

    /// The resources of a version of a group.
    pub(crate) fn discovered(&self, group: &str, version: &str) -> Answer {
        let of_it = |resource: &&Resource| {
            let name = &resource.name;
            (name.group, name.version) == (group, version) && !self.unserved.contains(name)
        };
        let resources: Vec<Value> = self.registry.values().filter(of_it).map(Resource::discovered).collect();
        if resources.is_empty() {
            return Answer::Missing;
        }
        let dot = if group.is_empty() { "" } else { "/" };
        let list = json!({
            "apiVersion": "v1",
            "kind": "APIResourceList",
            "groupVersion": format!("{group}{dot}{version}"),
            "resources": resources,
        });
        Answer::Json(200, list)
    }

    /// The resource at a path, if such a path is served.
    fn resource_for(&self, request: &Request) -> Option<Resource> {
        let resource = self.registry.values().find(|resource| {
            let name = &resource.name;
            (name.group, name.version, name.plural)
                == (request.group.as_str(), request.version.as_str(), request.resource.as_str())
        })?;
        let across_namespaces = matches!(request.verb, Verb::List | Verb::Watch);
        let namespace_fits = match request.namespace {
            Some(_) => resource.namespaced,
            None => !resource.namespaced || across_namespaces,
        };
        let subresource_fits = match request.subresource.as_deref() {
            None => true,
            Some(subresource) => subresource == "status" && resource.status,
        };
        let served = !self.unserved.contains(&resource.name);
        (served && namespace_fits && subresource_fits).then_some(*resource)
    }

    fn handle(&mut self, resource: &Resource, mut call: Call) -> Result<Answer, Refusal> {
        let body = std::mem::take(&mut call.request.body);
        let request = &call.request;
        if request.query.contains_key("dryRun") || !body["dryRun"].is_null() {
            return Err(bad_request("dry runs are not served"));
        }
        let key = Key::new(
            resource.name,
            request.namespace.as_deref().unwrap_or_default(),
            request.name.as_deref().unwrap_or_default(),
        );
        let view = call.view;
        let answer = |code: u16, object: Arc<Value>| match view {
            View::Whole => Answer::Object(code, object),
            View::Metadata => Answer::Json(code, view.object(&object)),
        };
        match request.verb {
            Verb::Get => self
                .store
                .get(&key)
                .map(|object| answer(200, Arc::clone(object)))
                .ok_or_else(|| not_found(resource, &key.name)),
            Verb::List => self.list(resource, &call),
            Verb::Watch => {
                let selection = Selection::parse(request.namespace.as_deref(), &call.request.query)?;
                watch::open(&mut self.store, resource, selection, call.view, &call.request.query).map(Answer::Stream)
            }
            Verb::Create => {
                let object = addressed(&key, body)?;
                Ok(answer(201, self.create(resource, &key.namespace, object, Scope::Main)?))
            }
            Verb::Update => Ok(answer(200, self.update(resource, &key, request, body)?)),
            Verb::Patch => {
                let (code, patched) = self.patch(resource, &key, request, &body)?;
                Ok(answer(code, patched))
            }
            Verb::Delete if request.subresource.is_some() => Err(method_not_allowed()),
            Verb::Delete => Ok(match self.delete(resource, &key, &body)? {
                Deletion::Done(object) => Answer::Json(200, success(resource, &key, &object)),
                Deletion::Pending(object) => answer(200, object),
            }),
        }
    }

    fn list(&self, resource: &Resource, call: &Call) -> Result<Answer, Refusal> {
        let selection = Selection::parse(call.request.namespace.as_deref(), &call.request.query)?;
        let items: Vec<Value> =
            self.store.select(resource.name, &selection).map(|object| call.view.object(object)).collect();
        let (api_version, kind) = call.view.list_types(resource.name.api_version(), resource.kind);
        let list = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "resourceVersion": self.store.revision().to_string() },
            "items": items,
        });
        Ok(Answer::Json(200, list))
    }

    fn update(
        &mut self,
        resource: &Resource,
        key: &Key,
        request: &Request,
        body: Value,
    ) -> Result<Arc<Value>, Refusal> {
        let object = addressed(key, body)?;
        if resource_version(&object).is_none() && !resource.unconditional_update {
            let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
            return Err(invalid(resource, &key.name, why));
        }
        // In a PUT the uid is a precondition; in a patch it is a change, and refused as one.
        let stored_uid = self.store.get(key).and_then(|stored| uid(stored));
        if stored_uid.is_some() && uid(&object).is_some_and(|uid| stored_uid != Some(uid)) {
            let why = "the UID in the precondition is not that of the object";
            return Err(conflict(resource, &key.name, why));
        }
        self.replace(resource, key, object, scope(request))
    }

    fn patch(
        &mut self,
        resource: &Resource,
        key: &Key,
        request: &Request,
        body: &Value,
    ) -> Result<(u16, Arc<Value>), Refusal> {
        let format = Format::parse(request.content_type.as_deref())?;
        if format == Format::Apply {
            check_apply(resource, key, request, body)?;
        }
        let stored = self.store.get(key).cloned();
        if stored.is_none() && format == Format::Apply && scope(request) == Scope::Main {
            let object = addressed(key, format.patched(&json!({}), body)?)?;
            return Ok((201, self.create(resource, &key.namespace, object, Scope::Main)?));
        }
        let stored = stored.ok_or_else(|| not_found(resource, &key.name))?;
        let object = addressed(key, format.patched(&stored, body)?)?;
        Ok((200, self.replace(resource, key, object, scope(request))?))
    }
}

fn scope(request: &Request) -> Scope {
    if request.subresource.is_some() { Scope::Status } else { Scope::Main }
}

/// Makes an object agree with the URL it was sent to, unless it says otherwise.
fn addressed(key: &Key, mut object: Value) -> Result<Value, Refusal> {
    well_formed(&object)?;
    for (field, expected) in [("name", &key.name), ("namespace", &key.namespace)] {
        // The URL of a create has no name.
        if expected.is_empty() {
            continue;
        }
        let given = object["metadata"][field].as_str().unwrap_or_default();
        if !given.is_empty() && given != expected {
            let message = format!(
                "the {field} of the object ({given}) does not match the {field} on the URL \
                 ({expected})"
            );
            return Err(bad_request(&message));
        }
        set_metadata(&mut object, field, json!(expected));
    }
    Ok(object)
}

fn check_apply(resource: &Resource, key: &Key, request: &Request, body: &Value) -> Result<(), Refusal> {
    if text(body, "/apiVersion").is_none() || text(body, "/kind").is_none() {
        return Err(bad_request("an apply patch must contain apiVersion and kind"));
    }
    if request.query.get("fieldManager").is_none_or(String::is_empty) {
        let why = "fieldManager: Required value: is required for apply patch";
        return Err(invalid(resource, &key.name, why));
    }
    if !body["metadata"]["managedFields"].is_null() {
        let message = "metadata.managedFields must be nil";
        return Err(refusal(400, reason::BAD_REQUEST, message));
    }
    Ok(())
}

fn success(resource: &Resource, key: &Key, object: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": key.name,
            "group": resource.name.group,
            "kind": resource.name.plural,
            "uid": uid(object),
        },
    })
}
