//! The operator under load, as a process of its own: Serin, or a peer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::{Tools, free_ports};
use crate::manifests::{self, Variables};
use crate::process::Process;

/// How long a start may take until it is ready.
const START: Duration = Duration::from_mins(1);

/// Who is run.
#[derive(Clone, Debug)]
pub enum Operator {
    /// The binary at a path, with more flags than it gets anyway.
    Serin {
        /// The binary.
        binary: PathBuf,
        /// Its flags.
        flags: Vec<String>,
    },
    /// A command for a shell, and its manifests.
    Peer {
        /// The command.
        command: String,
        /// Where `before/` and `canary.yaml` are.
        manifests: PathBuf,
    },
}

/// An operator that runs.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub process: Process,
    /// Where it serves its metrics, if that is known.
    pub metrics: Option<String>,
}

impl Operator {
    /// What to call it in a table.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Serin { .. } => "Serin".to_owned(),
            Self::Peer { manifests, .. } => {
                manifests.file_name().map_or("peer".into(), |name| name.to_string_lossy().into_owned())
            }
        }
    }

    /// Whether what Serin promises is to be held against it.
    #[must_use]
    pub fn is_serin(&self) -> bool {
        matches!(self, Self::Serin { .. })
    }

    /// What has to be there before it starts: definitions and rights.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub fn before(&self, tools: &Tools, variables: &Variables) -> Result<Vec<Value>> {
        match self {
            Self::Serin { .. } => {
                let mut objects = manifests::read(&tools.source.join("crds"), None)?;
                objects.push(manifests::namespace("serin-system"));
                objects.extend(rights(&tools.source.join("charts/serin/files"))?);
                Ok(objects)
            }
            Self::Peer { manifests, .. } => {
                let mut objects = vec![manifests::namespace("serin-system"), everything()];
                objects.extend(manifests::read(&manifests.join("before"), Some(variables))?);
                Ok(objects)
            }
        }
    }

    /// The template of one canary.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn canary(&self) -> Result<String> {
        match self {
            Self::Serin { .. } => Ok(include_str!("../templates/canary.yaml").to_owned()),
            Self::Peer { manifests, .. } => {
                let path = manifests.join("canary.yaml");
                std::fs::read_to_string(&path).with_context(|| path.display().to_string())
            }
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started, or is not ready after a while.
    pub async fn start(&self, kubeconfig: &Path, prometheus: &str, logs: &Path) -> Result<Running> {
        let mut running = match self {
            Self::Serin { binary, flags } => {
                let [port] = free_ports()?;
                let mut command = Command::new(binary);
                command.args(["run", "--log-format=text", "--identity=bench"]);
                command.arg(format!("--listen=127.0.0.1:{port}")).arg(format!("--metrics-server={prometheus}"));
                command.args(flags).env("KUBECONFIG", kubeconfig);
                let process = Process::start("serin", command, logs)?;
                Running { process, metrics: Some(format!("http://127.0.0.1:{port}")) }
            }
            Self::Peer { command: line, .. } => {
                let mut command = Command::new("sh");
                // The shell becomes the operator, so that the operator is what is measured and ended.
                command.arg("-c").arg(format!("exec {line}"));
                command.env("KUBECONFIG", kubeconfig).env("PROMETHEUS_URL", prometheus);
                Running { process: Process::start("peer", command, logs)?, metrics: None }
            }
        };
        running.ready().await?;
        Ok(running)
    }
}

impl Running {
    async fn ready(&mut self) -> Result<()> {
        let Some(metrics) = &self.metrics else { return Ok(()) };
        let url = format!("{metrics}/readyz");
        let (http, begin) = (reqwest::Client::new(), Instant::now());
        while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            self.process.alive()?;
            if begin.elapsed() > START {
                bail!("it is not ready after {START:?}; {}", self.process.tail());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Its page of metrics.
    ///
    /// # Errors
    /// When it has none, or does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let metrics = self.metrics.as_ref().context("it serves no metrics that are known")?;
        Ok(reqwest::get(format!("{metrics}/metrics")).await?.error_for_status()?.text().await?)
    }
}

/// The chart's rules, for the service account in whose name the operator runs here.
fn rights(files: &Path) -> Result<Vec<Value>> {
    let rules = |name: &str| -> Result<Value> {
        let path = files.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
    };
    let group = "rbac.authorization.k8s.io";
    let version = "rbac.authorization.k8s.io/v1";
    let metadata = json!({"name": "serin", "namespace": "serin-system"});
    let role = |kind: &str| json!({"apiGroup": group, "kind": kind, "name": "serin"});
    Ok(vec![
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "serin"}, "rules": rules("cluster-rules.yaml")?}),
        json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules("namespace-rules.yaml")?}),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "serin"},
            "roleRef": role("ClusterRole"), "subjects": [account()],
        }),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "roleRef": role("Role"),
            "subjects": [account()],
        }),
    ])
}

/// A peer may do whatever it wants.
fn everything() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "peer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [account()],
    })
}

fn account() -> Value {
    json!({"kind": "ServiceAccount", "name": "serin", "namespace": "serin-system"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serin_gets_the_rights_of_its_chart_and_no_more() {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/serin/files");
        let rights = rights(&files).unwrap();
        let verbs = |kind: &str, resource: &str| {
            let role = rights.iter().find(|object| object["kind"] == kind).unwrap();
            let rules = role["rules"].as_array().unwrap();
            let mut of_resource =
                rules.iter().filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource)));
            of_resource.next().map(|rule| rule["verbs"].clone())
        };
        assert_eq!(verbs("ClusterRole", "canaries/status"), Some(json!(["update"])));
        assert_eq!(verbs("Role", "leases"), Some(json!(["get", "create", "update"])));
        assert_eq!(verbs("ClusterRole", "pods"), None);
    }

    #[tokio::test]
    async fn a_peer_finds_cluster_and_prometheus_in_its_environment() {
        let logs = std::env::temp_dir().join(format!("serin-bench-peer-{}", std::process::id()));
        std::fs::create_dir_all(&logs).unwrap();
        let command = r#"sh -c 'echo "$KUBECONFIG $PROMETHEUS_URL"; exec sleep 60'"#.to_owned();
        let peer = Operator::Peer { command, manifests: "peers/other".into() };
        assert_eq!((peer.name(), peer.is_serin()), ("other".to_owned(), false));
        let running = peer.start(Path::new("/kubeconfig"), "http://prometheus", &logs).await.unwrap();
        while !running.process.tail().contains("/kubeconfig http://prometheus") {
            sleep(Duration::from_millis(10)).await;
        }
        running.process.stop().await.unwrap();
        std::fs::remove_dir_all(logs).unwrap();
    }
}
