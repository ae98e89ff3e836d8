//! `serin run`: the wiring of the process. How it leads, and the order in which it stops, is in `controller::lead`; the
//! endpoints are served from the first moment to the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, process};

use anyhow::{Context, anyhow};
use clap::{ArgAction, Args, ValueEnum};
use jiff::SignedDuration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::alerts::Alerts;
use super::egress::Egress;
use super::signals::Stop;
use super::tenancy::Tenancy;
use super::{client, values};
use crate::controller::lease::Candidate;
use crate::controller::{self, Clock, Settings};
use crate::server::{self, Readiness};
use crate::telemetry::{LogFormat, Metrics, chain, init_logging};

/// A scrape in flight may end; a connection that only lingers may not hold up the exit.
const SERVER_ENDS: Duration = Duration::from_secs(2);

/// What `serin run` can be told.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Prometheus for the metrics of a Canary that names no other, as a URL.
    #[arg(long, env = "SERIN_METRICS_SERVER", value_name = "URL", default_value = "http://prometheus:9090")]
    #[arg(value_parser = values::http_url)]
    metrics_server: String,

    /// The mesh or gateway that moves the traffic of a Canary without a `provider`.
    #[arg(long, env = "SERIN_MESH_PROVIDER", value_name = "PROVIDER", default_value = "gatewayapi:v1")]
    mesh_provider: String,

    /// The gateway whose metrics the built-in checks read with the Gateway API.
    #[arg(long, env = "SERIN_GATEWAY_METRICS", value_name = "GATEWAY", default_value = "traefik")]
    gateway_metrics: String,

    /// The labels of a target's pods by one of which its primary is told apart, the first that is there.
    #[arg(
        long,
        env = "SERIN_SELECTOR_LABELS",
        value_name = "LABELS",
        default_value = "app,name,app.kubernetes.io/name"
    )]
    #[arg(value_parser = values::label_keys)]
    selector_labels: values::List,

    /// Beginnings of the names of labels and annotations that a primary gets from its target's own; * is all [default: none]
    #[arg(long, env = "SERIN_INCLUDE_LABEL_PREFIX", value_name = "PREFIXES")]
    #[arg(value_parser = values::prefixes)]
    include_label_prefix: Option<values::List>,

    /// How long a version keeps its pods after its last traffic, so that open connections can end.
    #[arg(long, env = "SERIN_DRAIN_DELAY", value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = values::duration)]
    drain_delay: SignedDuration,

    /// How long a gateway may take to accept a route before its silence is reported.
    #[arg(long, env = "SERIN_ROUTE_GRACE_PERIOD", value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = values::duration)]
    route_grace_period: SignedDuration,

    /// How long a metric query may take; one that takes longer is inconclusive.
    #[arg(long, env = "SERIN_QUERY_TIMEOUT", value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = values::deadline)]
    query_timeout: Duration,

    /// Whether the ConfigMaps and Secrets that an app uses are part of its version: a change of them is rolled out like one
    /// of its pod template.
    #[arg(long, env = "SERIN_ENABLE_CONFIG_TRACKING", value_name = "BOOL", default_value_t = true)]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_config_tracking: bool,

    /// How many Canaries are worked on at the same time, from 1 to 1024.
    #[arg(long, env = "SERIN_CONCURRENCY", value_name = "NUMBER", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,

    /// How many webhooks are called at the same time, for all Canaries together, from 1 to 4096.
    #[arg(long, env = "SERIN_WEBHOOK_CONCURRENCY", value_name = "NUMBER", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    webhook_concurrency: u16,

    #[command(flatten)]
    egress: Egress,

    #[command(flatten)]
    tenancy: Tenancy,

    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "SERIN_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// The namespace of the Lease by which replicas agree on one leader.
    #[arg(long, env = "SERIN_LEASE_NAMESPACE", value_name = "NAMESPACE", default_value = "serin-system")]
    lease_namespace: String,

    /// The name of that Lease; installations with the same name share one leader, so one with another
    /// --canary-selector or --namespace needs another name.
    #[arg(long, env = "SERIN_LEASE_NAME", value_name = "NAME", default_value = "serin")]
    lease_name: String,

    /// The name of this replica in the Lease. No other replica may have it at the same time: a Lease under this name is
    /// resumed without a wait [default: in a Pod the host name, which is the Pod's name; elsewhere with the process id]
    #[arg(long, env = "SERIN_IDENTITY", value_name = "NAME")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: Option<String>,

    /// What is logged, as a filter of `tracing`: a level, or levels by module like `info,serin=debug`.
    #[arg(long, env = "SERIN_LOG", value_name = "FILTER", default_value = "info")]
    log: String,

    /// What a line of the log looks like, on standard error.
    #[arg(long, env = "SERIN_LOG_FORMAT", value_name = "FORMAT", default_value = "json")]
    log_format: Format,

    #[command(flatten)]
    alerts: Alerts,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON object a line, for collectors
    Json,
    /// One sentence a line, for people
    Text,
}

