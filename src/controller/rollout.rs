//! One Canary, translated for the layers below: who it is about, and where its objects are.

use super::cache::Key;
use super::context::{Context, canary_key};
use super::routing;
use super::scaling::Autoscaler;
use crate::api::{
    AutoscalerRef, Canary, CanarySpec, InvalidSpec, Metadata, PrimaryScalerReplicas, Provider, Service,
    TrafficDistribution, UnmanagedMetadata, provider,
};
use crate::domain::{Revision, State, Traffic};
use crate::mesh::{self, Mesh};
use crate::object;
use crate::workload::autoscaler;
use crate::workload::configs::{Config, Kind};
use crate::workload::{self, Labelling, Labels, ServiceMetadata, ServiceShape, Workload};
use kube::core::{ApiResource, GroupVersionKind, Resource};
use serde_json::{Value, json};
use std::sync::Arc;

/// One Canary, translated for the layers below.
pub(super) struct Rollout {
    /// The Canary's own key.
    pub(super) key: Key,
    /// Its UID, which marks what Serin made for it.
    pub(super) uid: String,
    /// For the workload layer.
    pub(super) app: workload::App,
    /// For the mesh layer.
    pub(super) routed: mesh::App,
    /// What splits its traffic.
    pub(super) mesh: &'static dyn Mesh,
    /// What its target is.
    pub(super) workload: &'static dyn Workload,
    /// What scales its target; `None` when nothing does that the Canary names.
    pub(super) autoscaler: Option<Autoscaler>,
}

impl Rollout {
    /// # Errors
    /// When the spec names something that this operator does not know.
    pub(super) fn new(context: &Context, canary: &Canary) -> Result<Self, InvalidSpec> {
        let key = canary_key(canary);
        let spec = &canary.spec;
        let service = &spec.service;
        let default = &context.settings.provider;
        let provider = match provider(spec, default).and_then(|provider| copies(context, spec).map(|()| provider)) {
            // What the spec asks for that the provider cannot do must not keep a Canary that goes.
            Err(invalid) if canary.metadata.deletion_timestamp.is_some() => {
                let written = spec.provider.as_deref().and_then(Provider::by_name);
                written.or_else(|| Provider::by_name(default)).ok_or(invalid)?
            }
            provider => provider?,
        };
        let mesh = mesh_of(context, provider)?;
        let workload = workload_of(context, canary, &key)?;
        let name = service.name.clone().unwrap_or_else(|| spec.target_ref.name.clone());
        let owner = owner(canary);
        Ok(Self {
            uid: canary.metadata.uid.clone().unwrap_or_default(),
            app: workload::App {
                namespace: key.namespace.clone(),
                canary: key.name.clone(),
                target: spec.target_ref.name.clone(),
                service: name.clone(),
                port: service_port(service),
                shape: ServiceShape {
                    headless: service.headless,
                    port_discovery: service.port_discovery,
                    traffic_distribution: service.traffic_distribution.map(TrafficDistribution::name),
                },
                metadata: metadata(service),
                switches: provider == Provider::Kubernetes,
                labelling: Labelling {
                    selectors: context.settings.selector_labels.clone(),
                    included: context.settings.include_label_prefix.clone(),
                },
                owner: owner.clone(),
            },
            routed: mesh::App {
                namespace: key.namespace.clone(),
                name,
                port: service.port,
                route: routing::route(service),
                matches: routing::test_matches(spec),
                affinity: routing::affinity(spec),
                mirror: routing::mirror(spec),
                owner,
            },
            autoscaler: autoscaler_of(context, canary, workload),
            key,
            mesh,
            workload,
        })
    }

    /// The key of the target.
    pub(super) fn target(&self) -> Key {
        self.object(self.workload.resource(), self.app.target.clone())
    }

    /// The key of the copy that serves.
    pub(super) fn primary(&self) -> Key {
        self.object(self.workload.resource(), workload::primary_name(&self.app.target))
    }

    /// The key of the app's Service, or of one version's, by suffix.
    pub(super) fn service(&self, suffix: &str) -> Key {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Service"));
        self.object(resource, format!("{}{suffix}", self.app.service))
    }

