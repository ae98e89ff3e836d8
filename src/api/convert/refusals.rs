//! What the CRD's rules refuse at apply time, refused here too: for API servers that know no rules, and for a provider
//! that only the operator's flags name.

use super::plan::{InvalidSpec, duration};
use crate::api::analysis::{Analysis, SameSite, SessionAffinity};
use crate::api::canary::{AutoscalerRef, CanarySpec, PrimaryScalerReplicas, Provider};
use crate::api::route::{BackendReference, CorsPolicy, HttpMatch, Rewrite, RewriteType, StringMatch};
use crate::api::sentences as say;
use crate::api::service::Service;
use crate::api::webhook::Webhook;
use std::collections::BTreeSet;

type Checked = Result<(), InvalidSpec>;

/// What moves the Canary's traffic, where the operator's flags say `default`.
///
/// # Errors
/// When nobody knows it, or when it cannot do what the spec asks for.
pub fn provider(spec: &CanarySpec, default: &str) -> Result<Provider, InvalidSpec> {
    let name = spec.provider.as_deref().unwrap_or(default);
    let known = Provider::by_name(name).ok_or(InvalidSpec::Refused("spec.provider", say::PROVIDER))?;
    suits(known, spec)?;
    Ok(known)
}

/// All that the rules refuse.
pub(super) fn refusals(spec: &CanarySpec) -> Checked {
    of_canary(spec)?;
    of_autoscaler(spec)?;
    of_service(&spec.service)?;
    spec.analysis.as_ref().map_or(Ok(()), |analysis| of_analysis(analysis, spec.skip_analysis))?;
    match &spec.provider {
        Some(name) => provider(spec, name).map(drop),
        None => Ok(()),
    }
}

fn refuse(wrong: bool, field: &'static str, sentence: &'static str) -> Checked {
    if wrong { Err(InvalidSpec::Refused(field, sentence)) } else { Ok(()) }
}

fn of_canary(spec: &CanarySpec) -> Checked {
    refuse(spec.ingress_ref.is_some(), "spec.ingressRef", say::INGRESS_REF)?;
    refuse(spec.route_ref.is_some(), "spec.routeRef", say::ROUTE_REF)?;
    refuse(spec.upstream_ref.is_some(), "spec.upstreamRef", say::UPSTREAM_REF)?;
    refuse(spec.canary_analysis.is_some(), "spec.canaryAnalysis", say::CANARY_ANALYSIS)?;
    let target = &spec.target_ref;
    let is_service = target.kind == "Service";
    let version = if is_service { "v1" } else { "apps/v1" };
    let other = target.api_version.as_ref().is_some_and(|written| written != version);
    refuse(other, "spec.targetRef", say::TARGET_VERSION)?;
    let renamed = spec.service.name.as_ref().is_some_and(|name| *name != target.name);
    refuse(is_service && renamed, "spec", say::SERVICE_NAME)
}

fn of_autoscaler(spec: &CanarySpec) -> Checked {
    let Some(AutoscalerRef { api_version: _, kind, name: _, primary_scaler_queries, primary_scaler_replicas }) =
        &spec.autoscaler_ref
    else {
        return Ok(());
    };
    let known = matches!(kind.as_str(), "HorizontalPodAutoscaler" | "ScaledObject");
    refuse(!known, "spec.autoscalerRef.kind", say::SCALER_KIND)?;
    let queries = kind == "HorizontalPodAutoscaler" && !primary_scaler_queries.is_empty();
    refuse(queries, "spec.autoscalerRef", say::SCALER_QUERIES)?;
    let PrimaryScalerReplicas { min_replicas, max_replicas } = primary_scaler_replicas.unwrap_or_default();
    let above = min_replicas.zip(max_replicas).is_some_and(|(min, max)| min > max);
    refuse(above, "spec.autoscalerRef.primaryScalerReplicas", say::SCALER_REPLICAS)?;
    let least = min_replicas.into_iter().chain(max_replicas).min();
    refuse(least.is_some_and(|least| least < 1), "spec.autoscalerRef.primaryScalerReplicas", "write at least 1")?;
    refuse(spec.target_ref.kind != "Deployment", "spec", say::SCALER_TARGET)
}

