//! Everything that a run needs: the cluster, those who are played, the apps, and the operator.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::audit::AuditLog;
use crate::board::{App, Board, app_name, namespace};
use crate::cluster::{Cluster, Tools};
use crate::manifests::{self, Maker, Variables, render};
use crate::operator::{Operator, Running};
use crate::played::http::Providers;
use crate::played::{deployments, gateway};

/// How many changes are sent at a time when all is rolled out at once.
const AT_A_TIME: usize = 32;

/// How often the board is looked at while something is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Nothing was asked for so many seconds: then all is quiet.
const QUIET: u32 = 3;

/// What every run can be told.
#[derive(Args, Clone, Debug)]
pub struct Setting {
    /// How many canaries.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub canaries: usize,

    /// The time between two checks.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub interval: Duration,

    /// How many steps a rollout has.
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub steps: u8,

    /// How much the weight rises with each step, in percent; by the number of steps it may be 100 at most.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub step_weight: u8,

    /// How long pods take to become ready.
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = duration)]
    pub pod_start: Duration,

    /// How many Deployments, ConfigMaps and Secrets to add, of each so many, that no canary refers to.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub unrelated: usize,

    /// The binary of Serin.
    #[arg(long, value_name = "FILE", default_value = "serin")]
    pub serin: PathBuf,

    /// A flag for `serin run`; may be repeated.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub serin_flag: Vec<String>,

    /// Runs another operator in place of Serin: a command for a shell, with KUBECONFIG and `PROMETHEUS_URL` in its environment.
    #[arg(long, value_name = "COMMAND", requires = "peer_manifests")]
    pub peer_command: Option<String>,

    /// That operator's manifests: a directory with before/*.yaml and canary.yaml. See docs/performance.md.
    #[arg(long, value_name = "DIRECTORY", requires = "peer_command")]
    pub peer_manifests: Option<PathBuf>,

    /// Where to write all that was measured, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Leaves the logs of all processes in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub logs: Option<PathBuf>,
}

impl Setting {
    fn operator(&self) -> Operator {
        match (&self.peer_command, &self.peer_manifests) {
            (Some(command), Some(manifests)) => {
                Operator::Peer { command: command.clone(), manifests: manifests.clone() }
            }
            _ => Operator::Serin { binary: self.serin.clone(), flags: self.serin_flag.clone() },
        }
    }

    /// As it is written in a canary.
    #[must_use]
    pub fn written_interval(&self) -> String {
        match self.interval.subsec_millis() {
            0 => format!("{}s", self.interval.as_secs()),
            _ => format!("{}ms", self.interval.as_millis()),
        }
    }
}

/// A time like `10s`, `500ms` or `2m`.
///
/// # Errors
/// Says what to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |_| format!("{text} is no time; write 500ms, 10s or 2m");
    let parsed: jiff::SignedDuration = text.parse().map_err(wrong)?;
    Duration::try_from(parsed).map_err(|_| format!("{text} is less than nothing"))
}

/// A cluster with everyone who is played, and no operator yet.
pub struct Stage {
    /// How it was wanted.
    pub setting: Setting,
    /// Who is measured.
    pub operator: Operator,
    /// May do everything.
    pub client: Client,
    /// Makes objects.
    pub maker: Maker,
    /// What is seen of the apps.
    pub board: Arc<Board>,
    /// Prometheus and webhooks.
    pub providers: Arc<Providers>,
    /// What the operator asks of the API server.
    pub audit: AuditLog,
    /// The programs.
    pub tools: Tools,
    /// Ends when it is dropped, like the players.
    pub cluster: Cluster,
    players: JoinSet<Result<()>>,
}