    /// The key of what counts the pods of a version, by the suffix of its Service, when the target does not itself.
    pub(super) fn count(&self, suffix: &str) -> Option<Key> {
        let resource = self.workload.counted_by()?;
        Some(self.object(resource, format!("{}{suffix}", self.app.service)))
    }

    /// The key of a recorded version.
    pub(super) fn record(&self, revision: &Revision) -> Key {
        self.object(records(), workload::record_name(&self.app, revision))
    }

    /// A version as this Canary has put it on record. A record that a deleted Canary of the same name has left names copies that
    /// go with it.
    pub(super) fn recorded(&self, context: &Context, revision: &Revision) -> Option<Arc<Value>> {
        context.cache.get(&self.record(revision)).filter(|record| object::owned_by(record, &self.uid))
    }

    /// The keys of the mesh's objects, in its order.
    pub(super) fn routes(&self) -> Vec<Key> {
        let reads = self.mesh.reads(&self.routed);
        reads.into_iter().map(|mesh::Key { resource, name }| self.object(resource, name)).collect()
    }

    /// The keys of the user's autoscaler and of the primary's, if there is one that is served.
    pub(super) fn scalers(&self) -> Option<[Key; 2]> {
        let Autoscaler { reference, resource } = self.autoscaler.as_ref()?;
        let resource = resource.as_ref()?;
        Some([reference.name.clone(), reference.copy_name()].map(|name| self.object(resource.clone(), name)))
    }

    /// All objects that are changed for this Canary, in a fixed order, each with the kind under which it is claimed.
    pub(super) fn objects(&self) -> impl Iterator<Item = (String, Key)> {
        let of_target = [self.target(), self.primary()].map(|key| (key.resource.kind.clone(), key));
        let of_scaler = self.scalers().into_iter().flatten().map(|key| (key.resource.kind.clone(), key));
        let services = ["", "-primary", "-canary"].map(|suffix| self.service(suffix));
        let of_service = services.into_iter().chain(self.routes()).map(|key| ("Service".to_owned(), key));
        of_target.into_iter().chain(of_scaler).chain(of_service)
    }

    /// The key of a ConfigMap or Secret.
    pub(super) fn config(&self, config: &Config) -> Key {
        self.object(config_resource(config.kind), config.name.clone())
    }

    fn object(&self, resource: ApiResource, name: String) -> Key {
        Key { resource, namespace: self.key.namespace.clone(), name }
    }
}

/// What the mesh's objects are to say in a state.
pub(super) fn wanted(state: &State, traffic: Traffic) -> mesh::Wanted<'_> {
    fn name(revision: Option<&Revision>) -> &str {
        revision.map_or("", |revision| revision.0.as_str())
    }
    mesh::Wanted { traffic, canary: name(state.candidate()), primary: name(state.promoted.as_ref()) }
}

/// The kind of recorded versions.
pub(super) fn records() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "ControllerRevision"))
}

/// The kind of a version's configs.
pub(super) fn config_resource(kind: Kind) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind.as_str()))
}

/// What the target is. A Canary with a primary cannot turn to another kind: the old primary would go on serving. One
/// that is being deleted hands back what it has.
fn workload_of(context: &Context, canary: &Canary, key: &Key) -> Result<&'static dyn Workload, InvalidSpec> {
    let target = &canary.spec.target_ref;
    let named = crate::api::target_kind(&target.kind).map(workload::by_kind);
    let uid = canary.metadata.uid.as_deref().unwrap_or_default();
    let name = workload::primary_name(&target.name);
    let has_primary = |(kind, workload): &(&str, &dyn Workload)| {
        let key = Key { resource: workload.resource(), namespace: key.namespace.clone(), name: name.clone() };
        let is_ours = |primary: &Value| object::owned_by(primary, uid) && workload.is_primary(primary);
        *kind != target.kind && context.cache.get(&key).is_some_and(|primary| is_ours(&primary))
    };
    match (workload::all().find(has_primary), named) {
        (Some((_, workload)), _) if canary.metadata.deletion_timestamp.is_some() => Ok(workload),
        (_, Err(invalid)) => Err(invalid),
        (Some((kind, _)), Ok(_)) => Err(InvalidSpec::Other(format!(
            "spec.targetRef.kind: {name} is a {kind}; write {kind} again, or delete this Canary and make a new one",
        ))),
        (None, Ok(Some(workload))) => Ok(workload),
        (None, Ok(None)) => Err(InvalidSpec::TargetKind(target.kind.clone())),
    }
}

