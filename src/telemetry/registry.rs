//! The metrics at `/metrics`.
//!
//! Invariant: a Canary that is gone leaves no series behind, and a Canary has one phase at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The media type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds. From a cached read to the deadline of a request; a step or a retreat is judged against
/// 50 ms, which is why the low end is fine.
const DURATION_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The operator's own metrics. Recording is a map lookup and an atomic add: share it as an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    phase: Family<PhaseLabels, Gauge>,
    weight: Family<CanaryLabels, Gauge>,
    checks: Family<CheckLabels, Counter>,
    metric_value: Family<MetricLabels, Gauge<f64, AtomicU64>>,
    pass_duration: Durations<OutcomeLabels>,
    queue_depth: Gauge,
    transitions: Family<TransitionLabels, Counter>,
    api_requests: Family<ApiAnswerLabels, Counter>,
    api_request_duration: Durations<ApiRequestLabels>,
    queries: Family<OutcomeLabels, Counter>,
    query_duration: Histogram,
    alerts: Family<AlertLabels, Counter>,
    alerts_waiting: Gauge,
    leader: Gauge,
    /// Which series each Canary has, because a family cannot be asked for them.
    canaries: Mutex<BTreeMap<CanaryLabels, Series>>,
}

impl Metrics {
    /// An empty registry: nothing observed, not leading.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("serin"),
            phase: Family::default(),
            weight: Family::default(),
            checks: Family::default(),
            metric_value: Family::default(),
            pass_duration: Family::new_with_constructor(duration_histogram),
            queue_depth: Gauge::default(),
            transitions: Family::default(),
            api_requests: Family::default(),
            api_request_duration: Family::new_with_constructor(duration_histogram),
            queries: Family::default(),
            query_duration: duration_histogram(),
            alerts: Family::default(),
            alerts_waiting: Gauge::default(),
            leader: Gauge::default(),
            canaries: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    /// A Canary is in `phase` with `weight` percent of the traffic on its new version.
    pub fn canary_observed(&self, namespace: &str, name: &str, phase: &str, weight: u8) {
        let canary = CanaryLabels::new(namespace, name);
        self.weight.get_or_create(&canary).set(i64::from(weight));

        let mut canaries = self.canaries();
        let series = canaries.entry(canary.clone()).or_default();
        if series.phase.as_deref() != Some(phase)
            && let Some(former) = series.phase.replace(phase.to_owned())
        {
            self.phase.remove(&canary.in_phase(&former));
        }
        self.phase.get_or_create(&canary.in_phase(phase)).set(1);
    }

    /// A Canary was deleted: none of its series remains.
    pub fn canary_gone(&self, namespace: &str, name: &str) {
        let canary = CanaryLabels::new(namespace, name);
        // Held to the end, so that no other call brings a series back between the removals.
        let mut canaries = self.canaries();
        let Some(Series { phase, verdicts }) = canaries.remove(&canary) else { return };

        self.weight.remove(&canary);
        if let Some(phase) = phase {
            self.phase.remove(&canary.in_phase(&phase));
        }
        for (metric, verdict) in verdicts {
            self.checks.remove(&canary.verdict(&metric, &verdict));
            self.metric_value.remove(&canary.metric(&metric));
        }
    }

    /// A metric of a Canary was judged. Without a `value` (no samples, no answer) the former one is withdrawn, because a
    /// stale number reads like a fresh one.
    pub fn check(&self, namespace: &str, name: &str, metric: &str, verdict: &str, value: Option<f64>) {
        let canary = CanaryLabels::new(namespace, name);
        let mut canaries = self.canaries();
        canaries.entry(canary.clone()).or_default().verdicts.insert((metric.to_owned(), verdict.to_owned()));

        self.checks.get_or_create(&canary.verdict(metric, verdict)).inc();
        match value {
            Some(value) => {
                self.metric_value.get_or_create(&canary.metric(metric)).set(value);
            }
            None => {
                self.metric_value.remove(&canary.metric(metric));
            }
        }
    }

    /// One pass over a Canary ended with `outcome`: `ok` or `error`.
    pub fn pass(&self, outcome: &str, duration: Duration) {
        self.pass_duration.get_or_create(&OutcomeLabels::new(outcome)).observe(duration.as_secs_f64());
    }

