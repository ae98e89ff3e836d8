//! What the types can say already and the layers below cannot do yet. Whoever teaches them takes a line out.

use super::plan::InvalidSpec;
use crate::api::canary::CanarySpec;

/// # Errors
/// Names the field: it is better refused than ignored.
pub(super) fn not_yet(spec: &CanarySpec) -> Result<(), InvalidSpec> {
    let service = &spec.service;
    let analysis = spec.analysis.as_ref();
    let said = |written: bool, field| if written { Err(InvalidSpec::NotYet(field)) } else { Ok(()) };
    said(spec.target_ref.kind == "Service", "spec.targetRef.kind: Service")?;
    said(spec.autoscaler_ref.is_some(), "spec.autoscalerRef")?;
    said(service.traffic_distribution.is_some(), "spec.service.trafficDistribution")?;
    said(service.port_discovery, "spec.service.portDiscovery")?;
    said(service.headless, "spec.service.headless")?;
    said(service.unmanaged_metadata.is_some(), "spec.service.unmanagedMetadata")?;
    said(analysis.is_some_and(|it| it.iterations.is_some()), "spec.analysis.iterations")?;
    said(analysis.is_some_and(|it| it.step_weight_promotion.is_some()), "spec.analysis.stepWeightPromotion")?;
    said(analysis.is_some_and(|it| !it.webhooks.is_empty()), "spec.analysis.webhooks")
}
