//! The one client for the Kubernetes API: bounded in time, and counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context;
use http::header::RETRY_AFTER;
use http::{Method, Request, Response, StatusCode, Uri};
use kube::client::ClientBuilder;
use kube::core::Status;
use kube::core::response::StatusDetails;
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

use crate::controller::CALL_LIMIT;
use crate::telemetry::{ApiRequests, Metrics};

/// A connection within a cluster takes milliseconds; this is for a lost packet or two.
const CONNECT: Duration = Duration::from_secs(5);

/// The API server gives up on a slow request after a minute at most, but a pass that waited this long had better begin
/// anew. Also what ends a request over a connection whose other end vanished without a word.
const ANSWER: Duration = Duration::from_secs(15);

/// Connects as the environment says: a kubeconfig, or the service account of the Pod.
pub(super) async fn connect(metrics: &Arc<Metrics>) -> anyhow::Result<Client> {
    let mut config =
        Config::infer().await.context("could not find a Kubernetes cluster; set KUBECONFIG or run inside a Pod")?;
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(ANSWER);
    // Its own retries would wait here, out of sight, as long as the API server asks for, with a retreat too; who calls knows
    // better what can wait.
    config.default_retry = false;
    // Not `read_timeout`: it would also end watches on which nothing happens, and an idle Canary is to cost nothing.
    let builder = ClientBuilder::try_from(config).context("could not set up the client for the Kubernetes API")?;
    Ok(builder.with_layer(&Deadline).with_layer(&ApiRequests::new(Arc::clone(metrics))).with_layer(&Patience).build())
}

/// Bounds the time until the answer begins, and for which a write is worked on. A watch answers at once too; only its body
/// takes long.
#[derive(Clone, Copy, Debug)]
struct Deadline;

impl<Inner> Layer<Inner> for Deadline {
    type Service = Bounded<Inner>;

    fn layer(&self, inner: Inner) -> Self::Service {
        Bounded { inner }
    }
}

#[derive(Clone, Debug)]
struct Bounded<Inner> {
    inner: Inner,
}

impl<Inner, Body, Answer> Service<Request<Body>> for Bounded<Inner>
where
    Inner: Service<Request<Body>, Response = Response<Answer>>,
    Inner::Error: Into<BoxError>,
    Inner::Future: Send + 'static,
{
    type Response = Inner::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.method() != Method::GET {
            *request.uri_mut() = bounded(request.uri());
        }
        let answer = tokio::time::timeout(ANSWER, self.inner.call(request));
        Box::pin(async move { answer.await.map_err(|_| BoxError::from(NoAnswer))?.map_err(Into::into) })
    }
}

/// An address with how long the API server may work on it: what nobody waits for any more must not be carried out later, over
/// what was decided since.
fn bounded(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    let separator = if uri.query().is_some() { '&' } else { '?' };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    parts.path_and_query = format!("{target}{separator}timeout={}s", CALL_LIMIT.as_secs()).parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// Hands on for how long the API server asks to be left alone: it says so in a header, which nobody above sees.
#[derive(Clone, Copy, Debug)]
struct Patience;

impl<Inner> Layer<Inner> for Patience {
    type Service = Patient<Inner>;

    fn layer(&self, inner: Inner) -> Self::Service {
        Patient { inner }
    }
}

#[derive(Clone, Debug)]
struct Patient<Inner> {
    inner: Inner,
}

impl<Inner, Body, Answer> Service<Request<Body>> for Patient<Inner>
where
    Inner: Service<Request<Body>, Response = Response<Answer>, Error = BoxError>,
    Inner::Future: Send + 'static,
{
    type Response = Inner::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // kube hands on an error of its own as it is.
            turned_away(&answer).map_or(Ok(answer), |status| Err(kube::Error::Api(status.boxed()).into()))
        })
    }
}

/// What the API server says when it asks for so many seconds of patience. A date, which the header may hold too, it never
/// gives.
fn turned_away<Body>(answer: &Response<Body>) -> Option<Status> {
    let code = answer.status();
    if !matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let seconds: u32 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    let reason = code.canonical_reason().unwrap_or_default();
    let details = StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: vec![],
        retry_after_seconds: seconds,
    };
    let status = Status::failure(&format!("it asks for {seconds} s of patience"), reason).with_code(code.as_u16());
    Some(status.with_details(details))
}

/// Nothing was heard.
#[derive(Debug, thiserror::Error)]
#[error("the Kubernetes API did not answer within {} s", ANSWER.as_secs())]
struct NoAnswer;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use kube::client::Body;
    use tower::service_fn;

    use super::*;
    use crate::telemetry::chain;

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_ends() {
        let silent = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, BoxError>>());
        let client = ClientBuilder::new(silent, "default").with_layer(&Deadline).build();
        let error = client.apiserver_version().await.unwrap_err();
        assert_eq!(chain(&error), "ServiceError: the Kubernetes API did not answer within 15 s");
    }

    #[tokio::test]
    async fn the_api_server_works_on_a_write_for_as_long_as_somebody_waits_for_it() {
        for (method, address, sent) in [
            ("GET", "/api/v1/pods?limit=1", "/api/v1/pods?limit=1"),
            ("PATCH", "/api/v1/pods/a?&fieldManager=serin", "/api/v1/pods/a?&fieldManager=serin&timeout=10s"),
            ("DELETE", "/api/v1/pods/a", "/api/v1/pods/a?timeout=10s"),
        ] {
            let echo = service_fn(|request: Request<Body>| async move {
                let text = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
                Ok::<_, BoxError>(Response::new(Body::from(text.into_bytes())))
            });
            let client = ClientBuilder::new(echo, "default").with_layer(&Deadline).build();
            let request = Request::builder().method(method).uri(address).body(vec![]).unwrap();
            assert_eq!(client.request_text(request).await.unwrap(), sent);
        }
    }

    #[tokio::test]
    async fn how_long_the_api_server_asks_for_patience_is_handed_on() {
        for (code, header, seconds) in
            [(429, Some("7"), Some(7)), (503, Some("30"), Some(30)), (429, None, None), (500, Some("7"), None)]
        {
            let busy = service_fn(move |_: Request<Body>| async move {
                let answer = Response::builder().status(code);
                let answer = header.into_iter().fold(answer, |answer, seconds| answer.header(RETRY_AFTER, seconds));
                Ok::<_, BoxError>(answer.body(Body::from(b"Too many requests, please try again later.".to_vec()))?)
            });
            let client = ClientBuilder::new(busy, "default").with_layer(&Patience).build();
            let error = client.apiserver_version().await.unwrap_err();
            let kube::Error::Api(status) = error else { panic!("{error:?}") };
            assert_eq!(status.code, code);
            assert_eq!(status.details.map(|details| details.retry_after_seconds), seconds, "{code} {header:?}");
        }
    }
}
