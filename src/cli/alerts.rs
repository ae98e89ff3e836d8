//! The flags that say who is told.

use clap::Args;
use std::fmt;

use crate::controller::AlertSettings;

/// Who is told of Canaries without alerts of their own.
#[derive(Args)]
#[command(next_help_heading = "Alerts")]
pub(super) struct Alerts {
    /// The name of this cluster, in every alert.
    #[arg(long, env = "SERIN_CLUSTER_NAME", value_name = "NAME")]
    cluster_name: Option<String>,

    /// A Slack webhook that is told of every Canary without alerts of its own, as a URL.
    #[arg(long, env = "SERIN_SLACK_URL", value_name = "URL", hide_env_values = true)]
    slack_url: Option<String>,

    /// The token of a Slack bot that tells instead; it needs `--slack-channel`.
    #[arg(long, env = "SERIN_SLACK_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    slack_token: Option<String>,

    /// The Slack channel that is told.
    #[arg(long, env = "SERIN_SLACK_CHANNEL", value_name = "NAME")]
    slack_channel: Option<String>,

    /// The name that Slack shows, where the webhook or the bot may choose one.
    #[arg(long, env = "SERIN_SLACK_USER", value_name = "NAME")]
    slack_user: Option<String>,

    /// A Microsoft Teams webhook that is told of every Canary without alerts of its own, as a URL.
    #[arg(long, env = "SERIN_MSTEAMS_URL", value_name = "URL", hide_env_values = true)]
    msteams_url: Option<String>,

    /// A webhook that is told of every Canary without alerts of its own, with a JSON object, as a URL.
    #[arg(long, env = "SERIN_ALERT_WEBHOOK_URL", value_name = "URL", hide_env_values = true)]
    alert_webhook_url: Option<String>,

    /// A receiver of CloudEvents that is told of every transition of every Canary, as a URL.
    #[arg(long, env = "SERIN_EVENT_SINK", value_name = "URL", hide_env_values = true)]
    event_sink: Option<String>,
}

impl Alerts {
    /// An empty text is none, so that a chart can hand over values that nobody set.
    pub(super) fn settings(&self) -> AlertSettings {
        let set = |value: &Option<String>| {
            value.as_deref().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
        };
        AlertSettings {
            cluster_name: set(&self.cluster_name),
            slack_url: set(&self.slack_url),
            slack_token: set(&self.slack_token),
            slack_channel: set(&self.slack_channel),
            slack_user: set(&self.slack_user),
            msteams_url: set(&self.msteams_url),
            webhook_url: set(&self.alert_webhook_url),
            event_sink: set(&self.event_sink),
        }
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings().fmt(formatter)
    }
}
