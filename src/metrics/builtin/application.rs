//! The application's own histogram `http_request_duration_seconds` with a label `status`, behind any gateway.
//!
//! A pod is the canary's when its name is the target's, perhaps the hash of a `ReplicaSet`, and the five letters that
//! Kubernetes adds. Kubernetes draws hash and letters from an alphabet without vowels, so `-primary-` is never
//! mistaken for a hash. A long name is cut so that the dash between the two is lost; hence the question mark.
//!
//! Prometheus Operator calls the labels of a scraped pod `namespace` and `pod`, Flagger's Prometheus
//! `kubernetes_namespace` and `kubernetes_pod_name`: the second pair is asked for where the first finds nothing.
//! A series without `status` is left out rather than taken for a success.

use super::Gateway;

macro_rules! pods {
    () => {
        r#"=~"{{ target | regex }}-([b-df-hj-np-tv-xz24-9]{1,10}-?)?[b-df-hj-np-tv-xz24-9]{5}""#
    };
}

/// A sum over the canary's pods, by either pair of labels.
macro_rules! sum {
    ($metric:literal, $more:literal, $by:literal) => {
        concat!(
            "sum(rate(",
            $metric,
            r#"{namespace="{{ namespace }}",pod"#,
            pods!(),
            $more,
            "}[{{ interval }}]))",
            $by,
            " or sum(rate(",
            $metric,
            r#"{kubernetes_namespace="{{ namespace }}",kubernetes_pod_name"#,
            pods!(),
            $more,
            "}[{{ interval }}]))",
            $by
        )
    };
}

pub(super) const GATEWAY: Gateway = Gateway {
    name: "application",
    request_success_rate: concat!(
        "(",
        sum!("http_request_duration_seconds_count", r#",status!="",status!~"5.*""#, ""),
        " or vector(0))\n/\n(",
        sum!("http_request_duration_seconds_count", r#",status!="""#, ""),
        ") * 100"
    ),
    request_duration: concat!(
        "histogram_quantile(0.99, ",
        sum!("http_request_duration_seconds_bucket", "", " by (le)"),
        ") * 1000"
    ),
};
