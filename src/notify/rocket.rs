//! Rocket.Chat: an incoming integration.

use super::{Channel, Endpoint, Message};
use serde_json::{Value, json};

/// What the integration is called unless somebody says otherwise.
const USERNAME: &str = "serin";

pub(super) struct Rocket;

impl Channel for Rocket {
    fn body(&self, message: &Message, endpoint: &Endpoint) -> Value {
        let fields = message
            .fields()
            .into_iter()
            .map(|(title, value)| json!({"short": value.chars().count() <= 40, "title": title, "value": value}));
        let mut body = json!({
            "alias": endpoint.username.as_deref().unwrap_or(USERNAME),
            "text": message.title(),
            "attachments": [{
                "color": format!("#{:06x}", message.severity.color()),
                "text": message.text(),
                "fields": fields.collect::<Vec<_>>(),
            }],
        });
        if let Some(channel) = &endpoint.channel {
            let is_marked = channel.starts_with(['#', '@']);
            body["channel"] = if is_marked { channel.clone() } else { format!("#{channel}") }.into();
        }
        body
    }
}
