//! What kind of request an HTTP request to the Kubernetes API is.
//!
//! Invariant: no name of an object or a namespace gets into the answer, so the number of kinds is bounded by what the
//! code asks for and not by what is in the cluster.

use http::{Method, Uri};

/// Verb and resource, as in an RBAC rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestKind {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or, for a whole collection, `deletecollection`.
    pub(super) verb: &'static str,
    /// The plural, with its subresource if any: `deployments`, `canaries/status`; `other` for what is not a resource
    /// (`/version`, discovery).
    pub(super) resource: String,
}

impl RequestKind {
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        match Target::in_path(uri.path()) {
            Some(Target { resource, named }) => Self { verb: verb(method, uri, named), resource },
            None => Self { verb: verb(method, uri, true), resource: "other".to_owned() },
        }
    }
}

/// What a path points at.
struct Target {
    resource: String,
    named: bool,
}

impl Target {
    /// `None` when the path is not that of a resource.
    fn in_path(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (["api", _version, resource @ ..] | ["apis", _, _version, resource @ ..]) = parts.as_slice() else {
            return None;
        };
        match resource {
            [] => None,
            // A namespace has these two subresources; anything else in their place is a resource inside it.
            ["namespaces", _, subresource @ ("status" | "finalize")] => {
                Some(Self::subresource("namespaces", subresource))
            }
            ["namespaces", _, inside @ ..] if !inside.is_empty() => Self::at(inside),
            cluster_wide => Self::at(cluster_wide),
        }
    }

    fn at(parts: &[&str]) -> Option<Self> {
        match parts {
            [] => None,
            [resource] => Some(Self { resource: (*resource).to_owned(), named: false }),
            [resource, _name] => Some(Self { resource: (*resource).to_owned(), named: true }),
            // What follows a subresource is the path of a proxied request: of unbounded variety.
            [resource, _name, subresource, ..] => Some(Self::subresource(resource, subresource)),
        }
    }

    fn subresource(resource: &str, subresource: &str) -> Self {
        Self { resource: format!("{resource}/{subresource}"), named: true }
    }
}

fn verb(method: &Method, uri: &Uri, named: bool) -> &'static str {
    match *method {
        Method::GET | Method::HEAD if watches(uri) => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "other",
    }
}

fn watches(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verb_and_resource_follow_from_method_and_path() {
        let cases = [
            ("GET", "/api/v1/namespaces/shop/services/web", "get services"),
            ("GET", "/api/v1/namespaces/shop/services", "list services"),
            ("GET", "/api/v1/services?limit=500", "list services"),
            ("GET", "/apis/serin.dev/v1beta1/canaries?&watch=true&timeoutSeconds=290", "watch canaries"),
            ("GET", "/apis/serin.dev/v1beta1/canaries?fieldSelector=metadata.name%3Dwatch=true", "list canaries"),
            ("POST", "/apis/apps/v1/namespaces/shop/controllerrevisions", "create controllerrevisions"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/serin-system/leases/serin", "update leases"),
            (
                "PATCH",
                "/apis/serin.dev/v1beta1/namespaces/shop/canaries/web/status?fieldManager=s",
                "patch canaries/status",
            ),
            ("DELETE", "/apis/apps/v1/namespaces/shop/deployments/web", "delete deployments"),
            ("DELETE", "/apis/apps/v1/namespaces/shop/deployments", "deletecollection deployments"),
            ("GET", "/api/v1/namespaces", "list namespaces"),
            ("GET", "/api/v1/namespaces/shop", "get namespaces"),
            ("PUT", "/api/v1/namespaces/shop/finalize", "update namespaces/finalize"),
            ("GET", "/api/v1/namespaces/shop/pods/web/proxy/any/path", "get pods/proxy"),
            ("GET", "/version", "get other"),
            ("GET", "/apis/apps/v1", "get other"),
            ("GET", "/", "get other"),
            ("OPTIONS", "/api/v1/pods", "other pods"),
        ];
        for (method, uri, expected) in cases {
            let kind = RequestKind::of(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(format!("{} {}", kind.verb, kind.resource), expected, "{method} {uri}");
        }
    }
}
