//! `spec.analysis.webhooks`: whom a rollout asks and tells.

use super::metric_template::LocalRef;
use super::sentences;
use crate::domain::Hook;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Somebody who is asked or told by an HTTP request. Any answer from 200 to 299 means yes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// When it is asked. Default, and the meaning of an empty text: `rollout`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<WebhookType>,
    /// Its name, for people; no two webhooks have the same.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Where the request goes.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("self.startsWith('http://') || self.startsWith('https://')", sentences::WEBHOOK_URL))]
    pub url: String,
    /// How long one attempt may take, at most `1h`. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[x_kube(validation = (
        "duration(self) >= duration('1ms') && duration(self) <= duration('1h')",
        sentences::WEBHOOK_TIMEOUT,
    ))]
    pub timeout: Option<String>,
    /// How often a failed attempt is repeated. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<i32>,
    /// What is sent along, as `metadata`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub metadata: BTreeMap<String, String>,
    /// Send no alerts about this webhook.
    #[serde(default)]
    pub mute_alert: bool,
    /// Accept any certificate. Only for tests.
    #[serde(default, rename = "disableTLS")]
    pub disable_tls: bool,
    /// A Secret in the Canary's namespace whose keys are names of headers, and whose values are sent as these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

impl Webhook {
    /// When it is asked.
    #[must_use]
    pub fn when(&self) -> WebhookType {
        match self.kind {
            None | Some(WebhookType::Unset) => WebhookType::Rollout,
            Some(kind) => kind,
        }
    }
}

/// When a webhook is asked: `confirm-rollout` before a new version gets its pods, `pre-rollout` before it gets traffic,
/// `rollout` with every check, `confirm-traffic-increase` before every step, `confirm-promotion` before it is promoted,
/// `rollback` all the time (a yes takes the version back), `post-rollout` at the end, and `event` with every event.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookType {
    /// The same as rollout.
    #[serde(rename = "")]
    Unset,
    /// Before a new version gets its pods; a no waits.
    ConfirmRollout,
    /// Before it gets traffic; a no is a failed check.
    PreRollout,
    /// With every check; a no is a failed check.
    Rollout,
    /// Before every step; a no waits.
    ConfirmTrafficIncrease,
    /// Before it is promoted; a no waits.
    ConfirmPromotion,
    /// At the end, good or bad.
    PostRollout,
    /// All the time; a yes takes the version back.
    Rollback,
    /// With every event.
    Event,
}

impl WebhookType {
    /// What it is asked; nothing when it is only told.
    #[must_use]
    pub fn hook(self) -> Option<Hook> {
        match self {
            Self::Unset | Self::Rollout => Some(Hook::Rollout),
            Self::ConfirmRollout => Some(Hook::ConfirmRollout),
            Self::PreRollout => Some(Hook::PreRollout),
            Self::ConfirmTrafficIncrease => Some(Hook::ConfirmTrafficIncrease),
            Self::ConfirmPromotion => Some(Hook::ConfirmPromotion),
            Self::PostRollout => Some(Hook::PostRollout),
            Self::Rollback => Some(Hook::Rollback),
            Self::Event => None,
        }
    }

    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unset | Self::Rollout => "rollout",
            Self::ConfirmRollout => "confirm-rollout",
            Self::PreRollout => "pre-rollout",
            Self::ConfirmTrafficIncrease => "confirm-traffic-increase",
            Self::ConfirmPromotion => "confirm-promotion",
            Self::PostRollout => "post-rollout",
            Self::Rollback => "rollback",
            Self::Event => "event",
        }
    }
}
