//! What the API server serves of the kinds that it need not serve.
//!
//! Invariant: it is asked once, at the start. A kind that is installed later is found by the next process; what waits
//! for it says so.

use super::error::Error;
use crate::mesh;
use crate::telemetry::chain;
use crate::workload::autoscaler::{self, Scaler};
use kube::Client;
use kube::core::ApiResource;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longer than an API server under load takes.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Between two questions while the API server does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Those that are served.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// What meshes read and write.
    pub(super) routed: Vec<ApiResource>,
    /// Autoscalers.
    pub(super) scalers: Vec<ApiResource>,
}

pub(super) async fn served(client: &Client) -> Served {
    Served { routed: of_meshes(client).await, scalers: scalers(client).await }
}

/// The kinds that meshes read and write, each in the first version of the registry that is served: two would be two
/// watches of the same objects.
async fn of_meshes(client: &Client) -> Vec<ApiResource> {
    let mut served: BTreeMap<String, ApiResource> = BTreeMap::new();
    for resource in mesh::all().flat_map(|(_, mesh)| mesh.resources()) {
        if !served.contains_key(&resource.kind) && (resource.group.is_empty() || serves(client, &resource).await) {
            served.insert(resource.kind.clone(), resource);
        }
    }
    served.into_values().collect()
}

/// The kinds of autoscalers, each in the best version.
async fn scalers(client: &Client) -> Vec<ApiResource> {
    let mut served = vec![];
    for scaler in autoscaler::all() {
        if let Some(resource) = best(client, scaler).await {
            served.push(resource);
        } else {
            tracing::info!(
                "the API server serves no {}; a Canary that refers to one waits until there is {} and Serin is restarted",
                scaler.kind(),
                scaler.needs()
            );
        }
    }
    served
}

async fn best(client: &Client, scaler: &dyn Scaler) -> Option<ApiResource> {
    for version in scaler.versions() {
        let resource = autoscaler::resource(scaler, version);
        if serves(client, &resource).await {
            return Some(resource);
        }
    }
    None
}

async fn serves(client: &Client, resource: &ApiResource) -> bool {
    loop {
        match timeout(CALL_LIMIT, client.list_api_group_resources(&resource.api_version)).await {
            Ok(Ok(list)) => return list.resources.iter().any(|served| served.name == resource.plural),
            Ok(Err(kube::Error::Api(status))) if status.code < 500 => {
                if status.code != 404 {
                    let error = Error::Start(status.message.clone());
                    tracing::warn!(
                        error = chain(&error),
                        "whether {} is served cannot be found out",
                        resource.api_version
                    );
                }
                return false;
            }
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "the API server does not say what it serves"),
            Err(_) => tracing::warn!("the API server does not say what it serves"),
        }
        sleep(RETRY).await;
    }
}
