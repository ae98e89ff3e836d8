//! The one client for the Kubernetes API: bounded in time, and counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

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
    // Not `read_timeout`: it would also end watches on which nothing happens, and an idle Canary is to cost nothing.
    let builder = ClientBuilder::try_from(config).context("could not set up the client for the Kubernetes API")?;
    Ok(builder.with_layer(&Deadline).with_layer(&ApiRequests::new(Arc::clone(metrics))).build())
}

/// Bounds the time until the answer begins. A watch answers at once too; only its body takes long.
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = tokio::time::timeout(ANSWER, self.inner.call(request));
        Box::pin(async move { answer.await.map_err(|_| BoxError::from(NoAnswer))?.map_err(Into::into) })
    }
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
}