/// Whether a provider can do what the spec asks for.
fn suits(provider: Provider, spec: &CanarySpec) -> Checked {
    let analysis = spec.analysis.as_ref();
    let has = |asks: fn(&Analysis) -> bool| analysis.is_some_and(asks);
    if provider != Provider::Kubernetes {
        return refuse(has(|it| it.switch_traffic), "spec", say::SWITCH_TRAFFIC);
    }
    refuse(has(|it| it.step_weight.is_some() || it.step_weights.is_some()), "spec", say::KUBERNETES_WEIGHTS)?;
    let routed = |it: &Analysis| {
        !it.matches.is_empty() || it.mirror || it.session_affinity.is_some() || it.step_weight_promotion.is_some()
    };
    refuse(has(routed), "spec", say::KUBERNETES_ANALYSIS)?;
    refuse(has_route(&spec.service), "spec", say::KUBERNETES_SERVICE)?;
    refuse(spec.target_ref.kind == "Service", "spec", say::TARGET_SERVICE)
}

/// Whether the service says anything that only a route can do.
fn has_route(service: &Service) -> bool {
    let Service { gateway_refs, hosts, timeout, backend_timeout, matches, rewrite, headers, mirror, .. } = service;
    !(gateway_refs.is_empty() && hosts.is_empty() && matches.is_empty() && mirror.is_empty())
        || timeout.is_some()
        || backend_timeout.is_some()
        || rewrite.is_some()
        || headers.is_some()
        || service.cors_policy.is_some()
}

fn of_service(service: &Service) -> Checked {
    refuse(!service.gateways.is_empty(), "spec.service.gateways", say::GATEWAYS)?;
    refuse(service.delegation == Some(true), "spec.service.delegation", say::DELEGATION)?;
    refuse(service.traffic_policy.is_some(), "spec.service.trafficPolicy", say::TRAFFIC_POLICY)?;
    refuse(service.retries.is_some(), "spec.service.retries", say::RETRIES)?;
    refuse(is_written(service.mesh_name.as_ref()), "spec.service.meshName", say::MESH_NAME)?;
    refuse(!service.backends.is_empty(), "spec.service.backends", say::BACKENDS)?;
    refuse(service.hosts.iter().any(|host| host == "*"), "spec.service.hosts", say::HOSTS)?;
    of_timeouts(service)?;
    service.matches.iter().try_for_each(of_match)?;
    of_rewrite(service)?;
    let portless = |BackendReference { group, kind, name: _, namespace: _, port }: &BackendReference| {
        let is_service = kind.as_ref().is_none_or(|kind| kind == "Service") && !is_written(group.as_ref());
        port.is_none() && is_service
    };
    let portless = service.mirror.iter().any(|mirror| portless(&mirror.backend_ref));
    refuse(portless, "spec.service.mirror", say::MIRROR_PORT)?;
    service.cors_policy.as_ref().map_or(Ok(()), of_cors)
}

