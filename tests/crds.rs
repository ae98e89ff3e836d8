//! The definitions as they are applied to a cluster: generated from the types, structural, and with rules that refuse
//! nonsense with a sentence.

use jiff::SignedDuration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{ValidationErrors, Validator};
use serde_json::{Value, json};
use serin::api::{AlertProvider, Canary, CanarySpec, Defaults, MetricTemplate, crds, plan};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

// ---- the files ----

#[test]
fn the_files_are_what_the_types_say() {
    for directory in ["crds", "charts/serin-crds/files"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let mut expected = BTreeSet::new();
        for definition in crds() {
            let name = format!("{}.yaml", definition.metadata.name.as_deref().unwrap_or_default());
            let text = fs::read_to_string(root.join(&name)).unwrap_or_default();
            let written: Option<CustomResourceDefinition> = serde_saphyr::from_str(&text).ok();
            assert!(written.as_ref() == Some(&definition), "{directory}/{name} is out of date: run `make generate`");
            assert!(!text.contains("status:\n  acceptedNames"), "{directory}/{name} holds a status");
            expected.insert(name);
        }
        let files = fs::read_dir(&root).expect("the directory is there");
        let found: BTreeSet<_> =
            files.map(|file| file.expect("it can be read").file_name().to_string_lossy().into_owned()).collect();
        assert_eq!(found, expected, "{directory} holds the definitions and nothing else");
    }
}

#[test]
fn chart_and_directory_hold_the_same_bytes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for definition in crds() {
        let name = format!("{}.yaml", definition.metadata.name.unwrap_or_default());
        let [one, other] = ["crds", "charts/serin-crds/files"].map(|place| fs::read(root.join(place).join(&name)).ok());
        assert!(one.is_some() && one == other, "{name}: run `make generate`");
    }
}

// ---- the schemas ----

#[test]
fn every_field_is_described() {
    for (kind, schema) in schemas() {
        let mut silent = vec![];
        walk(&schema, kind, &mut |path, node| {
            for (name, field) in node["properties"].as_object().into_iter().flatten() {
                // Those of the API machinery are described by itself.
                let is_ours = !matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
                if is_ours && field["description"].as_str().is_none_or(|text| text.trim().len() < 5) {
                    silent.push(format!("{path}.{name}"));
                }
            }
        });
        silent.retain(|path| !matches!(path.as_str(), "Canary.spec" | "MetricTemplate.spec" | "AlertProvider.spec"));
        assert!(silent.is_empty(), "no description: {silent:?}");
        assert!(schema["properties"]["spec"]["description"].is_string(), "{kind}");
    }
}

#[test]
fn the_schemas_are_structural() {
    for (kind, schema) in schemas() {
        walk(&schema, kind, &mut |path, node| {
            let any_type =
                node["x-kubernetes-int-or-string"] == true || node["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(node["type"].is_string() || any_type, "{path} has no type");
            for word in ["$ref", "oneOf", "allOf", "not", "definitions", "patternProperties"] {
                assert!(node[word].is_null(), "{path} has {word}");
            }
            assert!(node["anyOf"].is_null() || any_type, "{path} has anyOf");
            assert_ne!(node["additionalProperties"], false, "{path} refuses fields of a newer version");
            let both = node["properties"].is_object() && node["additionalProperties"].is_object();
            assert!(!both, "{path} has properties and additionalProperties");
            let format = node["format"].as_str().unwrap_or_default();
            assert!(!format.starts_with("uint"), "{path} has the format {format}, which API servers warn about");
            let values = node["enum"].as_array().map_or(&[][..], Vec::as_slice);
            assert!(!values.contains(&Value::Null), "{path} has null among its values");
            for name in node["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(node["properties"][name].is_object(), "{path} requires {name}, which it does not have");
            }
        });
    }
}

#[test]
fn lists_that_rules_go_through_have_a_limit() {
    for (kind, schema) in schemas() {
        walk(&schema, kind, &mut |path, node| {
            let has_rules = |node: &Value| {
                let mut found = false;
                walk(node, "", &mut |_, node| found |= node["x-kubernetes-validations"].is_array());
                found
            };
            if node["items"].is_object() && has_rules(&node["items"]) {
                assert!(node["maxItems"].is_u64(), "{path}: the cost of the rules in it has no limit");
            }
        });
    }
}

#[test]
fn status_is_a_subresource_and_columns_show_what_is_there() {
    for definition in crds() {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let [version] = definition.spec.versions.as_slice() else { panic!("{name} has one version") };
        assert!(version.served && version.storage, "{name}");
        let schema = json!(version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()));
        let has_status = schema["properties"]["status"].is_object();
        assert_eq!(version.subresources.as_ref().is_some_and(|all| all.status.is_some()), has_status, "{name}");
        for column in version.additional_printer_columns.iter().flatten() {
            let path = column.json_path.split("[?").next().unwrap_or_default();
            let pointer = path.replace('.', "/properties/");
            assert!(
                schema.pointer(&pointer).is_some(),
                "{name}: column {} shows {path}, which is not there",
                column.name
            );
        }
    }
}

