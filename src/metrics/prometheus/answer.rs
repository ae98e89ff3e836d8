//! From the status and the body of an answer to a number, or to the reason why there is none.

use super::shorten;
use crate::domain::{Answer, Unknown};
use http::StatusCode;
use prometheus_http_query::response::Data;
use serde::Deserialize;
use serde_json::{Value, error::Category};

/// The longest body that is read, in bytes. One number takes 200.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// What every answer of the API looks like on the outside.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Envelope {
    Success {
        data: Value,
    },
    Error {
        /// A text, since providers have more kinds than Prometheus has.
        #[serde(rename = "errorType")]
        kind: String,
        error: String,
    },
}

/// What the provider at `address` said.
///
/// # Errors
/// Whatever is not one finite number. Of the body, only the message of a Prometheus error is passed on, shortened.
pub fn parse(address: &str, status: StatusCode, body: &[u8]) -> Answer {
    parse_hiding(&[], address, status, body)
}

/// The same, to somebody who has sent these secrets: a message that repeats them is passed on without them.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_hiding(secrets: &[String], address: &str, status: StatusCode, body: &[u8]) -> Answer {
    let address = address.to_owned();
    match serde_json::from_slice(body) {
        Ok(Envelope::Error { kind, .. }) if kind == "timeout" => {
            Err(Unknown::Timeout(address, "its own time limit for queries".to_owned()))
        }
        Ok(Envelope::Error { kind, error }) => {
            Err(Unknown::Refused(address, shorten(&without(secrets, format!("{kind}: {error}")))))
        }
        _ if !status.is_success() => Err(Unknown::Refused(address, refusal(status))),
        Ok(Envelope::Success { data }) => value(address, data),
        Err(error) => Err(Unknown::Garbled(address, syntax(&error).to_owned())),
    }
}

fn without(secrets: &[String], message: String) -> String {
    secrets.iter().fold(message, |message, secret| message.replace(secret, "…"))
}

/// The status with its name, and what to do where that is known.
fn refusal(status: StatusCode) -> String {
    let advice = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; check the secret that secretRef names",
        StatusCode::NOT_FOUND => "; write the address below which /api/v1/query is",
        _ if status.is_redirection() => "; write the address that it redirects to",
        _ => "",
    };
    let name = status.canonical_reason().map(|name| format!(" {name}")).unwrap_or_default();
    format!("HTTP {}{name}{advice}", status.as_u16())
}

/// Not the error's own words, which repeat parts of the body.
fn syntax(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Eof => "it ends too early",
        Category::Syntax | Category::Io => "it is not JSON",
        Category::Data => "it is JSON of another kind",
    }
}

fn value(address: String, data: Value) -> Answer {
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("matrix") => return Err(Unknown::WrongType("range vector".to_owned())),
        Some("string") => return Err(Unknown::WrongType("string".to_owned())),
        Some("vector") => match result.as_array().map(Vec::as_slice) {
            Some([one]) if one.get("histogram").is_some() && one.get("value").is_none() => {
                return Err(Unknown::WrongType("histogram".to_owned()));
            }
            Some(series @ [_, _, ..]) => return Err(Unknown::ManySeries(series.len())),
            _ => {}
        },
        _ => {}
    }
    match serde_json::from_value(data) {
        Ok(Data::Vector(series)) => match series.as_slice() {
            [] => Err(Unknown::NoSamples),
            [one] => finite(one.sample().value()),
            many => Err(Unknown::ManySeries(many.len())),
        },
        Ok(Data::Scalar(sample)) => finite(sample.value()),
        Ok(Data::Matrix(_)) => Err(Unknown::WrongType("range vector".to_owned())),
        Err(_) => Err(Unknown::Garbled(address, "its result is of an unknown form".to_owned())),
    }
}

fn finite(number: f64) -> Answer {
    if number.is_nan() {
        Err(Unknown::NotANumber)
    } else if number.is_infinite() {
        Err(Unknown::Infinite(if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()))
    } else {
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
