//! What a Canary says of its route, in the words of the Gateway API.

use crate::api::{
    BackendReference, CanarySpec, CorsPolicy, HeaderOperations, Headers, HttpMatch, RequestMatch, Rewrite, RewriteType,
    SameSite, Service, SessionAffinity, StringMatch, duration,
};
use crate::domain::Weight;
use crate::mesh::{self, pattern};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The route that Serin makes where there is none.
pub(super) fn route(service: &Service) -> mesh::Route {
    let metadata = service.apex.clone().unwrap_or_default();
    mesh::Route {
        gateways: service.gateway_refs.iter().filter_map(|gateway| serde_json::to_value(gateway).ok()).collect(),
        hosts: service.hosts.clone(),
        matches: service.matches.iter().map(http_match).collect(),
        filters: filters(service),
        timeout: service.timeout.clone(),
        backend_timeout: service.backend_timeout.clone(),
        labels: metadata.labels,
        annotations: metadata.annotations,
    }
}

/// The requests of an A/B test.
pub(super) fn test_matches(spec: &CanarySpec) -> Vec<Value> {
    let matches = spec.analysis.iter().flat_map(|analysis| &analysis.matches);
    let one = |RequestMatch { headers, query_params, source_labels: _ }: &RequestMatch| {
        let mut written = json!({});
        put(&mut written, "headers", comparisons(headers));
        put(&mut written, "queryParams", comparisons(query_params));
        written
    };
    matches.map(one).collect()
}

/// The share of the requests that is copied, when any is.
pub(super) fn mirror(spec: &CanarySpec) -> Weight {
    let analysis = spec.analysis.as_ref().filter(|analysis| analysis.mirror);
    let share = |percent: i32| Weight::try_from(i64::from(percent)).unwrap_or(Weight::FULL);
    analysis.map_or(Weight::ZERO, |analysis| analysis.mirror_weight.map_or(Weight::FULL, share))
}

/// How clients are kept on the version that they were given: the primary's for an interval only, so that each step gets
/// its share of them.
pub(super) fn affinity(spec: &CanarySpec) -> Option<mesh::Affinity> {
    let analysis = spec.analysis.as_ref()?;
    let affinity = analysis.session_affinity.as_ref()?;
    // An interval that is none is refused elsewhere.
    let interval = duration("spec.analysis.interval", &analysis.interval).unwrap_or_default();
    let SessionAffinity {
        cookie_name,
        primary_cookie_name,
        domain,
        path,
        http_only,
        secure,
        same_site,
        partitioned,
        max_age,
    } = affinity.clone();
    let same_site = same_site.map(|site| match site {
        SameSite::Strict => "Strict".to_owned(),
        SameSite::Lax => "Lax".to_owned(),
        SameSite::None => "None".to_owned(),
    });
    Some(mesh::Affinity {
        cookie: cookie_name,
        primary_cookie: primary_cookie_name,
        max_age: u64::try_from(max_age).unwrap_or_default().max(1),
        primary_max_age: u64::try_from(interval.as_secs()).unwrap_or_default().max(1),
        domain,
        path,
        http_only,
        secure,
        same_site,
        partitioned,
    })
}

fn http_match(wanted: &HttpMatch) -> Value {
    let HttpMatch { uri, method, headers, query_params, .. } = wanted;
    let mut written = json!({});
    if let Some(uri) = uri {
        written["path"] = path(uri);
    }
    if let Some(method) = method.as_ref().and_then(|method| method.exact.as_ref()) {
        written["method"] = method.as_str().into();
    }
    put(&mut written, "headers", comparisons(headers));
    put(&mut written, "queryParams", comparisons(query_params));
    written
}

/// A pattern is the gateway's own business: some know it only in their own form.
fn path(StringMatch { exact, prefix, suffix, regex }: &StringMatch) -> Value {
    let suffix = suffix.as_ref().map(|suffix| pattern::ending(suffix));
    let kinds = [
        ("Exact", exact.clone()),
        ("PathPrefix", prefix.clone()),
        ("RegularExpression", suffix),
        ("RegularExpression", regex.clone()),
    ];
    let path = kinds.into_iter().find_map(|(kind, value)| Some(json!({"type": kind, "value": value?})));
    path.unwrap_or_else(|| json!({"type": "PathPrefix", "value": "/"}))
}

