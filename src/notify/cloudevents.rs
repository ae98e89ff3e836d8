//! CloudEvents 1.0 over HTTP, in structured mode: brokers, pipelines and functions read them.

use super::{Channel, Endpoint, Message};
use serde_json::{Value, json};

pub(super) struct CloudEvents;

impl Channel for CloudEvents {
    fn body(&self, message: &Message, _: &Endpoint) -> Value {
        let Message { id, time, namespace, canary, reason, severity, cluster, .. } = message;
        let mut event = json!({
            "specversion": "1.0",
            "id": id,
            "type": format!("dev.serin.canary.{reason}"),
            "source": format!("/apis/serin.dev/v1beta1/namespaces/{namespace}/canaries/{canary}"),
            "subject": format!("{namespace}/{canary}"),
            "time": time.to_string(),
            "datacontenttype": "application/json",
            "severity": severity.to_string(),
            "data": message.data(),
        });
        if let Some(cluster) = cluster {
            event["cluster"] = cluster.as_str().into();
        }
        event
    }

    fn media_type(&self) -> &'static str {
        "application/cloudevents+json; charset=utf-8"
    }

    fn takes_token(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_is_one_that_the_specification_allows() {
        let event = CloudEvents.body(&super::super::laws::message(), &Endpoint::default());
        assert_eq!(event["type"], "dev.serin.canary.RolledBack");
        assert_eq!(event["source"], "/apis/serin.dev/v1beta1/namespaces/shop/canaries/web");
        for (name, value) in event.as_object().unwrap() {
            assert!(name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
            assert!(name == "data" || value.as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        assert_eq!(event["data"]["checks"][0]["min"], 99.0);
    }
}
