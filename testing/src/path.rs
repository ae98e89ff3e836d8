//! What a URL points at.
//!
//! Invariant: a path is either understood completely or not at all.

/// The parts of a resource path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) subresource: Option<&'a str>,
}

impl<'a> Path<'a> {
    /// Takes a path apart; `None` for those that name no resource, such as `/version`.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // Namespaces are objects too, and theirs is the only path where this is ambiguous.
            ["namespaces", _, "status"] => (None, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Self { group, version, plural, namespace, name, subresource })
    }
}

/// The group and version whose resources are asked for.
pub(crate) fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.trim_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        ["apis", group, version] => Some((group, version)),
        ["api", version] => Some(("", version)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    fn parts(path: &str) -> Option<[&str; 6]> {
        Path::parse(path).map(|path| {
            [
                path.group,
                path.version,
                path.plural,
                path.namespace.unwrap_or_default(),
                path.name.unwrap_or_default(),
                path.subresource.unwrap_or_default(),
            ]
        })
    }

    #[test]
    fn resource_paths_come_apart() {
        assert_eq!(
            parts("/apis/apps/v1/namespaces/shop/deployments/web/status"),
            Some(["apps", "v1", "deployments", "shop", "web", "status"])
        );
        assert_eq!(parts("/api/v1/configmaps"), Some(["", "v1", "configmaps", "", "", ""]));
        assert_eq!(parts("/api/v1/namespaces/shop"), Some(["", "v1", "namespaces", "", "shop", ""]));
        assert_eq!(parts("/api/v1/namespaces/shop/status"), Some(["", "v1", "namespaces", "", "shop", "status"]));
    }

    #[test]
    fn other_paths_do_not() {
        assert_eq!(parts("/version"), None);
        assert_eq!(parts("/apis/apps/v1"), None);
        assert_eq!(parts("/apis/apps/v1/deployments/web/status/more"), None);
    }
}
