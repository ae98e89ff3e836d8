//! The definitions as they are applied to a cluster: generated from the types, structural, and with rules that refuse
//! nonsense with a sentence.

use jiff::SignedDuration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{ValidationErrors, Validator};
use serde_json::{Value, json};
use serin::api::{AlertProvider, Canary, CanarySpec, Defaults, MetricTemplate, Provider, crds, plan, provider};
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
            if node["additionalProperties"].is_object() && has_rules(&node["additionalProperties"]) {
                assert!(node["maxProperties"].is_u64(), "{path}: the cost of the rules in it has no limit");
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
    vec![
        Bad {
            change: json!({"metricsServer": "prometheus:9090"}),
            rule: "write the URL with its scheme, for example http://prometheus.monitoring:9090",
            refusal: "spec.metricsServer",
        },
        Bad {
            change: json!({"analysis": {"metrics": [
                {"name": "errors", "query": "1", "templateRef": {"name": "errors"}, "thresholdRange": {"max": 1}},
            ]}}),
            rule: "write either templateRef or query, not both",
            refusal: "spec.analysis.metrics: errors",
        },
    ]
}

/// A spec that both refuse in the same words, at this field.
struct Refused(Value, &'static str, &'static str);

fn refused() -> Vec<Refused> {
    [of_the_whole(), of_the_provider(), of_the_service(), of_the_matches(), of_the_analysis(), of_the_webhooks()]
        .into_iter()
        .flatten()
        .collect()
}

/// Takes the analysis's weights out and puts something else in.
fn iterating(change: &Value) -> Value {
    let mut analysis = json!({"stepWeights": null, "iterations": 5});
    merge(&mut analysis, change);
    json!({"analysis": analysis})
}

/// What a Canary with the provider `kubernetes` has: no route.
fn without_route(change: &Value) -> Value {
    let mut spec = json!({"provider": "kubernetes", "service": {"gatewayRefs": null}, "analysis": {"stepWeights": null, "iterations": 5}});
    merge(&mut spec, change);
    spec
}

const PROVIDER: &str = "Serin moves traffic with the Gateway API or with Services alone; write gatewayapi:v1 (Istio, Linkerd, Kuma, \
    Contour, Gloo, NGINX, Traefik and APISIX implement it), gatewayapi:v1beta1, or kubernetes for blue/green without a gateway";
const VERSION: &str = "write apiVersion apps/v1 for a Deployment or DaemonSet, and v1 for a Service; a Knative Service rolls out by itself";
const KUBERNETES_ANALYSIS: &str = "provider kubernetes has no route; leave match, mirror, sessionAffinity and stepWeightPromotion out, or write \
    provider gatewayapi:v1";
const KUBERNETES_SERVICE: &str = "provider kubernetes has no route; leave gatewayRefs, hosts, match, timeout, backendTimeout, rewrite, headers, \
    mirror and corsPolicy out of service, or write provider gatewayapi:v1";
const SWITCH: &str = "switchTraffic moves the app's Service, which a gateway does not look at; write provider kubernetes, or leave it out";