    /// So many Canaries wait for a pass right now.
    pub fn queue_depth(&self, waiting: usize) {
        self.queue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// A Canary went from one phase to another, for `reason`.
    pub fn transition(&self, reason: &str) {
        self.transitions.get_or_create(&TransitionLabels { reason: reason.to_owned() }).inc();
    }

    /// The Kubernetes API answered a request with `code`, or did not (`error`). The duration is that until the answer's
    /// headers: a watch is measured to its start, not to its end.
    pub fn api_request(&self, verb: &str, resource: &str, code: &str, duration: Duration) {
        let request = ApiRequestLabels { verb: verb.to_owned(), resource: resource.to_owned() };
        self.api_request_duration.get_or_create(&request).observe(duration.as_secs_f64());
        let ApiRequestLabels { verb, resource } = request;
        self.api_requests.get_or_create(&ApiAnswerLabels { verb, resource, code: code.to_owned() }).inc();
    }

    /// A Prometheus query ended with `outcome`: `ok` or the kind of its failure.
    pub fn query(&self, outcome: &str, duration: Duration) {
        self.queries.get_or_create(&OutcomeLabels::new(outcome)).inc();
        self.query_duration.observe(duration.as_secs_f64());
    }

    /// An alert waits to be sent.
    pub fn alert_raised(&self) {
        self.alerts_waiting.inc();
    }

    /// An alert for a `channel` ended with `outcome`: `sent`, `failed` or `dropped`.
    pub fn alert(&self, channel: &str, outcome: &str) {
        let labels = AlertLabels { channel: channel.to_owned(), outcome: outcome.to_owned() };
        self.alerts.get_or_create(&labels).inc();
        self.alerts_waiting.dec();
    }

    /// Whether this process leads.
    pub fn leading(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All series in the `OpenMetrics` text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics could not be written out in full");
        }
        text
    }

