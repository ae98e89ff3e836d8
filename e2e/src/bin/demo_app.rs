//! The app that the scenarios roll out: an environment variable makes a version fail, dawdle or never get ready.
//!
//! It behaves like an app worth rolling out: once told to stop it turns unready, and goes on answering until the
//! gateway has had time to drop it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use clap::Parser;
use http::StatusCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Upper bounds of the duration histogram in seconds: they resolve what a delay of a few hundred milliseconds does.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Answers that are still under way when the drain is over get this long, so that the process ends by itself.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
struct Options {
    /// Address to listen on
    #[arg(long, env = "ADDRESS", default_value = "0.0.0.0:8080")]
    address: SocketAddr,
    /// What this version calls itself
    #[arg(long, env = "VERSION", default_value = "v1")]
    version: String,
    /// Of a hundred requests, how many fail with 500
    #[arg(long, env = "FAULT_PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    fault_percent: u64,
    /// How long an answer takes
    #[arg(long, env = "DELAY_MS", default_value_t = 0)]
    delay_ms: u64,
    /// `false` makes a version that never gets ready
    #[arg(long, env = "READY", default_value_t = true, action = clap::ArgAction::Set)]
    ready: bool,
    /// How long the app goes on serving after SIGTERM
    #[arg(long, env = "DRAIN_SECONDS", default_value_t = 3)]
    drain_seconds: u64,
    /// What this instance calls itself
    #[arg(long, env = "HOSTNAME", default_value = "unknown")]
    host: String,
}

struct App {
    version: String,
    host: String,
    fault_percent: u64,
    delay: Duration,
    ready: AtomicBool,
    requests: AtomicU64,
    metrics: Mutex<Metrics>,
}

#[derive(Default)]
struct Metrics {
    by_code: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
}

impl App {
    fn new(options: &Options) -> Self {
        Self {
            version: options.version.clone(),
            host: options.host.clone(),
            fault_percent: options.fault_percent,
            delay: Duration::from_millis(options.delay_ms),
            ready: AtomicBool::new(options.ready),
            requests: AtomicU64::new(0),
            metrics: Mutex::default(),
        }
    }

    /// Whether the next request fails: of any hundred in a row exactly `fault_percent` do, evenly spread.
    fn next_fails(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        (number + 1) * self.fault_percent / 100 > number * self.fault_percent / 100
    }

    fn record(&self, status: StatusCode, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        *metrics.by_code.entry(status.as_u16()).or_default() += 1;
        metrics.seconds += seconds;
        for (bucket, bound) in metrics.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// The metrics in the Prometheus text format.
    fn exposition(&self) -> String {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.exposition(&label_value(&self.version))
    }
}

impl Metrics {
    fn exposition(&self, version: &str) -> String {
        let mut text = String::from("# TYPE http_requests_total counter\n");
        for (code, count) in &self.by_code {
            line(&mut text, "http_requests_total", &format!("code=\"{code}\",version=\"{version}\""), count);
        }
        text.push_str("# TYPE http_request_duration_seconds histogram\n");
        let bounds = BUCKETS.iter().map(f64::to_string).zip(self.buckets);
        let total = self.by_code.values().sum::<u64>();
        for (bound, count) in bounds.chain([("+Inf".to_owned(), total)]) {
            let labels = format!("version=\"{version}\",le=\"{bound}\"");
            line(&mut text, "http_request_duration_seconds_bucket", &labels, count);
        }
        let labels = format!("version=\"{version}\"");
        line(&mut text, "http_request_duration_seconds_sum", &labels, self.seconds);
        line(&mut text, "http_request_duration_seconds_count", &labels, total);
        text
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    writeln!(text, "{name}{{{labels}}} {value}").expect("a String takes every write");
}

fn label_value(raw: &str) -> String {
    raw.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

async fn answer(State(app): State<Arc<App>>) -> impl IntoResponse {
    let started = Instant::now();
    let status = if app.next_fails() { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    if !app.delay.is_zero() {
        tokio::time::sleep(app.delay).await;
    }
    app.record(status, started.elapsed());
    let headers = [("x-version", app.version.clone()), ("x-host", app.host.clone())];
    (status, headers, format!("version={} host={}\n", app.version, app.host))
}

async fn readiness(State(app): State<Arc<App>>) -> impl IntoResponse {
    if app.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(answer))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .route("/metrics", get(async |State(app): State<Arc<App>>| app.exposition()))
        .with_state(app)
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let app = Arc::new(App::new(&options));
    // Before the first answer, so that a stop right after the start is graceful too.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let listener = tokio::net::TcpListener::bind(options.address).await.context("bind the address")?;
    println!("{} listens on {}", options.version, listener.local_addr().context("read the bound address")?);
    let (stopping, mut stopped) = watch::channel(false);
    let graceful = async move {
        // An error means that the sender is gone, which is a reason to stop as well.
        stopped.wait_for(|stopped| *stopped).await.ok();
    };
    let server = axum::serve(listener, router(app.clone())).with_graceful_shutdown(graceful);
    let mut server = tokio::spawn(server.into_future());
    tokio::select! {
        ended = &mut server => return ended.context("the server task")?.context("serve"),
        _ = terminate.recv() => {}
    }
    app.ready.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(options.drain_seconds)).await;
    stopping.send_replace(true);
    tokio::time::timeout(LAST_ANSWERS, server).await.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(arguments: &[&str]) -> App {
        App::new(&Options::parse_from([&["demo_app"], arguments].concat()))
    }

    #[test]
    fn faults_are_exact_and_evenly_spread() {
        for percent in [0, 1, 30, 50, 99, 100] {
            let app = app(&["--fault-percent", &percent.to_string()]);
            for hundred in 0..3 {
                let failed = (0..100).filter(|_| app.next_fails()).count();
                assert_eq!(failed, percent, "hundred {hundred} at {percent} percent");
            }
        }
        let thirty = app(&["--fault-percent", "30"]);
        let longest = (0..300).map(|_| thirty.next_fails()).collect::<Vec<_>>();
        let run = longest.chunk_by(|first, second| first == second).map(<[bool]>::len).max();
        assert!(run <= Some(4), "failures come evenly, not in runs of {run:?}");
    }

    #[test]
    fn metrics_are_prometheus_text() {
        let app = app(&["--version", "a\"b"]);
        app.record(StatusCode::OK, Duration::from_millis(20));
        app.record(StatusCode::INTERNAL_SERVER_ERROR, Duration::from_millis(700));
        let text = app.exposition();
        for expected in [
            "http_requests_total{code=\"200\",version=\"a\\\"b\"} 1\n",
            "http_requests_total{code=\"500\",version=\"a\\\"b\"} 1\n",
            "http_request_duration_seconds_bucket{version=\"a\\\"b\",le=\"0.01\"} 0\n",
            "http_request_duration_seconds_bucket{version=\"a\\\"b\",le=\"0.5\"} 1\n",
            "http_request_duration_seconds_bucket{version=\"a\\\"b\",le=\"+Inf\"} 2\n",
            "http_request_duration_seconds_sum{version=\"a\\\"b\"} 0.72\n",
            "http_request_duration_seconds_count{version=\"a\\\"b\"} 2\n",
        ] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
    }
}
