//! A Prometheus that answers what a test wants, over a real connection.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// What it answers, to every query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Says {
    /// One number.
    Value(f64),
    /// No series.
    Nothing,
    /// An error of its own.
    Broken,
}

/// One query, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The request's parameters, still encoded.
    pub(crate) parameters: String,
    /// Who asked, if that was said.
    pub(crate) authorization: Option<String>,
}

/// A handle to it; clones are the same.
#[derive(Clone)]
pub(crate) struct Prometheus {
    pub(crate) address: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    says: Says,
    asked: Vec<Asked>,
}

impl Prometheus {
    /// Begins to serve; everything is well at first.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let shared = Arc::new(Mutex::new(Shared { says: Says::Value(100.0), asked: vec![] }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    /// Changes the answer.
    pub(crate) fn says(&self, says: Says) {
        self.shared.lock().expect("no test panics in here").says = says;
    }

    /// The queries since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.lock().expect("no test panics in here").asked)
    }
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let parameters = format!("{}{}", uri.query().unwrap_or_default(), String::from_utf8_lossy(&body));
    let mut shared = shared.lock().expect("no test panics in here");
    shared.asked.push(Asked { parameters, authorization });
    let series = |result| json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string();
    match shared.says {
        Says::Value(value) => series(json!([{"metric": {}, "value": [0, value.to_string()]}])).into_response(),
        Says::Nothing => series(json!([])).into_response(),
        Says::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "out of memory").into_response(),
    }
}
