//! The kinds the server serves and the rules each of them follows.
//!
//! Invariant: a resource is described by constants alone, so registering it twice is harmless.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a URL names a kind by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionResource {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// The one version that is served.
    pub version: &'static str,
    /// Plural name.
    pub plural: &'static str,
}

impl GroupVersionResource {
    /// Names a resource.
    #[must_use]
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group, version, plural }
    }

    /// `plural.group`, as the messages of the API server write it.
    pub(crate) fn qualified(&self) -> String {
        qualify(self.plural, self.group)
    }

    /// The `apiVersion` of the resource's objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Serin's canaries.
pub const CANARIES: GroupVersionResource = GroupVersionResource::new("serin.dev", "v1beta1", "canaries");
/// Serin's metric templates.
pub const METRIC_TEMPLATES: GroupVersionResource = GroupVersionResource::new("serin.dev", "v1beta1", "metrictemplates");
/// Serin's alert providers.
pub const ALERT_PROVIDERS: GroupVersionResource = GroupVersionResource::new("serin.dev", "v1beta1", "alertproviders");
/// Deployments.
pub const DEPLOYMENTS: GroupVersionResource = GroupVersionResource::new("apps", "v1", "deployments");
/// Daemon sets.
pub const DAEMON_SETS: GroupVersionResource = GroupVersionResource::new("apps", "v1", "daemonsets");
/// Controller revisions.
pub const CONTROLLER_REVISIONS: GroupVersionResource = GroupVersionResource::new("apps", "v1", "controllerrevisions");
/// Services.
pub const SERVICES: GroupVersionResource = GroupVersionResource::new("", "v1", "services");
/// Endpoints: the pods of Services.
pub const ENDPOINTS: GroupVersionResource = GroupVersionResource::new("", "v1", "endpoints");
/// Secrets.
pub const SECRETS: GroupVersionResource = GroupVersionResource::new("", "v1", "secrets");
/// Config maps.
pub const CONFIG_MAPS: GroupVersionResource = GroupVersionResource::new("", "v1", "configmaps");
/// Events of the core group, kept apart from [`EVENTS`].
pub const CORE_EVENTS: GroupVersionResource = GroupVersionResource::new("", "v1", "events");
/// Events of `events.k8s.io`.
pub const EVENTS: GroupVersionResource = GroupVersionResource::new("events.k8s.io", "v1", "events");
/// Gateway API routes.
pub const HTTP_ROUTES: GroupVersionResource =
    GroupVersionResource::new("gateway.networking.k8s.io", "v1", "httproutes");
/// Autoscalers of pods.
pub const AUTOSCALERS: GroupVersionResource =
    GroupVersionResource::new("autoscaling", "v2", "horizontalpodautoscalers");
/// The same on clusters before 1.23, for tests that stop serving [`AUTOSCALERS`].
pub const OLD_AUTOSCALERS: GroupVersionResource =
    GroupVersionResource::new("autoscaling", "v2beta2", "horizontalpodautoscalers");
/// KEDA's autoscalers.
pub const SCALED_OBJECTS: GroupVersionResource = GroupVersionResource::new("keda.sh", "v1alpha1", "scaledobjects");
/// Leases.
pub const LEASES: GroupVersionResource = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");

/// What makes the server count `metadata.generation` up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind has no generation.
    Absent,
    /// A change outside metadata and status.
    Content,
    /// The same, or a change of annotations: what Deployments do, since their controller copies
    /// annotations to replica sets.
    ContentAndAnnotations,
}

/// A kind and the rules its objects follow.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    /// What URLs call it.
    pub name: GroupVersionResource,
    /// What objects call it.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether `.status` can be written through `/status` only.
    pub status: bool,
    /// When the generation grows.
    pub generation: Generation,
    /// Whether a PUT may leave out `metadata.resourceVersion`.
    pub unconditional_update: bool,
    /// JSON pointers to fields that keep the value they were created with.
    pub immutable: &'static [&'static str],
}

impl Resource {
    /// A namespaced custom resource with a status subresource.
    #[must_use]
    pub const fn custom(name: GroupVersionResource, kind: &'static str) -> Self {
        Self {
            name,
            kind,
            namespaced: true,
            status: true,
            generation: Generation::Content,
            unconditional_update: false,
            immutable: &[],
        }
    }

    /// A namespaced built-in kind with neither status nor generation.
    #[must_use]
    pub const fn built_in(name: GroupVersionResource, kind: &'static str) -> Self {
        Self {
            name,
            kind,
            namespaced: true,
            status: false,
            generation: Generation::Absent,
            unconditional_update: true,
            immutable: &[],
        }
    }

    /// What discovery says of it.
    pub(crate) fn discovered(&self) -> Value {
        json!({
            "name": self.name.plural,
            "singularName": "",
            "namespaced": self.namespaced,
            "kind": self.kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        })
    }

    /// `Kind.group`, as validation messages write it.
    pub(crate) fn qualified_kind(&self) -> String {
        qualify(self.kind, self.name.group)
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// Everything Serin reads or writes.
pub(crate) fn known() -> BTreeMap<GroupVersionResource, Resource> {
    [
        Resource::custom(CANARIES, "Canary"),
        Resource::custom(METRIC_TEMPLATES, "MetricTemplate"),
        Resource::custom(ALERT_PROVIDERS, "AlertProvider"),
        Resource::custom(HTTP_ROUTES, "HTTPRoute"),
        Resource {
            status: true,
            generation: Generation::ContentAndAnnotations,
            immutable: &["/spec/selector"],
            ..Resource::built_in(DEPLOYMENTS, "Deployment")
        },
        Resource {
            status: true,
            generation: Generation::Content,
            immutable: &["/spec/selector"],
            ..Resource::built_in(DAEMON_SETS, "DaemonSet")
        },
        Resource { immutable: &["/data"], ..Resource::built_in(CONTROLLER_REVISIONS, "ControllerRevision") },
        Resource { unconditional_update: false, ..Resource::built_in(LEASES, "Lease") },
        Resource { status: true, ..Resource::built_in(AUTOSCALERS, "HorizontalPodAutoscaler") },
        Resource { status: true, ..Resource::built_in(OLD_AUTOSCALERS, "HorizontalPodAutoscaler") },
        Resource::custom(SCALED_OBJECTS, "ScaledObject"),
        Resource::built_in(SERVICES, "Service"),
        Resource::built_in(ENDPOINTS, "Endpoints"),
        Resource::built_in(SECRETS, "Secret"),
        Resource::built_in(CONFIG_MAPS, "ConfigMap"),
        Resource::built_in(CORE_EVENTS, "Event"),
        Resource::built_in(EVENTS, "Event"),
    ]
    .into_iter()
    .map(|resource| (resource.name, resource))
    .collect()
}
