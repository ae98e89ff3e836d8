//! Something secret is planted wherever Serin reads secrets, and looked for wherever Serin writes.
//!
//! It is the real process, `serin run` with a kubeconfig, over real connections, with everything logged, and everybody whom
//! it asks or tells answers with a no that repeats every word of the request.

mod common;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use common::app::{self, NAME, NAMESPACE};
use common::cluster::{canary_with, template};
use common::configs::config_map;
use common::inbox::{Does, Inbox};
use serde_json::{Value, json};
use serin_testing::workloads::{DeploymentController, accept_routes};
use serin_testing::{
    ALERT_PROVIDERS, ApiServer, CANARIES, CONFIG_MAPS, DEPLOYMENTS, EVENTS, HTTP_ROUTES, LEASES, METRIC_TEMPLATES,
    SECRETS, SERVICES,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tower::ServiceExt;

/// All that is planted. Each is found nowhere else, and says where it is from.
const PLANTED: [&str; 12] = [
    "hunter-of-the-kubeconfig",
    "hunter-of-the-template",
    "hunter-of-the-login",
    "hunter-of-the-password",
    "hunter-of-the-header",
    "hunter-of-the-address",
    "hunter-of-the-chat",
    "hunter-of-the-app",
    "hunter-of-the-slack-url",
    "hunter-of-the-teams-url",
    "hunter-of-the-alert-url",
    "hunter-of-the-sink",
];

/// Long enough for a few checks of a second each, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn what_is_secret_is_seen_by_those_whom_it_is_for_and_nobody_else() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let everybody = Inbox::start(Does::Echo).await;
    everybody.at("/api/v1/query", Does::Complain);
    let server = ApiServer::new();
    let reacting = tokio::spawn(react(server.clone()));
    let (api, heard) = serve(server.clone()).await;
    plant(&server, &everybody);
    let mut serin = Serin::start(&api, &everybody);
    serin.until("it is initialised", || status(&server)["phase"] == "Initialized").await;
    server
        .update(DEPLOYMENTS, NAMESPACE, NAME, |deployment| {
            deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2".into();
        })
        .unwrap();
    serin.until("it was taken back", || status(&server)["phase"] == "Failed").await;
    // The tracked Secret changes, too.
    server.update(SECRETS, NAMESPACE, "token", |token| token["data"]["more"] = encoded("more").into()).unwrap();
    serin.until("that is analysed", || status(&server)["phase"] == "Progressing").await;
    let metrics = serin.metrics().await;
    assert!(metrics.contains("serin_alerts_total"), "{metrics}");
    let log = serin.stop().await;
    reacting.abort();

    let letters = format!("{:?}", everybody.arrived());
    let sent = letters + &heard.lock().unwrap().join("\n");
    let stored: Vec<_> = server.requests().into_iter().filter(serin_testing::Request::is_write).collect();
    let is_copy = |body: &Value| body["kind"] == "Secret";
    let copies: String =
        stored.iter().filter(|write| is_copy(&write.body)).map(|write| write.body.to_string()).collect();
    let all = sent + &copies;
    for planted in PLANTED {
        let used = all.contains(planted) || all.contains(&encoded(planted)) || planted.ends_with("password");
        assert!(used || planted.ends_with("login"), "{planted} was never used");
    }
    assert!(all.contains(&encoded("hunter-of-the-login:hunter-of-the-password")), "the login was never used");

    assert!(log.contains("TRACE") && log.contains("hyper") && log.contains("RolledBack"), "everything is logged");
    let wrote: String =
        stored.iter().filter(|write| !is_copy(&write.body)).map(|write| write.body.to_string()).collect();
    let events = format!("{:?}", server.list(EVENTS, None));
    assert!(wrote.contains("HTTP 403") && events.contains("RolledBack"), "{events}");
    let leases = format!("{:?}", server.list(LEASES, None));
    let places = [("log", log), ("writes", wrote), ("events", events), ("metrics", metrics), ("leases", leases)];
    let places = places.into_iter().chain([("status", status(&server).to_string())]);
    for (place, text) in places {
        for planted in PLANTED {
            for form in [planted.to_owned(), encoded(planted), planted.to_uppercase()] {
                let around =
                    text.find(&form).map(|at| text[at.saturating_sub(400)..].chars().take(600).collect::<String>());
                assert_eq!(around, None, "{planted} is in the {place}");
            }
        }
        let login = encoded("hunter-of-the-login:hunter-of-the-password");
        assert!(!text.contains(&login), "the login is in the {place}");
    }
}

/// The app, its Canary, and all that these refer to.
fn plant(server: &ApiServer, everybody: &Inbox) {
    let put = |kind, object| drop(server.put(kind, object).unwrap());
    let mut deployment = app::deployment("web:1");
    deployment["spec"]["template"]["spec"]["volumes"] = json!([{"name": "token", "secret": {"secretName": "token"}}]);
    put(DEPLOYMENTS, deployment);
    put(SERVICES, app::service());
    put(HTTP_ROUTES, app::route());
    put(CONFIG_MAPS, config_map("settings"));
    put(SECRETS, secret("token", &[("password", "hunter-of-the-app")]));
    put(SECRETS, secret("bearer", &[("token", "hunter-of-the-template")]));
    put(SECRETS, secret("basic", &[("username", "hunter-of-the-login"), ("password", "hunter-of-the-password")]));
    put(SECRETS, secret("gate", &[("authorization", "Bearer hunter-of-the-header")]));
    let address = format!("{}/hunter-of-the-address?x=hunter-of-the-address", everybody.address);
    put(SECRETS, secret("chat", &[("address", &address), ("token", "hunter-of-the-chat")]));
    put(METRIC_TEMPLATES, template("by-token", &everybody.address, Some("bearer")));
    put(METRIC_TEMPLATES, template("by-login", &everybody.address, Some("basic")));
    let provider = json!({
        "apiVersion": "serin.dev/v1beta1", "kind": "AlertProvider", "metadata": {"name": "chat", "namespace": NAMESPACE},
        "spec": {"type": "generic", "secretRef": {"name": "chat"}},
    });
    put(ALERT_PROVIDERS, provider);
    put(CANARIES, canary(everybody));
    // Another one without alerts of its own, for the operator's.
    let text = canary(everybody).to_string().replace("\"web\"", "\"other\"");
    let mut other: Value = serde_json::from_str(&text).unwrap();
    other["spec"]["analysis"]["alerts"] = json!([]);
    let text = app::deployment("web:1").to_string().replace("\"web\"", "\"other\"");
    put(DEPLOYMENTS, serde_json::from_str(&text).unwrap());
    put(CANARIES, other);
}

