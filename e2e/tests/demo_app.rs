//! The demo app and the load generator against each other on loopback: no cluster is needed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serin_e2e::fetch::fetch;
use serin_e2e::load::{Gateway, Load, Report};

struct App {
    process: Child,
    address: SocketAddr,
}

impl App {
    /// Starts the app on a free port, which it names itself: to guess one that is free would be a race.
    fn start(environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo_app"));
        command.env("ADDRESS", "127.0.0.1:0").env("HOSTNAME", "app-0").envs(environment.iter().copied());
        let mut process = command.stdout(Stdio::piped()).spawn().expect("start the demo app");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("read its first line");
        let address = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        Self { process, address: address.unwrap_or_else(|| panic!("no address in {line:?}")) }
    }

    fn gateway(&self) -> Gateway {
        Gateway::new(self.address).expect("loopback")
    }

    fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(status.expect("run kill").success());
    }

    async fn page(&self, path: &str) -> (u16, String) {
        let (status, text) = fetch(&format!("http://{}{path}", self.address)).await.expect("an answer");
        (status.as_u16(), text)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // It may have ended already, as a test asked it to.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn starts_at_once_and_answers_with_its_version() {
    let started = Instant::now();
    let app = App::start(&[("VERSION", "v7")]);
    let gateway = app.gateway();
    // Milliseconds on a machine at rest; this is for one that is building as well.
    assert!(started.elapsed() < Duration::from_secs(3), "ready after {:?}", started.elapsed());
    let report = gateway.burst("demo", 50, 5).await.expect("a small burst");
    assert_eq!((report.failed(), report.answered_by("v7")), (0, 50), "{report}");
    assert!(report.records.iter().all(|record| record.host() == Some("app-0")), "{report}");
    assert_eq!(app.page("/").await, (200, "version=v7 host=app-0\n".to_owned()));
    let (_, metrics) = app.page("/metrics").await;
    assert!(metrics.contains("http_requests_total{code=\"200\",version=\"v7\"} 51\n"), "{metrics}");
}

#[tokio::test]
async fn fails_exactly_as_often_as_it_is_told_to() {
    let app = App::start(&[("VERSION", "bad"), ("FAULT_PERCENT", "30")]);
    let report = app.gateway().burst("demo", 200, 4).await.expect("a small burst");
    assert_eq!((report.total(), report.failed(), report.answered_by("bad")), (200, 60, 200), "{report}");
}

#[tokio::test]
async fn is_as_slow_and_as_unready_as_it_is_told_to() {
    let app = App::start(&[("DELAY_MS", "150"), ("READY", "false")]);
    let report = app.gateway().burst("demo", 5, 5).await.expect("a small burst");
    assert_eq!(report.failed(), 0, "{report}");
    assert!(report.records.iter().all(|record| record.elapsed >= Duration::from_millis(150)), "{report:?}");
    assert_eq!(app.page("/readyz").await.0, 503);
    assert_eq!(app.page("/healthz").await.0, 200);
}

#[tokio::test]
async fn load_keeps_its_rate_and_drains_without_a_lost_request() {
    let mut app = App::start(&[("DRAIN_SECONDS", "1")]);
    let load = Load::start(&app.gateway(), "demo", 100).expect("a small rate");
    tokio::time::sleep(Duration::from_secs(2)).await;
    app.terminate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(app.page("/readyz").await.0, 503, "unready while it drains");
    let seen = load.report();
    let report: Report = load.stop().await.expect("the load's task");
    assert_eq!(report.failed(), 0, "it serves while it drains: {report}");
    assert!(seen.total() <= report.total());
    // 2.3 seconds at 100 a second; a busy machine may be late with the first and the last.
    assert!((200..300).contains(&report.total()), "{report}");
    let ended = tokio::task::spawn_blocking(move || app.process.wait()).await.expect("wait").expect("its exit status");
    assert!(ended.success(), "it ends by itself: {ended}");
}

#[tokio::test]
async fn load_goes_on_when_the_answers_are_slow() {
    let app = App::start(&[("DELAY_MS", "500")]);
    let load = Load::start(&app.gateway(), "demo", 50).expect("a small rate");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = load.stop().await.expect("the load's task");
    assert!(report.total() >= 40, "requests leave at their rate, not at the answers': {report}");
}