fn of_the_whole() -> Vec<Refused> {
    let scaled = |change: Value| {
        let mut scaler = json!({"kind": "HorizontalPodAutoscaler", "name": "web"});
        merge(&mut scaler, &change);
        json!({"autoscalerRef": scaler})
    };
    vec![
        Refused(
            json!({"ingressRef": {"kind": "Ingress", "name": "web"}}),
            "spec.ingressRef",
            "Serin splits no Ingress; write service.gatewayRefs, \
            and have the gateway serve an HTTPRoute in the Ingress's place",
        ),
        Refused(
            json!({"routeRef": {"kind": "ApisixRoute", "name": "web"}}),
            "spec.routeRef",
            "Serin splits no ApisixRoute; write \
            service.gatewayRefs: APISIX serves HTTPRoutes of the Gateway API",
        ),
        Refused(
            json!({"upstreamRef": {"kind": "Upstream", "name": "web"}}),
            "spec.upstreamRef",
            "Serin makes no Gloo Upstreams; write \
            service.gatewayRefs: Gloo serves HTTPRoutes of the Gateway API",
        ),
        Refused(
            json!({"canaryAnalysis": {"interval": "1m"}}),
            "spec.canaryAnalysis",
            "canaryAnalysis is the old name; write analysis",
        ),
        Refused(json!({"targetRef": {"apiVersion": "extensions/v1beta1"}}), "spec.targetRef", VERSION),
        Refused(
            json!({"targetRef": {"kind": "Service", "apiVersion": "serving.knative.dev/v1"}}),
            "spec.targetRef",
            VERSION,
        ),
        Refused(
            json!({"targetRef": {"kind": "Service"}, "service": {"name": "shop"}}),
            "spec",
            "with a Service as target all names come from it; \
            leave service.name out, or write the target's name",
        ),
        Refused(
            scaled(json!({"kind": "VerticalPodAutoscaler"})),
            "spec.autoscalerRef.kind",
            "write HorizontalPodAutoscaler (of autoscaling/v2) or \
            ScaledObject (of KEDA)",
        ),
        Refused(
            scaled(json!({"primaryScalerQueries": {"requests": "sum(rate(requests[1m]))"}})),
            "spec.autoscalerRef",
            "primaryScalerQueries are \
            queries of a ScaledObject; a HorizontalPodAutoscaler has none, so leave them out",
        ),
        Refused(
            scaled(json!({"primaryScalerReplicas": {"minReplicas": 3, "maxReplicas": 2}})),
            "spec.autoscalerRef.primaryScalerReplicas",
            "minReplicas must not be above maxReplicas",
        ),
        Refused(
            {
                let mut spec = scaled(json!({}));
                merge(&mut spec, &json!({"targetRef": {"kind": "DaemonSet"}}));
                spec
            },
            "spec",
            "only a Deployment has an autoscaler; leave autoscalerRef out",
        ),
        Refused(
            without_route(&json!({"targetRef": {"kind": "Service"}})),
            "spec",
            "a Service as target needs a route between its two versions, which \
            provider kubernetes has not; write gatewayapi:v1",
        ),
        Refused(
            without_route(&json!({"analysis": {"iterations": null, "stepWeight": 10}})),
            "spec",
            "provider kubernetes has no route to split; write \
            iterations (for example 10) in place of stepWeight and stepWeights",
        ),
        Refused(
            without_route(&json!({"analysis": {"match": [{"headers": {"x-user": {"exact": "a"}}}]}})),
            "spec",
            KUBERNETES_ANALYSIS,
        ),
        Refused(without_route(&json!({"analysis": {"mirror": true}})), "spec", KUBERNETES_ANALYSIS),
        Refused(without_route(&json!({"analysis": {"stepWeightPromotion": 10}})), "spec", KUBERNETES_ANALYSIS),
        Refused(
            json!({"provider": "gatewayapi:v1", "analysis": {"stepWeights": null, "iterations": 5, "switchTraffic": true}}),
            "spec",
            SWITCH,
        ),
    ]
}

/// Other meshes, and what only a route can do.
fn of_the_provider() -> Vec<Refused> {
    let other = "apisix appmesh appmesh:v1beta2 contour gloo istio knative kuma linkerd nginx osm skipper smi:v1alpha1 smi:v1alpha2 smi:v1alpha3 traefik";
    let mut all: Vec<_> =
        other.split(' ').map(|name| Refused(json!({"provider": name}), "spec.provider", PROVIDER)).collect();
    let routed = json!({"gatewayRefs": [{"name": "gateway"}], "hosts": ["shop.example.com"], "match": [{"uri": {"prefix": "/"}}], "timeout": "5s",
        "backendTimeout": "5s", "rewrite": {"uri": "/"}, "headers": {"request": {"remove": ["x-a"]}},
        "mirror": [{"backendRef": {"name": "log", "port": 80}}], "corsPolicy": {"allowCredentials": true}});
    for (field, value) in routed.as_object().expect("it is one") {
        all.push(Refused(without_route(&json!({"service": {field: value}})), "spec", KUBERNETES_SERVICE));
    }
    all
}

