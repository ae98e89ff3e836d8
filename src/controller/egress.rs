//! Where Serin sends requests besides the API server: the only place that makes clients for that.
//!
//! Invariant: nobody gets a client without naming the address that it is for, and no client connects to a link-local
//! address that nobody wrote down: there, clouds hand out the credentials of the machine. Redirects are not followed, as a
//! redirect could send headers and credentials to somewhere that nobody wrote down.

use super::error::Error;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Proxy, Url, redirect};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Other addresses at which clouds hand out credentials, over IPv6: those of AWS and of Google.
const METADATA: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The first bits of addresses behind which a gateway finds an IPv4 address (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// The first bits of addresses that hold the IPv4 address of the router behind which they are (RFC 3056).
const SIX_TO_FOUR: u16 = 0x2002;

/// The hosts that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts(Vec<String>);

/// Why an address is not asked. No sentence shows it: with chats, the address is the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not an HTTP URL.
    #[error("the address is not an HTTP URL; write one that begins with https:// or http://")]
    NotHttp,
    /// The operator's flags leave it out.
    #[error("the host of the address is none of those that the flag --allowed-egress lists")]
    NotAllowed,
    /// An address of the machine's own network.
    #[error(
        "the host has a link-local address, where clouds keep the credentials of machines; if it is meant, list that \
         address in the flag --allowed-egress"
    )]
    LinkLocal,
    /// No way there.
    #[error("the proxy is not a URL that can be used")]
    Proxy,
}

/// Clients, for those who say where they go.
#[derive(Clone, Debug)]
pub struct Egress {
    allowed: Arc<AllowedHosts>,
    /// With, and without a look at certificates.
    clients: [reqwest::Client; 2],
}

/// What came back, as far as it was read.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: http::StatusCode,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body, cut where the limit was.
    pub body: Vec<u8>,
}

impl Egress {
    /// # Errors
    /// When no connections can be set up.
    pub fn new(allowed: AllowedHosts) -> Result<Self, Error> {
        let allowed = Arc::new(allowed);
        let client = |insecure| {
            let built = builder(&allowed, insecure).build();
            built.map_err(|error| Error::Start(format!("no HTTP client: {error}")))
        };
        let clients = [client(false)?, client(true)?];
        Ok(Self { allowed, clients })
    }

    /// A client for an address, with, or without a look at its certificate.
    ///
    /// # Errors
    /// When nothing may be sent there.
    pub fn to(&self, address: &str, insecure: bool) -> Result<&reqwest::Client, Refused> {
        self.allowed.check(address)?;
        Ok(&self.clients[usize::from(insecure)])
    }

    /// A client for an address behind a proxy. They are few, so none is kept.
    ///
    /// # Errors
    /// When nothing may be sent to either.
    pub(super) fn through(&self, proxy: &str, address: &str) -> Result<reqwest::Client, Refused> {
        self.allowed.check(address)?;
        self.allowed.check(proxy)?;
        let proxy = Proxy::all(proxy).map_err(|_| Refused::Proxy)?;
        builder(&self.allowed, false).proxy(proxy).build().map_err(|_| Refused::Proxy)
    }
}

/// Sends a request, and reads at most so many bytes of what comes back. No error shows the address.
pub(super) async fn exchange(
    client: &reqwest::Client,
    request: http::Request<Vec<u8>>,
    limit: usize,
) -> Result<Response, reqwest::Error> {
    let request = reqwest::Request::try_from(request)?;
    let mut response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while body.len() < limit {
        match response.chunk().await.map_err(reqwest::Error::without_url)? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => break,
        }
    }
    body.truncate(limit);
    Ok(Response { status, headers, body })
}

fn builder(allowed: &Arc<AllowedHosts>, insecure: bool) -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .tls_danger_accept_invalid_certs(insecure)
        .dns_resolver(Arc::new(Guard { allowed: Arc::clone(allowed), lookup: system }))
}