    fn canaries(&self) -> MutexGuard<'_, BTreeMap<CanaryLabels, Series>> {
        // A panic elsewhere leaves at worst a series too many; the map itself is whole.
        self.canaries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names and help texts. The encoder appends `_info`, `_total` and the unit.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("build", "The running version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("canary_phase", "1 for the phase that a Canary is in", self.phase.clone());
        registry.register("canary_weight", "Percent of the traffic on the new version", self.weight.clone());
        registry.register("canary_checks", "Verdicts on the metrics of a Canary", self.checks.clone());
        let help = "The last value of a metric of a Canary; absent while there is none";
        registry.register("canary_metric_value", help, self.metric_value.clone());
        let help = "Time from the start to the end of one pass over a Canary";
        registry.register_with_unit("pass_duration", help, Unit::Seconds, self.pass_duration.clone());
        registry.register("queue_depth", "Canaries that wait for a pass", self.queue_depth.clone());
        registry.register("transitions", "Changes of the phase of a Canary, by reason", self.transitions.clone());
        let help = "Requests to the Kubernetes API; the code is \"error\" when no answer came";
        registry.register("api_requests", help, self.api_requests.clone());
        let help = "Time until the Kubernetes API answered";
        registry.register_with_unit("api_request_duration", help, Unit::Seconds, self.api_request_duration.clone());
        registry.register("prometheus_queries", "Prometheus queries by how they ended", self.queries.clone());
        let help = "Time until Prometheus answered, or failed to";
        registry.register_with_unit("prometheus_query_duration", help, Unit::Seconds, self.query_duration.clone());
        registry.register("alerts", "Alerts by channel and by how they ended", self.alerts.clone());
        registry.register("alerts_waiting", "Alerts that are yet to be sent", self.alerts_waiting.clone());
        registry.register("leader", "1 while this process leads", self.leader.clone());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

type Durations<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

fn duration_histogram() -> Histogram {
    Histogram::new(DURATION_BOUNDS)
}

/// The series of one Canary beyond its weight.
#[derive(Debug, Default)]
struct Series {
    phase: Option<String>,
    /// Metric and verdict.
    verdicts: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct CanaryLabels {
    namespace: String,
    name: String,
}

impl CanaryLabels {
    fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn in_phase(&self, phase: &str) -> PhaseLabels {
        let Self { namespace, name } = self.clone();
        PhaseLabels { namespace, name, phase: phase.to_owned() }
    }

    fn metric(&self, metric: &str) -> MetricLabels {
        let Self { namespace, name } = self.clone();
        MetricLabels { namespace, name, metric: metric.to_owned() }
    }

    fn verdict(&self, metric: &str, verdict: &str) -> CheckLabels {
        let Self { namespace, name } = self.clone();
        CheckLabels { namespace, name, metric: metric.to_owned(), verdict: verdict.to_owned() }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    namespace: String,
    name: String,
    phase: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MetricLabels {
    namespace: String,
    name: String,
    metric: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CheckLabels {
    namespace: String,
    name: String,
    metric: String,
    verdict: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: String,
}

impl OutcomeLabels {
    fn new(outcome: &str) -> Self {
        Self { outcome: outcome.to_owned() }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TransitionLabels {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiRequestLabels {
    verb: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiAnswerLabels {
    verb: String,
    resource: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AlertLabels {
    channel: String,
    outcome: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) {
        let text = metrics.encode();
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }

    #[test]
    fn a_new_process_tells_its_version_and_does_not_lead() {
        let metrics = Metrics::new();
        has(&metrics, concat!("serin_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"));
        has(&metrics, "serin_leader 0");
        has(&metrics, "serin_queue_depth 0");
        has(&metrics, "# EOF");
        metrics.leading(true);
        has(&metrics, "serin_leader 1");
    }

    #[test]
    fn a_canary_is_in_one_phase_at_a_time() {
        let metrics = Metrics::new();
        metrics.canary_observed("shop", "web", "Progressing", 30);
        has(&metrics, r#"serin_canary_phase{namespace="shop",name="web",phase="Progressing"} 1"#);
        has(&metrics, r#"serin_canary_weight{namespace="shop",name="web"} 30"#);

        metrics.canary_observed("shop", "web", "Failed", 0);
        has(&metrics, r#"serin_canary_phase{namespace="shop",name="web",phase="Failed"} 1"#);
        has(&metrics, r#"serin_canary_weight{namespace="shop",name="web"} 0"#);
        assert!(!metrics.encode().contains("Progressing"));
    }

    #[test]
    fn a_check_is_counted_and_its_value_shown_until_there_is_none() {
        let metrics = Metrics::new();
        metrics.check("shop", "web", "latency", "Pass", Some(12.5));
        metrics.check("shop", "web", "latency", "Pass", Some(13.5));
        has(&metrics, r#"serin_canary_checks_total{namespace="shop",name="web",metric="latency",verdict="Pass"} 2"#);
        has(&metrics, r#"serin_canary_metric_value{namespace="shop",name="web",metric="latency"} 13.5"#);

        metrics.check("shop", "web", "latency", "Inconclusive", None);
        assert!(!metrics.encode().contains("serin_canary_metric_value{"));
    }

    #[test]
    fn a_canary_that_is_gone_leaves_no_series_and_its_neighbour_keeps_them() {
        let metrics = Metrics::new();
        for name in ["web", "api"] {
            metrics.canary_observed("shop", name, "Progressing", 30);
            metrics.check("shop", name, "latency", "Pass", Some(12.5));
            metrics.check("shop", name, "latency", "Fail", Some(900.0));
            metrics.check("shop", name, "errors", "Inconclusive", None);
        }
        metrics.canary_gone("shop", "web");
        metrics.canary_gone("shop", "never-seen");

        let text = metrics.encode();
        assert!(!text.contains("web"), "{text}");
        assert_eq!(text.matches(r#"name="api""#).count(), 6, "{text}");
    }

    #[test]
    fn the_operators_own_work_is_counted_and_timed() {
        let metrics = Metrics::new();
        metrics.pass("ok", Duration::from_millis(3));
        metrics.query("timeout", Duration::from_secs(5));
        metrics.api_request("patch", "deployments/scale", "200", Duration::from_millis(20));
        metrics.transition("StepTaken");
        for _ in 0..3 {
            metrics.alert_raised();
        }
        metrics.alert("slack", "sent");
        metrics.queue_depth(7);
        has(&metrics, r#"serin_pass_duration_seconds_count{outcome="ok"} 1"#);
        has(&metrics, r#"serin_pass_duration_seconds_bucket{le="0.005",outcome="ok"} 1"#);
        has(&metrics, r#"serin_prometheus_queries_total{outcome="timeout"} 1"#);
        has(&metrics, "serin_prometheus_query_duration_seconds_sum 5.0");
        has(&metrics, r#"serin_api_requests_total{verb="patch",resource="deployments/scale",code="200"} 1"#);
        has(&metrics, r#"serin_api_request_duration_seconds_count{verb="patch",resource="deployments/scale"} 1"#);
        has(&metrics, r#"serin_transitions_total{reason="StepTaken"} 1"#);
        has(&metrics, "serin_alerts_waiting 2");
        has(&metrics, r#"serin_alerts_total{channel="slack",outcome="sent"} 1"#);
        has(&metrics, "serin_queue_depth 7");
    }
}