fn is_written(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn of_timeouts(service: &Service) -> Checked {
    let read = |field, text: Option<&String>| text.map(|text| duration(field, text)).transpose();
    let whole = read("spec.service.timeout", service.timeout.as_ref())?;
    let one = read("spec.service.backendTimeout", service.backend_timeout.as_ref())?;
    let above = whole.zip(one).is_some_and(|(whole, one)| !whole.is_zero() && one > whole);
    refuse(above, "spec.service", say::BACKEND_TIMEOUT)
}

fn of_match(matching: &HttpMatch) -> Checked {
    let HttpMatch { name: _, uri, method, headers, query_params, .. } = matching;
    refuse(matching.scheme.is_some(), "spec.service.match.scheme", say::SCHEME)?;
    refuse(matching.authority.is_some(), "spec.service.match.authority", say::AUTHORITY)?;
    refuse(matching.port.is_some_and(|port| port != 0), "spec.service.match.port", say::MATCH_PORT)?;
    refuse(!matching.gateways.is_empty(), "spec.service.match.gateways", say::MATCH_GATEWAYS)?;
    refuse(matching.ignore_uri_case == Some(true), "spec.service.match.ignoreUriCase", say::IGNORE_URI_CASE)?;
    refuse(matching.without_headers.is_some(), "spec.service.match.withoutHeaders", say::WITHOUT_HEADERS)?;
    refuse(!matching.source_labels.is_empty(), "spec.service.match.sourceLabels", say::SOURCE_LABELS)?;
    let namespace = is_written(matching.source_namespace.as_ref());
    refuse(namespace, "spec.service.match.sourceNamespace", say::SOURCE_NAMESPACE)?;
    if let Some(uri) = uri {
        of_text("spec.service.match.uri", uri)?;
        let relative = [&uri.exact, &uri.prefix].into_iter().flatten().any(|path| !path.starts_with('/'));
        refuse(relative, "spec.service.match.uri", say::PATH)?;
    }
    if let Some(method) = method {
        of_text("spec.service.match.method", method)?;
        let known = method.exact.as_ref().is_some_and(|name| METHODS.contains(&name.as_str()));
        refuse(!known, "spec.service.match.method", say::METHOD)?;
    }
    headers.values().try_for_each(|header| of_text("spec.service.match.headers", header))?;
    query_params.values().try_for_each(|value| of_text("spec.service.match.queryParams", value))
}

/// Those that an HTTPRoute knows.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

fn of_text(field: &'static str, text: &StringMatch) -> Checked {
    let StringMatch { exact, prefix, suffix, regex } = text;
    let written: Vec<_> = [exact, prefix, suffix, regex].into_iter().flatten().collect();
    refuse(written.len() != 1 || written.iter().any(|text| text.is_empty()), field, say::STRING_MATCH)
}

fn of_rewrite(service: &Service) -> Checked {
    let Some(Rewrite { uri, authority, kind }) = &service.rewrite else { return Ok(()) };
    refuse(kind.is_some() && uri.is_none(), "spec.service.rewrite", say::REWRITE_TYPE)?;
    refuse(uri.is_none() && authority.is_none(), "spec.service.rewrite", say::REWRITE)?;
    let relative = uri.as_ref().is_some_and(|uri| !uri.starts_with('/'));
    refuse(relative, "spec.service.rewrite.uri", say::REWRITE_URI)?;
    let is_prefix = |matching: &HttpMatch| matching.uri.as_ref().is_some_and(|uri| uri.prefix.is_some());
    let one_prefix = match service.matches.as_slice() {
        [] => true,
        [one] => is_prefix(one),
        _ => false,
    };
    refuse(*kind == Some(RewriteType::ReplacePrefixMatch) && !one_prefix, "spec.service", say::REWRITE_PREFIX)
}

fn of_cors(policy: &CorsPolicy) -> Checked {
    refuse(!policy.allow_origin.is_empty(), "spec.service.corsPolicy.allowOrigin", say::ALLOW_ORIGIN)?;
    let whole = |origin: &StringMatch| origin.exact.as_ref().is_some_and(|it| it == "*" || it.contains("://"));
    refuse(!policy.allow_origins.iter().all(whole), "spec.service.corsPolicy.allowOrigins", say::ALLOW_ORIGINS)?;
    policy.max_age.as_ref().map_or(Ok(()), |age| duration("spec.service.corsPolicy.maxAge", age).map(drop))
}

fn of_analysis(analysis: &Analysis, skipped: bool) -> Checked {
    let Analysis { iterations, step_weight, step_weights, matches, mirror, .. } = analysis;
    let strategies = [iterations.is_some(), step_weight.is_some(), step_weights.is_some()];
    let strategies = strategies.into_iter().filter(|written| *written).count();
    refuse(strategies == 0 && !skipped && matches.is_empty(), "spec", say::STRATEGY)?;
    refuse(strategies > 1, "spec.analysis", say::STRATEGIES)?;
    let without_step = iterations.is_some() || step_weights.is_some();
    refuse(analysis.max_weight.is_some() && without_step, "spec.analysis", say::MAX_WEIGHT)?;
    refuse(!matches.is_empty() && iterations.is_none(), "spec.analysis", say::MATCH)?;
    refuse(!matches.is_empty() && *mirror, "spec.analysis", say::MIRROR_MATCH)?;
    refuse(analysis.mirror_weight.is_some() && !mirror, "spec.analysis", say::MIRROR_WEIGHT)?;
    refuse(analysis.session_affinity.is_some() && iterations.is_some(), "spec.analysis", say::AFFINITY)?;
    for matching in matches {
        refuse(!matching.source_labels.is_empty(), "spec.analysis.match.sourceLabels", say::SOURCE_LABELS)?;
        let empty = matching.headers.is_empty() && matching.query_params.is_empty();
        refuse(empty, "spec.analysis.match", say::MATCH_EMPTY)?;
        matching.headers.values().try_for_each(|header| of_text("spec.analysis.match.headers", header))?;
        matching.query_params.values().try_for_each(|value| of_text("spec.analysis.match.queryParams", value))?;
    }
    analysis.session_affinity.as_ref().map_or(Ok(()), of_affinity)?;
    let names: BTreeSet<_> = analysis.webhooks.iter().map(|webhook| &webhook.name).collect();
    refuse(names.len() < analysis.webhooks.len(), "spec.analysis.webhooks", say::WEBHOOK_NAMES)?;
    analysis.webhooks.iter().try_for_each(of_webhook)
}

fn of_affinity(affinity: &SessionAffinity) -> Checked {
    let SessionAffinity { cookie_name, primary_cookie_name, domain, path, secure, same_site, partitioned, .. } =
        affinity;
    let field = "spec.analysis.sessionAffinity";
    refuse(primary_cookie_name.as_ref() == Some(cookie_name), field, say::COOKIES)?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+.^_`|~-".contains(letter);
    let is_name = |name: &String| !name.is_empty() && name.chars().all(allowed);
    refuse(!is_name(cookie_name), "spec.analysis.sessionAffinity.cookieName", say::COOKIE_NAME)?;
    let good = primary_cookie_name.as_ref().is_none_or(is_name);
    refuse(!good, "spec.analysis.sessionAffinity.primaryCookieName", say::COOKIE_NAME)?;
    let broken = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains([';', ' ']));
    refuse(broken(domain), "spec.analysis.sessionAffinity.domain", say::COOKIE_TEXT)?;
    refuse(broken(path), "spec.analysis.sessionAffinity.path", say::COOKIE_TEXT)?;
    let insecure = !secure && (*partitioned || *same_site == Some(SameSite::None));
    refuse(insecure, field, say::COOKIE_SECURE)
}

fn of_webhook(webhook: &Webhook) -> Checked {
    let Webhook { url, timeout, .. } = webhook;
    let has_scheme = url.starts_with("http://") || url.starts_with("https://");
    refuse(!has_scheme, "spec.analysis.webhooks.url", say::WEBHOOK_URL)?;
    let Some(timeout) = timeout else { return Ok(()) };
    let timeout = duration("spec.analysis.webhooks.timeout", timeout)?;
    let bounded = (1..=3_600_000).contains(&timeout.as_millis());
    refuse(!bounded, "spec.analysis.webhooks.timeout", say::WEBHOOK_TIMEOUT)
}
