//! `autoscaling` HorizontalPodAutoscaler: it leaves a target without pods alone by itself.

use super::{Bound, Scaler};

pub(super) struct HorizontalPodAutoscaler;

impl Scaler for HorizontalPodAutoscaler {
    fn kind(&self) -> &'static str {
        "HorizontalPodAutoscaler"
    }

    fn group(&self) -> &'static str {
        "autoscaling"
    }

    /// Both say everything; `v1` hides most of it in an annotation.
    fn versions(&self) -> &'static [&'static str] {
        &["v2", "v2beta2"]
    }

    fn needs(&self) -> &'static str {
        "a Kubernetes with autoscaling/v2 or v2beta2"
    }

    fn range(&self) -> [Bound; 2] {
        [Bound { field: "minReplicas", default: 1 }, Bound { field: "maxReplicas", default: 1 }]
    }
}
