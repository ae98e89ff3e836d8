//! Istio, whose proxies count per workload.
//!
//! Sidecars report as `destination`; in ambient mode, where there are none, the waypoint reports as `waypoint`.

use super::Gateway;

/// The selector, with room for another matcher at the end.
macro_rules! canary {
    ($more:literal) => {
        concat!(
            r#"{reporter=~"destination|waypoint",destination_workload_namespace="{{ namespace }}","#,
            r#"destination_workload="{{ target }}""#,
            $more,
            "}[{{ interval }}]"
        )
    };
}

pub(super) const GATEWAY: Gateway = Gateway {
    name: "istio",
    request_success_rate: concat!(
        "(sum(rate(istio_requests_total",
        canary!(r#",response_code!~"5..""#),
        ")) or vector(0))\n/\nsum(rate(istio_requests_total",
        canary!(""),
        ")) * 100"
    ),
    request_duration: concat!(
        "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket",
        canary!(""),
        ")) by (le))"
    ),
};
