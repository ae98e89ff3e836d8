//! Whole processes of Serin in virtual time, as `serin run` runs them: `controller::lead`, with a Lease, watches and queue.
//!
//! Every request goes over a wire of its process, so that it is known who wrote what, and when; a wire can be cut, and a
//! process can be made to stand still.

use super::app::{self, NAME, NAMESPACE};
use super::cluster::{beginning, settings};
use super::story;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use serin::controller::lease::Candidate;
use serin::controller::{Clock, Ended, Settings, lead};
use serin::server::Readiness;
use serin::telemetry::Metrics;
use serin_testing::workloads::{DeploymentController, accept_routes};
use serin_testing::{ApiServer, CANARIES, DEPLOYMENTS, HTTP_ROUTES, LEASES, ReplyBody, SERVICES};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, ServiceExt, service_fn};

/// Longer than any rollout here takes.
const PATIENCE: Duration = Duration::from_mins(10);

/// The cluster, and what it does by itself.
pub(crate) struct Processes {
    pub(crate) server: ApiServer,
    pub(crate) settings: Settings,
    clock: Clock,
    reacting: JoinHandle<()>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.reacting.abort();
    }
}

impl Processes {
    /// The app and its Canary, without metrics, but with what else is in `analysis`.
    pub(crate) async fn new(analysis: &Value) -> Self {
        // A second test in this process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (server, clock) = (ApiServer::new(), Clock::starting_at(beginning()));
        server.set_clock(move || clock.now());
        let reacting = tokio::spawn(react(server.clone()));
        let settings = Settings { gateway_metrics: "application".to_owned(), ..settings("http://127.0.0.1:1") };
        let cluster = Self { server, settings, clock, reacting };
        cluster.adopt(NAME, analysis);
        tokio::task::yield_now().await;
        cluster
    }

    /// An app of this name and its Canary.
    pub(crate) fn adopt(&self, name: &str, analysis: &Value) {
        let objects = [
            (DEPLOYMENTS, app::deployment("web:1")),
            (SERVICES, app::service()),
            (HTTP_ROUTES, app::route()),
            (CANARIES, app::canary()),
        ];
        for (kind, object) in objects {
            let text = object.to_string().replace("\"name\":\"web\"", &format!("\"name\":\"{name}\""));
            let text = text.replace("\"app\":\"web\"", &format!("\"app\":\"{name}\""));
            let mut object: Value = serde_json::from_str(&text).expect("it is JSON still");
            if kind == CANARIES {
                object["spec"]["analysis"]["metrics"] = json!([]);
                for (field, value) in analysis.as_object().into_iter().flatten() {
                    object["spec"]["analysis"][field] = value.clone();
                }
            }
            self.server.put(kind, object).expect("the server takes it");
        }
    }

    /// Starts a process.
    pub(crate) fn replica(&self, identity: &str) -> Replica {
        let wire = Wire::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or_default() };
        let client = wire.client(&self.server);
        let candidate = Candidate::new(client.clone(), "serin-system", "serin", identity);
        let readiness = Ready(Readiness::awaiting("the caches are being filled"));
        let metrics = Arc::new(Metrics::new());
        let (settings, counts) = (self.settings.clone(), Arc::clone(&metrics));
        let ready = readiness.0.clone();
        let process = Box::pin(lead(self.clock, client, settings, candidate, counts, ready, stopped));
        let paused = watch::Sender::new(false);
        let task = Mutex::new(Some(tokio::spawn(pausing(process, paused.subscribe()))));
        Replica { wire, paused, metrics, readiness, stop: Mutex::new(Some(stop)), task }
    }

    /// One that leads, with the app at rest, and one that stands by.
    pub(crate) async fn two(&self) -> [Replica; 2] {
        let first = self.replica("first");
        self.until("it is at rest", rests).await;
        let second = self.replica("second");
        self.until("the standby is ready", |_| second.readiness.is_ready()).await;
        [first, second]
    }

    pub(crate) fn deploy(&self, image: &str) {
        self.deploy_to(NAME, image);
    }

    pub(crate) fn deploy_to(&self, name: &str, image: &str) {
        let change =
            |deployment: &mut Value| deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        self.server.update(DEPLOYMENTS, NAMESPACE, name, change).expect("the app is there");
    }

    /// Somebody sends all traffic to the primary, which is to be put right at once by whoever leads.
    pub(crate) fn overwrite_weights(&self) {
        self.server
            .update(HTTP_ROUTES, NAMESPACE, NAME, |route| {
                for backend in route["spec"]["rules"][0]["backendRefs"].as_array_mut().into_iter().flatten() {
                    backend["weight"] = (if backend["name"] == "web-primary" { 100 } else { 0 }).into();
                }
            })
            .expect("the route is there");
    }

    /// Who is in the Lease.
    pub(crate) fn holder(&self) -> String {
        let lease = self.server.get(LEASES, "serin-system", "serin").unwrap_or_default();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn until_weight(&self, weight: i64) {
        let what = format!("the weight is {weight}");
        self.until(&what, |server| weights(server) == [100 - weight, weight]).await;
    }

    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&ApiServer) -> bool) {
        let waiting = async {
            while !reached(&self.server) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            let writes: Vec<_> = self.server.writes().iter().map(story::line).collect();
            panic!("not in time: {what}\n{}", writes.join("\n"));
        }
    }

    /// The weights that were recorded since the second version came, each as often as it was begun.
    pub(crate) fn weights_on_record(&self) -> Vec<i64> {
        let writes = self.server.writes();
        let recorded = writes.iter().filter(|write| write.target() == "canaries/status" && write.status == Some(200));
        let mut weights: Vec<_> = recorded.filter_map(|write| write.body["status"]["canaryWeight"].as_i64()).collect();
        weights.dedup();
        weights
    }
}

