//! What the operator was told on its command line, as plain values.

use std::time::Duration;

use jiff::SignedDuration;

use super::alerts::AlertSettings;
use super::egress::AllowedHosts;
use super::tenancy::Tenancy;

/// The same for every Canary, and fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Prometheus that is asked when neither the Canary nor its template names one, as a URL.
    pub metrics_server: String,
    /// The mesh of a Canary that names none, by its name in the registry: `gatewayapi:v1`.
    pub provider: String,
    /// Whose metrics the built-in queries read with the Gateway API, by name: `traefik`.
    pub gateway_metrics: String,
    /// The labels that can tell primary and canary apart, in the order in which they are looked for; not empty.
    pub selector_labels: Vec<String>,
    /// Prefixes of the target's labels and annotations that its primary gets too; `*` is all of them.
    pub include_label_prefix: Vec<String>,
    /// How long a version without weight keeps its pods, for connections that were opened before; never negative.
    pub drain_delay: SignedDuration,
    /// How long a Gateway may take to accept a route before the wait is reported as a fault; never negative.
    pub route_grace: SignedDuration,
    /// The deadline of one query, for a timer; longer than zero.
    pub query_timeout: Duration,
    /// Whether ConfigMaps and Secrets are part of a version.
    pub config_tracking: bool,
    /// How many passes may write at the same time; 1 to 1024.
    pub concurrency: usize,
    /// How many calls to the API server may be under way at the same time, and as many again of those that take traffic
    /// back; 1 to 1024.
    pub api_concurrency: usize,
    /// How many questions may be under way to one metric provider at the same time; 1 to 1024.
    pub query_concurrency: usize,
    /// Whose Canaries are handled.
    pub tenancy: Tenancy,
    /// How many webhooks may be called at the same time, by all Canaries together; at least 1.
    pub webhook_concurrency: usize,
    /// Where requests may be sent besides the API server.
    pub allowed_egress: AllowedHosts,
    /// Who is told of Canaries that do not say.
    pub alerts: AlertSettings,
}
