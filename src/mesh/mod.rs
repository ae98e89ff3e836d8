//! What a split looks like: one file for each mesh, and no I/O in any.
//!
//! Invariant, checked by the laws below for every mesh: what is rendered is what is then observed; rendering what was
//! rendered changes nothing; what is not ours is unchanged; handing back restores what was found.

mod gateway_api;
#[cfg(test)]
mod laws;

use crate::domain::{Routing, Traffic};
use kube::core::ApiResource;
use serde_json::Value;

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
    /// The owner of what Serin makes, as an owner reference.
    pub owner: Value,
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
    /// How long a request may take.
    pub timeout: Option<String>,
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

    /// The objects as they have to be so that `traffic` holds, each beginning from what was found; `None` for one
    /// that need not exist.
    fn render(&self, app: &App, traffic: Traffic, found: &[Option<Value>]) -> Vec<Option<Value>>;

    /// Where the objects send requests now.
    fn observe(&self, app: &App, found: &[Option<Value>]) -> Routing;
}

/// The registry: the one line to add for a new mesh.
const MESHES: &[(&str, &dyn Mesh)] = &[("gatewayapi:v1", &gateway_api::GatewayApi)];

/// The mesh of a provider.
#[must_use]
pub fn by_name(provider: &str) -> Option<&'static dyn Mesh> {
    MESHES.iter().find(|(name, _)| *name == provider).map(|(_, mesh)| *mesh)
}

/// All meshes, by the name of their provider.
pub fn all() -> impl Iterator<Item = (&'static str, &'static dyn Mesh)> {
    MESHES.iter().copied()
}