// ---- the rules ----

/// A spec that is refused.
struct Bad {
    /// What is wrong with it: this is merged into a good spec.
    change: Value,
    /// What the API server says.
    rule: &'static str,
    /// What Serin says where the API server knows no rules.
    refusal: &'static str,
}

fn bad() -> Vec<Bad> {
    let metric = |metric: Value| json!({"analysis": {"metrics": [metric]}});
    vec![
        Bad {
            change: json!({"analysis": {"stepWeights": null}}),
            rule: "write either stepWeight (for example 10) or stepWeights (for example [10, 30, 60])",
            refusal: "spec.analysis: write either stepWeight (for example 10) or stepWeights (for example [10, 30, 60])",
        },
        Bad {
            change: json!({"analysis": {"stepWeight": 10}}),
            rule: "write either stepWeight (for example 10) or stepWeights (for example [10, 30, 60])",
            refusal: "spec.analysis: write either stepWeight (for example 10) or stepWeights (for example [10, 30, 60])",
        },
        Bad {
            change: json!({"analysis": {"stepWeights": [10, 10]}}),
            rule: "stepWeights must rise: write each weight once, in ascending order",
            refusal: "spec.analysis: stepWeights must rise, but 10 follows 10; write them in ascending order",
        },
        Bad {
            change: json!({"analysis": {"interval": "900ms"}}),
            rule: "interval must be at least 1s",
            refusal: "spec.analysis.interval must be at least 1s",
        },
        Bad {
            change: metric(json!({"name": "errors", "thresholdRange": {"max": 1}})),
            rule: "a metric needs a templateRef or a query, or one of the built-in names request-success-rate and request-duration",
            refusal: "spec.analysis.metrics: errors has no query; write a templateRef or a query, or use one of the \
                      built-in names request-success-rate and request-duration",
        },
        Bad {
            change: metric(json!({"name": "request-duration"})),
            rule: "a metric needs a thresholdRange, for example {min: 99}",
            refusal: "spec.analysis.metrics: request-duration: write a thresholdRange with min, max or both, and min \
                      not above max",
        },
        Bad {
            change: metric(json!({"name": "request-duration", "thresholdRange": {}})),
            rule: "thresholdRange needs min, max or both",
            refusal: "spec.analysis.metrics: request-duration: write a thresholdRange with min, max or both, and min \
                      not above max",
        },
        Bad {
            change: metric(json!({"name": "request-duration", "thresholdRange": {"min": 2, "max": 1}})),
            rule: "thresholdRange.min must not be above thresholdRange.max",
            refusal: "spec.analysis.metrics: request-duration: write a thresholdRange with min, max or both, and min \
                      not above max",
        },
    ]
}

