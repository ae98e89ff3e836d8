//! A bare etcd and API server, on ports of their own, with nothing beside them.
//!
//! Invariant: what it starts it ends, and what it writes it removes.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, client::ClientBuilder};
use serde_json::json;
use tokio::time::sleep;

use crate::process::Process;

/// The API server with its first start of etcd takes 5 s when nothing else runs.
const START: Duration = Duration::from_secs(90);

/// Everything is in memory: a disk would be measured with it.
const MEMORY: &str = "/dev/shm";

/// Who is audited, and who has the rights of Serin's chart.
const OPERATOR: &str = "system:serviceaccount:serin-system:serin";

/// The groups of a service account in `serin-system`, so that limits and audit treat it like the Pod that it stands for.
const OPERATOR_GROUPS: &str = "system:serviceaccounts,system:serviceaccounts:serin-system";

/// The programs and definitions that `e2e/cluster/install.sh` has made.
#[derive(Clone, Debug)]
pub struct Tools {
    apiserver: PathBuf,
    controller_manager: PathBuf,
    etcd: PathBuf,
    /// The Gateway API's definitions.
    pub gateway_api: PathBuf,
    audit_policy: PathBuf,
    /// The top of the source.
    pub source: PathBuf,
}

impl Tools {
    /// Looks for the programs in `PATH`.
    ///
    /// # Errors
    /// Says what is missing, and what installs it.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |name: &str| {
            let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file());
            found.with_context(|| format!("{name} is not in PATH; run bench/run.sh, or e2e/cluster/install.sh"))
        };
        let apiserver = find("kube-apiserver")?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has no parent")?.to_owned();
        Ok(Self {
            gateway_api: apiserver.with_file_name("../manifests/gateway-api.json"),
            controller_manager: find("kube-controller-manager")?,
            etcd: find("etcd")?,
            audit_policy: source.join("e2e/cluster/manifests/audit-policy.yaml"),
            apiserver,
            source,
        })
    }
}

/// A running API server.
#[derive(Debug)]
pub struct Cluster {
    /// Its address.
    pub url: String,
    /// What signs its certificate, as PEM.
    pub authority: String,
    admin: String,
    operator: String,
    /// In the order in which they are stopped.
    processes: Vec<Process>,
    /// Where logs, keys and data are; the last to go.
    pub directory: Directory,
}

impl Cluster {
    /// Starts etcd and the API server and waits until it serves.
    ///
    /// # Errors
    /// When they do not serve in time; the end of the log says why.
    pub async fn start(tools: &Tools) -> Result<Self> {
        let directory = Directory::new()?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let etcd = start_etcd(tools, &directory, etcd_port, peer_port)?;
        let (admin, operator) = (token()?, token()?);
        let authority = write_identity(&directory, &admin, &operator)?;
        let apiserver = start_apiserver(tools, &directory, etcd_port, port)?;
        let url = format!("https://127.0.0.1:{port}");
        let mut cluster = Self { directory, url, authority, admin, operator, processes: vec![apiserver, etcd] };
        cluster.serve().await?;
        Ok(cluster)
    }

