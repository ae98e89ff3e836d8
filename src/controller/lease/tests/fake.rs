//! One Lease behind as many wires as there are candidates; each wire can be slow or cut.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::time::sleep;
use tower::{BoxError, service_fn};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Link {
    /// It is answered; it takes this long there, and the answer this long back.
    Up { there: Duration, back: Duration },
    /// It fails at once.
    Refused,
    /// It never arrives.
    Silent,
    /// It arrives and is executed, and nobody hears of it.
    Deaf,
}

impl Link {
    pub(super) const FAST: Self = Self::Up { there: Duration::ZERO, back: Duration::ZERO };
}

/// The handle by which a test cuts a wire.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Link>>);

impl Wire {
    pub(super) fn set(&self, link: Link) {
        *self.0.lock().unwrap() = link;
    }

    fn get(&self) -> Link {
        *self.0.lock().unwrap()
    }
}

#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Lease>,
    version: u64,
    writes: usize,
}

impl Server {
    pub(super) fn connect(&self) -> (Client, Wire) {
        let wire = Wire(Arc::new(Mutex::new(Link::FAST)));
        let (server, link) = (self.clone(), wire.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (server, link) = (server.clone(), link.clone());
            async move {
                match link.get() {
                    Link::Up { there, back } => {
                        sleep(there).await;
                        let answer = server.answer(request).await;
                        sleep(back).await;
                        Ok(answer)
                    }
                    Link::Refused => Err(BoxError::from("connection refused")),
                    Link::Silent => pending().await,
                    Link::Deaf => {
                        server.answer(request).await;
                        pending().await
                    }
                }
            }
        });
        (Client::new(service, "default"), wire)
    }

    /// The record as stored now.
    pub(super) fn record(&self) -> LeaseSpec {
        self.0.lock().unwrap().lease.clone().unwrap().spec.unwrap()
    }

    pub(super) fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }

    /// `kubectl edit`.
    pub(super) fn edit(&self, edit: impl FnOnce(&mut Lease)) {
        let mut stored = self.0.lock().unwrap();
        let mut lease = stored.lease.clone().unwrap_or_default();
        lease.metadata.name = Some("serin".to_owned());
        edit(&mut lease);
        stored.keep(lease);
    }

    /// `kubectl delete`.
    pub(super) fn delete(&self) {
        self.0.lock().unwrap().lease = None;
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let mut stored = self.0.lock().unwrap();
        let found = stored.lease.clone();
        if head.method == Method::GET {
            return found.map_or_else(|| refusal(404, "NotFound"), |lease| success(&lease));
        }
        let written: Lease = serde_json::from_slice(&body).unwrap();
        let current = found.and_then(|lease| lease.metadata.resource_version);
        match (head.method, current) {
            (Method::POST, Some(_)) => refusal(409, "AlreadyExists"),
            (Method::PUT, None) => refusal(404, "NotFound"),
            (Method::PUT, current) if current != written.metadata.resource_version => refusal(409, "Conflict"),
            _ => success(&stored.keep(written)),
        }
    }
}

impl Stored {
    fn keep(&mut self, mut lease: Lease) -> Lease {
        self.version += 1;
        self.writes += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        lease
    }
}

fn success(lease: &Lease) -> Response<Body> {
    Response::new(Body::from(serde_json::to_vec(lease).unwrap()))
}

fn refusal(code: u16, reason: &str) -> Response<Body> {
    let status = json!({ "kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code });
    let mut response = Response::new(Body::from(serde_json::to_vec(&status).unwrap()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