/// What only the API server's rules refuse so far.
fn bad_but_unnoticed() -> Vec<Bad> {
    let matching = |matching: Value| json!({"service": {"match": [matching]}});
    vec![
        Bad {
            change: json!({"metricsServer": "prometheus:9090"}),
            rule: "write the URL with its scheme, for example http://prometheus.monitoring:9090",
            refusal: "spec.metricsServer",
        },
        Bad {
            change: json!({"analysis": {"maxWeight": 50}}),
            rule: "maxWeight goes with stepWeight; with stepWeights the last element is the maximum, so leave maxWeight out",
            refusal: "spec.analysis: maxWeight",
        },
        Bad {
            change: json!({"analysis": {"metrics": [
                {"name": "errors", "query": "1", "templateRef": {"name": "errors"}, "thresholdRange": {"max": 1}},
            ]}}),
            rule: "write either templateRef or query, not both",
            refusal: "spec.analysis.metrics: errors",
        },
        Bad {
            change: matching(json!({"uri": {"exact": "/a", "prefix": "/b"}})),
            rule: "write exactly one of exact, prefix and regex",
            refusal: "spec.service.match",
        },
        Bad {
            change: matching(json!({"uri": {}})),
            rule: "write exactly one of exact, prefix and regex",
            refusal: "spec.service.match",
        },
        Bad {
            change: matching(json!({"headers": {"x-user": {}}})),
            rule: "write exactly one of exact and regex",
            refusal: "spec.service.match",
        },
    ]
}

#[test]
fn the_api_server_refuses_nonsense_with_a_sentence() {
    for Bad { change, rule, .. } in bad().into_iter().chain(bad_but_unnoticed()) {
        assert_eq!(rules_say("Canary", &with(&change)), [rule], "{change}");
    }
    let template = json!({"spec": {"provider": {"type": "prometheus", "address": "prometheus:9090"}, "query": "1"}});
    let sentence = "write the URL with its scheme, for example http://prometheus.monitoring:9090";
    assert_eq!(rules_say("MetricTemplate", &template), [sentence]);
    let provider = |spec: Value| rules_say("AlertProvider", &json!({"spec": spec}));
    assert_eq!(
        provider(json!({"type": "slack", "channel": "releases"})),
        ["write the address, or name in secretRef a Secret with the key address (or, for a Slack bot, token)"]
    );
    assert_eq!(
        provider(json!({"type": "slack", "address": "hooks.slack.com/services/x"})),
        ["write the URL with its scheme, for example https://hooks.slack.com/services/…"]
    );
    assert_eq!(
        provider(json!({"type": "slack", "secretRef": {"name": "slack"}, "proxy": "proxy:3128"})),
        ["write the proxy's URL with its scheme, for example http://proxy.example:3128"]
    );
}

#[test]
fn serin_refuses_the_same_where_the_api_server_knows_no_rules() {
    for Bad { change, refusal, .. } in bad() {
        assert_eq!(serin_says(&with(&change)), Err(refusal.to_owned()), "{change}");
    }
}

#[test]
fn serin_refuses_all_that_the_rules_refuse() {
    for Bad { change, refusal, .. } in bad_but_unnoticed() {
        let said = serin_says(&with(&change));
        assert!(said.as_ref().is_err_and(|said| said.starts_with(refusal)), "{change}: {said:?}");
    }
}

#[test]
fn the_api_server_refuses_weights_that_fall() {
    let change = json!({"analysis": {"stepWeights": [30, 10]}});
    let sentence = "stepWeights must rise: write each weight once, in ascending order";
    assert_eq!(rules_say("Canary", &with(&change)), [sentence]);
}

#[test]
fn what_no_rule_can_hold_is_refused_by_serin() {
    let change = |change| serin_says(&with(&change)).unwrap_err();
    assert_eq!(
        change(json!({"analysis": {"stepWeights": [30, 10]}})),
        "spec.analysis: stepWeights must rise, but 10 follows 30; write them in ascending order"
    );
    let same = json!({"name": "request-duration", "thresholdRange": {"max": 500}});
    assert_eq!(
        change(json!({"analysis": {"metrics": [same, same]}})),
        "spec.analysis.metrics: request-duration appears twice; give each metric a name of its own"
    );
    assert_eq!(
        change(json!({"progressDeadlineSeconds": 0})),
        "spec.progressDeadlineSeconds is 0; write a number from 1 to 2147483647"
    );
}

