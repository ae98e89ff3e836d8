//! A server outside of the cluster that webhooks are sent to, and that answers what a scenario wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::environment;

/// One request.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The path of the URL.
    pub path: String,
    /// The header by which repeated requests are told from new ones.
    pub key: String,
    /// What was said.
    pub body: Value,
}

/// The server; it ends with its handle.
#[derive(Debug)]
pub struct Webhooks {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    statuses: BTreeMap<String, u16>,
    arrived: Vec<Letter>,
}

impl Webhooks {
    /// Begins to listen on the address at which pods reach this machine.
    ///
    /// # Errors
    /// When that address is not known, or not this machine's.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((environment::node()?, 0)).await.context("listen for webhooks")?;
        let address = listener.local_addr().context("read the bound address")?;
        let shared = Arc::<Mutex<Shared>>::default();
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // It ends when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, task })
    }

    /// A webhook of a Canary, at the path of its type.
    #[must_use]
    pub fn webhook(&self, kind: &str) -> Value {
        json!({"type": kind, "name": kind, "url": format!("http://{}/{kind}", self.address), "timeout": "5s"})
    }

    /// From now on, webhooks of a type are answered with this status; with 200 unless something else is said.
    pub fn answer(&self, kind: &str, status: u16) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).statuses.insert(format!("/{kind}"), status);
    }

    /// What was asked of a type.
    #[must_use]
    pub fn asked(&self, kind: &str) -> Vec<Letter> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.arrived.iter().filter(|letter| letter.path == format!("/{kind}")).cloned().collect()
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(shared): State<Arc<Mutex<Shared>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let path = uri.path().to_owned();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let status = shared.statuses.get(&path).copied().unwrap_or(200);
    shared.arrived.push(Letter { path, key, body });
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
