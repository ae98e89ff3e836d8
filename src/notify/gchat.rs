//! Google Chat: a card to a space's webhook.

use super::{Channel, Endpoint, Message, text};
use serde_json::{Value, json};

/// More than any text here has; a message may have 32,000 bytes.
const MAX_TEXT: usize = 4000;

pub(super) struct GoogleChat;

impl Channel for GoogleChat {
    fn body(&self, message: &Message, _: &Endpoint) -> Value {
        let fields = message.fields().into_iter().map(
            |(name, value)| json!({"decoratedText": {"topLabel": name, "text": text::entities(&value, MAX_TEXT), "wrapText": true}}),
        );
        let paragraph = json!({"textParagraph": {"text": text::entities(&message.text(), MAX_TEXT)}});
        let widgets: Vec<_> = std::iter::once(paragraph).chain(fields).collect();
        json!({
            "fallbackText": message.title(),
            "cardsV2": [{
                "cardId": message.id,
                "card": {
                    "header": {"title": message.title(), "subtitle": message.severity.to_string()},
                    "sections": [{"widgets": widgets}],
                },
            }],
        })
    }
}
