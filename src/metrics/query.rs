//! One question to one provider.

use super::Credentials;
use std::fmt;

/// Everything that one request needs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// Base of the provider's API, as [`super::validate_address`] accepts it; `/api/v1/query` is put behind it.
    pub address: String,
    /// The query, rendered.
    pub text: String,
    /// More headers, by name. One name may come several times.
    pub headers: Vec<(String, String)>,
    /// Whether a TLS certificate that cannot be verified is good enough.
    pub insecure_skip_verify: bool,
    /// Who is asking.
    pub credentials: Option<Credentials>,
}

/// Headers often carry keys of an API, so only their names are shown.
impl fmt::Debug for Query {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, text, headers, insecure_skip_verify, credentials } = self;
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        formatter
            .debug_struct("Query")
            .field("address", address)
            .field("text", text)
            .field("headers", &names)
            .field("insecure_skip_verify", insecure_skip_verify)
            .field("credentials", credentials)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let basic = Credentials::Basic { username: "hunter1".into(), password: "hunter2".into() };
        for credentials in [basic, Credentials::Bearer("hunter3".into())] {
            let query = Query {
                address: "http://prometheus:9090".into(),
                text: "up".into(),
                headers: vec![("x-api-key".into(), "hunter4".into())],
                insecure_skip_verify: false,
                credentials: Some(credentials),
            };
            let shown = format!("{query:?} {query:#?}");
            assert!(!shown.contains("hunter"), "{shown}");
            assert!(shown.contains("x-api-key"), "{shown}");
        }
    }
}
