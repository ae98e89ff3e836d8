//! What a Secret holds: read when it is needed, not kept, and not shown.
//!
//! It does not go through `kube::Api`, which logs answers that it cannot read.

use super::lanes::{Lane, Lanes, Refusal};
use crate::telemetry::chain;
use k8s_openapi::api::core::v1::Secret;
use kube::api::GetParams;
use kube::{Client, Resource};
use std::collections::BTreeMap;
use std::time::Duration;

/// As long as any call to the API server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What a Secret holds.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Reads Secrets, all as urgently.
pub(super) struct Secrets {
    client: Client,
    lanes: Lanes,
    lane: Lane,
}

impl Secrets {
    pub(super) fn new(client: Client, lanes: Lanes, lane: Lane) -> Self {
        Self { client, lanes, lane }
    }

    /// The data of a Secret; nothing when there is none of that name.
    ///
    /// # Errors
    /// Says why it could not be read, and nothing of what it holds.
    pub(super) async fn read(&self, namespace: &str, name: &str) -> Result<Option<Data>, String> {
        let url = Secret::url_path(&(), Some(namespace));
        let send = || async {
            let request = kube::core::Request::new(url.as_str()).get(name, &GetParams::default());
            self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await
        };
        let text = match self.lanes.call(self.lane, || LIMIT, send).await {
            Ok(text) => text,
            Err(Refusal::Said(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
            Err(Refusal::Said(error)) => return Err(format!("it could not be read: {}", chain(&error))),
            Err(Refusal::NoPlace | Refusal::NoTime) => {
                return Err("it could not be read: the API server asks for patience".to_owned());
            }
            Err(Refusal::Late(limit)) => return Err(format!("it could not be read within {}s", limit.as_secs())),
        };
        // What is wrong with the text would be said with parts of it.
        let secret: Secret =
            serde_json::from_str(&text).map_err(|_| "the API server answered with no Secret".to_owned())?;
        Ok(Some(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()))
    }
}