impl Run {
    pub(super) async fn execute(self) -> anyhow::Result<()> {
        let format = match self.log_format {
            Format::Json => LogFormat::Json,
            Format::Text => LogFormat::Text,
        };
        init_logging(&self.log, format)?;
        // Of all crates that speak TLS here none brings its own choice; without one they panic at the first connection.
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was installed already");
        }
        let result = self.run().await;
        if let Err(error) = &result {
            tracing::error!(error = chain(error.as_ref()), "exiting");
        }
        result
    }

    async fn run(self) -> anyhow::Result<()> {
        let stop = Stop::on_signals()?;
        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::awaiting("the connection to the Kubernetes API is being set up");
        let mut server = Server::start(self.listen, &metrics, &readiness).await?;

        let client = client::connect(&metrics).await?;
        let identity = self.identity.clone().map_or_else(own_identity, Ok)?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), identity, "started");

        let candidate = Candidate::new(client.clone(), &self.lease_namespace, &self.lease_name, &identity);
        readiness.await_more("the caches are being filled");
        let (clock, settings) = (Clock::System, self.settings());
        let leading = controller::lead(clock, client, settings, candidate, metrics, readiness, stop.requested());
        // An error leaves `main` at once, and with it everything that still runs.
        tokio::select! {
            ended = leading => ended?,
            error = server.failure() => return Err(error),
        }
        server.finish().await
    }

    fn settings(&self) -> Settings {
        Settings {
            metrics_server: self.metrics_server.clone(),
            provider: self.mesh_provider.clone(),
            gateway_metrics: self.gateway_metrics.clone(),
            selector_labels: self.selector_labels.0.clone(),
            include_label_prefix: self.include_label_prefix.clone().unwrap_or_default().0,
            drain_delay: self.drain_delay,
            route_grace: self.route_grace_period,
            query_timeout: self.query_timeout,
            config_tracking: self.enable_config_tracking,
            concurrency: usize::from(self.concurrency),
            tenancy: self.tenancy.settings(),
            webhook_concurrency: usize::from(self.webhook_concurrency),
            allowed_egress: self.egress.allowed(),
            alerts: self.alerts.settings(),
        }
    }
}

/// The task that serves the endpoints, from the first moment to the last.
struct Server {
    task: JoinHandle<Result<(), server::Error>>,
    stop: oneshot::Sender<()>,
}

impl Server {
    async fn start(address: SocketAddr, metrics: &Arc<Metrics>, readiness: &Readiness) -> anyhow::Result<Self> {
        let listener = server::bind(address).await?;
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(server::serve(listener, Arc::clone(metrics), readiness.clone(), stopped));
        Ok(Self { task, stop })
    }