/// The rest of the cluster.
async fn react(server: ApiServer) {
    let deployments = DeploymentController::new();
    let mut seen = None;
    loop {
        if seen != Some(server.revision()) {
            deployments.settle(&server);
            accept_routes(&server, "example.com/gateway");
            seen = Some(server.revision());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn phase(server: &ApiServer) -> String {
    let canary = server.get(CANARIES, NAMESPACE, NAME).unwrap_or_default();
    canary["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn rests(server: &ApiServer) -> bool {
    server.get(CANARIES, NAMESPACE, NAME).is_some_and(|canary| canary["status"]["canaryPods"] == "Down")
}

/// Those of the primary and of the canary.
pub(crate) fn weights(server: &ApiServer) -> [i64; 2] {
    let route = server.get(HTTP_ROUTES, NAMESPACE, NAME).unwrap_or_default();
    let backends = route["spec"]["rules"][0]["backendRefs"].as_array().cloned().unwrap_or_default();
    ["web-primary", "web-canary"].map(|name| {
        let backend = backends.iter().find(|backend| backend["name"] == name);
        backend.and_then(|backend| backend["weight"].as_i64()).unwrap_or_default()
    })
}

/// One process of Serin.
pub(crate) struct Replica {
    pub(crate) wire: Wire,
    /// It stands still.
    pub(crate) paused: watch::Sender<bool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Ready,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    task: Mutex<Option<JoinHandle<Result<(), Ended>>>>,
}

/// Whether its caches are full.
pub(crate) struct Ready(Readiness);

impl Ready {
    pub(crate) fn is_ready(&self) -> bool {
        !format!("{:?}", self.0).contains("the caches are being filled")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().expect("no test panics in here").take() {
            task.abort();
        }
    }
}

impl Replica {
    /// Asks it to stop; answers when that was.
    pub(crate) fn stop(&self) -> Instant {
        drop(self.stop.lock().expect("no test panics in here").take());
        Instant::now()
    }

    /// Waits for its end.
    pub(crate) async fn ends(&self) -> Result<(), Ended> {
        let task = self.task.lock().expect("no test panics in here").take().expect("nobody has waited for it before");
        timeout(PATIENCE, task).await.expect("it ends").expect("it does not panic")
    }
}

/// Runs a process, and does not while it is to stand still.
async fn pausing<T>(mut process: BoxFuture<'static, T>, mut paused: watch::Receiver<bool>) -> T {
    loop {
        tokio::select! {
            biased;
            _ = paused.wait_for(|paused| *paused) => {}
            end = &mut process => return end,
        }
        let _ = paused.wait_for(|paused| !*paused).await;
    }
}

/// What lies between a replica and the API server.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    /// No request arrives any more, and none is answered.
    pub(crate) cut: watch::Sender<bool>,
    written: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Wire {
    fn client(&self, server: &ApiServer) -> Client {
        let (wire, server) = (self.clone(), server.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (wire, server) = (wire.clone(), server.clone());
            async move {
                if *wire.cut.borrow() {
                    return pending::<Result<Response<ReplyBody>, BoxError>>().await;
                }
                if request.method() != Method::GET && !request.uri().path().contains("/leases") {
                    let what = format!("{} {}", request.method(), request.uri().path());
                    wire.written.lock().expect("no test panics in here").push((Instant::now(), what));
                }
                server.oneshot(request).await
            }
        });
        Client::new(service, "default")
    }

    /// What was written, but for the Lease, and when.
    pub(crate) fn writes(&self) -> Vec<(Instant, String)> {
        self.written.lock().expect("no test panics in here").clone()
    }
}