/// What scales the target, if it is of a kind that can be scaled.
fn autoscaler_of(context: &Context, canary: &Canary, workload: &dyn Workload) -> Option<Autoscaler> {
    let AutoscalerRef { api_version: _, kind, name, primary_scaler_queries, primary_scaler_replicas } =
        canary.spec.autoscaler_ref.as_ref().filter(|_| workload.resource().kind == "Deployment")?;
    let PrimaryScalerReplicas { min_replicas, max_replicas } = primary_scaler_replicas.unwrap_or_default();
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
    let reference = autoscaler::Reference {
        scaler: autoscaler::by_kind(kind)?,
        name: name.clone(),
        least: count(min_replicas),
        most: count(max_replicas),
        queries: primary_scaler_queries.clone(),
    };
    Some(Autoscaler { resource: context.cache.resource(kind).cloned(), reference })
}

/// Traefik answers every request of a rule that copies requests with 500, and reports nothing.
fn copies(context: &Context, spec: &CanarySpec) -> Result<(), InvalidSpec> {
    let analysis = spec.analysis.as_ref().is_some_and(|analysis| analysis.mirror);
    let field = if analysis { "spec.analysis.mirror" } else { "spec.service.mirror" };
    let none = !analysis && spec.service.mirror.is_empty();
    if none || context.settings.gateway_metrics != "traefik" {
        return Ok(());
    }
    Err(InvalidSpec::Other(format!(
        "{field}: Traefik does not copy requests, and answers those that it should copy with 500; leave mirror out, or \
         tell Serin with --gateway-metrics that the gateway is another one"
    )))
}

/// What moves the traffic. A cluster may serve only the other version of the same kinds; their objects are the same.
fn mesh_of(context: &Context, provider: Provider) -> Result<&'static dyn Mesh, InvalidSpec> {
    let name = provider.name();
    let named = mesh::by_name(name).ok_or_else(|| {
        let known: Vec<_> = mesh::all().map(|(name, _)| name).collect();
        InvalidSpec::Other(format!("spec.provider: {name} is not known; write one of {}", known.join(", ")))
    })?;
    let kinds = |mesh: &dyn Mesh| mesh.resources().into_iter().map(|resource| resource.kind).collect::<Vec<_>>();
    let same = mesh::all().map(|(_, mesh)| mesh).filter(|mesh| kinds(*mesh) == kinds(named));
    let is_watched = |resource: &ApiResource| context.cache.resource(&resource.kind) == Some(resource);
    let served = |mesh: &&'static dyn Mesh| mesh.resources().iter().all(is_watched);
    [named].into_iter().chain(same).find(served).ok_or_else(|| {
        InvalidSpec::Other(format!(
            "spec.provider: {name} needs {} objects, which this cluster does not serve; install the Gateway API and \
             restart Serin, or write kubernetes",
            kinds(named).join(", ")
        ))
    })
}

/// No `blockOwnerDeletion`: it would need a right that nothing else needs.
fn owner(canary: &Canary) -> Value {
    canary.controller_owner_ref(&()).and_then(|owner| serde_json::to_value(owner).ok()).unwrap_or_default()
}

fn service_port(service: &Service) -> Value {
    let mut port = json!({
        "name": service.port_name.as_deref().unwrap_or("http"),
        "port": service.port,
        "targetPort": service.target_port.as_ref().map_or(json!(service.port), |port| json!(port)),
        "protocol": "TCP",
    });
    if let Some(protocol) = &service.app_protocol {
        port["appProtocol"] = protocol.as_str().into();
    }
    port
}

fn metadata(service: &Service) -> ServiceMetadata {
    let UnmanagedMetadata { labels: unmanaged_labels, annotations: unmanaged_annotations } =
        service.unmanaged_metadata.clone().unwrap_or_default();
    ServiceMetadata {
        apex: labels(service.apex.as_ref()),
        primary: labels(service.primary.as_ref()),
        canary: labels(service.canary.as_ref()),
        unmanaged_labels,
        unmanaged_annotations,
    }
}

fn labels(metadata: Option<&Metadata>) -> Labels {
    let Metadata { labels, annotations } = metadata.cloned().unwrap_or_default();
    Labels { labels, annotations }
}
