//! The operator's own HTTP endpoints: `/metrics`, `/healthz`, `/readyz`.
//!
//! Invariant: no endpoint calls the Kubernetes API or takes part in a pass, so they answer while everything else waits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::telemetry::{self, Metrics};

/// Why the endpoints are not there.
#[derive(Debug, Error)]
pub enum Error {
    /// The address is taken, is not ours or needs a privilege.
    #[error("could not listen on {address}; choose another address with --listen or SERIN_LISTEN")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The socket broke while serving.
    #[error("could not serve the HTTP endpoints")]
    Serve {
        /// What the operating system says.
        source: io::Error,
    },
}

/// Whether `/readyz` says yes. A cheap handle: all clones are one flag.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<Awaited>);

/// What is still missing, as a sentence; nothing when ready.
type Awaited = Option<&'static str>;

impl Readiness {
    /// Not ready, for the reason given as a sentence.
    #[must_use]
    pub fn awaiting(what: &'static str) -> Self {
        Self(watch::Sender::new(Some(what)))
    }

    /// From now on not ready, for the reason given as a sentence.
    pub fn await_more(&self, what: &'static str) {
        self.0.send_replace(Some(what));
    }

    /// From now on ready: with all caches filled, as the leader or standing by.
    pub fn set_ready(&self) {
        self.0.send_replace(None);
    }

    fn awaited(&self) -> Awaited {
        *self.0.borrow()
    }
}

/// Takes the address, so that a mistake shows at the start and not in a task.
///
/// # Errors
///
/// When the address cannot be bound; the message names it and the flag.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until `stop`, then answers what is in flight.
///
/// # Errors
///
/// When the socket breaks.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let served = axum::serve(listener, router(metrics, readiness)).with_graceful_shutdown(stop);
    served.await.map_err(|source| Error::Serve { source })
}

fn router(metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    let exposition = async move || ([(CONTENT_TYPE, telemetry::CONTENT_TYPE)], metrics.encode());
    Router::new()
        .route("/metrics", get(exposition))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || ready(&readiness)))
}

fn ready(readiness: &Readiness) -> impl IntoResponse + use<> {
    match readiness.awaited() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {what}\n")),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tokio::sync::oneshot;
    use tower::ServiceExt;

    use super::*;
    use crate::telemetry::chain;

    async fn answer(router: &Router, path: &str) -> (u16, String, String) {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_is_a_flag_with_a_reason() {
        let readiness = Readiness::awaiting("the caches are being filled");
        let router = router(Arc::default(), readiness.clone());
        assert_eq!(answer(&router, "/healthz").await.0, 200);
        let (status, _, body) = answer(&router, "/readyz").await;
        assert_eq!((status, body.as_str()), (503, "not ready: the caches are being filled\n"));

        readiness.set_ready();
        assert_eq!(answer(&router, "/readyz").await.0, 200);
        readiness.await_more("the caches are being filled again");
        assert_eq!(answer(&router, "/readyz").await.0, 503);
    }

    #[tokio::test]
    async fn metrics_come_with_their_media_type_and_other_paths_do_not_exist() {
        let router = router(Arc::default(), Readiness::awaiting("nothing"));
        let (status, kind, body) = answer(&router, "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(body.ends_with("# EOF\n"), "{body}");
        assert_eq!(answer(&router, "/").await.0, 404);
        assert_eq!(answer(&router, "/metrics/more").await.0, 404);
    }

    #[tokio::test]
    async fn an_address_in_use_names_the_flag() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
        let _held = bind(taken).await.unwrap();
        let message = chain(&bind(taken).await.unwrap_err());
        assert!(message.starts_with(&format!("could not listen on {taken}; choose another address with --listen")));
        assert!(message.contains("in use"), "{message}");
    }

    #[tokio::test]
    async fn serving_ends_when_told_to() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { stopped.await.unwrap_or(()) };
        let server = tokio::spawn(serve(listener, Arc::default(), Readiness::awaiting("nothing"), stopped));
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
