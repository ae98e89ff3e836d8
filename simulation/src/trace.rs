//! What happened, one line a step, for somebody who looks at one seed.

use crate::agenda::Time;
use crate::app::{Shown, text};
use serde_json::Value;
use serin_testing::{Request, Verb};
use std::fmt::Write as _;

/// The lines, if anybody wants them.
pub(crate) struct Trace(Option<Vec<String>>);

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        Self(wanted.then(Vec::new))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn line(&mut self, time: Time, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            lines.push(format!("{:>6}.{:03}  {}", time / 1000, time % 1000, line()));
        }
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.0.unwrap_or_default()
    }
}

/// A request that was carried out.
pub(crate) fn request(request: &Request, is_write: bool) -> String {
    let Request { verb, body, status, .. } = request;
    let name = request.name.as_deref().or_else(|| body["metadata"]["name"].as_str()).unwrap_or_default();
    let what = match (verb, request.resource.as_str()) {
        (Verb::Create, "events") => format!("{}: {}", text(body, "/reason"), text(body, "/note")),
        (Verb::Update, "canaries") => recorded(&body["status"]),
        (Verb::Patch, _) => patched(body),
        (Verb::Create, "httproutes") => Shown::of(Some(body)).to_string(),
        _ => String::new(),
    };
    let code = status.filter(|code| !is_write || !(200..300).contains(code)).map(|code| format!(" -> {code}"));
    format!("{verb} {}/{name} {what}{}", request.target(), code.unwrap_or_default())
}

/// A status as a person would sum it up.
fn recorded(status: &Value) -> String {
    let ready = status["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
    format!(
        "{} weight {} pods {}, {} -> {} | {}",
        text(status, "/phase"),
        status["canaryWeight"],
        text(status, "/canaryPods"),
        text(status, "/promoted/revision"),
        text(status, "/candidate/revision"),
        ready.map(|ready| text(ready, "/message")).unwrap_or_default(),
    )
}

/// The operations of a JSON patch, but the fence.
fn patched(body: &Value) -> String {
    let mut line = String::new();
    for operation in body.as_array().into_iter().flatten() {
        let path = text(operation, "/path");
        if path != "/metadata/resourceVersion" {
            let _ = write!(line, "{} {path} {}; ", text(operation, "/op"), operation["value"]);
        }
    }
    line
}