fn of_the_service() -> Vec<Refused> {
    let service = |service: Value, field, sentence| Refused(json!({"service": service}), field, sentence);
    let mesh = |name: &str| {
        format!("Serin does not know App Mesh; leave {name} out, and write gatewayRefs").leak() as &'static str
    };
    let prefix = "ReplacePrefixMatch replaces the prefix that one match found; write exactly one match, with uri: {prefix: …}, or none for /";
    let origins = "the Gateway API knows whole origins only; write exact, for example {exact: https://shop.example.com} or {exact: \
        https://*.example.com}";
    vec![
        service(
            json!({"gateways": ["istio-system/public"]}),
            "spec.service.gateways",
            "these are Istio's gateways; write gatewayRefs with Gateways of \
            the Gateway API, for example [{name: public-gateway, namespace: istio-system}]",
        ),
        service(
            json!({"delegation": true}),
            "spec.service.delegation",
            "an HTTPRoute delegates to nobody; leave delegation out, and write in \
            gatewayRefs what the route belongs to",
        ),
        service(
            json!({"trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
            "spec.service.trafficPolicy",
            "this goes into an Istio DestinationRule, which \
            Serin does not make; leave it out, and write a DestinationRule of your own for each of the Services -primary and -canary",
        ),
        service(
            json!({"retries": {"attempts": 3}}),
            "spec.service.retries",
            "the Gateway API's retries are experimental; leave retries out, and write \
            the retries that your gateway offers in a policy of its own, or in an HTTPRoute that you keep yourself",
        ),
        service(json!({"meshName": "global"}), "spec.service.meshName", mesh("meshName")),
        service(json!({"backends": ["backend.test"]}), "spec.service.backends", mesh("backends")),
        service(json!({"hosts": ["*"]}), "spec.service.hosts", "to answer to every host, leave hosts out"),
        service(
            json!({"timeout": "5s", "backendTimeout": "6s"}),
            "spec.service",
            "backendTimeout must not be above timeout",
        ),
        service(json!({"rewrite": {}}), "spec.service.rewrite", "write uri, authority or both"),
        service(
            json!({"rewrite": {"uri": "app"}}),
            "spec.service.rewrite.uri",
            "a rewritten path begins with /; write for example uri: /",
        ),
        service(
            json!({"rewrite": {"authority": "app", "type": "ReplaceFullPath"}}),
            "spec.service.rewrite",
            "type says how uri is used; write uri too",
        ),
        service(
            json!({"rewrite": {"uri": "/", "type": "ReplacePrefixMatch"}, "match": [{"uri": {"exact": "/a"}}]}),
            "spec.service",
            prefix,
        ),
        service(
            json!({"rewrite": {"uri": "/", "type": "ReplacePrefixMatch"}, "match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}]}),
            "spec.service",
            prefix,
        ),
        service(
            json!({"mirror": [{"backendRef": {"name": "log"}}]}),
            "spec.service.mirror",
            "a Service needs a port; write backendRef.port",
        ),
        service(
            json!({"corsPolicy": {"allowOrigin": ["example.com"]}}),
            "spec.service.corsPolicy.allowOrigin",
            "allowOrigin is the old name; write \
            allowOrigins: [{exact: …}]",
        ),
        service(
            json!({"corsPolicy": {"allowOrigins": [{"regex": ".*"}]}}),
            "spec.service.corsPolicy.allowOrigins",
            origins,
        ),
        service(
            json!({"corsPolicy": {"allowOrigins": [{"exact": "example.com"}]}}),
            "spec.service.corsPolicy.allowOrigins",
            origins,
        ),
    ]
}

fn of_the_matches() -> Vec<Refused> {
    let matching =
        |matching: Value, field, sentence| Refused(json!({"service": {"match": [matching]}}), field, sentence);
    let one = "write exactly one of exact, prefix, suffix and regex";
    let path = "a path begins with /; write for example {prefix: /}";
    let method = "an HTTPRoute compares methods as a whole; write for example {exact: GET}";
    vec![
        matching(json!({"uri": {"exact": "/a", "prefix": "/b"}}), "spec.service.match.uri", one),
        matching(json!({"uri": {}}), "spec.service.match.uri", one),
        matching(json!({"headers": {"x-user": {}}}), "spec.service.match.headers", one),
        matching(json!({"queryParams": {"user": {"exact": "a", "regex": "b"}}}), "spec.service.match.queryParams", one),
        matching(json!({"uri": {"prefix": "app"}}), "spec.service.match.uri", path),
        matching(json!({"uri": {"exact": "app"}}), "spec.service.match.uri", path),
        matching(json!({"method": {"prefix": "P"}}), "spec.service.match.method", method),
        matching(json!({"method": {"exact": "get"}}), "spec.service.match.method", method),
        matching(
            json!({"scheme": {"exact": "https"}}),
            "spec.service.match.scheme",
            "an HTTPRoute does not look at the scheme; name the Gateway's \
            listener for http or https in gatewayRefs[].sectionName",
        ),
        matching(
            json!({"authority": {"exact": "example.com"}}),
            "spec.service.match.authority",
            "an HTTPRoute has its host names in one place; write \
            service.hosts",
        ),
        matching(
            json!({"port": 80}),
            "spec.service.match.port",
            "an HTTPRoute does not look at the port; write it in gatewayRefs[].port",
        ),
        matching(
            json!({"gateways": ["mesh"]}),
            "spec.service.match.gateways",
            "an HTTPRoute has its gateways in one place; write service.gatewayRefs",
        ),
        matching(
            json!({"ignoreUriCase": true}),
            "spec.service.match.ignoreUriCase",
            "an HTTPRoute compares letters as they are; write uri: {regex: \
            (?i)…} if your gateway knows it",
        ),
        matching(
            json!({"withoutHeaders": {"x-user": {"exact": "a"}}}),
            "spec.service.match.withoutHeaders",
            "an HTTPRoute cannot ask that a header be \
            absent; leave withoutHeaders out, and write an HTTPRoute of your own with a rule for these requests",
        ),
        matching(
            json!({"sourceLabels": {"app": "web"}}),
            "spec.service.match.sourceLabels",
            "a gateway does not see the labels of the pod that asks; \
            write headers or queryParams",
        ),
        matching(
            json!({"sourceNamespace": "shop"}),
            "spec.service.match.sourceNamespace",
            "a gateway does not see the namespace of the pod that asks; \
            write headers or queryParams",
        ),
    ]
}

fn of_the_analysis() -> Vec<Refused> {
    let analysis = |analysis: Value, field, sentence| Refused(json!({"analysis": analysis}), field, sentence);
    let several =
        "write only one of stepWeight, stepWeights and iterations: either weights that rise, or a number of checks";
    let max = "maxWeight goes with stepWeight; with stepWeights the last element is the maximum, and with iterations there is none, so leave maxWeight out";
    let ab = json!([{"headers": {"x-user": {"exact": "insider"}}}]);
    let affinity = |change: Value| {
        let mut affinity = json!({"cookieName": "canary"});
        merge(&mut affinity, &change);
        json!({"analysis": {"sessionAffinity": affinity}})
    };
    let cookie = "a cookie's name has letters, digits and !#$%&'*+-.^_`|~ only";
    let text = "a cookie's domain and path have neither spaces nor semicolons";
    let secure = "browsers accept sameSite: None and partitioned only on secure cookies; write secure: true too";
    vec![
        analysis(
            json!({"stepWeights": null}),
            "spec",
            "analysis needs a strategy; write one of stepWeight (for example 10), stepWeights (for example \
            [10, 30, 60]) and iterations (for example 10)",
        ),
        analysis(json!({"stepWeight": 10}), "spec.analysis", several),
        analysis(json!({"iterations": 10}), "spec.analysis", several),
        analysis(json!({"stepWeights": null, "stepWeight": 10, "iterations": 10}), "spec.analysis", several),
        analysis(json!({"maxWeight": 50}), "spec.analysis", max),
        Refused(iterating(&json!({"maxWeight": 50})), "spec.analysis", max),
        analysis(
            json!({"match": ab}),
            "spec.analysis",
            "match chooses the requests of an A/B test; write iterations with it (for example 10), in place \
            of stepWeight and stepWeights",
        ),
        Refused(
            iterating(&json!({"match": [{}]})),
            "spec.analysis.match",
            "write headers or queryParams in each entry of match; an empty one would be \
            everyone",
        ),
        Refused(
            iterating(&json!({"match": [{"headers": {"x-user": {"exact": "a"}}, "sourceLabels": {"app": "web"}}]})),
            "spec.analysis.match.sourceLabels",
            "a gateway does not see the labels of the pod that asks; write headers or queryParams",
        ),
        Refused(
            iterating(&json!({"match": [{"headers": {"x-user": {"exact": "a", "suffix": "b"}}}]})),
            "spec.analysis.match.headers",
            "write exactly one of exact, prefix, suffix and regex",
        ),
        Refused(
            iterating(&json!({"match": ab, "mirror": true})),
            "spec.analysis",
            "mirror sends a copy of every request to the canary, match chooses some \
            requests for it; write only one of the two",
        ),
        Refused(
            iterating(&json!({"mirrorWeight": 50})),
            "spec.analysis",
            "mirrorWeight is the share of requests that mirror copies; write mirror: true too",
        ),
        Refused(
            iterating(&json!({"sessionAffinity": {"cookieName": "canary"}})),
            "spec.analysis",
            "sessionAffinity keeps clients on the version that a \
            weight gave them; write stepWeight or stepWeights with it, in place of iterations",
        ),
        Refused(
            affinity(json!({"primaryCookieName": "canary"})),
            "spec.analysis.sessionAffinity",
            "cookieName and primaryCookieName must differ",
        ),
        Refused(affinity(json!({"cookieName": "the canary"})), "spec.analysis.sessionAffinity.cookieName", cookie),
        Refused(
            affinity(json!({"primaryCookieName": "a;b"})),
            "spec.analysis.sessionAffinity.primaryCookieName",
            cookie,
        ),
        Refused(affinity(json!({"domain": "example.com; Secure"})), "spec.analysis.sessionAffinity.domain", text),
        Refused(affinity(json!({"path": "/a b"})), "spec.analysis.sessionAffinity.path", text),
        Refused(affinity(json!({"sameSite": "None"})), "spec.analysis.sessionAffinity", secure),
        Refused(affinity(json!({"partitioned": true})), "spec.analysis.sessionAffinity", secure),
    ]
}

fn of_the_webhooks() -> Vec<Refused> {
    let hook = |change: Value| {
        let mut hook = json!({"name": "load", "url": "http://tester/"});
        merge(&mut hook, &change);
        hook
    };
    let hooks = |hooks: Vec<Value>, field, sentence| Refused(json!({"analysis": {"webhooks": hooks}}), field, sentence);
    let timeout = "timeout must be from 1ms to 1h, for example 10s";
    vec![
        hooks(
            vec![hook(json!({})), hook(json!({"type": "rollback"}))],
            "spec.analysis.webhooks",
            "give each webhook a name of its own",
        ),
        hooks(
            vec![hook(json!({"url": "tester:8080"}))],
            "spec.analysis.webhooks.url",
            "write the URL with its scheme, for example \
            http://load-tester.test/gate/check",
        ),
        hooks(vec![hook(json!({"timeout": "0s"}))], "spec.analysis.webhooks.timeout", timeout),
        hooks(vec![hook(json!({"timeout": "2h"}))], "spec.analysis.webhooks.timeout", timeout),
    ]
}

#[test]
fn both_refuse_in_the_same_words() {
    for Refused(change, field, sentence) in refused() {
        let canary = with(&change);
        assert_eq!(rules_say("Canary", &canary), [sentence], "{change}");
        assert_eq!(serin_says(&canary), Err(format!("{field}: {sentence}")), "{change}");
    }
}

/// No rule sees the operator's flags.
#[test]
fn what_the_default_provider_cannot_do_is_refused_by_serin() {
    let says = |change: &Value, default: &str| {
        let spec: CanarySpec = serde_json::from_value(with(change)["spec"].clone()).expect("it fits the type");
        provider(&spec, default).map(Provider::name).map_err(|invalid| invalid.to_string())
    };
    assert_eq!(says(&json!({}), "gatewayapi:v1"), Ok("gatewayapi:v1"));
    assert_eq!(says(&json!({"provider": "gatewayapi:v1beta1"}), "kubernetes"), Ok("gatewayapi:v1beta1"));
    let refused = says(&json!({}), "kubernetes").unwrap_err();
    assert!(refused.starts_with("spec: provider kubernetes has no route to split; write iterations"), "{refused}");
    let without = json!({"service": {"gatewayRefs": null}, "analysis": {"stepWeights": null, "iterations": 5}});
    assert_eq!(says(&without, "kubernetes"), Ok("kubernetes"));
    let switching = json!({"analysis": {"stepWeights": null, "iterations": 5, "switchTraffic": true}});
    assert_eq!(says(&switching, "gatewayapi:v1"), Err(format!("spec: {SWITCH}")));
    assert_eq!(says(&json!({}), "istio"), Err(format!("spec.provider: {PROVIDER}")));
}

#[test]
fn the_api_server_refuses_nonsense_with_a_sentence() {
    for Bad { change, rule, .. } in bad().into_iter().chain(bad_but_unnoticed()) {
        assert_eq!(rules_say("Canary", &with(&change)), [rule], "{change}");
    }
    let template = json!({"spec": {"provider": {"type": "prometheus", "address": "prometheus:9090"}, "query": "1"}});
    let sentence = "write the URL with its scheme, for example http://prometheus.monitoring:9090";
    assert_eq!(rules_say("MetricTemplate", &template), [sentence]);
    let other = |change: Value| {
        let mut template = template.clone();
        merge(&mut template["spec"]["provider"], &change);
        rules_say("MetricTemplate", &template)
    };
    let queried = "Serin asks Prometheus, and whatever has its query API (Thanos, Mimir, VictoriaMetrics, managed Prometheus of \
                   the clouds); write type prometheus";
    let kinds = "influxdb datadog externalmetrics stackdriver cloudwatch newrelic graphite dynatrace keptn splunk";
    for kind in kinds.split(' ') {
        assert_eq!(other(json!({"type": kind, "address": null})), [queried]);
    }
    assert_eq!(other(json!({"address": null})), ["write the address, for example http://prometheus.monitoring:9090"]);
    assert_eq!(
        other(json!({"address": "http://prometheus", "region": "eu-west-1"})),
        ["region is for CloudWatch, which Serin does not ask; leave it out"]
    );
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
    for change in good.iter().map(with).chain([flaggers_gateway()]) {
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
fn all_that_is_flaggers_is_accepted() {
    let hook = |kind: &str| json!({"type": kind, "name": format!("hook {kind}"), "url": "http://tester.test/"});
    let kinds = [
        "",
        "confirm-rollout",
        "pre-rollout",
        "rollout",
        "confirm-traffic-increase",
        "confirm-promotion",
        "post-rollout",
        "rollback",
        "event",
    ];
    let ab = json!([{"headers": {"x-user": {"exact": "a"}, "cookie": {"regex": "^(.*?;)?(type=insider)(;.*)?$"}}},
        {"queryParams": {"user": {"prefix": "in"}, "team": {"suffix": "side"}}}]);
    let scaled = |scaler: Value| json!({"autoscalerRef": scaler});
    let all = [
        json!({"provider": "gatewayapi:v1beta1"}),
        without_route(&json!({})),
        without_route(
            &json!({"analysis": {"switchTraffic": true}, "service": {"portDiscovery": true, "headless": true}}),
        ),
        json!({"targetRef": {"apiVersion": "v1", "kind": "Service"}}),
        scaled(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "web",
            "primaryScalerReplicas": {"minReplicas": 2, "maxReplicas": 5}})),
        scaled(
            json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "primaryScalerQueries": {"load": "sum(load)"}}),
        ),
        json!({"service": {"trafficDistribution": "PreferClose"}}),
        json!({"service": {"timeout": "0s", "backendTimeout": "5s"}}),
        json!({"service": {"rewrite": {"uri": "/", "authority": "app.example.com"}}}),
        json!({"service": {"rewrite": {"uri": "/", "type": "ReplacePrefixMatch"}, "match": [{"uri": {"prefix": "/app"}}]}}),
        json!({"service": {"headers": {"request": {"add": {"x-a": "b"}, "set": {"x-b": "c"}, "remove": ["x-c"]}, "response": {"remove": ["server"]}}}}),
        json!({"service": {"mirror": [{"backendRef": {"name": "log", "port": 80}}]}}),
        json!({"service": {"corsPolicy": {"allowOrigins": [{"exact": "https://*.example.com"}], "allowMethods": ["GET"], "maxAge": "24h",
            "allowHeaders": ["x-a"], "exposeHeaders": ["x-b"], "allowCredentials": true}}}),
        json!({"service": {"unmanagedMetadata": {"annotations": ["example.com/owner"], "labels": ["team"]}}}),
        json!({"service": {"match": [{"name": "app", "uri": {"regex": "/a.*"}, "method": {"exact": "GET"}, "queryParams": {"a": {"exact": "b"}}}]}}),
        iterating(&json!({})),
        iterating(&json!({"match": ab})),
        iterating(&json!({"mirror": true, "mirrorWeight": 20})),
        iterating(&json!({"stepWeightPromotion": 20})),
        json!({"analysis": {"mirror": true, "stepWeightPromotion": 100}}),
        json!({"analysis": {"sessionAffinity": {"cookieName": "__Host-canary", "primaryCookieName": "primary", "path": "/", "domain": "example.com",
            "secure": true, "httpOnly": true, "partitioned": true, "sameSite": "None", "maxAge": 3600}}}),
        json!({"analysis": {"webhooks": kinds.map(hook)}}),
        json!({"analysis": {"webhooks": [{"name": "test", "url": "https://tester.test/", "timeout": "3m", "retries": 3, "muteAlert": true,
            "disableTLS": true, "metadata": {"cmd": "hey"}, "secretRef": {"name": "token"}}]}}),
    ];
    for change in &all {
        let canary = with(change);
        assert_eq!(rules_say("Canary", &canary), Vec::<String>::new(), "{change}");
        assert_eq!(serin_says(&canary), Ok(()), "{change}");
        let read: Canary = serde_json::from_value(canary.clone()).expect("it can be read");
        let again: Canary = serde_json::from_value(json!(read)).expect("it can be read again");
        assert_eq!(read.spec, again.spec, "{change}");
    }
}

#[test]
fn what_is_odd_and_harmless_is_accepted() {
    let odd = [
        json!({"analysis": {"threshold": 0}}),
        json!({"analysis": {"interval": "5s"}}),
        json!({"analysis": {"stepWeights": null}, "skipAnalysis": true}),
        json!({"analysis": {"match": [], "webhooks": [], "mirror": false}}),
        json!({"service": {"gateways": [], "delegation": false, "meshName": "", "match": [{"port": 0, "ignoreUriCase": false}]}}),
    ];
    for change in &odd {
        assert_eq!(rules_say("Canary", &with(change)), Vec::<String>::new(), "{change}");
        assert_eq!(serin_says(&with(change)), Ok(()), "{change}");
    }
}

/// Nothing of it is dropped in silence: what Serin cannot do is said, field by field.
#[test]
fn flaggers_manifest_for_istio_is_refused_field_by_field() {
    let mut said = rules_say("Canary", &flaggers_podinfo());
    said.sort();
    let first: Vec<_> = said.iter().map(|sentence| sentence.split([';', ',']).next().unwrap_or_default()).collect();
    assert_eq!(
        first,
        [
            "the Gateway API's retries are experimental",
            "these are Istio's gateways",
            "this goes into an Istio DestinationRule"
        ]
    );
    let refused = serin_says(&flaggers_podinfo()).unwrap_err();
    assert!(refused.starts_with("spec.service.gateways: these are Istio's gateways"), "{refused}");
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