    /// Resolves only if serving ends by itself, which it should not: then nobody could see that this replica is well.
    async fn failure(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Ok(())) => anyhow!("the HTTP endpoints ended without being asked to"),
            Ok(Err(error)) => error.into(),
            Err(error) => anyhow::Error::new(error).context("the HTTP endpoints failed"),
        }
    }

    async fn finish(self) -> anyhow::Result<()> {
        // Whether it still listens shows below.
        let _ = self.stop.send(());
        match timeout(SERVER_ENDS, self.task).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(error)) => Err(error).context("the HTTP endpoints failed"),
            Err(_) => {
                tracing::debug!("connections still linger; leaving them");
                Ok(())
            }
        }
    }
}

/// A name that no other living process has. In a Pod it survives a restart of the container, so that the restarted one
/// resumes its Lease; elsewhere two processes on one host must differ.
fn own_identity() -> anyhow::Result<String> {
    let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let host = env::var("HOSTNAME").or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"));
    let host = host.context("could not find out the host name; set --identity or SERIN_IDENTITY")?;
    Ok(identity_from(host.trim(), in_pod, process::id()))
}

fn identity_from(host: &str, in_pod: bool, process: u32) -> String {
    if in_pod { host.to_owned() } else { format!("{host}-{process}") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn parse(flags: &[&str]) -> Result<Run, String> {
        let line = ["run"].iter().chain(flags);
        Line::try_parse_from(line).map(|line| line.run).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let settings = parse(&[]).unwrap().settings();
        let expected = Settings {
            metrics_server: "http://prometheus:9090".to_owned(),
            provider: "gatewayapi:v1".to_owned(),
            gateway_metrics: "traefik".to_owned(),
            selector_labels: ["app", "name", "app.kubernetes.io/name"].map(str::to_owned).into(),
            include_label_prefix: vec![],
            drain_delay: SignedDuration::from_secs(10),
            route_grace: SignedDuration::from_secs(10),
            query_timeout: Duration::from_secs(5),
            config_tracking: true,
            concurrency: 64,
            tenancy: controller::Tenancy::default(),
            webhook_concurrency: 256,
            allowed_egress: controller::AllowedHosts::default(),
            alerts: controller::AlertSettings::default(),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn flags_reach_the_settings() {
        let settings =
            parse(&["--drain-delay", "1m 30s", "--concurrency=1", "--query-timeout=250ms"]).unwrap().settings();
        assert_eq!(settings.drain_delay, SignedDuration::from_secs(90));
        assert_eq!(settings.concurrency, 1);
        assert_eq!(settings.query_timeout, Duration::from_millis(250));
        let settings = parse(&["--selector-labels=service,app", "--include-label-prefix=*"]).unwrap().settings();
        assert_eq!(settings.selector_labels, ["service", "app"]);
        assert_eq!(settings.include_label_prefix, ["*"]);
        for (flag, follows) in [("", true), ("=true", true), ("=false", false)] {
            let flag = format!("--enable-config-tracking{flag}");
            assert_eq!(parse(&[&flag]).unwrap().settings().config_tracking, follows, "{flag}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_flag_and_an_example() {
        let cases = [
            ("--drain-delay=-5s", "a duration cannot be negative; write for example 10s"),
            ("--query-timeout=0s", "write for example 5s"),
            ("--concurrency=0", "1..=1024"),
            ("--concurrency=1025", "1..=1024"),
            ("--webhook-concurrency=0", "1..=4096"),
            ("--metrics-server=prometheus:9090", "write for example http://prometheus:9090"),
            ("--selector-labels=", "write for example app,app.kubernetes.io/name"),
            ("--include-label-prefix=team*", "* alone means all"),
            ("--listen=8080", "--listen"),
            ("--identity=", "--identity"),
            ("--log-format=xml", "json, text"),
        ];
        for (flag, expected) in cases {
            let message = parse(&[flag]).unwrap_err();
            let (name, _) = flag.split_once('=').unwrap();
            assert!(message.contains(expected) && message.contains(name), "{flag}: {message}");
        }
    }

    #[test]
    fn an_identity_survives_a_restart_only_where_names_are_unique() {
        assert_eq!(identity_from("serin-5d4f-x2x", true, 1), "serin-5d4f-x2x");
        assert_eq!(identity_from("laptop", false, 4711), "laptop-4711");
    }
}
