//! Where the cluster is: what `e2e/cluster/env.sh` exports.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use http::Uri;

use crate::load::Gateway;

/// Where the cluster of `e2e/cluster` has its gateway.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:18000";

/// The gateway that `GATEWAY_URL` names.
///
/// # Errors
/// When the address cannot be understood, or is not on loopback.
pub fn gateway() -> Result<Gateway> {
    let url = env::var("GATEWAY_URL").unwrap_or_else(|_| DEFAULT_GATEWAY.to_owned());
    Gateway::new(address(&url)?)
}

fn address(url: &str) -> Result<SocketAddr> {
    let uri = url.parse::<Uri>().with_context(|| format!("GATEWAY_URL={url} is no address"))?;
    let host = uri.host().with_context(|| format!("GATEWAY_URL={url} names no host"))?;
    let ip = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        _ => host.trim_matches(['[', ']']).parse().with_context(|| format!("GATEWAY_URL={url}: {host} is no IP"))?,
    };
    Ok(SocketAddr::new(ip, uri.port_u16().unwrap_or(80)))
}

/// The base address of Prometheus.
///
/// # Errors
/// When `PROMETHEUS_URL` is not set.
pub fn prometheus() -> Result<String> {
    required("PROMETHEUS_URL")
}

/// The address at which pods reach this machine: where Prometheus listens, too.
///
/// # Errors
/// When `PROMETHEUS_URL` is not set, or names no address.
pub fn node() -> Result<std::net::IpAddr> {
    Ok(address(&prometheus()?)?.ip())
}

/// The file to which the API server writes its audit log.
///
/// # Errors
/// When `AUDIT_LOG` is not set.
pub fn audit_log() -> Result<PathBuf> {
    required("AUDIT_LOG").map(PathBuf::from)
}

/// Whether namespaces stay for a look at them.
#[must_use]
pub fn keeps_namespaces() -> bool {
    env::var_os("E2E_KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

fn required(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: run `source e2e/cluster/env.sh` first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_addresses() {
        let parsed = |url| address(url).map(|address| address.to_string()).ok();
        assert_eq!(parsed("http://127.0.0.1:18000").as_deref(), Some("127.0.0.1:18000"));
        assert_eq!(parsed("http://localhost:8080/").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(parsed("http://[::1]:81").as_deref(), Some("[::1]:81"));
        assert_eq!(parsed("http://127.0.0.1").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(parsed("gateway.example"), None);
    }
}
