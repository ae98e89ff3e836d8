//! Prometheus and a webhook, on one address of the loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::future::pending;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::board::{self, Board};

/// How Prometheus answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// With the truth.
    Well,
    /// With 503.
    Down,
    /// With no samples.
    Empty,
    /// Never.
    Silent,
}

const MOODS: [Mood; 4] = [Mood::Well, Mood::Down, Mood::Empty, Mood::Silent];

/// What both know, and what they count.
#[derive(Debug)]
pub struct Providers {
    board: Arc<Board>,
    queries: AtomicU64,
    hooks: AtomicU64,
    mood: AtomicU8,
    hooks_hang: AtomicBool,
    /// Of apps from this number on Prometheus says nothing, ever.
    silent_from: AtomicUsize,
    /// Where they listen.
    pub address: SocketAddr,
}

impl Providers {
    /// Listens on a free port, and answers until the process ends.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(board: Arc<Board>) -> Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let providers = Arc::new(Self {
            board,
            queries: AtomicU64::new(0),
            hooks: AtomicU64::new(0),
            mood: AtomicU8::new(0),
            hooks_hang: AtomicBool::new(false),
            silent_from: AtomicUsize::new(usize::MAX),
            address: listener.local_addr()?,
        });
        let router = Router::new()
            .route("/api/v1/query", get(by_url).post(by_form))
            .route("/hook", post(hook))
            .with_state(Arc::clone(&providers));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(providers)
    }

    /// Queries so far.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Calls of the webhook so far.
    #[must_use]
    pub fn hooks(&self) -> u64 {
        self.hooks.load(Ordering::Relaxed)
    }

    /// From now on Prometheus answers like this.
    pub fn set_mood(&self, mood: Mood) {
        let index = MOODS.iter().position(|other| *other == mood).unwrap_or_default();
        self.mood.store(u8::try_from(index).unwrap_or_default(), Ordering::Relaxed);
    }

    /// From now on the webhook takes calls and does not answer, or does again.
    pub fn hang_hooks(&self, hang: bool) {
        self.hooks_hang.store(hang, Ordering::Relaxed);
    }

    /// From now on Prometheus takes questions about apps from this number on, and does not answer.
    pub fn keep_silent_from(&self, index: usize) {
        self.silent_from.store(index, Ordering::Relaxed);
    }

    async fn answer(&self, query: &str) -> Response {
        self.queries.fetch_add(1, Ordering::Relaxed);
        if board::index_in(query).is_some_and(|index| index >= self.silent_from.load(Ordering::Relaxed)) {
            return pending().await;
        }
        match MOODS[usize::from(self.mood.load(Ordering::Relaxed))] {
            Mood::Well => vector(Some(self.value(query))),
            Mood::Down => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Mood::Empty => vector(None),
            Mood::Silent => pending().await,
        }
    }

    /// A percentage of good requests, or a time in which nearly all were answered, which is always good.
    fn value(&self, query: &str) -> &'static str {
        if query.contains("histogram_quantile") {
            return "0.25";
        }
        let good = board::index_in(query).is_none_or(|index| self.board.is_good(index));
        if good { "99.9" } else { "50" }
    }
}

#[derive(Deserialize)]
struct Asked {
    query: String,
}

async fn by_url(State(providers): State<Arc<Providers>>, Query(asked): Query<Asked>) -> Response {
    providers.answer(&asked.query).await
}

/// A form in a body is written like one in an address.
async fn by_form(State(providers): State<Arc<Providers>>, form: String) -> Response {
    let asked = format!("/?{form}").parse::<Uri>().ok().and_then(|uri| Query::<Asked>::try_from_uri(&uri).ok());
    match asked {
        Some(asked) => providers.answer(&asked.query).await,
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn hook(State(providers): State<Arc<Providers>>) -> StatusCode {
    providers.hooks.fetch_add(1, Ordering::Relaxed);
    if providers.hooks_hang.load(Ordering::Relaxed) {
        return pending().await;
    }
    StatusCode::OK
}

fn vector(value: Option<&str>) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let series: Vec<_> = value.iter().map(|value| json!({"metric": {}, "value": [now, value]})).collect();
    let body = json!({"status": "success", "data": {"resultType": "vector", "result": series}});
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn ask(providers: &Providers, query: &str) -> (u16, String) {
        let url = format!("http://{}/api/v1/query", providers.address);
        let answer = reqwest::Client::new().post(url).form(&[("query", query)]).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn what_is_bad_is_said_to_be_bad_and_counted() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let board = Arc::new(Board::new(2, Duration::from_secs(1)));
        board.begin(1, "app:2", None);
        board.turn_bad(1);
        let providers = Providers::start(Arc::clone(&board)).await.unwrap();
        let query = |app: &str| format!(r#"sum(rate(requests{{service="{app}-canary"}}[1m]))"#);
        assert!(ask(&providers, &query("app00000")).await.1.contains(r#""99.9""#));
        assert!(ask(&providers, &query("app00001")).await.1.contains(r#""50""#));
        assert!(ask(&providers, "histogram_quantile(0.99, app00001)").await.1.contains(r#""0.25""#));
        assert!(board.snapshot()[1].rollout.as_ref().unwrap().told.is_some());

        providers.set_mood(Mood::Down);
        assert_eq!(ask(&providers, "up").await.0, 503);
        providers.set_mood(Mood::Empty);
        assert!(ask(&providers, "up").await.1.contains(r#""result":[]"#));
        assert_eq!(providers.queries(), 5);
    }
}