    /// Starts the real garbage collector as well, for when owners are deleted.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_garbage_collector(&mut self, tools: &Tools) -> Result<()> {
        let kubeconfig = self.kubeconfig("collector", &self.url, &self.admin)?;
        let mut command = Command::new(&tools.controller_manager);
        command.arg("--kubeconfig").arg(kubeconfig).args([
            "--controllers=garbagecollector",
            "--leader-elect=false",
            "--port=0",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--concurrent-gc-syncs=4",
        ]);
        self.processes.insert(0, Process::start("kube-controller-manager", command, &self.directory.path)?);
        Ok(())
    }

    /// A client that may do everything.
    ///
    /// # Errors
    /// When none can be made.
    pub async fn client(&self) -> Result<Client> {
        client(&kubeconfig(&self.url, &self.authority, &self.admin)).await
    }

    /// Writes a kubeconfig for the operator, for this address of the API server.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn operator_kubeconfig(&self, url: &str) -> Result<PathBuf> {
        self.kubeconfig("operator", url, &self.operator)
    }

    /// Where the operator's requests are logged.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.directory.path.join("audit.log")
    }

    /// Fails when one of its processes has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn alive(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::alive)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// When a process does not end.
    pub async fn stop(self) -> Result<()> {
        for process in self.processes {
            process.stop().await?;
        }
        Ok(())
    }

    fn kubeconfig(&self, name: &str, url: &str, token: &str) -> Result<PathBuf> {
        let path = self.directory.path.join(format!("{name}.kubeconfig"));
        let text = serde_json::to_string(&kubeconfig(url, &self.authority, token))?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    async fn serve(&mut self) -> Result<()> {
        let client = self.client().await?;
        let begin = Instant::now();
        let ready = || http::Request::get("/readyz").body(vec![]);
        while client.request_text(ready()?).await.is_err() {
            self.alive()?;
            if begin.elapsed() > START {
                bail!("the API server does not serve after {START:?}; {}", self.processes[0].tail());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// A directory in memory that is removed in the end.
#[derive(Debug)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
}

impl Directory {
    fn new() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = Path::new(MEMORY).join(format!("serin-bench-{}", std::process::id()));
        // It holds keys.
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}

fn start_etcd(tools: &Tools, directory: &Directory, port: u16, peer_port: u16) -> Result<Process> {
    let (url, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let mut command = Command::new(&tools.etcd);
    command.arg("--data-dir").arg(directory.path.join("etcd"));
    command.args(["--name=bench", "--log-level=warn", "--logger=zap"]);
    // Thousands of rollouts write more than the default of 2 GiB between two compactions.
    command.arg("--quota-backend-bytes=8589934592");
    command.arg(format!("--listen-client-urls={url}")).arg(format!("--advertise-client-urls={url}"));
    command.arg(format!("--listen-peer-urls={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
    command.arg(format!("--initial-cluster=bench={peer}"));
    Process::start("etcd", command, &directory.path)
}

fn start_apiserver(tools: &Tools, directory: &Directory, etcd_port: u16, port: u16) -> Result<Process> {
    let at = |name: &str| directory.path.join(name).display().to_string();
    fs::write(directory.path.join("audit.log"), "")?;
    let mut command = Command::new(&tools.apiserver);
    // It has little memory in use here, which Go would collect all the time; the cores are scarce, and shared with the operator.
    command.env("GOGC", "800");
    // Thousands of canaries are more than that leaves room for.
    command.env("GOMEMLIMIT", "8GiB");
    command.args(["--profiling=false", "--endpoint-reconciler-type=none", "--bind-address=127.0.0.1"]);
    command.args([
        "--advertise-address=127.0.0.1",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
    ]);
    command.arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local");
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        format!("--token-auth-file={}", at("tokens.csv")),
        format!("--tls-cert-file={}", at("apiserver.crt")),
        format!("--tls-private-key-file={}", at("apiserver.key")),
        format!("--service-account-signing-key-file={}", at("apiserver.key")),
        format!("--service-account-key-file={}", at("apiserver.crt")),
        format!("--audit-policy-file={}", tools.audit_policy.display()),
        format!("--audit-log-path={}", at("audit.log")),
        // One file, whatever its size: it is read while it is written.
        "--audit-log-maxsize=100000".to_owned(),
        format!("--cert-dir={}", at("unused")),
    ]);
    Process::start("kube-apiserver", command, &directory.path)
}

/// Writes tokens, a key and a certificate for it; answers with the certificate's authority.
fn write_identity(directory: &Directory, admin: &str, operator: &str) -> Result<String> {
    let write = |name: &str, text: &str| fs::write(directory.path.join(name), text).with_context(|| name.to_owned());
    let tokens =
        format!("{admin},admin,admin,\"system:masters\"\n{operator},{OPERATOR},operator,\"{OPERATOR_GROUPS}\"\n");
    write("tokens.csv", &tokens)?;
    self_signed(directory)
}

/// Makes a key and a certificate that is its own authority, and answers with that.
fn self_signed(directory: &Directory) -> Result<String> {
    let mut command = Command::new("openssl");
    command.current_dir(&directory.path).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    command.args(["-nodes", "-days", "2", "-keyout", "apiserver.key", "-out", "apiserver.crt", "-subj", "/CN=bench"]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
    let output = command.output().context("openssl is missing; run e2e/cluster/install.sh")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(fs::read_to_string(directory.path.join("apiserver.crt"))?)
}

fn kubeconfig(url: &str, authority: &str, token: &str) -> serde_json::Value {
    use k8s_openapi::ByteString;
    let authority = ByteString(authority.as_bytes().to_vec());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    })
}

async fn client(kubeconfig: &serde_json::Value) -> Result<Client> {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig.clone())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(ClientBuilder::try_from(config)?.build())
}

fn token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Ports that nobody listens at now.
pub(crate) fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    // All are held until the last one is found, so no two are the same.
    let listeners: Vec<_> =
        (0..COUNT).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<_>>()?;
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn free_ports_differ() {
        let ports: [u16; 20] = free_ports().unwrap();
        assert_eq!(BTreeSet::from(ports).len(), 20);
    }
}