impl Stage {
    /// Starts the cluster and those who are played, and makes the definitions.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn open(setting: Setting) -> Result<Self> {
        let tools = Tools::find()?;
        let operator = setting.operator();
        let begin = Instant::now();
        let cluster = Cluster::start(&tools).await?;
        let client = cluster.client().await?;
        let board = Arc::new(Board::new(setting.canaries, setting.interval));
        let providers = Providers::start(Arc::clone(&board)).await?;
        let audit = AuditLog::open(&cluster.audit_log())?;
        let maker = Maker::new(client.clone());
        let players = JoinSet::new();
        let mut stage = Self { setting, operator, client, maker, board, providers, audit, tools, cluster, players };
        stage.define().await?;
        stage.players.spawn(deployments::play(stage.client.clone(), Arc::clone(&stage.board), stage.setting.pod_start));
        stage.players.spawn(gateway::play(stage.client.clone(), Arc::clone(&stage.board)));
        say(begin, "etcd, the API server and the definitions are up");
        Ok(stage)
    }

    /// The variables of an app.
    #[must_use]
    pub fn variables(&self, index: usize) -> Variables {
        let Setting { steps, step_weight, .. } = self.setting;
        Variables {
            name: app_name(index),
            namespace: namespace(index),
            image: image(1),
            interval: self.setting.written_interval(),
            step_weight,
            max_weight: step_weight.saturating_mul(steps).min(100),
            steps,
            prometheus: self.prometheus(),
            hook: None,
            config: None,
        }
    }

    /// Where Prometheus is.
    #[must_use]
    pub fn prometheus(&self) -> String {
        format!("http://{}", self.providers.address)
    }

    /// Where the webhook is.
    #[must_use]
    pub fn hook(&self) -> String {
        format!("http://{}/hook", self.providers.address)
    }

    /// Starts the operator, with this address of the API server.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_operator(&self, url: &str) -> Result<Running> {
        let kubeconfig = self.cluster.operator_kubeconfig(url)?;
        self.operator.start(&kubeconfig, &self.prometheus(), &self.cluster.directory.path).await
    }

    /// Makes the Deployments of all apps, and the objects that concern nobody.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn make_apps(&self, variables: impl Fn(usize) -> Variables) -> Result<()> {
        let begin = Instant::now();
        let Setting { canaries, unrelated, .. } = self.setting;
        let namespaces = (0..canaries).step_by(50).map(|index| manifests::namespace(&namespace(index)));
        self.maker.make_all(namespaces.chain([manifests::namespace("unrelated")])).await?;
        let template = include_str!("../templates/deployment.yaml");
        let deployments: Vec<_> =
            (0..canaries).map(|index| render(template, &variables(index))).collect::<Result<_>>()?;
        self.maker.make_all(deployments.into_iter().flatten()).await?;
        self.maker.make_all((0..unrelated).flat_map(concerns_nobody)).await?;
        let ready = |app: &App| app.target.total > 0;
        self.all("the Deployments have their pods", ready, Duration::from_mins(10)).await?;
        say(
            begin,
            &format!("{canaries} Deployments are there, and {unrelated} objects of each kind that concern nobody"),
        );
        Ok(())
    }

    /// Makes the canaries, and waits until the operator has adopted all apps.
    ///
    /// # Errors
    /// When the API server refuses one, or it takes too long.
    pub async fn make_canaries(&self, variables: impl Fn(usize) -> Variables) -> Result<()> {
        let begin = Instant::now();
        let template = self.operator.canary()?;
        let indices = 0..self.setting.canaries;
        let canaries: Vec<_> = indices.map(|index| render(&template, &variables(index))).collect::<Result<_>>()?;
        self.maker.make_all(canaries.into_iter().flatten()).await?;
        say(begin, "all canaries are made");
        self.all("all apps are adopted", App::is_at_rest, Duration::from_mins(30)).await?;
        say(begin, "all apps are adopted");
        Ok(())
    }

    /// Gives apps their next version, a few at a time without a pause.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn roll_out(&self, apps: impl IntoIterator<Item = (usize, Option<usize>)>, version: u32) -> Result<()> {
        let image = image(version);
        stream::iter(apps)
            .map(|(index, turns_bad_after)| self.set_image(index, &image, turns_bad_after))
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await
    }

    async fn set_image(&self, index: usize, image: &str, turns_bad_after: Option<usize>) -> Result<()> {
        let name = app_name(index);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace(index));
        let containers = json!([{"name": "main", "image": image}]);
        let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
        self.board.begin(index, image, turns_bad_after);
        api.patch(&name, &PatchParams::default(), &patch).await.with_context(|| format!("change {name}"))?;
        Ok(())
    }

    /// Waits until all apps are in a state.
    ///
    /// # Errors
    /// When it takes too long.
    pub async fn all(&self, what: &str, is: impl Fn(&App) -> bool, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            let count = self.board.count(&is);
            if count == self.setting.canaries {
                return Ok(());
            }
            if begin.elapsed() > limit {
                bail!("{what}: {count} of {} after {limit:?}", self.setting.canaries);
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the operator asks for nothing any more, or for as long as that may take.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub async fn quiet(&mut self, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut quiet = 0;
        while quiet < QUIET && begin.elapsed() < limit {
            sleep(Duration::from_secs(1)).await;
            quiet = if self.audit.since()?.total() == 0 { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    /// Ends everything, and leaves the logs where they are wanted.
    ///
    /// # Errors
    /// When a process does not end, or a log cannot be copied.
    pub async fn close(self, running: Running) -> Result<()> {
        let Self { setting, cluster, players, .. } = self;
        running.process.stop().await?;
        drop(players);
        if let Some(to) = &setting.logs {
            std::fs::create_dir_all(to)?;
            for name in ["serin.log", "peer.log", "kube-apiserver.log", "etcd.log", "audit.log"] {
                let from = cluster.directory.path.join(name);
                if from.exists() {
                    std::fs::copy(&from, to.join(name)).with_context(|| from.display().to_string())?;
                }
            }
        }
        cluster.stop().await
    }

    async fn define(&self) -> Result<()> {
        let gateway_api = manifests::read(&self.tools.gateway_api, None)?;
        // Of the other kinds nobody here knows, and each costs the API server something.
        let known = ["gatewayclasses", "gateways", "httproutes", "referencegrants"];
        let is_known = |definition: &serde_json::Value| {
            let plural = definition["spec"]["names"]["plural"].as_str().unwrap_or_default();
            known.contains(&plural)
        };
        self.maker.make_all(gateway_api.into_iter().filter(is_known)).await?;
        // In the order in which they are written: what is defined first may be needed next.
        for object in self.operator.before(&self.tools, &self.variables(0))? {
            self.maker.make(object).await?;
        }
        // A kind that is served is one that can be watched.
        self.maker.make_all([manifests::namespace("gateways")]).await?;
        self.maker
            .make_all([json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "metadata": {"name": "first", "namespace": "gateways"}, "spec": {},
            })])
            .await
    }
}

/// What the pods of a version run.
#[must_use]
pub fn image(version: u32) -> String {
    format!("registry.example.com/bench/app:{version}")
}

/// Tells how far it is, with the time since something began.
pub fn say(since: Instant, what: &str) {
    eprintln!("{:>8.1} s  {what}", since.elapsed().as_secs_f64());
}

/// A Deployment, a ConfigMap and a Secret, of the size that such objects have.
fn concerns_nobody(index: usize) -> [serde_json::Value; 3] {
    let metadata = json!({"name": format!("other{index:05}"), "namespace": "unrelated"});
    let variables = Variables {
        name: format!("other{index:05}"),
        namespace: "unrelated".into(),
        image: image(1),
        ..Variables::default()
    };
    // The template is ours, and the variables are all there.
    let deployment = render(include_str!("../templates/deployment.yaml"), &variables).unwrap_or_default();
    let text = "a line of a file that is mounted into some pod\n".repeat(40);
    [
        deployment.into_iter().next().unwrap_or_default(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"file": text}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"file": text}}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("10").is_err() && duration("-1s").is_err());
    }

    #[test]
    fn what_concerns_nobody_is_whole() {
        let [deployment, config_map, secret] = concerns_nobody(3);
        assert_eq!(deployment["metadata"]["name"], "other00003");
        assert_eq!(config_map["data"], secret["stringData"]);
        assert!(crate::board::deployment("other00003").is_none());
    }
}
