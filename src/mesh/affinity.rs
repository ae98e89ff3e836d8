//! Cookies by which a client is known that was given a version.

use std::fmt::Write as _;

/// How clients are kept on the version that they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// The cookie of clients that got the canary.
    pub cookie: String,
    /// The cookie of clients that got the primary, if they are to have one.
    pub primary_cookie: Option<String>,
    /// Seconds after which the first is forgotten.
    pub max_age: u64,
    /// Seconds after which the second is forgotten.
    pub primary_max_age: u64,
    /// The host that gets them.
    pub domain: Option<String>,
    /// The path below which they are sent.
    pub path: Option<String>,
    /// Hidden from scripts.
    pub http_only: bool,
    /// Over HTTPS only.
    pub secure: bool,
    /// Whether they go along with requests from other sites.
    pub same_site: Option<String>,
    /// Apart for each site that embeds the app.
    pub partitioned: bool,
}

impl Affinity {
    /// What sets a cookie.
    #[must_use]
    pub fn set(&self, name: &str, value: &str, max_age: u64) -> String {
        let mut text = format!("{name}={value}; Max-Age={max_age}");
        for (attribute, value) in [("Domain", &self.domain), ("Path", &self.path), ("SameSite", &self.same_site)] {
            if let Some(value) = value {
                let _ = write!(text, "; {attribute}={value}");
            }
        }
        let flags = [("HttpOnly", self.http_only), ("Secure", self.secure), ("Partitioned", self.partitioned)];
        for (flag, _) in flags.into_iter().filter(|(_, set)| *set) {
            let _ = write!(text, "; {flag}");
        }
        text
    }

    /// What deletes one: its attributes must be those that it was set with.
    #[must_use]
    pub fn forget(&self, name: &str) -> String {
        self.set(name, "", 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_deleted_with_the_attributes_that_it_was_set_with() {
        let affinity = Affinity {
            cookie: "app".into(),
            primary_cookie: None,
            max_age: 60,
            primary_max_age: 10,
            domain: Some("shop.example".into()),
            path: Some("/".into()),
            http_only: true,
            secure: true,
            same_site: Some("None".into()),
            partitioned: true,
        };
        let attributes = "Domain=shop.example; Path=/; SameSite=None; HttpOnly; Secure; Partitioned";
        assert_eq!(affinity.set("app", "a1", 60), format!("app=a1; Max-Age=60; {attributes}"));
        assert_eq!(affinity.forget("app"), format!("app=; Max-Age=0; {attributes}"));
        let plain = Affinity {
            domain: None,
            path: None,
            http_only: false,
            secure: false,
            same_site: None,
            partitioned: false,
            ..affinity
        };
        assert_eq!(plain.set("app", "a1", 60), "app=a1; Max-Age=60");
    }
}
