//! Where a message goes, with all that is secret about it.

use http::Uri;
use std::collections::BTreeMap;
use std::fmt;

/// One place to tell messages.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its URL; with most channels this is the secret.
    pub address: Option<String>,
    /// A bearer token.
    pub token: Option<String>,
    /// The room, where the channel lets one choose.
    pub channel: Option<String>,
    /// The name to speak under, where the channel lets one choose.
    pub username: Option<String>,
    /// The URL of the proxy on the way there.
    pub proxy: Option<String>,
}

/// Why a message cannot even be sent. No sentence shows an address or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// Nowhere to go.
    #[error("there is no address; write one in address, or in the key address of the secret")]
    NoAddress,
    /// Not an HTTP URL.
    #[error("the address is not an HTTP URL; write one that begins with https:// or http://")]
    NotHttp,
    /// A log could show it.
    #[error("the address holds a user or a password; write it without them, and a token in the secret's key token")]
    HoldsCredentials,
    /// No header can carry it.
    #[error("the token holds letters that no header can carry; write ASCII on one line")]
    BadToken,
    /// A value that is no text.
    #[error("the secret's key {0} is not one line of text; write it in UTF-8 without line breaks")]
    NotText(&'static str),
}

impl Endpoint {
    /// The same with what a Secret says: its `address` wins over the one that was written, and its `token` is taken.
    ///
    /// # Errors
    /// When a value is not one line of text.
    pub fn with_secret(self, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, Unsendable> {
        let address = value(data, "address")?.or(self.address);
        let token = value(data, "token")?.or(self.token);
        Ok(Self { address, token, ..self })
    }

    /// Says whether something could be sent there, before there is something.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn check(&self) -> Result<(), Unsendable> {
        self.address.as_deref().map_or(Ok(()), |address| uri(address).map(drop))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, token, channel, username, proxy } = self;
        let hidden = |value: &Option<String>| value.as_ref().map(|_| "hidden");
        formatter
            .debug_struct("Endpoint")
            .field("address", &hidden(address))
            .field("token", &hidden(token))
            .field("channel", channel)
            .field("username", username)
            .field("proxy", &hidden(proxy))
            .finish()
    }
}

/// The text of a key, without the line end that `kubectl create secret --from-file` keeps; an empty one is none.
fn value(data: &BTreeMap<String, Vec<u8>>, key: &'static str) -> Result<Option<String>, Unsendable> {
    let Some(bytes) = data.get(key) else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| Unsendable::NotText(key))?.trim();
    if text.chars().any(char::is_control) {
        return Err(Unsendable::NotText(key));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

pub(super) fn uri(address: &str) -> Result<Uri, Unsendable> {
    let uri: Uri = address.parse().map_err(|_| Unsendable::NotHttp)?;
    let authority = uri.authority().ok_or(Unsendable::NotHttp)?;
    if authority.as_str().contains('@') {
        return Err(Unsendable::HoldsCredentials);
    }
    match uri.scheme_str() {
        Some("http" | "https") if !authority.host().is_empty() => Ok(uri),
        _ => Err(Unsendable::NotHttp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
    }

    fn written() -> Endpoint {
        Endpoint { address: Some("https://written.example".into()), ..Endpoint::default() }
    }

    #[test]
    fn the_secret_wins() {
        let data =
            secret(&[("address", b"https://hooks.example/T0/B0\n"), ("token", b"xoxb-1\r\n"), ("other", b"\xff")]);
        let endpoint = written().with_secret(&data).unwrap();
        assert_eq!(endpoint.address.as_deref(), Some("https://hooks.example/T0/B0"));
        assert_eq!(endpoint.token.as_deref(), Some("xoxb-1"));
        assert_eq!(written().with_secret(&secret(&[("address", b"\n")])), Ok(written()));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let data = secret(&[("address", b"https://hooks.example/hunter"), ("token", b"hunter")]);
        let endpoint = Endpoint { proxy: Some("http://hunter@proxy".into()), ..written() }.with_secret(&data).unwrap();
        assert!(!format!("{endpoint:?}").contains("hunter"));
        for bad in [&b"hun\nter"[..], b"hunter\xff"] {
            let error = written().with_secret(&secret(&[("token", bad)])).unwrap_err();
            assert_eq!(error, Unsendable::NotText("token"));
        }
    }

    #[test]
    fn addresses_are_http_urls() {
        for good in ["https://hooks.slack.com/services/T0/B0/x", "http://sink.events:8080/?key=a&token=b%3D"] {
            assert!(uri(good).is_ok(), "{good}");
        }
        for bad in ["", "hooks.slack.com", "/services", "ftp://x", "https://", "http://a b"] {
            assert_eq!(uri(bad), Err(Unsendable::NotHttp), "{bad}");
        }
        assert_eq!(uri("https://me:hunter@x"), Err(Unsendable::HoldsCredentials));
    }
}
