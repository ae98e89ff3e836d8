//! The objects of a user's app, as a user writes them, and what of them says how a version behaves.

use crate::scenario::{Scenario, Strategy};
use serde_json::{Value, json};
use serin_testing::at;
use std::fmt;

pub(crate) const NAMESPACE: &str = "shop";
/// The name of the app, of its Deployment, Service, route and Canary.
pub(crate) const NAME: &str = "web";
pub(crate) const PRIMARY: &str = "web-primary";
pub(crate) const SETTINGS: &str = "settings";
pub(crate) const TOKEN: &str = "token";

/// What pods are made of: the image, and what was in their configs when they began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) image: String,
    /// What a restart leaves behind.
    pub(crate) restarted: String,
    pub(crate) settings: String,
    pub(crate) token: String,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, restarted, settings, token } = self;
        write!(formatter, "{image}")?;
        if !restarted.is_empty() {
            write!(formatter, " restarted {restarted}")?;
        }
        if settings.is_empty() { Ok(()) } else { write!(formatter, " with {settings} and {token}") }
    }
}

/// How a version behaves, which its image says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Good,
    /// Its requests fail.
    Bad,
    /// Its pods never become ready.
    Broken,
    /// Its pods become ready as canaries, and not as primaries.
    Stuck,
}

impl Quality {
    pub(crate) fn of(image: &str) -> Self {
        match image.rsplit('-').next() {
            Some("bad") => Self::Bad,
            Some("broken") => Self::Broken,
            Some("stuck") => Self::Stuck,
            _ => Self::Good,
        }
    }

    pub(crate) fn image(self, number: u64) -> String {
        format!("web:{number}-{}", format!("{self:?}").to_lowercase())
    }
}

pub(crate) fn deployment(scenario: &Scenario, image: &str) -> Value {
    let mut container = json!({"name": "main", "image": image, "ports": [{"containerPort": 8080}]});
    let mut spec = json!({});
    if scenario.configs {
        container["env"] =
            json!([{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": SETTINGS, "key": "value"}}}]);
        spec["volumes"] = json!([{"name": "token", "secret": {"secretName": TOKEN}}]);
    }
    spec["containers"] = json!([container]);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"team": "blue"}, "annotations": {"owner": "blue"}},
        "spec": {
            "replicas": scenario.replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {"metadata": {"labels": {"app": NAME, "tier": "front"}}, "spec": spec},
        },
    })
}

pub(crate) fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {"team": "blue"}},
        "spec": {
            "clusterIP": "10.0.0.7",
            "selector": {"app": NAME, "tier": "front"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    })
}

pub(crate) fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {"team": "blue"}},
        "spec": {
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
            "hostnames": ["shop.example"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "y"}]}}],
                    "backendRefs": [{"group": "", "kind": "Service", "name": NAME, "port": 80, "weight": 1}],
                },
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/legacy"}}],
                    "backendRefs": [{"name": "legacy", "port": 80}],
                },
            ],
        },
    })
}

pub(crate) fn settings(value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": SETTINGS, "namespace": NAMESPACE, "annotations": {"team": "blue"}},
        "data": {"value": value},
    })
}

pub(crate) fn token(value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": TOKEN, "namespace": NAMESPACE},
        "data": {"value": value},
    })
}

pub(crate) fn canary(scenario: &Scenario) -> Value {
    let webhook = |kind: &&str| json!({"type": kind, "name": kind, "url": format!("http://hooks/{kind}")});
    let mut canary = json!({
        "apiVersion": "serin.dev/v1beta1",
        "kind": "Canary",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"team": "blue"}},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "progressDeadlineSeconds": scenario.deadline,
            "revertOnDeletion": scenario.revert,
            "service": {"port": 80, "targetPort": 8080, "gatewayRefs": [{"name": "gateway"}]},
            "analysis": {
                "interval": format!("{}s", scenario.interval),
                "threshold": scenario.threshold,
                "inconclusiveLimit": scenario.inconclusive_limit,
                "onInconclusive": if scenario.hold { "Hold" } else { "Rollback" },
                "metrics": [{"name": "request-success-rate", "thresholdRange": {"min": 99}}],
            },
        },
    });
    let analysis = &mut canary["spec"]["analysis"];
    match &scenario.strategy {
        Strategy::Weights(weights) => analysis["stepWeights"] = json!(weights),
        Strategy::Iterations(count) => analysis["iterations"] = json!(count),
        Strategy::Every(step, most) => {
            analysis["stepWeight"] = json!(step);
            analysis["maxWeight"] = json!(most);
        }
    }
    if !scenario.hooks.is_empty() {
        analysis["webhooks"] = scenario.hooks.iter().map(webhook).collect();
    }
    canary
}

// ---- reading ----

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn number(value: &Value, pointer: &str) -> i64 {
    at(value, pointer).and_then(Value::as_i64).unwrap_or_default()
}

pub(crate) fn image(deployment: &Value) -> &str {
    text(deployment, "/spec/template/spec/containers/0/image")
}

pub(crate) fn replicas(deployment: &Value) -> i64 {
    at(deployment, "/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// What a route does with the app's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// There is none.
    Missing,
    /// They go to the app's own Service.
    Whole,
    /// They go to primary and canary, in these shares.
    Split(i64, i64),
    /// Something that nobody here wants.
    Other,
}

impl Shown {
    pub(crate) fn of(route: Option<&Value>) -> Self {
        let Some(route) = route else { return Self::Missing };
        let Some(backends) = at(route, "/spec/rules/0/backendRefs").and_then(Value::as_array) else {
            return Self::Other;
        };
        let weight = |name: &str| {
            let found = backends.iter().find(|backend| backend["name"] == name)?;
            Some(found["weight"].as_i64().unwrap_or(1))
        };
        match (weight(NAME), weight(PRIMARY), weight("web-canary"), backends.len()) {
            (Some(_), None, None, 1) => Self::Whole,
            (None, Some(primary), Some(canary), 2) => Self::Split(primary, canary),
            _ => Self::Other,
        }
    }

    /// The canary's share.
    pub(crate) fn canary(self) -> i64 {
        match self {
            Self::Split(_, canary) => canary,
            Self::Missing | Self::Whole | Self::Other => 0,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(formatter, "no route"),
            Self::Whole => write!(formatter, "all to the app's Service"),
            Self::Split(primary, canary) => write!(formatter, "primary {primary}, canary {canary}"),
            Self::Other => write!(formatter, "something odd"),
        }
    }
}
