//! The cables that scenarios pull: Serin itself and Prometheus; and the audit log that tells what Serin asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::environment;
use crate::fetch::counter;
use crate::objects::{Kind, Objects};
use crate::wait::{once, wait_for};

const NAMESPACE: &str = "serin-system";
const DEPLOYMENT: &str = "serin";
const LEASE: &str = "serin";
/// The user that the API server sees.
const USER: &str = "system:serviceaccount:serin-system:serin";
/// A new pod may have to wait for the Lease of its predecessor to expire.
const START_LIMIT: Duration = Duration::from_secs(90);

/// Serin, as the chart installed it.
#[derive(Clone)]
pub struct Operator {
    objects: Objects,
}

/// The Lease by which the replicas agree, as it is now.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The pod that leads.
    pub holder: String,
    /// Since when.
    pub acquired: Timestamp,
}

/// A pod's way to the API server that is cut; it is mended when this is dropped.
pub struct Cut {
    process: u32,
    address: String,
}

/// Prometheus of the cluster, which starts again when this is dropped.
pub struct Prometheus;

/// What Serin asked the API server for.
pub struct AuditLog {
    path: PathBuf,
    position: u64,
}

/// One request in the audit log.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: String,
    pub resource: String,
    pub uri: String,
    /// When the API server received it.
    pub time: Timestamp,
}

impl Operator {
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { objects: Objects::new(client, NAMESPACE) }
    }

    /// Waits until Serin is installed and ready.
    ///
    /// # Errors
    /// When it is not installed, or does not become ready in time.
    pub async fn ready(&self) -> Result<()> {
        let ready = async || {
            let deployment = self.objects.get(Kind::Deployment, DEPLOYMENT).await?;
            let status = &deployment["status"];
            let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
            let counted = ["replicas", "updatedReplicas", "availableReplicas"];
            let counted = counted.into_iter().all(|field| status[field].as_u64() == Some(wanted));
            // The counts lag behind when a pod was just replaced.
            let pods = self.pods().await?;
            let ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
            Ok(once(counted && !pods.is_empty() && pods.iter().all(ready)))
        };
        wait_for("Serin is ready", START_LIMIT, ready).await
    }

    /// The pods of Serin that are not about to end.
    ///
    /// # Errors
    /// When Serin is not installed.
    pub async fn pods(&self) -> Result<Vec<Value>> {
        let deployment = self.objects.get(Kind::Deployment, DEPLOYMENT).await?;
        let labels = deployment["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
        let pairs = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        let pods = self.objects.list(Kind::Pod, &pairs.collect::<Vec<_>>().join(",")).await?;
        Ok(pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect())
    }

    /// Kills the processes of Serin without a word, and answers with how many there were.
    ///
    /// # Errors
    /// When a pod has no process on this machine.
    pub async fn kill(&self) -> Result<usize> {
        let pods = self.pods().await?;
        let processes = processes_of(&pods.iter().filter_map(pod_name).collect())?;
        ensure!(!processes.is_empty(), "no process of Serin runs on this machine");
        for process in &processes {
            let output = Command::new("kill").args(["-KILL", &process.to_string()]).output();
            succeeded(&output.context("run kill")?).with_context(|| format!("kill process {process}"))?;
        }
        Ok(processes.len())
    }

    /// How often the containers of Serin have been restarted since their pods exist.
    ///
    /// # Errors
    /// When Serin is not installed.
    pub async fn restarts(&self) -> Result<u64> {
        let count = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        Ok(self.pods().await?.iter().filter_map(count).sum())
    }

    /// Replaces the pods gracefully: the kubelet restarts a container at once only the first time, and the next kill
    /// would have to wait for minutes.
    ///
    /// # Errors
    /// When the new pods do not become ready in time.
    pub async fn renew(&self) -> Result<()> {
        let old: BTreeSet<_> = self.pods().await?.iter().filter_map(pod_name).collect();
        for pod in &old {
            self.objects.delete(Kind::Pod, pod).await?;
        }
        let replaced = async || {
            let new = self.pods().await?;
            Ok(once(!new.is_empty() && new.iter().filter_map(pod_name).all(|pod| !old.contains(&pod))))
        };
        wait_for("Serin's pods are replaced", START_LIMIT, replaced).await?;
        self.ready().await
    }

    /// Runs so many replicas, and waits until they are ready.
    ///
    /// # Errors
    /// When they do not become ready in time.
    pub async fn scale(&self, replicas: u32) -> Result<()> {
        self.objects.merge(Kind::Deployment, DEPLOYMENT, json!({"spec": {"replicas": replicas}})).await?;
        let there = async || Ok(once(self.pods().await?.len() == replicas as usize));
        wait_for("Serin has as many pods as it should", START_LIMIT, there).await?;
        self.ready().await
    }

    /// Who leads.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn lease(&self) -> Result<Lease> {
        let spec = self.objects.get(Kind::Lease, LEASE).await?["spec"].take();
        let holder = spec["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).context("nobody leads")?;
        let acquired = spec["acquireTime"].as_str().context("the Lease has no time")?.parse();
        Ok(Lease { holder: holder.to_owned(), acquired: acquired.context("the Lease has no time")? })
    }

    /// Waits until another pod than this one leads.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn led_by_another(&self, than: &str) -> Result<Lease> {
        let another = async || Ok(self.lease().await.ok().filter(|lease| lease.holder != than));
        wait_for("another pod leads", START_LIMIT, another).await
    }

    /// Deletes a pod gracefully: it is asked to stop.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_pod(&self, pod: &str) -> Result<()> {
        self.objects.delete(Kind::Pod, pod).await
    }

    /// Cuts a pod off from the API server, and from nothing else.
    ///
    /// # Errors
    /// When the pod has no process on this machine.
    pub fn cut_off(&self, pod: &str) -> Result<Cut> {
        let process = *processes_of(&[pod.to_owned()].into())?.first().context("no process runs in the pod")?;
        let words = split(&fs::read(format!("/proc/{process}/environ")).context("read its environment")?);
        let address = words.iter().find_map(|word| word.strip_prefix("KUBERNETES_SERVICE_HOST="));
        let cut = Cut { process, address: address.context("it does not know the API server")?.to_owned() };
        cut.route("add")?;
        println!("  → {pod} is cut off from {}", cut.address);
        Ok(cut)
    }

    /// The end of the logs of all pods, those of a killed container included.
    ///
    /// # Errors
    /// When Serin is not installed.
    pub async fn logs(&self, lines: i64) -> Result<String> {
        let api = Api::<Pod>::namespaced(self.objects.client(), NAMESPACE);
        let mut text = String::new();
        for pod in self.pods().await?.iter().filter_map(pod_name) {
            for previous in [true, false] {
                let parameters = LogParams { tail_lines: Some(lines), previous, ..LogParams::default() };
                // Most containers have no predecessor, and one that just started has no log yet.
                if let Ok(log) = api.logs(&pod, &parameters).await {
                    let which = if previous { "before its restart" } else { "now" };
                    text.extend(["-- ", &pod, " ", which, "\n", &log]);
                }
            }
        }
        Ok(text)
    }

    /// The sum of a counter over all pods; a counter that was never touched is zero.
    ///
    /// # Errors
    /// When a pod does not answer, or its page has none of Serin's metrics.
    pub async fn counted(&self, name: &str) -> Result<f64> {
        let mut total = 0.0;
        for pod in self.pods().await? {
            let address = pod["status"]["podIP"].as_str().context("a pod of Serin has no address yet")?;
            total += counter(&format!("http://{address}:8080/metrics"), name, "").await?.unwrap_or_default();
        }
        Ok(total)
    }
}

