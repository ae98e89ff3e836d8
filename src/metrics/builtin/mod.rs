//! The two metrics that need no query: how many requests succeed, and how long they take.
//!
//! Invariant: only requests to the canary are counted. A success rate is in percent and a canary whose requests all
//! fail has 0, not nothing; a duration is the 99th percentile in milliseconds; without traffic neither has a value.
//!
//! A new gateway is one file with two templates, and one line in `REGISTRY`.

mod application;
mod istio;
mod traefik;

#[cfg(test)]
mod laws;

/// The share of the canary's requests that did not end in a 5xx, in percent, `0..=100`.
pub const REQUEST_SUCCESS_RATE: &str = "request-success-rate";
/// The 99th percentile of the time that the canary's requests take, in milliseconds.
pub const REQUEST_DURATION: &str = "request-duration";

/// The templates of one gateway.
struct Gateway {
    name: &'static str,
    request_success_rate: &'static str,
    request_duration: &'static str,
}

const REGISTRY: &[Gateway] = &[traefik::GATEWAY, istio::GATEWAY, application::GATEWAY];

/// The names that [`builtin`] knows, in the order of the registry.
#[must_use]
pub fn gateways() -> &'static [&'static str] {
    const NAMES: [&str; REGISTRY.len()] = {
        let mut names = [""; REGISTRY.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = REGISTRY[at].name;
            at += 1;
        }
        names
    };
    &NAMES
}

/// Whether the metric needs neither a query nor a template of the user's.
#[must_use]
pub fn is_builtin(metric: &str) -> bool {
    [REQUEST_SUCCESS_RATE, REQUEST_DURATION].contains(&metric)
}

/// The template of a built-in metric at a gateway; nothing when either is unknown.
#[must_use]
pub fn builtin(gateway: &str, metric: &str) -> Option<&'static str> {
    let gateway = REGISTRY.iter().find(|known| known.name == gateway)?;
    match metric {
        REQUEST_SUCCESS_RATE => Some(gateway.request_success_rate),
        REQUEST_DURATION => Some(gateway.request_duration),
        _ => None,
    }
}
