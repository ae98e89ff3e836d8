//! Slack: an incoming webhook, or a bot with a token and `chat.postMessage`.

use super::{Answer, Channel, Endpoint, Message, answer, text};
use http::StatusCode;
use serde_json::{Value, json};

/// Where a bot speaks.
const POST_MESSAGE: &str = "https://slack.com/api/chat.postMessage";

/// The longest text of a section, and of one of its fields.
const MAX_SECTION: usize = 3000;
const MAX_FIELD: usize = 2000;

/// What Slack says when it is worth another try.
const PASSING: [&str; 6] =
    ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"];

pub(super) struct Slack;

impl Channel for Slack {
    fn body(&self, message: &Message, endpoint: &Endpoint) -> Value {
        let fields = message.fields().into_iter().map(|(name, value)| {
            json!({"type": "mrkdwn", "text": format!("*{name}*\n{}", text::entities(&value, MAX_FIELD - 100))})
        });
        let blocks = json!([
            {"type": "section", "text": {"type": "plain_text", "text": text::entities(&message.text(), MAX_SECTION)}},
            {"type": "section", "fields": fields.collect::<Vec<_>>()},
        ]);
        let color = format!("#{:06x}", message.severity.color());
        let mut body = json!({"text": message.title(), "attachments": [{"color": color, "blocks": blocks}]});
        // A webhook of an app has a room and a name of its own; a bot needs a room.
        let bot = endpoint.token.is_some().then_some("general");
        if let Some(channel) = endpoint.channel.as_deref().or(bot) {
            body["channel"] = channel.into();
        }
        if let Some(username) = &endpoint.username {
            body["username"] = username.as_str().into();
        }
        body
    }

    fn address(&self, endpoint: &Endpoint) -> Option<String> {
        let bot = endpoint.token.as_ref().map(|_| POST_MESSAGE.to_owned());
        endpoint.address.clone().or(bot)
    }

    fn media_type(&self) -> &'static str {
        "application/json; charset=utf-8"
    }

    fn takes_token(&self) -> bool {
        true
    }

    /// The API answers 200 to everything; a webhook says `ok`, or an error's code as text.
    fn complaint(&self, status: StatusCode, body: &[u8]) -> Option<Answer> {
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let code = match &json {
            Some(answer) if answer["ok"] == false => answer["error"].as_str().and_then(answer::code),
            Some(_) => return None,
            None => std::str::from_utf8(body).ok().and_then(answer::code).filter(|_| !status.is_success()),
        };
        let code = match (code, status.is_success()) {
            (Some(code), _) => code,
            (None, true) if json.is_some() => "it gave no reason",
            (None, _) => return None,
        };
        let later = PASSING.contains(&code) || status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let why = format!("Slack says {code}");
        Some(if later { Answer::later(why) } else { Answer::Refused(why) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        super::super::answer(&Slack, StatusCode::from_u16(status).unwrap(), &http::HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn the_api_says_no_with_200() {
        assert_eq!(answer(200, r#"{"ok":true,"ts":"1"}"#), Answer::Taken);
        assert_eq!(answer(200, "ok"), Answer::Taken);
        let refused = Answer::Refused("Slack says channel_not_found".into());
        assert_eq!(answer(200, r#"{"ok":false,"error":"channel_not_found"}"#), refused);
        assert_eq!(answer(404, "channel_not_found"), refused);
        assert_eq!(answer(200, r#"{"ok":false,"error":"ratelimited"}"#), Answer::later("Slack says ratelimited"));
        assert_eq!(
            answer(200, r#"{"ok":false,"error":"<b>"}"#),
            Answer::Refused("Slack says it gave no reason".into())
        );
        assert_eq!(answer(403, "<html>"), Answer::Refused("HTTP 403".into()));
        assert_eq!(answer(500, "rollup_error"), Answer::later("Slack says rollup_error"));
    }

    #[test]
    fn a_bot_needs_no_address_and_a_webhook_no_room() {
        let message = super::super::laws::message();
        let bot = Endpoint { token: Some("xoxb-1".into()), ..Endpoint::default() };
        assert_eq!(Slack.address(&bot).as_deref(), Some(POST_MESSAGE));
        assert_eq!(Slack.body(&message, &bot)["channel"], "general");
        let webhook = Endpoint { address: Some("https://hooks.slack.com/services/x".into()), ..Endpoint::default() };
        assert_eq!(Slack.body(&message, &webhook)["channel"], Value::Null);
        assert_eq!(Slack.address(&Endpoint::default()), None);
    }

    #[test]
    fn what_somebody_else_wrote_calls_nobody() {
        let message = Message { text: "<!channel> & <@U1>".into(), ..super::super::laws::message() };
        let body = Slack.body(&message, &Endpoint::default()).to_string();
        assert!(body.contains("&lt;!channel&gt; &amp; &lt;@U1&gt;") && !body.contains("<!channel>"), "{body}");
    }
}