fn pod_name(pod: &Value) -> Option<String> {
    Some(pod["metadata"]["name"].as_str()?.to_owned())
}

/// The processes on this machine that run Serin in one of the pods: a container's host name is that of its pod.
fn processes_of(pods: &BTreeSet<String>) -> Result<Vec<u32>> {
    let processes = fs::read_dir("/proc").context("list the processes of this machine")?;
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(numbers.filter(|number| runs_in(*number, pods)).collect())
}

fn runs_in(process: u32, pods: &BTreeSet<String>) -> bool {
    // A process may end while it is looked at, and then it is not the one.
    let words = |file: &str| fs::read(format!("/proc/{process}/{file}")).map(|bytes| split(&bytes)).unwrap_or_default();
    let program = words("cmdline").into_iter().next().unwrap_or_default();
    Path::new(&program).file_name().is_some_and(|name| name == "serin")
        && words("environ").iter().any(|word| word.strip_prefix("HOSTNAME=").is_some_and(|pod| pods.contains(pod)))
}

fn split(bytes: &[u8]) -> Vec<String> {
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

impl Prometheus {
    /// # Errors
    /// When the cluster is not that of `e2e/cluster`.
    pub fn stop(&self) -> Result<()> {
        println!("  → Prometheus stops");
        service("prometheus", "stop")
    }

    /// # Errors
    /// When it does not serve in time.
    pub fn start(&self) -> Result<()> {
        println!("  → Prometheus starts");
        service("prometheus", "start")
    }

    /// The queries that Prometheus has answered since it started, by its own count.
    ///
    /// # Errors
    /// When it does not answer, or does not count.
    pub async fn queries() -> Result<f64> {
        let metrics = format!("{}/metrics", environment::prometheus()?.trim_end_matches('/'));
        let queries = counter(&metrics, "prometheus_http_requests_total", "handler=\"/api/v1/query").await?;
        let requests = counter(&metrics, "prometheus_http_requests_total", "").await?;
        ensure!(requests.is_some(), "{metrics} has no count of requests");
        Ok(queries.unwrap_or_default())
    }
}

impl Cut {
    fn route(&self, action: &str) -> Result<()> {
        let process = self.process.to_string();
        let inside = ["--target", &process, "--net", "ip", "route", action, "blackhole", &self.address];
        let output = Command::new("nsenter").args(inside).output().context("run nsenter")?;
        succeeded(&output).with_context(|| format!("{action} a route in the pod of process {process}"))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // The network of a pod outlives its container, and goes with the pod: then there is nothing to mend.
        match self.route("del") {
            Ok(()) => println!("  → the pod is no longer cut off"),
            Err(error) => println!("the route is gone, with its process or its pod: {error:#}"),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The next scenario needs it, however this one ended.
        if let Err(error) = service("prometheus", "start") {
            println!("Prometheus could not be started again: {error:#}");
        }
    }
}

/// Does something with a process of the cluster.
fn service(name: &str, action: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/service.sh");
    let output = Command::new("bash").arg(&script).args([name, action]).output();
    succeeded(&output.context("run service.sh")?).with_context(|| format!("service.sh {name} {action}"))
}

fn succeeded(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

impl AuditLog {
    /// The log from now on.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_now_on() -> Result<Self> {
        let path = environment::audit_log()?;
        let position = fs::metadata(&path).with_context(|| format!("read {}", path.display()))?.len();
        Ok(Self { path, position })
    }

    /// Serin's requests that the API server received within a span of time.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn requests(&self, window: &Range<Timestamp>) -> Result<Vec<Request>> {
        let mut file = File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.position)).context("seek in the audit log")?;
        let lines = BufReader::new(file).lines().collect::<std::io::Result<Vec<_>>>().context("read the audit log")?;
        Ok(requests(lines.iter().map(String::as_str), window))
    }
}

