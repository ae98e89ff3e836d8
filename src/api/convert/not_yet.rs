//! What the types can say already and the layers below cannot do yet. Whoever teaches them takes a line out.

use super::plan::InvalidSpec;
use crate::api::canary::CanarySpec;
use crate::api::route::{HttpMatch, StringMatch};

/// # Errors
/// Names the field: it is better refused than ignored.
pub(super) fn not_yet(spec: &CanarySpec) -> Result<(), InvalidSpec> {
    let service = &spec.service;
    let analysis = spec.analysis.as_ref();
    let said = |written: bool, field| if written { Err(InvalidSpec::NotYet(field)) } else { Ok(()) };
    let is_partial = |text: &StringMatch| text.prefix.is_some() || text.suffix.is_some();
    let is_new = |matching: &HttpMatch| {
        matching.method.is_some()
            || !matching.query_params.is_empty()
            || matching.headers.values().any(is_partial)
            || matching.uri.as_ref().is_some_and(|uri| uri.suffix.is_some())
    };
    said(spec.provider.as_deref() == Some("gatewayapi:v1beta1"), "spec.provider: gatewayapi:v1beta1")?;
    said(spec.provider.as_deref() == Some("kubernetes"), "spec.provider: kubernetes")?;
    said(service.backend_timeout.is_some(), "spec.service.backendTimeout")?;
    said(service.rewrite.is_some(), "spec.service.rewrite")?;
    said(service.headers.is_some(), "spec.service.headers")?;
    said(!service.mirror.is_empty(), "spec.service.mirror")?;
    said(service.cors_policy.is_some(), "spec.service.corsPolicy")?;
    said(service.matches.iter().any(is_new), "spec.service.match: method, queryParams and parts of a text")?;
    said(analysis.is_some_and(|it| !it.matches.is_empty()), "spec.analysis.match")?;
    said(analysis.is_some_and(|it| it.mirror), "spec.analysis.mirror")?;
    said(analysis.is_some_and(|it| it.session_affinity.is_some()), "spec.analysis.sessionAffinity")?;
    said(analysis.is_some_and(|it| it.switch_traffic), "spec.analysis.switchTraffic")?;
    said(analysis.is_some_and(|it| !it.webhooks.is_empty()), "spec.analysis.webhooks")
}
