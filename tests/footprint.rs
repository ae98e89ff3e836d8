//! What objects cost that no Canary is about: the real process, and an API server that has many of them.
//!
//! `SERIN_FOOTPRINT_OBJECTS` says how many of each kind there are; the default is small enough for every test run. With
//! `SERIN_FOOTPRINT_BINARY` another build is measured.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many objects of each kind there are, unless somebody says otherwise.
const OBJECTS: usize = 4000;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);

/// In bytes. It is some 230, as `docs/memory.md` says; the rest is what an allocator does not give back, which differs from run
/// to run by a few mebibytes. An object that is kept whole takes several times as much.
const MOST: f64 = 1024.0;

/// The kinds that every cluster has many of.
const KINDS: [&str; 5] = ["deployments", "services", "httproutes", "configmaps", "secrets"];

/// An API server with `objects` of each kind, which it makes up while they are listed.
#[derive(Clone)]
struct ManyObjects {
    objects: usize,
    lease: Arc<Mutex<Option<Value>>>,
}

impl ManyObjects {
    fn answer(&self, method: &Method, uri: &Uri, body: &Bytes) -> Response {
        let segments: Vec<_> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let query: HashMap<_, _> =
            uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        match segments.as_slice() {
            ["api", _] | ["apis", _, _] => json(StatusCode::OK, &served(&segments[1..].join("/"))),
            [.., "leases"] | [.., "leases", _] => self.lease(method, body),
            _ if query.get("watch").is_some_and(|watch| *watch != "false") => {
                Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()).into_response()
            }
            [.., plural] => self.list(plural, &query),
            [] => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn lease(&self, method: &Method, body: &Bytes) -> Response {
        let mut lease = self.lease.lock().unwrap();
        if *method != Method::GET {
            let mut written: Value = serde_json::from_slice(body).unwrap();
            let version: u64 = written["metadata"]["resourceVersion"].as_str().map_or(0, |text| text.parse().unwrap());
            written["metadata"]["resourceVersion"] = (version + 1).to_string().into();
            *lease = Some(written);
        }
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": ""});
        lease.as_ref().map_or_else(|| json(StatusCode::NOT_FOUND, &missing), |lease| json(StatusCode::OK, lease))
    }

    fn list(&self, plural: &str, query: &HashMap<&str, &str>) -> Response {
        let objects = if KINDS.contains(&plural) { self.objects } else { 0 };
        let from: usize = query.get("continue").map_or(0, |from| from.parse().unwrap());
        let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let to = objects.min(from.saturating_add(limit));
        let mut metadata = json!({"resourceVersion": "1000000"});
        if to < objects {
            metadata["continue"] = to.to_string().into();
        }
        let items: Vec<_> = (from..to).map(|number| object(plural, number)).collect();
        json(StatusCode::OK, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
    }
}

/// What a version of a group has, as far as anybody asks.
fn served(version: &str) -> Value {
    let resources = ["httproutes", "horizontalpodautoscalers"]
        .map(|name| json!({"name": name, "singularName": "", "namespaced": true, "kind": "Any", "verbs": []}));
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
}

/// As large as what people have: a Deployment of some four kilobytes, half of it about who wrote it.
fn object(plural: &str, number: usize) -> Value {
    let name = format!("{plural}-of-some-team-{number}");
    let labels = json!({"app.kubernetes.io/name": name, "app.kubernetes.io/instance": name, "team": "blue"});
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:team": {}}}, "f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}});
    let manager = |name: &str| json!({"manager": name, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields});
    let variables: Vec<_> =
        (0..12).map(|number| json!({"name": format!("VARIABLE_{number}"), "value": "x".repeat(40)})).collect();
    json!({
        "metadata": {
            "name": name, "namespace": format!("team-{}", number % 50), "labels": labels,
            "uid": format!("8f14e45f-ceea-467f-a8b5-{number:012}"), "resourceVersion": (100_000 + number).to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(1200)},
            "managedFields": [manager("kubectl"), manager("kube-controller-manager")],
        },
        "data": {"settings": "x".repeat(500)},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                "name": "app", "image": "registry.example.com/team/app:v1.2.3", "env": variables,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
            }]}},
        },
        "status": {"observedGeneration": 3, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3},
    })
}

fn json(code: StatusCode, value: &Value) -> Response {
    (code, [("content-type", "application/json")], value.to_string()).into_response()
}

/// The operator as its own process.
struct Operator {
    process: Child,
    address: String,
    _directory: Directory,
}

struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Operator {
    fn start(api_server: &str) -> Self {
        let directory = std::env::temp_dir().join(format!(
            "serin-footprint-{}-{}",
            std::process::id(),
            api_server.len() + objects_seed()
        ));
        fs::create_dir_all(&directory).unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "many",
            "clusters": [{"name": "many", "cluster": {"server": api_server}}],
            "contexts": [{"name": "many", "context": {"cluster": "many", "user": "many"}}],
            "users": [{"name": "many", "user": {}}],
        });
        let path = directory.join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let binary = std::env::var("SERIN_FOOTPRINT_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_serin").to_owned());
        let process = Command::new(binary)
            .args(["run", "--listen", &free.to_string(), "--log", "warn", "--identity", "footprint"])
            .env("KUBECONFIG", &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, address: format!("http://{free}"), _directory: Directory(directory) }
    }

    /// Waits until the caches are full.
    async fn ready(&mut self) {
        let began = Instant::now();
        loop {
            let answer = reqwest::get(format!("{}/readyz", self.address)).await;
            let metrics = reqwest::get(format!("{}/metrics", self.address)).await;
            let leads = match metrics {
                Ok(metrics) => metrics.text().await.is_ok_and(|text| text.lines().any(|line| line == "serin_leader 1")),
                Err(_) => false,
            };
            if leads && answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(self.process.try_wait().unwrap().is_none(), "the operator has ended");
            assert!(began.elapsed() < PATIENCE, "the caches do not become full");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Resident memory, now and at most, in bytes.
    fn memory(&self) -> [f64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        ["VmRSS:", "VmHWM:"].map(|field| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
            kibibytes * 1024.0
        })
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tells directories of one process apart.
fn objects_seed() -> usize {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// The memory of an operator in a cluster with so many objects of each kind, resident and at most.
async fn memory(objects: usize) -> [f64; 2] {
    let server = ManyObjects { objects, lease: Arc::default() };
    let answer = async |State(server): State<ManyObjects>, method: Method, uri: Uri, body: Bytes| {
        server.answer(&method, &uri, &body)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let router = Router::new().fallback(answer).with_state(server);
        axum::serve(listener, router).await.unwrap();
    });
    let mut operator = Operator::start(&address);
    operator.ready().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let memory = operator.memory();
    drop(operator);
    serving.abort();
    memory
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn what_no_canary_is_about_costs_next_to_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let objects = std::env::var("SERIN_FOOTPRINT_OBJECTS").map_or(OBJECTS, |text| text.parse().unwrap());
    // What a list takes while it is read does not grow with its length, so it is in both.
    let few = objects / 4;
    let [[small, _], [large, peak]] = [memory(few).await, memory(objects).await];
    let more = u32::try_from((objects - few) * KINDS.len()).unwrap();
    let each = (large - small) / f64::from(more);
    let mebi = |bytes: f64| bytes / 1024.0 / 1024.0;
    println!(
        "{objects} of each kind: {:.1} MiB, at most {:.1} MiB; {few}: {:.1} MiB; so {each:.0} bytes each",
        mebi(large),
        mebi(peak),
        mebi(small)
    );
    assert!(each < MOST, "{each:.0} bytes each");
}
