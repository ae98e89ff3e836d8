//! The `Status` objects the server refuses a request with.
//!
//! Invariant: code, reason and message are those of the real API server, since clients branch on
//! the first two and people read the third.

use kube::core::{Status, response::reason};

use crate::registry::Resource;

/// Why the server did not do what it was asked.
pub type Refusal = Box<Status>;

pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Refusal {
    Status::failure(message, reason).with_code(code).boxed()
}

pub(crate) fn bad_request(message: &str) -> Refusal {
    refusal(400, reason::BAD_REQUEST, message)
}

pub(crate) fn not_found(resource: &Resource, name: &str) -> Refusal {
    let message = format!("{} \"{name}\" not found", resource.name.qualified());
    refusal(404, reason::NOT_FOUND, &message)
}

pub(crate) fn already_exists(resource: &Resource, name: &str) -> Refusal {
    let message = format!("{} \"{name}\" already exists", resource.name.qualified());
    refusal(409, reason::ALREADY_EXISTS, &message)
}

pub(crate) fn method_not_allowed() -> Refusal {
    let message = "the server does not allow this method on the requested resource";
    refusal(405, reason::METHOD_NOT_ALLOWED, message)
}

pub(crate) fn unsupported_media_type(content_type: &str) -> Refusal {
    let message = format!("the body of the request was in an unknown format - {content_type} is not served");
    refusal(415, reason::UNSUPPORTED_MEDIA_TYPE, &message)
}

pub(crate) fn modified(resource: &Resource, name: &str) -> Refusal {
    conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Refusal {
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.name.qualified());
    refusal(409, reason::CONFLICT, &message)
}

pub(crate) fn invalid(resource: &Resource, name: &str, why: &str) -> Refusal {
    let message = format!("{} \"{name}\" is invalid: {why}", resource.qualified_kind());
    refusal(422, reason::INVALID, &message)
}

pub(crate) fn unprocessable_patch(why: &str) -> Refusal {
    let message = format!("the server rejected our request due to an error in our request: {why}");
    refusal(422, reason::INVALID, &message)
}

pub(crate) fn expired(asked: u64, oldest: u64) -> Refusal {
    let message = format!("too old resource version: {asked} ({oldest})");
    refusal(410, reason::EXPIRED, &message)
}
