//! `docs/flagger.md` is true: every field of Flagger's is in its tables, what works is in the schema, and what is refused is
//! refused by a rule.

use serde_json::Value;
use serin::api::crds;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The fields of Flagger's own CRDs (version 1.44.0), without what is below a field that is refused or that is a map.
const FIELDS: &str = "
Canary spec: provider metricsServer targetRef autoscalerRef autoscalerRef.primaryScalerQueries
  autoscalerRef.primaryScalerReplicas ingressRef routeRef upstreamRef service analysis canaryAnalysis
  progressDeadlineSeconds skipAnalysis revertOnDeletion suspend
Canary spec.service: name port portName targetPort appProtocol trafficDistribution portDiscovery headless timeout
  backendTimeout gateways gatewayRefs hosts delegation trafficPolicy match rewrite retries headers mirror corsPolicy
  corsPolicy.allowOrigin meshName backends apex primary canary unmanagedMetadata
Canary spec.service.match[]: name uri method headers queryParams scheme authority port gateways ignoreUriCase withoutHeaders
  sourceLabels sourceNamespace
Canary spec.analysis: interval iterations mirror mirrorWeight maxWeight stepWeight stepWeights stepWeightPromotion threshold
  primaryReadyThreshold canaryReadyThreshold alerts metrics webhooks match sessionAffinity
Canary spec.analysis.metrics[]: name interval threshold thresholdRange query templateRef templateVariables
Canary spec.analysis.webhooks[]: type name url muteAlert timeout metadata retries disableTLS
Canary spec.analysis.match[]: headers queryParams sourceLabels
Canary spec.analysis.sessionAffinity: cookieName primaryCookieName domain httpOnly maxAge partitioned path sameSite secure
MetricTemplate spec: query
MetricTemplate spec.provider: type address headers secretRef region insecureSkipVerify
AlertProvider spec: type channel username address proxy secretRef
";

/// Kind and path.
type Field = (String, String);

fn fields() -> BTreeSet<Field> {
    let mut all = BTreeSet::new();
    let mut place = (String::new(), String::new());
    for word in FIELDS.split_whitespace() {
        match word {
            "Canary" | "MetricTemplate" | "AlertProvider" => place = (word.to_owned(), String::new()),
            path if path.ends_with(':') => place = (place.0, path.trim_end_matches(':').to_owned()),
            field => drop(all.insert((place.0.clone(), format!("{}.{field}", place.1)))),
        }
    }
    all
}

/// The rows of the tables of fields: what is said of each.
fn rows() -> BTreeMap<Field, String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/flagger.md")).unwrap();
    let section = text.split("## Every field").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let mut rows = BTreeMap::new();
    for line in section.lines() {
        let Some((field, said)) = line.strip_prefix("| ").and_then(|line| line.split_once(" | ")) else { continue };
        let Some((kind, path)) = field.trim_end_matches('`').split_once('`') else { continue };
        let kind = if kind.is_empty() { "Canary" } else { kind.trim() };
        if !path.starts_with("spec.") {
            continue;
        }
        let twice = rows.insert((kind.to_owned(), path.to_owned()), said.trim_end_matches('|').trim().to_owned());
        assert_eq!(twice, None, "{path} is there twice");
    }
    rows
}

/// The schema of a field.
fn schema((kind, path): &Field) -> Option<Value> {
    let definition = crds().into_iter().find(|definition| definition.spec.names.kind == *kind)?;
    let mut node = serde_json::to_value(definition.spec.versions[0].schema.clone()?.open_api_v3_schema?).unwrap();
    for step in path.split('.') {
        let (name, is_list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        node = node["properties"].get_mut(name)?.take();
        if is_list {
            node = node["items"].take();
        }
    }
    Some(node)
}

#[test]
fn every_field_of_flaggers_is_in_the_document() {
    let (fields, rows) = (fields(), rows());
    let documented: BTreeSet<_> = rows.keys().cloned().collect();
    let missing: Vec<_> = fields.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&fields).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, not Flagger's {unknown:?}");
    assert!(fields.len() > 90, "{} fields", fields.len());
}

#[test]
fn what_the_document_says_is_what_the_schema_does() {
    for (field, said) in rows() {
        let Some(schema) = schema(&field) else {
            panic!("{field:?} is not in the schema: the API server would drop it")
        };
        let description = schema["description"].as_str().unwrap_or_default();
        let rules = schema["x-kubernetes-validations"].as_array().map_or(&[][..], Vec::as_slice);
        // What is refused whatever is written, or unless it is empty or says no.
        let is_refused = rules.iter().any(|rule| {
            ["false", "!self", "self == ''", "self == 0", "self.size() == 0"]
                .contains(&rule["rule"].as_str().unwrap_or_default())
        });
        match said.split([':', ';', ',', ' ']).next() {
            Some("works") => assert!(!is_refused && !description.starts_with("Refused"), "{field:?} is refused"),
            Some("refused") => {
                assert!(is_refused, "{field:?} is not refused");
                assert!(description.starts_with("Refused: "), "{field:?}: {description}");
                assert!(said.contains("write ") || said.contains("leave "), "{field:?}: {said}");
            }
            other => panic!("{field:?}: {other:?} is neither works nor refused"),
        }
    }
}

#[test]
fn nothing_is_refused_that_the_document_does_not_name() {
    fn walk(node: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if field["description"].as_str().is_some_and(|text| text.starts_with("Refused")) {
                found.push(path.clone());
            }
            walk(field, &path, found);
            walk(&field["items"], &format!("{path}[]"), found);
        }
    }
    let rows = rows();
    for definition in crds() {
        let kind = definition.spec.names.kind.clone();
        let mut found = vec![];
        walk(&serde_json::to_value(&definition.spec.versions[0].schema).unwrap()["openAPIV3Schema"], "", &mut found);
        assert!(kind == "AlertProvider" || !found.is_empty(), "{kind}");
        for path in found {
            assert!(rows.contains_key(&(kind.clone(), path.clone())), "{kind} {path} is refused, and nobody is told");
        }
    }
}
