//! The server as a service under a client, with the faults a test asks for.
//!
//! Invariant: a request that a fault keeps from being carried out changes nothing.

use std::{
    future::pending,
    io::{self, ErrorKind},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::Response;
use kube::client::Body;
use tower::{BoxError, Service};

use crate::{
    answer::{Answer, ReplyBody},
    call::Call,
    path::group_version,
    refusal::refusal,
    server::ApiServer,
};

/// What happens to a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// The server refuses it with a code and a reason, and does not carry it out.
    Fail(u16, &'static str),
    /// The connection breaks before the server gets the request.
    DropBefore,
    /// The server carries it out and the connection breaks before the answer is back.
    DropAfter,
    /// It takes a while to get to the server.
    Delay(Duration),
    /// The server carries it out, and its answer takes a while.
    DelayAnswer(Duration),
    /// It never gets to the server, and the client is never told.
    Hang,
}

impl Service<http::Request<Body>> for ApiServer {
    type Response = Response<ReplyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            if let Some((group, version)) = group_version(parts.uri.path()) {
                return Ok(server.lock().discovered(group, version).into_response());
            }
            let answer = match Call::parse(&parts, &body) {
                Ok(call) => server.process(call).await?,
                Err(answer) => answer,
            };
            Ok(answer.into_response())
        }
        .boxed()
    }
}

impl ApiServer {
    async fn process(&self, mut call: Call) -> Result<Answer, BoxError> {
        self.lock().log.arrive(&mut call.request);
        match self.fault(&call.request) {
            Fault::Pass => {}
            Fault::Fail(code, reason) => {
                self.lock().log.answered(call.request.ordinal, code);
                return Ok(refusal(code, reason, "the test asked for this failure").into());
            }
            Fault::DropBefore => return Err(broken_connection()),
            Fault::DropAfter => {
                self.carry_out(call);
                return Err(broken_connection());
            }
            Fault::Delay(duration) => tokio::time::sleep(duration).await,
            Fault::DelayAnswer(duration) => {
                let answer = self.carry_out(call);
                tokio::time::sleep(duration).await;
                return Ok(answer);
            }
            Fault::Hang => pending().await,
        }
        Ok(self.carry_out(call))
    }

    fn carry_out(&self, call: Call) -> Answer {
        let mut state = self.lock();
        let ordinal = call.request.ordinal;
        let answer = state.answer(call);
        state.log.answered(ordinal, answer.code());
        answer
    }
}

/// The answer of a server that refuses a request, for those who stand between it and its clients.
#[must_use]
pub fn refuse(code: u16, reason: &'static str) -> Response<ReplyBody> {
    Answer::from(refusal(code, reason, "the test asked for this failure")).into_response()
}

fn broken_connection() -> BoxError {
    io::Error::new(ErrorKind::ConnectionReset, "connection reset by a fault").into()
}
