//! Who is told of every Canary that does not say, as the operator's flags have it.

use crate::controller::error::Error;
use crate::notify::Endpoint;
use std::collections::BTreeMap;
use std::fmt;

/// The channel of the event sink in the registry.
pub(super) const EVENT_SINK: &str = "cloudevents";

/// Who is told of every Canary that does not say. The addresses are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AlertSettings {
    /// The name of this cluster, in every alert.
    pub cluster_name: Option<String>,
    /// A Slack webhook.
    pub slack_url: Option<String>,
    /// A Slack bot's token.
    pub slack_token: Option<String>,
    /// The bot's room.
    pub slack_channel: Option<String>,
    /// The name that it speaks under.
    pub slack_user: Option<String>,
    /// A Microsoft Teams webhook.
    pub msteams_url: Option<String>,
    /// A generic webhook.
    pub webhook_url: Option<String>,
    /// Where CloudEvents go: those of all Canaries, whatever alerts they have.
    pub event_sink: Option<String>,
}

impl AlertSettings {
    /// Says whether alerts could be sent there.
    ///
    /// # Errors
    /// Names the flag, and never its value.
    pub(in crate::controller) fn check(&self) -> Result<(), Error> {
        let flags = [
            ("--slack-url", &self.slack_url),
            ("--msteams-url", &self.msteams_url),
            ("--alert-webhook-url", &self.webhook_url),
            ("--event-sink", &self.event_sink),
        ];
        for (flag, address) in flags {
            let checked = Endpoint { address: address.clone(), ..Endpoint::default() }.check();
            checked.map_err(|wrong| Error::Start(format!("{flag}: {wrong}")))?;
        }
        match (&self.slack_token, &self.slack_channel) {
            (Some(_), None) => Err(Error::Start("--slack-token needs --slack-channel, for example releases".into())),
            (Some(_), Some(_)) | (None, _) => Ok(()),
        }
    }

    /// The channels for Canaries without alerts of their own.
    pub(super) fn defaults(&self) -> BTreeMap<&'static str, Endpoint> {
        let at = |address: &Option<String>| Endpoint { address: address.clone(), ..Endpoint::default() };
        let slack = Endpoint {
            token: self.slack_token.clone(),
            channel: self.slack_channel.clone(),
            username: self.slack_user.clone(),
            ..at(&self.slack_url)
        };
        let all = [("slack", slack), ("msteams", at(&self.msteams_url)), ("generic", at(&self.webhook_url))];
        all.into_iter().filter(|(_, endpoint)| endpoint.address.is_some() || endpoint.token.is_some()).collect()
    }

    /// All channels, that of the event sink too.
    pub(super) fn endpoints(&self) -> BTreeMap<&'static str, Endpoint> {
        let sink =
            self.event_sink.as_ref().map(|_| Endpoint { address: self.event_sink.clone(), ..Endpoint::default() });
        self.defaults().into_iter().chain(sink.map(|sink| (EVENT_SINK, sink))).collect()
    }
}

impl fmt::Debug for AlertSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AlertSettings")
            .field("cluster_name", &self.cluster_name)
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_told() {
        assert!(AlertSettings::default().endpoints().is_empty());
        let settings = AlertSettings {
            slack_token: Some("xoxb-hunter".into()),
            slack_channel: Some("releases".into()),
            event_sink: Some("http://broker/hunter".into()),
            ..AlertSettings::default()
        };
        assert_eq!(settings.defaults().into_keys().collect::<Vec<_>>(), ["slack"]);
        assert_eq!(settings.endpoints().into_keys().collect::<Vec<_>>(), ["cloudevents", "slack"]);
        assert!(settings.check().is_ok());
        assert!(!format!("{settings:?}").contains("hunter"));
    }

    #[test]
    fn a_flag_that_cannot_work_is_named_without_its_value() {
        let refused = |settings: AlertSettings| settings.check().unwrap_err().to_string();
        let url = refused(AlertSettings { msteams_url: Some("hunter".into()), ..AlertSettings::default() });
        assert_eq!(
            url,
            "could not start: --msteams-url: the address is not an HTTP URL; write one that begins with https:// or http://"
        );
        let token = refused(AlertSettings { slack_token: Some("hunter".into()), ..AlertSettings::default() });
        assert_eq!(token, "could not start: --slack-token needs --slack-channel, for example releases");
    }
}
