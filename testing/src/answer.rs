//! What goes back to the client.
//!
//! Invariant: every refusal is sent as a `Status` object, except for paths that are not served,
//! where the real API server sends plain text as well.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tower::BoxError;

use crate::refusal::Refusal;

/// The body of an answer; that of a watch is a stream.
pub type ReplyBody = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) enum Answer {
    Json(u16, Value),
    /// An object as it is stored.
    Object(u16, Arc<Value>),
    Missing,
    Stream(BoxStream<'static, Bytes>),
}

impl Answer {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Json(code, _) | Self::Object(code, _) => *code,
            Self::Missing => 404,
            Self::Stream(_) => 200,
        }
    }

    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        let code = StatusCode::from_u16(self.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (content_type, body) = match self {
            Self::Json(_, value) => ("application/json", whole(value.to_string().into())),
            Self::Object(_, object) => ("application/json", whole(object.to_string().into())),
            Self::Missing => ("text/plain", whole("404 page not found\n".into())),
            Self::Stream(lines) => {
                let frames = lines.map(|line| Ok::<_, BoxError>(Frame::data(line)));
                ("application/json", StreamBody::new(frames).boxed_unsync())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = code;
        let content_type = HeaderValue::from_static(content_type);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Json(refusal.code, status_value(&refusal))
    }
}

/// A refusal as the object it is on the wire.
pub(crate) fn status_value(refusal: &Refusal) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "code": refusal.code,
        "reason": refusal.reason,
        "message": refusal.message,
    })
}

fn whole(bytes: Bytes) -> ReplyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
