//! Discord: an embed to a channel's webhook.

use super::{Channel, Endpoint, Message, text};
use serde_json::{Value, json};

/// What the webhook is called unless somebody says otherwise.
const USERNAME: &str = "serin";

pub(super) struct Discord;

impl Channel for Discord {
    fn body(&self, message: &Message, endpoint: &Endpoint) -> Value {
        let fields = message.fields().into_iter().map(|(name, value)| {
            let inline = value.chars().count() <= 40;
            json!({"name": name, "value": text::shorten(&text::markdown(&value), 1024), "inline": inline})
        });
        json!({
            "username": endpoint.username.as_deref().unwrap_or(USERNAME),
            // Whatever a sentence holds, it calls nobody.
            "allowed_mentions": {"parse": []},
            "embeds": [{
                "title": message.title(),
                "description": text::markdown(&message.text()),
                "color": message.severity.color(),
                "timestamp": message.time.to_string(),
                "fields": fields.collect::<Vec<_>>(),
            }],
        })
    }

    /// The end `/slack` asks for another format, and is often written for tools that speak only that.
    fn address(&self, endpoint: &Endpoint) -> Option<String> {
        let address = endpoint.address.as_deref()?;
        Some(address.strip_suffix("/slack").unwrap_or(address).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_slacks_format_is_used_for_its_own() {
        let endpoint =
            Endpoint { address: Some("https://discord.com/api/webhooks/1/x/slack".into()), ..Endpoint::default() };
        assert_eq!(Discord.address(&endpoint).as_deref(), Some("https://discord.com/api/webhooks/1/x"));
    }
}
