//! What the types can say already and the layers below cannot do yet. Whoever teaches them takes a line out.

use super::plan::InvalidSpec;
use crate::api::canary::CanarySpec;

/// # Errors
/// Names the field: it is better refused than ignored.
pub(super) fn not_yet(spec: &CanarySpec) -> Result<(), InvalidSpec> {
    let analysis = spec.analysis.as_ref();
    let said = |written: bool, field| if written { Err(InvalidSpec::NotYet(field)) } else { Ok(()) };
    said(analysis.is_some_and(|it| !it.webhooks.is_empty()), "spec.analysis.webhooks")
}
