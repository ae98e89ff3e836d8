//! Who is asking, from the data of a Secret.

use std::{collections::BTreeMap, fmt};

/// A login at a provider.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Name and password, RFC 7617.
    Basic {
        /// Holds no colon.
        username: String,
        /// May be empty.
        password: String,
    },
    /// A token, RFC 6750.
    Bearer(String),
}

/// Why a Secret holds no login. No message shows a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Half a login.
    #[error("the secret has {present} but not {missing}; add the key {missing}")]
    MissingKey {
        /// The key that is there.
        present: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Neither form.
    #[error("the secret has none of the keys token, username and password; add token, or username and password")]
    NoKeys,
    /// A value that no header can carry.
    #[error("the secret's key {key} {problem}")]
    BadValue {
        /// Where.
        key: &'static str,
        /// What is wrong, and what to write.
        problem: &'static str,
    },
}

impl TryFrom<&BTreeMap<String, Vec<u8>>> for Credentials {
    type Error = InvalidSecret;

    /// Reads `token`, or else `username` and `password`. A token wins, as it does in Flagger.
    fn try_from(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, InvalidSecret> {
        if let Some(token) = value(data, "token")? {
            return Ok(Self::Bearer(not_empty("token", token)?));
        }
        match (value(data, "username")?, value(data, "password")?) {
            (Some(username), Some(_)) if username.contains(':') => {
                Err(InvalidSecret::BadValue { key: "username", problem: "holds a colon; write a name without one" })
            }
            (Some(username), Some(password)) => {
                Ok(Self::Basic { username: not_empty("username", username)?, password })
            }
            (Some(_), None) => Err(InvalidSecret::MissingKey { present: "username", missing: "password" }),
            (None, Some(_)) => Err(InvalidSecret::MissingKey { present: "password", missing: "username" }),
            (None, None) => Err(InvalidSecret::NoKeys),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Basic { .. } => "Basic(hidden)",
            Self::Bearer(_) => "Bearer(hidden)",
        })
    }
}

/// The text of a key, without the line end that `kubectl create secret --from-file` keeps.
fn value(data: &BTreeMap<String, Vec<u8>>, key: &'static str) -> Result<Option<String>, InvalidSecret> {
    let Some(bytes) = data.get(key) else { return Ok(None) };
    let text = std::str::from_utf8(bytes)
        .map_err(|_| InvalidSecret::BadValue { key, problem: "is not text; write it in UTF-8" })?
        .trim_end_matches(['\r', '\n']);
    if text.chars().any(char::is_control) {
        return Err(InvalidSecret::BadValue { key, problem: "holds control characters; write it on one line" });
    }
    Ok(Some(text.to_owned()))
}

fn not_empty(key: &'static str, text: String) -> Result<String, InvalidSecret> {
    if text.is_empty() { Err(InvalidSecret::BadValue { key, problem: "is empty; write a value" }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &[u8])]) -> Result<Credentials, InvalidSecret> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect();
        Credentials::try_from(&data)
    }

    #[test]
    fn both_forms_are_read_without_their_line_ends() {
        assert_eq!(parse(&[("token", b"abc\n")]), Ok(Credentials::Bearer("abc".into())));
        let basic = Credentials::Basic { username: "me".into(), password: " p:w ".into() };
        assert_eq!(parse(&[("username", b"me\r\n"), ("password", b" p:w \n"), ("other", b"x")]), Ok(basic));
        let both = [("token", &b"abc"[..]), ("username", b"me"), ("password", b"pw")];
        assert_eq!(parse(&both), Ok(Credentials::Bearer("abc".into())));
    }

    #[test]
    fn the_missing_key_is_named() {
        insta::assert_snapshot!(parse(&[("username", b"me")]).unwrap_err(), @"the secret has username but not password; add the key password");
        insta::assert_snapshot!(parse(&[("password", b"pw")]).unwrap_err(), @"the secret has password but not username; add the key username");
        insta::assert_snapshot!(parse(&[("Token", b"abc")]).unwrap_err(), @"the secret has none of the keys token, username and password; add token, or username and password");
    }

    #[test]
    fn values_that_cannot_be_sent_are_refused_and_never_shown() {
        for value in [&b"hunter\nhunter"[..], b"hunter\xff", b"\n", b"hunter\0"] {
            let error = parse(&[("token", value)]).unwrap_err();
            assert!(error.to_string().starts_with("the secret's key token "), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
        }
        assert!(parse(&[("username", b"hun:ter"), ("password", b"pw")]).is_err());
    }
}
