//! Scenarios on a real cluster, and what they are made of.
//!
//! Serin is a black box here: this crate knows its API and what users see, and none of its code. It talks to a real API
//! server, sends real requests through a real gateway, and leaves nothing behind: every scenario has a namespace of its
//! own, which goes when the scenario ends.
//!
//! | module | what it is for |
//! |---|---|
//! | [`scenario`] | a namespace, and what is shown when a scenario fails |
//! | [`app`] | the app that is rolled out, its versions, and what is asked of it |
//! | [`canary`] | the `Canary` of an app |
//! | [`status`] | what Serin writes into it |
//! | [`recording`] | every change of an app's route, status and primary, with its time |
//! | [`load`] | requests and what became of them |
//! | [`webhooks`] | a server that webhooks are sent to |
//! | [`cables`] | Serin and Prometheus, to be stopped and started; the audit log |

pub mod app;
pub mod cables;
pub mod canary;
pub mod environment;
pub mod fetch;
pub mod load;
pub mod objects;
pub mod recording;
pub mod scenario;
pub mod status;
pub mod wait;
pub mod webhooks;