#[test]
fn good_specs_are_accepted() {
    let metric = |metric: Value| json!({"analysis": {"metrics": [metric]}});
    let good = [
        json!({}),
        json!({"analysis": null}),
        json!({"analysis": {"stepWeights": [100]}}),
        json!({"analysis": {"stepWeights": null, "stepWeight": 10, "maxWeight": 50}}),
        json!({"analysis": {"stepWeights": null, "stepWeight": 30}}),
        json!({"analysis": {"interval": "1s", "threshold": 5, "inconclusiveLimit": 3, "onInconclusive": "Hold"}}),
        json!({"analysis": {"interval": "1h30m"}}),
        json!({"metricsServer": "https://prometheus.monitoring:9090/prefix"}),
        json!({"service": {"match": [{"uri": {"prefix": "/"}, "headers": {"x-user": {"regex": "a.*"}}}]}}),
        json!({"service": {"targetPort": "http", "timeout": "15s", "apex": {"labels": {"team": "blue"}}}}),
        metric(json!({"name": "request-duration", "threshold": 500})),
        metric(json!({"name": "errors", "query": "sum(errors)", "interval": "30s", "thresholdRange": {"max": 0}})),
        metric(json!({"name": "errors", "templateRef": {"name": "errors", "namespace": "monitoring"},
            "templateVariables": {"path": "/"}, "thresholdRange": {"min": 0, "max": 0}})),
    ];
    for change in good.iter().map(with).chain([flaggers_podinfo(), flaggers_gateway()]) {
        assert_eq!(rules_say("Canary", &change), Vec::<String>::new(), "{change}");
        assert_eq!(serin_says(&change), Ok(()), "{change}");
    }
    let template =
        json!({"spec": {"provider": {"type": "prometheus", "address": "http://prometheus:9090"}, "query": "1"}});
    assert_eq!(rules_say("MetricTemplate", &template), Vec::<String>::new());
    for spec in [
        json!({"type": "slack", "channel": "general", "username": "flagger", "address": "https://hooks.slack.com/x"}),
        json!({"type": "generic", "secretRef": {"name": "hook"}, "proxy": "http://proxy:3128"}),
    ] {
        assert_eq!(rules_say("AlertProvider", &json!({"spec": spec})), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn an_object_reads_back_as_it_was_written() {
    for canary in [flaggers_podinfo(), flaggers_gateway()] {
        let read: Canary = serde_json::from_value(canary).expect("it can be read");
        let again: Canary = serde_json::from_value(json!(read)).expect("it can be read again");
        assert_eq!(read.spec, again.spec);
    }
    let template = json!({"apiVersion": "serin.dev/v1beta1", "kind": "MetricTemplate", "metadata": {"name": "errors"},
        "spec": {"provider": {"type": "prometheus", "address": "http://prometheus:9090", "insecureSkipVerify": false}, "query": "1"}});
    let read: MetricTemplate = serde_json::from_value(template.clone()).expect("it can be read");
    assert_eq!(json!(read), template);
    let provider = json!({"apiVersion": "serin.dev/v1beta1", "kind": "AlertProvider", "metadata": {"name": "on-call"},
        "spec": {"type": "slack", "channel": "on-call", "proxy": "http://proxy:3128", "secretRef": {"name": "slack"}}});
    let read: AlertProvider = serde_json::from_value(provider.clone()).expect("it can be read");
    assert_eq!(json!(read), provider);
}

#[test]
fn an_alert_of_flaggers_means_what_is_documented() {
    for severity in ["", "info", "warn", "error"] {
        let alert =
            json!({"name": "on-call", "severity": severity, "providerRef": {"name": "slack", "namespace": "ops"}});
        let canary = with(&json!({"analysis": {"alerts": [alert]}}));
        assert_eq!(rules_say("Canary", &canary), Vec::<String>::new(), "{severity}");
        let read: Canary = serde_json::from_value(canary).expect("it can be read");
        assert_eq!(json!(read)["spec"]["analysis"]["alerts"], json!([alert]));
    }
    let wrong = json!({"name": "on-call", "severity": "warning", "providerRef": {"name": "slack"}});
    let read: Result<Canary, _> = serde_json::from_value(with(&json!({"analysis": {"alerts": [wrong]}})));
    assert!(read.is_err());
}

// ---- helpers ----

/// A good Canary, with a change merged into its spec.
fn with(change: &Value) -> Value {
    let mut canary = json!({
        "apiVersion": "serin.dev/v1beta1", "kind": "Canary", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": "web"},
            "service": {"port": 80, "gatewayRefs": [{"name": "gateway"}]},
            "analysis": {
                "interval": "10s",
                "stepWeights": [10, 30],
                "metrics": [{"name": "request-success-rate", "thresholdRange": {"min": 99}}],
            },
        },
    });
    merge(&mut canary["spec"], change);
    canary
}

/// What the rules of a kind say of an object.
fn rules_say(kind: &str, object: &Value) -> Vec<String> {
    let (_, schema) = schemas().into_iter().find(|(name, _)| *name == kind).expect("the kind is known");
    let verdict = Validator::new().validate(&schema, object, None);
    let errors = verdict.err().map(ValidationErrors::into_vec).unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}

/// What Serin itself says of a Canary.
fn serin_says(canary: &Value) -> Result<(), String> {
    let spec: CanarySpec = serde_json::from_value(canary["spec"].clone()).expect("it fits the type");
    let seconds = SignedDuration::from_secs(10);
    let defaults = Defaults { drain_delay: seconds, route_grace: seconds, meshless: false };
    plan(&spec, &defaults).map(drop).map_err(|invalid| invalid.to_string())
}

fn schemas() -> Vec<(&'static str, Value)> {
    let kinds = ["Canary", "MetricTemplate", "AlertProvider"];
    let schema = |definition: CustomResourceDefinition| {
        let kind = kinds.into_iter().find(|kind| *kind == definition.spec.names.kind).expect("a known kind");
        let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.clone());
        (kind, json!(schema))
    };
    crds().into_iter().map(schema).collect()
}

/// Visits a schema and all schemas in it.
fn walk(node: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, node);
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), visit);
    }
    for (word, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if node[word].is_object() {
            walk(&node[word], &format!("{path}{suffix}"), visit);
        }
    }
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match target.as_object_mut() {
            Some(map) if value.is_null() => drop(map.remove(key)),
            _ => merge(&mut target[key], value),
        }
    }
}

