//! Where alerts and the requests to webhooks arrive: an HTTP server that answers what a test wants, over a real connection.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Does {
    /// Answers with this status.
    Answer(u16),
    /// Answers 500 to this many requests, and then 200.
    Recover(usize),
    /// Never answers.
    Hang,
    /// Answers with this status and this text.
    Say(u16, &'static str),
    /// Answers 429 to the first request and asks for patience of so many seconds, and then 200.
    Busy(u64),
    /// Leads to another address on the same server.
    Redirect(&'static str),
    /// Answers 403, and goes on for megabytes.
    Flood,
    /// Answers 403 with everything that it was told.
    Echo,
    /// The same, as an error of Prometheus.
    Complain,
}

/// One request, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Letter {
    /// What programs are told, and in short form.
    pub(crate) fn line(&self) -> String {
        let text = |field: &str| self.body[field].as_str().unwrap_or("-");
        format!("{} {}: {}", text("severity"), text("reason"), text("text"))
    }
}

/// A handle to it; clones are the same.
#[derive(Clone)]
pub(crate) struct Inbox {
    pub(crate) address: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    does: Does,
    /// What it does at some paths.
    at: BTreeMap<String, Does>,
    arrived: Vec<Letter>,
}

impl Inbox {
    pub(crate) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let shared = Arc::new(Mutex::new(Shared { does, at: BTreeMap::new(), arrived: vec![] }));
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    /// From now on it does this at a path, whatever parameters are behind it.
    pub(crate) fn at(&self, path: &str, does: Does) {
        self.shared.lock().expect("no test panics in here").at.insert(path.to_owned(), does);
    }

    /// What arrived since this was last called.
    pub(crate) fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut self.shared.lock().expect("no test panics in here").arrived)
    }

    /// What arrived so far.
    pub(crate) fn arrived(&self) -> Vec<Letter> {
        self.shared.lock().expect("no test panics in here").arrived.clone()
    }

    /// Waits until so many requests arrived, in real time: paused time stands still meanwhile.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Letter> {
        let own = self.clone();
        let waiting = spawn_blocking(move || {
            let began = Instant::now();
            while own.arrived().len() < count && began.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(5));
            }
            // One too many would come at once.
            std::thread::sleep(Duration::from_millis(100));
        });
        waiting.await.expect("nothing panics in here");
        let arrived = self.arrived();
        assert_eq!(arrived.len(), count, "{:#?}", arrived.iter().map(Letter::line).collect::<Vec<_>>());
        arrived
    }
}

async fn take(State(shared): State<Arc<Mutex<Shared>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let letter = Letter {
        path: uri.to_string(),
        headers: headers.iter().map(header).collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let everything = format!("{letter:?}");
    let (does, before) = {
        let mut shared = shared.lock().expect("no test panics in here");
        let before = shared.arrived.iter().filter(|other| other.path == letter.path).count();
        let does = shared.at.get(uri.path()).copied().unwrap_or(shared.does);
        shared.arrived.push(letter);
        (does, before)
    };
    let status = |status: u16| StatusCode::from_u16(status).expect("a status");
    match does {
        Does::Answer(code) => status(code).into_response(),
        Does::Recover(failures) => status(if before < failures { 500 } else { 200 }).into_response(),
        Does::Hang => pending().await,
        Does::Say(code, text) => (status(code), text).into_response(),
        Does::Busy(seconds) if before == 0 => (status(429), [("retry-after", seconds.to_string())]).into_response(),
        Does::Busy(_) => status(200).into_response(),
        Does::Redirect(to) => (status(307), [("location", to)]).into_response(),
        Does::Flood => (status(403), "flood ".repeat(2_000_000)).into_response(),
        Does::Echo => (status(403), everything).into_response(),
        Does::Complain => {
            let error = json!({"status": "error", "errorType": "unauthorized", "error": everything});
            (status(401), error.to_string()).into_response()
        }
    }
}
