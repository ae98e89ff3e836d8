//! What lies between a process and the others: every request and every question waits here for its fate.
//!
//! Invariant: nothing gets through by itself.

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use kube::client::Body;
use serin::controller::{Network, Response as Answered, Unsent, WayOut};
use serin::domain::{Answer, Unknown};
use serin::metrics::{Query, prometheus};
use serin_testing::ReplyBody;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::{BoxError, Service};

/// What the API server, or the way to it, answers.
pub(crate) type Reply = Result<Response<ReplyBody>, BoxError>;

/// Something that a process has sent.
#[expect(clippy::large_enum_variant, reason = "there are few at a time")]
pub(crate) enum Sent {
    /// A request to the API server.
    Request(Request<Body>, oneshot::Sender<Reply>),
    /// A question to Prometheus, which answers with status and body, or cannot be reached.
    Question(oneshot::Sender<Option<(u16, String)>>),
    /// A call to a webhook of this kind.
    Call(String, oneshot::Sender<StatusCode>),
}

/// One process's way out.
#[derive(Clone)]
pub(crate) struct Door {
    process: u32,
    line: Arc<Line>,
}

/// What was sent and has no fate yet, in order, and by whom.
#[derive(Default)]
pub(crate) struct Line(Mutex<Vec<(u32, Sent)>>);

impl Line {
    pub(crate) fn door(self: &Arc<Self>, process: u32) -> Door {
        Door { process, line: Arc::clone(self) }
    }

    pub(crate) fn take(&self) -> Vec<(u32, Sent)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Door {
    fn leave(&self, sent: Sent) {
        self.line.0.lock().unwrap_or_else(PoisonError::into_inner).push((self.process, sent));
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response<ReplyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Reply>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (reply, answer) = oneshot::channel();
        self.leave(Sent::Request(request, reply));
        async move { answer.await.unwrap_or_else(|_| Err(broken())) }.boxed()
    }
}

impl Network for Door {
    fn query<'a>(&'a self, query: &'a Query, limit: Duration) -> BoxFuture<'a, Answer> {
        let (reply, answer) = oneshot::channel();
        self.leave(Sent::Question(reply));
        let address = &query.address;
        async move {
            match timeout(limit, answer).await {
                Ok(Ok(Some((status, body)))) => {
                    let status = StatusCode::from_u16(status).unwrap_or_default();
                    prometheus::parse(address, status, body.as_bytes())
                }
                Ok(_) => Err(Unknown::Unreachable(address.clone(), "connection refused".to_owned())),
                Err(_) => Err(prometheus::too_late(address, limit.try_into().unwrap_or_default())),
            }
        }
        .boxed()
    }
}

/// The path of a webhook's address names its kind.
impl WayOut for Door {
    fn send(&self, request: Request<Vec<u8>>, _: bool) -> BoxFuture<'_, Result<Answered, Unsent>> {
        let (reply, answer) = oneshot::channel();
        self.leave(Sent::Call(request.uri().path().trim_start_matches('/').to_owned(), reply));
        async move {
            let status = answer.await.map_err(|_| Unsent::Unreachable("connection refused".to_owned()))?;
            Ok(Answered { status, headers: HeaderMap::new(), body: vec![] })
        }
        .boxed()
    }
}

/// What a client hears when the connection breaks.
pub(crate) fn broken() -> BoxError {
    Error::new(ErrorKind::ConnectionReset, "connection reset by a fault").into()
}