fn canary(everybody: &Inbox) -> Value {
    let metric = |name: &str| json!({"name": name, "templateRef": {"name": name}, "thresholdRange": {"min": 1}});
    let webhook = |kind: &str| json!({"type": kind, "name": kind, "url": format!("{}/{kind}", everybody.address), "secretRef": {"name": "gate"}});
    canary_with(&json!({
        "interval": "1s", "threshold": 3, "inconclusiveLimit": 2,
        "metrics": [metric("by-token"), metric("by-login")],
        "webhooks": [webhook("rollback"), webhook("rollout"), webhook("event"), webhook("post-rollout")],
        "alerts": [{"name": "chat", "providerRef": {"name": "chat"}}],
    }))
}

fn secret(name: &str, data: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> =
        data.iter().map(|(key, value)| ((*key).to_owned(), encoded(value).into())).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data})
}

/// As a Secret holds it, and as a login is sent.
fn encoded(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap().as_str().unwrap().to_owned()
}

fn status(server: &ApiServer) -> Value {
    server.get(CANARIES, NAMESPACE, NAME).unwrap_or_default()["status"].clone()
}

async fn react(server: ApiServer) {
    let deployments = DeploymentController::new();
    loop {
        deployments.settle(&server);
        accept_routes(&server, "example.com/gateway");
        sleep(Duration::from_millis(20)).await;
    }
}

type Heard = std::sync::Arc<std::sync::Mutex<Vec<String>>>;

/// The API server behind a real port; answers with its address, and with who said to be who.
async fn serve(server: ApiServer) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let heard = Heard::default();
    let noting = heard.clone();
    let answer = move |request: Request| {
        let (server, heard) = (server.clone(), noting.clone());
        async move {
            let (parts, body) = request.into_parts();
            heard.lock().unwrap().push(format!("{:?}", parts.headers.get("authorization")));
            let Ok(body) = to_bytes(body, 16 * 1024 * 1024).await else {
                return StatusCode::BAD_REQUEST.into_response();
            };
            let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
            match server.oneshot(request).await {
                Ok(response) => response.map(Body::new),
                Err(_) => StatusCode::BAD_GATEWAY.into_response(),
            }
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (address, heard)
}

/// The process.
struct Serin {
    child: Child,
    log: PathBuf,
    listen: String,
}

impl Drop for Serin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serin {
    fn start(api: &str, everybody: &Inbox) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("planted-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let kubeconfig = directory.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": api}}],
            "users": [{"name": "me", "user": {"token": "hunter-of-the-kubeconfig"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        });
        fs::write(&kubeconfig, config.to_string()).unwrap();
        let log = directory.join("log");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = |path: &str| format!("{}/{path}", everybody.address);
        let child = Command::new(env!("CARGO_BIN_EXE_serin"))
            .args(["run", "--log", "trace", "--log-format", "text", "--drain-delay", "1s"])
            .args(["--listen", &free.to_string()])
            .args(["--metrics-server", &everybody.address, "--identity", "planted"])
            .env("KUBECONFIG", &kubeconfig)
            .env("SERIN_SLACK_URL", address("hunter-of-the-slack-url"))
            .env("SERIN_MSTEAMS_URL", address("hunter-of-the-teams-url"))
            .env("SERIN_ALERT_WEBHOOK_URL", address("hunter-of-the-alert-url"))
            .env("SERIN_EVENT_SINK", address("hunter-of-the-sink"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log, listen: free.to_string() }
    }

    async fn until(&mut self, what: &str, reached: impl Fn() -> bool) {
        let began = Instant::now();
        while !reached() {
            let ended = self.child.try_wait().unwrap();
            let log =
                || fs::read_to_string(&self.log).unwrap().lines().rev().take(40).map(str::to_owned).collect::<Vec<_>>();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "not: {what}\n{}", log().join("\n"));
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn metrics(&self) -> String {
        let page = reqwest::get(format!("http://{}/metrics", self.listen)).await.unwrap();
        page.text().await.unwrap()
    }

    /// Asks it to stop; answers with all that it has logged.
    async fn stop(mut self) -> String {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success(), "it can be asked to stop");
        // Not `wait`: that would stop this thread, and with it the API server that the last writes go to.
        let ended = loop {
            match self.child.try_wait().unwrap() {
                Some(ended) => break ended,
                None => sleep(Duration::from_millis(50)).await,
            }
        };
        let log = fs::read_to_string(&self.log).unwrap();
        let last = || log.lines().rev().take(20).collect::<Vec<_>>().join("\n");
        assert!(ended.success(), "it stops when it is asked to, but: {ended}\n{}", last());
        log
    }
}
