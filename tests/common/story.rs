//! What was written, one line a write: the whole effect of a pass, short enough to be read.

use serde_json::Value;
use serin_testing::{Request, Verb};
use std::fmt::Write as _;

/// One write in one line.
pub(crate) fn line(request: &Request) -> String {
    let Request { verb, body, status, .. } = request;
    let name = request.name.as_deref().or_else(|| body["metadata"]["name"].as_str()).unwrap_or_default();
    let what = match (verb, request.resource.as_str()) {
        (Verb::Create, "events") => return event(body),
        (Verb::Update, "canaries") => canary(&body["status"]),
        (Verb::Create, _) => created(body),
        (Verb::Patch, _) => patched(body),
        (_, _) => String::new(),
    };
    let outcome = match status {
        Some(200 | 201) => String::new(),
        Some(code) => format!(" -> {code}"),
        None => " -> lost".to_owned(),
    };
    format!("{} {}/{name}: {what}{outcome}", verb.as_str(), request.target())
}

fn event(body: &Value) -> String {
    let text = |field: &str| body[field].as_str().unwrap_or_default();
    format!("event {} {}: {}", text("type"), text("reason"), text("note"))
}

/// The status as a person would sum it up.
fn canary(status: &Value) -> String {
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut line = format!(
        "{} weight {} step {} pods {} of {}, {} -> {}",
        text("/phase"),
        status["canaryWeight"],
        status["step"],
        text("/canaryPods"),
        status["replicas"],
        text("/promoted/revision"),
        text("/candidate/revision"),
    );
    for condition in status["conditions"].as_array().into_iter().flatten() {
        if condition["status"] == "True" {
            let _ = write!(line, " | {}", condition["type"].as_str().unwrap_or_default());
        }
    }
    let ready = status["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
    if let Some(ready) = ready {
        let text = |field: &str| ready[field].as_str().unwrap_or_default();
        let _ = write!(line, " | {}: {}", text("reason"), text("message"));
    }
    line
}

fn created(body: &Value) -> String {
    let owner = body.pointer("/metadata/ownerReferences/0/kind").and_then(Value::as_str).unwrap_or("nobody");
    let what = match body["kind"].as_str().unwrap_or_default() {
        "Service" => body["spec"]["selector"].to_string(),
        "HTTPRoute" => backends(body),
        "Deployment" => format!("{} x {}", body["spec"]["replicas"], image(&body["spec"]["template"])),
        "DaemonSet" => image(&body["spec"]["template"]),
        "ControllerRevision" => match &body["data"]["template"]["selector"] {
            Value::Null => image(&body["data"]["template"]),
            selector => selector.to_string(),
        },
        _ => String::new(),
    };
    format!("{what}, owned by {owner}")
}

fn image(template: &Value) -> String {
    template.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The backends of the first rule.
pub(crate) fn backends(route: &Value) -> String {
    let backends = route.pointer("/spec/rules/0/backendRefs").and_then(Value::as_array);
    let one = |backend: &Value| format!("{} {}", backend["name"].as_str().unwrap_or_default(), backend["weight"]);
    backends.into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

/// The operations of a JSON patch, but the fence.
fn patched(body: &Value) -> String {
    let operations = body.as_array().into_iter().flatten();
    let shown = operations.filter(|operation| operation["path"] != "/metadata/resourceVersion").map(|operation| {
        let text = |field: &str| operation[field].as_str().unwrap_or_default();
        let value = if operation["value"].is_null() { String::new() } else { format!(" {}", operation["value"]) };
        format!("{} {}{value}", text("op"), text("path"))
    });
    shown.collect::<Vec<_>>().join(", ")
}