impl AllowedHosts {
    /// Hosts as they are written in addresses; `*` stands for any letters, dots too.
    #[must_use]
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        let written = |pattern: String| match pattern.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => pattern.to_ascii_lowercase(),
        };
        Self(patterns.into_iter().map(written).collect())
    }

    fn check(&self, address: &str) -> Result<(), Refused> {
        let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or(Refused::NotHttp)?;
        let host = url.host_str().ok_or(Refused::NotHttp)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        self.check_name(host)?;
        match host.parse() {
            Ok(address) => self.check_address(address),
            // A name; what it resolves to is looked at when it is.
            Err(_) => Ok(()),
        }
    }

    fn check_name(&self, host: &str) -> Result<(), Refused> {
        let host = host.trim_end_matches('.');
        if self.0.iter().any(|pattern| matches(pattern, host)) { Ok(()) } else { Err(Refused::NotAllowed) }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        let written = address.to_string();
        if is_link_local(address) && !self.0.contains(&written) { Err(Refused::LinkLocal) } else { Ok(()) }
    }

    /// Those of the addresses of a host that may be connected to.
    fn usable(&self, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let (usable, refused): (Vec<_>, Vec<_>) = found.partition(|address| self.check_address(address.ip()).is_ok());
        if usable.is_empty() && !refused.is_empty() { Err(Refused::LinkLocal) } else { Ok(usable) }
    }
}

/// All hosts.
impl Default for AllowedHosts {
    fn default() -> Self {
        Self(vec!["*".to_owned()])
    }
}

/// Finds the addresses of a name, and leaves out those that are not to be connected to. The name is looked at once more: it
/// may be that of a proxy which the environment names.
struct Guard {
    allowed: Arc<AllowedHosts>,
    lookup: Lookup,
}

/// Where the addresses of a name come from.
type Lookup = fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// Asks whom the system asks.
fn system(name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

/// What a connection is made to is what was looked at: the client asks nobody else, and not a second time.
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, lookup) = (Arc::clone(&self.allowed), self.lookup);
        Box::pin(async move {
            allowed.check_name(name.as_str())?;
            let found = lookup(name.as_str().to_owned()).await?;
            let usable: Addrs = Box::new(allowed.usable(found.into_iter())?.into_iter());
            Ok(usable)
        })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            let embedded = address.to_ipv4().or_else(|| behind_gateway(address));
            address.is_unicast_link_local()
                || METADATA.contains(&address)
                || embedded.is_some_and(|address| address.is_link_local())
        }
    }
}

fn behind_gateway(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| Some(((u32::from(high) << 16) | u32::from(low)).into());
    match segments {
        [SIX_TO_FOUR, high, low, ..] => embedded(high, low),
        [.., high, low] if segments.starts_with(&NAT64) => embedded(high, low),
        _ => None,
    }
}

