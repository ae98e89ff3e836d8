//! Where a provider is.

use reqwest::Url;

/// Why an address cannot be asked. The address itself is left out where it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Not an HTTP URL.
    #[error("the address {0:?} is not an HTTP URL; write one such as http://prometheus.monitoring:9090")]
    NotHttp(String),
    /// A status, an event or a log would show it.
    #[error("the address holds a user or a password; put them into a secret and name it in secretRef")]
    HoldsCredentials,
    /// The path of the API goes where these are.
    #[error("the address ends in a query or a fragment; write it without what begins with ? or #")]
    HoldsQuery,
}

/// Accepts `http` and `https` URLs with a host and perhaps a path, and nothing else.
///
/// # Errors
/// Says what to write instead, and never shows a password.
pub fn validate_address(address: &str) -> Result<(), InvalidAddress> {
    base(address).map(drop)
}

/// The address in the form that the client can put a path behind: it would make two slashes of one at the end.
pub(super) fn base(address: &str) -> Result<String, InvalidAddress> {
    // The user part comes first, as an address that does not parse may hold a password all the same.
    if address.contains('@') {
        return Err(InvalidAddress::HoldsCredentials);
    }
    // The parser would take `http:prometheus` and tabs within a word, which then cannot be found again in a message.
    let plain = address.starts_with("http://") || address.starts_with("https://");
    let url = Url::parse(address).ok().filter(|_| plain && !address.contains(char::is_whitespace));
    let url = url.ok_or_else(|| InvalidAddress::NotHttp(address.to_owned()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidAddress::HoldsQuery);
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_real_providers_are_accepted() {
        for (address, expected) in [
            ("http://prometheus:9090", "http://prometheus:9090"),
            ("https://prometheus.example.com/", "https://prometheus.example.com"),
            ("http://mimir.monitoring.svc/prometheus/", "http://mimir.monitoring.svc/prometheus"),
            ("http://[::1]:9090", "http://[::1]:9090"),
        ] {
            assert_eq!(base(address).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_remedy() {
        for address in
            ["", "prometheus:9090", "ftp://prometheus", "http://", "http:prometheus", "http://a b", "http://x:99999"]
        {
            assert_eq!(validate_address(address), Err(InvalidAddress::NotHttp(address.to_owned())));
        }
        assert_eq!(validate_address("http://x?tenant=1"), Err(InvalidAddress::HoldsQuery));
        insta::assert_snapshot!(validate_address("prometheus:9090").unwrap_err(), @r#"the address "prometheus:9090" is not an HTTP URL; write one such as http://prometheus.monitoring:9090"#);
    }

    #[test]
    fn a_password_is_never_shown() {
        for address in ["http://me:hunter@x", "me:hunter@x", "http://me:hunter@x y"] {
            let error = validate_address(address).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
        }
    }
}
