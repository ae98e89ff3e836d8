//! `AlertProvider`: somewhere to tell what happens, and what a Canary says about it.

use super::canary::NamespacedRef;
use super::metric_template::LocalRef;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Somewhere to tell what happens to Canaries.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "serin.dev",
    version = "v1beta1",
    kind = "AlertProvider",
    plural = "alertproviders",
    category = "all",
    namespaced,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Channel","type":"string","jsonPath":".spec.channel"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.address) || has(self.secretRef)", "write the address, or name in secretRef a Secret with the key address (or, for a Slack bot, token)"))]
pub struct AlertProviderSpec {
    /// The kind of system.
    #[serde(rename = "type")]
    pub kind: AlertProviderType,
    /// The room. For a Slack bot the default is `general`; webhooks have a room of their own, which only some let a
    /// message override (Rocket.Chat, old Slack webhooks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub channel: Option<String>,
    /// The name to speak under, where the system lets a message choose. Default: `serin`; with Slack the app's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80))]
    pub username: Option<String>,
    /// The webhook's URL. Whoever knows it can write there, so a Secret is the better place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "write the URL with its scheme, for example https://hooks.slack.com/services/…"))]
    pub address: Option<String>,
    /// URL of an HTTP proxy on the way there, for example `http://proxy.example:3128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", "write the proxy's URL with its scheme, for example http://proxy.example:3128"))]
    pub proxy: Option<String>,
    /// A Secret in the provider's namespace: its key `address` is the webhook's URL and wins over `address` here, its
    /// key `token` is a Slack bot's token, or the bearer token of a generic webhook. It is read when it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// The kinds of systems that can be told.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertProviderType {
    /// Slack: an incoming webhook, or a bot with a token.
    Slack,
    /// Microsoft Teams: the webhook of a workflow or connector.
    Msteams,
    /// Discord: a channel's webhook.
    Discord,
    /// Rocket.Chat: an incoming integration.
    Rocket,
    /// Google Chat: a space's webhook.
    Gchat,
    /// Anything that takes one JSON object.
    Generic,
}

impl AlertProviderType {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Msteams => "msteams",
            Self::Discord => "discord",
            Self::Rocket => "rocket",
            Self::Gchat => "gchat",
            Self::Generic => "generic",
        }
    }
}

/// What is told to whom.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Its name, for people.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// From which severity on it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<AlertSeverity>,
    /// The AlertProvider that is told.
    pub provider_ref: NamespacedRef,
}

/// What is told: `info` everything, `warn` warnings and errors, `error` only versions that were taken back. Default, and
/// the meaning of an empty text: `info`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// The same as info.
    #[serde(rename = "")]
    Unset,
    /// Everything.
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors: a version was taken back.
    Error,
}
