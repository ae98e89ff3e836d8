//! Every manifest that we show is one that Serin accepts: `examples/`, and the blocks of the documents.

use jiff::SignedDuration;
use kube::CustomResourceExt;
use kube::core::cel::Validator;
use serde_json::Value;
use serin::api::{AlertProvider, Canary, Defaults, MetricTemplate, plan};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The YAML documents that are shown, with the place where they are.
fn shown() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples =
        files(&root.join("examples")).into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    let names = ["README.md", "docs/metrics.md", "docs/alerts.md", "docs/targets.md", "docs/flagger.md"];
    let documents = names.map(|name| root.join(name)).into_iter().flat_map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let blocks: Vec<String> =
            text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
        blocks.into_iter().map(move |block| (path.clone(), block))
    });
    let parse = |(path, text): (PathBuf, String)| {
        let place = path.strip_prefix(root).unwrap().display().to_string();
        let parts: Vec<_> = text.split("\n---\n").map(str::to_owned).collect();
        parts.into_iter().map(move |part| {
            let value = serde_saphyr::from_str(&part).unwrap_or_else(|error| panic!("{place}: {error}"));
            (place.clone(), value)
        })
    };
    examples.chain(documents).flat_map(parse).collect()
}

fn check<Kind: CustomResourceExt>(place: &str, value: &Value) {
    let definition = Kind::crd();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let schema = serde_json::to_value(schema).unwrap();
    unknown_fields(place, &schema, value);
    Validator::new().validate(&schema, value, None).unwrap_or_else(|errors| panic!("{place}: {errors:?}"));
}

/// A field that the schema does not have would be dropped in silence by the API server.
fn unknown_fields(place: &str, schema: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
            for (key, value) in
                map.iter().filter(|(key, _)| !["apiVersion", "kind", "metadata"].contains(&key.as_str()))
            {
                let schema = known.get(key).unwrap_or_else(|| panic!("{place}: there is no field {key}"));
                unknown_fields(&format!("{place} {key}"), schema, value);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| unknown_fields(place, &schema["items"], value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_manifest_that_is_shown_is_accepted() {
    let defaults = Defaults { drain_delay: SignedDuration::ZERO, route_grace: SignedDuration::ZERO, meshless: false };
    let mut canaries = 0;
    let mut told = BTreeSet::new();
    for (place, value) in shown() {
        match value["kind"].as_str() {
            Some("Canary") => {
                check::<Canary>(&place, &value);
                let canary: Canary = serde_json::from_value(value).unwrap();
                plan(&canary.spec, &defaults).unwrap_or_else(|error| panic!("{place}: {error}"));
                canaries += 1;
            }
            Some("MetricTemplate") => check::<MetricTemplate>(&place, &value),
            Some("AlertProvider") => {
                check::<AlertProvider>(&place, &value);
                let provider: AlertProvider = serde_json::from_value(value).unwrap();
                told.insert(provider.spec.kind.name());
            }
            _ => {}
        }
    }
    assert!(canaries >= 4, "only {canaries} Canaries were found in examples and documents");
    assert_eq!(told, ["discord", "gchat", "generic", "msteams", "rocket", "slack"].into(), "one of each kind");
}

/// What a user may look for an example of: a field of a Canary.
const FEATURES: [&str; 46] = [
    "/spec/provider",
    "/spec/autoscalerRef/primaryScalerQueries",
    "/spec/autoscalerRef/primaryScalerReplicas",
    "/spec/progressDeadlineSeconds",
    "/spec/revertOnDeletion",
    "/spec/service/name",
    "/spec/service/portName",
    "/spec/service/appProtocol",
    "/spec/service/portDiscovery",
    "/spec/service/headless",
    "/spec/service/trafficDistribution",
    "/spec/service/timeout",
    "/spec/service/backendTimeout",
    "/spec/service/gatewayRefs",
    "/spec/service/hosts",
    "/spec/service/match",
    "/spec/service/rewrite",
    "/spec/service/headers/request",
    "/spec/service/headers/response",
    "/spec/service/mirror",
    "/spec/service/corsPolicy",
    "/spec/service/apex",
    "/spec/service/primary",
    "/spec/service/canary",
    "/spec/service/unmanagedMetadata",
    "/spec/analysis/threshold",
    "/spec/analysis/iterations",
    "/spec/analysis/match",
    "/spec/analysis/mirror",
    "/spec/analysis/mirrorWeight",
    "/spec/analysis/stepWeight",
    "/spec/analysis/maxWeight",
    "/spec/analysis/stepWeights",
    "/spec/analysis/stepWeightPromotion",
    "/spec/analysis/sessionAffinity/cookieName",
    "/spec/analysis/sessionAffinity/primaryCookieName",
    "/spec/analysis/switchTraffic",
    "/spec/analysis/canaryReadyThreshold",
    "/spec/analysis/inconclusiveLimit",
    "/spec/analysis/onInconclusive",
    "/spec/analysis/alerts/0/severity",
    "/spec/analysis/webhooks/0/secretRef",
    "/spec/analysis/metrics/0/interval",
    "/spec/analysis/metrics/0/query",
    "/spec/analysis/metrics/0/templateRef",
    "/spec/analysis/metrics/0/templateVariables",
];

#[test]
fn every_strategy_and_every_feature_has_an_example() {
    let canaries: Vec<_> = shown()
        .into_iter()
        .filter(|(place, value)| place.starts_with("examples/") && value["kind"] == "Canary")
        .collect();
    for feature in FEATURES {
        assert!(canaries.iter().any(|(_, canary)| canary.pointer(feature).is_some()), "no example of {feature}");
    }
    let all = |pointer: &str| -> BTreeSet<String> {
        let values = canaries.iter().filter_map(|(_, canary)| canary.pointer(pointer)?.as_str());
        values.map(str::to_owned).collect()
    };
    assert_eq!(all("/spec/targetRef/kind"), ["DaemonSet", "Deployment", "Service"].map(str::to_owned).into());
    assert_eq!(all("/spec/autoscalerRef/kind"), ["HorizontalPodAutoscaler", "ScaledObject"].map(str::to_owned).into());
    let hooks =
        canaries.iter().filter_map(|(_, canary)| canary.pointer("/spec/analysis/webhooks")?.as_array()).flatten();
    let hooks: BTreeSet<_> = hooks.filter_map(|hook| hook["type"].as_str()).collect();
    let types =
        ["confirm-promotion", "confirm-rollout", "confirm-traffic-increase", "event", "post-rollout", "pre-rollout"];
    assert_eq!(hooks, types.into_iter().chain(["rollback", "rollout"]).collect());
}
