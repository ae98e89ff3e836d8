//! What a Secret holds: read when it is needed, not kept, and not shown.
//!
//! It does not go through `kube::Api`, which logs answers that it cannot read.

use crate::telemetry::chain;
use k8s_openapi::api::core::v1::Secret;
use kube::api::GetParams;
use kube::{Client, Resource};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// As long as any call to the API server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The data of a Secret; nothing when there is none of that name.
///
/// # Errors
/// Says why it could not be read, and nothing of what it holds.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, String> {
    let request = kube::core::Request::new(Secret::url_path(&(), Some(namespace)));
    let request = request.get(name, &GetParams::default()).map_err(|error| chain(&error))?;
    let text = match timeout(LIMIT, client.request_text(request)).await {
        Ok(Ok(text)) => text,
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
        Ok(Err(error)) => return Err(format!("it could not be read: {}", chain(&error))),
        Err(_) => return Err(format!("it could not be read within {}s", LIMIT.as_secs())),
    };
    // What is wrong with the text would be said with parts of it.
    let secret: Secret =
        serde_json::from_str(&text).map_err(|_| "the API server answered with no Secret".to_owned())?;
    Ok(Some(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()))
}
