//! Microsoft Teams: an Adaptive Card to a workflow's webhook, or to a connector's.

use super::{Answer, Channel, Endpoint, Message, Severity};
use http::StatusCode;
use serde_json::{Value, json};

pub(super) struct Teams;

impl Channel for Teams {
    fn body(&self, message: &Message, _: &Endpoint) -> Value {
        let color = match message.severity {
            Severity::Info => "Good",
            Severity::Warn => "Warning",
            Severity::Error => "Attention",
        };
        let facts = message.fields().into_iter().map(|(title, value)| json!({"title": title, "value": value}));
        json!({
            "type": "message",
            "summary": message.title(),
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "body": [
                        {"type": "TextBlock", "text": message.title(), "weight": "Bolder", "size": "Medium",
                         "color": color, "wrap": true},
                        // Not a TextBlock: that one reads Markdown.
                        {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": message.text()}]},
                        {"type": "FactSet", "facts": facts.collect::<Vec<_>>()},
                    ],
                },
            }],
        })
    }

    /// A connector answers 200 and says in words that it did not work.
    fn complaint(&self, status: StatusCode, body: &[u8]) -> Option<Answer> {
        let text = std::str::from_utf8(body).ok().filter(|_| status.is_success())?;
        let is_late = text.contains("HTTP error 429");
        text.contains("delivery failed").then(|| {
            if is_late {
                Answer::later("Teams has too much to deliver")
            } else {
                Answer::Refused("Teams could not deliver it".into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_says_no_with_200() {
        let answer = |body: &str| Teams.complaint(StatusCode::OK, body.as_bytes());
        assert_eq!(answer("1"), None);
        let failed = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error";
        assert!(matches!(answer(&format!("{failed} 413")), Some(Answer::Refused(_))));
        assert!(matches!(answer(&format!("{failed} 429")), Some(Answer::Later { .. })));
    }
}
