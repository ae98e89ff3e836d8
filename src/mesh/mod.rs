//! What a split looks like: one file for each mesh, and no I/O in any.
//!
//! Invariant, checked by the laws below for every mesh: what is rendered is what is then observed; rendering what was
//! rendered changes nothing; what is not ours is unchanged; handing back restores what was found.

mod affinity;
mod gateway_api;
mod kubernetes;
#[cfg(test)]
mod laws;
pub mod pattern;

pub use affinity::Affinity;

use crate::domain::{Routing, Traffic, Weight};
use kube::core::ApiResource;
use serde_json::Value;
use std::collections::BTreeMap;

/// The app whose traffic is split, as the mesh needs to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Namespace of everything.
    pub namespace: String,
    /// Name of the Service that the app's clients use, and of the route.
    pub name: String,
    /// That Service's port.
    pub port: i32,
    /// The route, when Serin has to make it.
    pub route: Route,
    /// The requests of an A/B test, as the Gateway API writes matches; none means that requests are chosen by weight.
    pub matches: Vec<Value>,
    /// How clients are kept on the version that they were given.
    pub affinity: Option<Affinity>,
    /// The share of the requests that is copied to the canary, when any is.
    pub mirror: Weight,
    /// The owner of what Serin makes, as an owner reference.
    pub owner: Value,
}

/// What is to be true of the objects of a mesh.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where requests go.
    pub traffic: Traffic,
    /// The name of the canary's version, by which its clients are known.
    pub canary: &'a str,
    /// The name of the primary's.
    pub primary: &'a str,
}

/// The route that the user described.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// References to Gateways.
    pub gateways: Vec<Value>,
    /// Host names; none means all.
    pub hosts: Vec<String>,
    /// Which requests, as the Gateway API writes matches; none means all.
    pub matches: Vec<Value>,
    /// How requests and answers are changed, as the Gateway API writes filters.
    pub filters: Vec<Value>,
    /// How long a request may take.
    pub timeout: Option<String>,
    /// How long one attempt may take.
    pub backend_timeout: Option<String>,
    /// Labels of the route.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the route.
    pub annotations: BTreeMap<String, String>,
}

/// Where one object of the mesh lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name, in the app's namespace.
    pub name: String,
}

/// A traffic router. Pure, hence testable without a cluster.
pub trait Mesh: Send + Sync {
    /// The kinds of objects that it reads and writes.
    fn resources(&self) -> Vec<ApiResource>;

    /// The objects to read before [`Mesh::render`] and [`Mesh::observe`], in the order in which these expect them.
    fn reads(&self, app: &App) -> Vec<Key>;

    /// The objects as they have to be so that what is `wanted` holds, each beginning from what was found; `None` for one
    /// that need not exist.
    fn render(&self, app: &App, wanted: &Wanted<'_>, found: &[Option<&Value>]) -> Vec<Option<Value>>;

    /// Where the objects send requests now.
    fn observe(&self, app: &App, found: &[Option<&Value>]) -> Routing;
}

/// The registry: the one line to add for a new mesh.
const MESHES: &[(&str, &dyn Mesh)] = &[
    ("gatewayapi:v1", &gateway_api::GatewayApi("v1")),
    ("gatewayapi:v1beta1", &gateway_api::GatewayApi("v1beta1")),
    ("kubernetes", &kubernetes::Kubernetes),
];

/// The mesh of a provider.
#[must_use]
pub fn by_name(provider: &str) -> Option<&'static dyn Mesh> {
    MESHES.iter().find(|(name, _)| *name == provider).map(|(_, mesh)| *mesh)
}

/// All meshes, by the name of their provider.
pub fn all() -> impl Iterator<Item = (&'static str, &'static dyn Mesh)> {
    MESHES.iter().copied()
}