/// A request has an entry for each of its stages; it counts once.
fn requests<'a>(lines: impl Iterator<Item = &'a str>, window: &Range<Timestamp>) -> Vec<Request> {
    // The last line may still be in the making.
    let entries = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours = entries.filter(|entry| entry["user"]["username"] == USER);
    let received = ours.filter_map(|entry| {
        let time: Timestamp = entry["requestReceivedTimestamp"].as_str()?.parse().ok()?;
        window.contains(&time).then_some((time, entry))
    });
    let by_id = received.map(|(time, entry)| {
        let (verb, uri) = (text(&entry["verb"]), text(&entry["requestURI"]));
        (text(&entry["auditID"]), Request { verb, resource: text(&entry["objectRef"]["resource"]), uri, time })
    });
    by_id.collect::<BTreeMap<_, _>>().into_values().collect()
}

impl Request {
    /// What Serin may ask for at any time: the renewal of its Lease, and watches, which the API server ends now and then.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.renews_lease() || self.verb == "watch"
    }

    #[must_use]
    pub fn renews_lease(&self) -> bool {
        self.resource == "leases"
    }

    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_once_and_only_those_of_serin_within_the_window() {
        let line = |id: &str, user: &str, verb: &str, resource: &str, second: u32| {
            format!(
                r#"{{"auditID":"{id}","user":{{"username":"{user}"}},"verb":"{verb}","requestURI":"/x","objectRef":{{"resource":"{resource}"}},"requestReceivedTimestamp":"2026-01-01T00:00:{second:02}.5Z"}}"#
            )
        };
        let lines = [
            line("1", USER, "get", "pods", 1),
            line("2", USER, "get", "pods", 2),
            line("2", USER, "get", "pods", 2),
            line("3", USER, "update", "leases", 3),
            line("4", USER, "watch", "pods", 3),
            line("5", "system:kube-scheduler", "get", "pods", 3),
            line("6", USER, "get", "pods", 9),
            r#"{"auditID":"7","us"#.to_owned(),
        ];
        let time = |second: &str| format!("2026-01-01T00:00:{second}Z").parse().expect("a time");
        let found = requests(lines.iter().map(String::as_str), &(time("02")..time("05")));
        let seen: Vec<_> = found.iter().map(|request| (request.verb.as_str(), request.keeps_alive())).collect();
        assert_eq!(seen, [("get", false), ("update", true), ("watch", true)]);
    }

    #[test]
    fn no_process_runs_in_a_pod_that_does_not_exist() {
        assert_eq!(processes_of(&BTreeSet::from(["no-such-pod".to_owned()])).ok(), Some(Vec::new()));
    }
}
