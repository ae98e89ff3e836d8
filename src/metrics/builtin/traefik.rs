//! Traefik with the Gateway API, which counts per Kubernetes Service.
//!
//! A Service's name there is `<namespace>-<service>-<port>@kubernetesgateway` in 3.0, and ends in
//! `-svc-<namespace>-<service>-<number>@kubernetesgateway` in 3.7, behind the route's namespace and name. Both are
//! matched. Since names hold dashes, namespace `a-b` with service `c` and namespace `a` with service `b-c` look the
//! same in 3.0: nothing in the label tells them apart.

use super::Gateway;

/// The selector, with room for another matcher at the end.
macro_rules! canary {
    ($more:literal) => {
        concat!(
            r#"{service=~"(httproute-{{ namespace | regex }}-.+-svc-)?"#,
            r#"{{ namespace | regex }}-{{ service | regex }}-canary-[0-9]+@kubernetesgateway""#,
            $more,
            "}[{{ interval }}]"
        )
    };
}

pub(super) const GATEWAY: Gateway = Gateway {
    name: "traefik",
    request_success_rate: concat!(
        "(sum(rate(traefik_service_requests_total",
        canary!(r#",code!~"5..""#),
        ")) or vector(0))\n/\nsum(rate(traefik_service_requests_total",
        canary!(""),
        ")) * 100"
    ),
    request_duration: concat!(
        "histogram_quantile(0.99, sum(rate(traefik_service_request_duration_seconds_bucket",
        canary!(""),
        ")) by (le)) * 1000"
    ),
};