/// Whether a host is what a pattern says.
fn matches(pattern: &str, host: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == host };
    let Some(host) = host.strip_prefix(begin) else { return false };
    (0..=host.len()).any(|at| host.is_char_boundary(at) && matches(rest, &host[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::chain;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn allowing(patterns: &[&str]) -> AllowedHosts {
        AllowedHosts::new(patterns.iter().map(|pattern| (*pattern).to_owned()))
    }

    #[test]
    fn a_pattern_is_a_host_with_stars() {
        let allowed = allowing(&["hooks.slack.com", "*.Example.com", "gate.*.svc", "10.0.0.7"]);
        for good in [
            "https://hooks.slack.com/services/x",
            "http://HOOKS.slack.com:8080",
            "https://a.b.example.com",
            "http://gate.shop.svc./check",
            "http://10.0.0.7:9090",
        ] {
            assert_eq!(allowed.check(good), Ok(()), "{good}");
        }
        for bad in [
            "https://slack.com",
            "https://hooks.slack.com.evil.example",
            "https://evil.example/hooks.slack.com",
            "https://hooks.slack.com@evil.example/",
            "https://example.com",
            "http://gate.svc",
            "http://10.0.0.70",
        ] {
            assert_eq!(allowed.check(bad), Err(Refused::NotAllowed), "{bad}");
        }
        for bad in ["", "hooks.slack.com", "ftp://hooks.slack.com", "file:///etc/passwd", "unix:/x"] {
            assert_eq!(allowed.check(bad), Err(Refused::NotHttp), "{bad}");
        }
    }

    #[test]
    fn the_machines_own_network_is_refused_however_it_is_written() {
        let all = AllowedHosts::default();
        for bad in [
            "http://169.254.169.254/latest/meta-data",
            "http://2852039166/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://169.254.43518/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://0251.0376.0251.0376/",
            "http://169.254.169.254./",
            "http://[fe80::1]/",
            "http://[febf::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fd20:ce::254]/",
        ] {
            assert_eq!(all.check(bad), Err(Refused::LinkLocal), "{bad}");
        }
        for good in ["http://169.253.0.1", "http://127.0.0.1", "http://[fc00::1]", "http://[64:ff9b::1.1.1.1]"] {
            assert_eq!(all.check(good), Ok(()), "{good}");
        }
        let meant = allowing(&["*", "169.254.20.10", "FE80:0::1"]);
        assert_eq!(meant.check("http://169.254.20.10:9090"), Ok(()));
        assert_eq!(meant.check("http://[fe80::1]"), Ok(()));
        assert_eq!(meant.check("http://169.254.20.11:9090"), Err(Refused::LinkLocal));
    }

    #[test]
    fn a_name_leads_only_to_its_usable_addresses() {
        let all = AllowedHosts::default();
        let at = |addresses: &[&str]| {
            let found = addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0));
            all.usable(found).map(|usable| usable.iter().map(|it| it.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(at(&["10.0.0.7", "169.254.169.254", "fe80::1"]), Ok(vec!["10.0.0.7".to_owned()]));
        assert_eq!(at(&["169.254.169.254"]), Err(Refused::LinkLocal));
        let others = ["::ffff:169.254.169.254", "fe80::1", "2002:a9fe:a9fe::", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"];
        assert_eq!(at(&others), Err(Refused::LinkLocal));
        assert_eq!(at(&[]), Ok(vec![]));
    }

    /// A name that leads to a harmless address as long as somebody looks, and then to the machine's own network.
    #[tokio::test]
    async fn a_name_that_changes_gains_nothing() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        fn changing(_: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            let first = LOOKS.fetch_add(1, Ordering::SeqCst) == 0;
            let address: IpAddr = if first { [127, 0, 0, 1].into() } else { [169, 254, 169, 254].into() };
            Box::pin(async move { Ok(vec![SocketAddr::new(address, 0)]) })
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let allowed = Arc::new(AllowedHosts::default());
        let guard = Guard { allowed: Arc::clone(&allowed), lookup: changing };
        let client = builder(&allowed, false).dns_resolver(Arc::new(guard)).build().unwrap();
        // Nobody listens there: what counts is who was called.
        let first = chain(&client.get("http://rebinding.example:1").send().await.unwrap_err());
        assert!(first.contains("onnection refused"), "{first}");
        let second = chain(&client.get("http://rebinding.example:1").send().await.unwrap_err());
        assert!(second.contains("link-local"), "{second}");
        assert_eq!(LOOKS.load(Ordering::SeqCst), 2, "each connection looks once, and goes where it has looked");
    }

    #[tokio::test]
    async fn no_client_connects_to_what_was_not_checked() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let egress = Egress::new(allowing(&["127.0.0.1", "proxy", "example.com"])).unwrap();
        for insecure in [false, true] {
            let client = egress.to("http://127.0.0.1:1", insecure).unwrap();
            let error = chain(&client.get("http://localhost:1").send().await.unwrap_err());
            assert!(error.contains("--allowed-egress"), "{error}");
            let error = chain(&client.get("http://127.0.0.1:1").send().await.unwrap_err());
            assert!(error.contains("onnection refused"), "{error}");
        }
        assert!(egress.through("http://other:3128", "http://example.com").is_err());
        assert!(egress.through("http://proxy:3128", "http://other").is_err());
        assert!(egress.through("http://proxy:3128", "http://example.com").is_ok());
        let guard = Guard { allowed: Arc::default(), lookup: system };
        let resolved = guard.resolve("169.254.169.254".parse().unwrap()).await;
        assert!(resolved.is_err_and(|error| error.to_string().contains("link-local")));
        assert!(guard.resolve("127.0.0.1".parse().unwrap()).await.is_ok());
    }
}