fn comparisons(wanted: &BTreeMap<String, StringMatch>) -> Vec<Value> {
    let one = |(name, text): (&String, &StringMatch)| {
        let StringMatch { exact, prefix, suffix, regex } = text;
        let kinds = [
            ("Exact", exact.clone()),
            ("RegularExpression", prefix.as_ref().map(|prefix| pattern::beginning(prefix))),
            ("RegularExpression", suffix.as_ref().map(|suffix| pattern::ending(suffix))),
            ("RegularExpression", regex.as_ref().map(|regex| pattern::whole(regex))),
        ];
        kinds.into_iter().find_map(|(kind, value)| Some(json!({"type": kind, "name": name, "value": value?})))
    };
    wanted.iter().filter_map(one).collect()
}

fn put(written: &mut Value, field: &str, list: Vec<Value>) {
    if !list.is_empty() {
        written[field] = list.into();
    }
}

/// The filters of the route's rule, in the order in which a request meets them.
fn filters(service: &Service) -> Vec<Value> {
    let Headers { request, response } = service.headers.clone().unwrap_or_default();
    let modifier = |kind: &str, field: &str, operations: Option<HeaderOperations>| {
        let HeaderOperations { add, set, remove } = operations?;
        let mut written = json!({});
        for (name, values) in [("add", add), ("set", set)] {
            let values = values.into_iter().map(|(name, value)| json!({"name": name, "value": value}));
            put(&mut written, name, values.collect());
        }
        put(&mut written, "remove", remove.into_iter().map(Value::from).collect());
        Some(json!({"type": kind, field: written}))
    };
    let mirror = service.mirror.iter().map(|mirror| {
        let backend = reference(&mirror.backend_ref);
        json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend}})
    });
    let rewrite = service.rewrite.as_ref().map(rewrite);
    let cors = service.cors_policy.as_ref().map(cors);
    let request = modifier("RequestHeaderModifier", "requestHeaderModifier", request);
    let response = modifier("ResponseHeaderModifier", "responseHeaderModifier", response);
    [cors, rewrite, request, response].into_iter().flatten().chain(mirror).collect()
}

fn rewrite(Rewrite { uri, authority, kind }: &Rewrite) -> Value {
    let mut written = json!({});
    if let Some(authority) = authority {
        written["hostname"] = authority.as_str().into();
    }
    if let Some(uri) = uri {
        written["path"] = match kind {
            Some(RewriteType::ReplacePrefixMatch) => json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": uri}),
            Some(RewriteType::ReplaceFullPath) | None => json!({"type": "ReplaceFullPath", "replaceFullPath": uri}),
        };
    }
    json!({"type": "URLRewrite", "urlRewrite": written})
}

fn reference(BackendReference { group, kind, name, namespace, port }: &BackendReference) -> Value {
    let mut written = json!({"name": name});
    for (field, text) in [("group", group), ("kind", kind), ("namespace", namespace)] {
        if let Some(text) = text {
            written[field] = text.as_str().into();
        }
    }
    if let Some(port) = port {
        written["port"] = (*port).into();
    }
    written
}

fn cors(policy: &CorsPolicy) -> Value {
    let CorsPolicy {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        allow_origin: _,
    } = policy;
    let mut written = json!({});
    let origins = allow_origins.iter().filter_map(|origin| origin.exact.clone());
    put(&mut written, "allowOrigins", origins.map(Value::from).collect());
    for (field, list) in
        [("allowMethods", allow_methods), ("allowHeaders", allow_headers), ("exposeHeaders", expose_headers)]
    {
        put(&mut written, field, list.iter().map(|text| text.as_str().into()).collect());
    }
    if let Some(seconds) = max_age.as_ref().and_then(|age| duration("", age).ok()).map(|age| age.as_secs()) {
        written["maxAge"] = seconds.into();
    }
    if let Some(allowed) = allow_credentials {
        written["allowCredentials"] = (*allowed).into();
    }
    json!({"type": "CORS", "cors": written})
}
