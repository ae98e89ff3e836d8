//! A webhook of somebody's own: everything, as one JSON object.

use super::{Channel, Endpoint, Message};
use serde_json::Value;

pub(super) struct Generic;

impl Channel for Generic {
    fn body(&self, message: &Message, _: &Endpoint) -> Value {
        message.data()
    }

    fn takes_token(&self) -> bool {
        true
    }
}