/// The Canary of Flagger's tutorials, with another `apiVersion`.
fn flaggers_podinfo() -> Value {
    let yaml = r"
apiVersion: serin.dev/v1beta1
kind: Canary
metadata:
  name: podinfo
  namespace: test
spec:
  targetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: podinfo
  progressDeadlineSeconds: 60
  autoscalerRef:
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    name: podinfo
  service:
    port: 9898
    targetPort: 9898
    gateways:
    - istio-system/public-gateway
    hosts:
    - app.example.com
    trafficPolicy:
      tls:
        mode: DISABLE
    retries:
      attempts: 3
      perTryTimeout: 1s
  analysis:
    interval: 1m
    threshold: 5
    maxWeight: 50
    stepWeight: 10
    metrics:
    - name: request-success-rate
      thresholdRange:
        min: 99
      interval: 1m
    - name: request-duration
      thresholdRange:
        max: 500
      interval: 30s
    webhooks:
    - name: load-test
      url: http://flagger-loadtester.test/
      timeout: 5s
      metadata:
        cmd: hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/
";
    serde_saphyr::from_str(yaml).expect("it is YAML")
}

/// The one of its Gateway API tutorial.
fn flaggers_gateway() -> Value {
    let yaml = r"
apiVersion: serin.dev/v1beta1
kind: Canary
metadata:
  name: podinfo
  namespace: test
spec:
  provider: gatewayapi:v1
  targetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: podinfo
  progressDeadlineSeconds: 60
  service:
    port: 9898
    targetPort: 9898
    hosts:
    - localproject.contour.io
    gatewayRefs:
    - group: gateway.networking.k8s.io
      kind: Gateway
      name: contour
      namespace: projectcontour
  analysis:
    interval: 30s
    threshold: 5
    maxWeight: 50
    stepWeight: 10
    metrics:
    - name: error-rate
      templateRef:
        name: error-rate
        namespace: flagger-system
      thresholdRange:
        max: 1
      interval: 1m
    - name: latency
      templateRef:
        name: latency
        namespace: flagger-system
      thresholdRange:
        max: 0.5
      interval: 30s
";
    serde_saphyr::from_str(yaml).expect("it is YAML")
}
