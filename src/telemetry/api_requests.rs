//! Counts and times every request to the Kubernetes API, as a layer around kube's HTTP client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response, StatusCode};
use tower::{Layer, Service};

use super::registry::Metrics;
use super::request_kind::RequestKind;

/// The layer: `ClientBuilder::with_layer(&ApiRequests::new(metrics))`.
#[derive(Clone, Debug)]
pub struct ApiRequests {
    metrics: Arc<Metrics>,
}

impl ApiRequests {
    /// Records into `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<Inner> Layer<Inner> for ApiRequests {
    type Service = CountedRequests<Inner>;

    fn layer(&self, inner: Inner) -> Self::Service {
        CountedRequests { inner, metrics: Arc::clone(&self.metrics) }
    }
}

/// An HTTP client whose requests are counted.
#[derive(Clone, Debug)]
pub struct CountedRequests<Inner> {
    inner: Inner,
    metrics: Arc<Metrics>,
}

impl<Inner, Body, Answer> Service<Request<Body>> for CountedRequests<Inner>
where
    Inner: Service<Request<Body>, Response = Response<Answer>>,
    Inner::Future: Send + 'static,
{
    type Response = Inner::Response;
    type Error = Inner::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let RequestKind { verb, resource } = RequestKind::of(request.method(), request.uri());
        let metrics = Arc::clone(&self.metrics);
        let start = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let status = answer.as_ref().map(Response::status);
            let code = status.as_ref().map_or("error", StatusCode::as_str);
            metrics.api_request(verb, &resource, code, start.elapsed());
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::Client;
    use kube::client::{Body, ClientBuilder};
    use tower::{BoxError, service_fn};

    use super::*;

    #[tokio::test]
    async fn answers_and_failures_are_counted() {
        let metrics = Arc::new(Metrics::new());
        let api = service_fn(|request: Request<Body>| async move {
            if request.uri().path() == "/version" {
                let version = r#"{"major":"1","minor":"33","gitVersion":"","gitCommit":"","gitTreeState":"","buildDate":"",
                    "goVersion":"","compiler":"","platform":""}"#;
                return Ok(Response::new(Body::from(version.as_bytes().to_vec())));
            }
            Err(BoxError::from("connection refused"))
        });
        let layer = ApiRequests::new(Arc::clone(&metrics));
        let client: Client = ClientBuilder::new(api, "default").with_layer(&layer).build();

        client.apiserver_version().await.unwrap();
        client.list_core_api_versions().await.unwrap_err();

        let text = metrics.encode();
        assert!(text.contains(r#"serin_api_requests_total{verb="get",resource="other",code="200"} 1"#), "{text}");
        assert!(text.contains(r#"serin_api_requests_total{verb="get",resource="other",code="error"} 1"#), "{text}");
        assert!(text.contains(r#"serin_api_request_duration_seconds_count{verb="get",resource="other"} 2"#), "{text}");
    }
}
