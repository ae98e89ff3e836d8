//! Which kinds of the meshes the API server serves: those of a gateway need not be there.
//!
//! Invariant: it is asked once, at the start. What is installed later is found by the next process.

use super::error::Error;
use crate::mesh;
use crate::telemetry::chain;
use kube::Client;
use kube::core::ApiResource;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longer than an API server under load takes.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Between two questions while the API server does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The kinds that meshes read and write, each in the first version of the registry that is served: two would be two
/// watches of the same objects.
pub(super) async fn of_meshes(client: &Client) -> Vec<ApiResource> {
    let mut served: BTreeMap<String, ApiResource> = BTreeMap::new();
    for resource in mesh::all().flat_map(|(_, mesh)| mesh.resources()) {
        if !served.contains_key(&resource.kind) && (resource.group.is_empty() || serves(client, &resource).await) {
            served.insert(resource.kind.clone(), resource);
        }
    }
    served.into_values().collect()
}

async fn serves(client: &Client, resource: &ApiResource) -> bool {
    let version = &resource.api_version;
    loop {
        match timeout(CALL_LIMIT, client.list_api_group_resources(version)).await {
            Ok(Ok(list)) => return list.resources.iter().any(|served| served.name == resource.plural),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return false,
            Ok(Err(error)) => {
                let error = Error::Start(error.to_string());
                tracing::warn!(error = chain(&error), "whether {version} is served cannot be found out");
            }
            Err(_) => tracing::warn!("whether {version} is served cannot be found out: no answer"),
        }
        sleep(RETRY).await;
    }
}
