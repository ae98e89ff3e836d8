//! A gateway that has an opinion about routes and carries no traffic.
//!
//! Invariant: it answers for its own controller name only and leaves what others wrote alone.

use serde_json::{Value, json};

use super::conditions;
use crate::{ApiServer, HTTP_ROUTES, fields, state::format_time};

/// What a gateway thinks of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The route is accepted and all its references are found.
    Accept,
    /// A condition of the route, `Accepted` or `ResolvedRefs`, is false.
    Refuse {
        /// Type of the condition.
        condition: &'static str,
        /// Its reason.
        reason: &'static str,
        /// Its message.
        message: String,
    },
}

/// Accepts every route at its current generation.
pub fn accept_routes(server: &ApiServer, controller_name: &str) {
    judge_routes(server, controller_name, |_| Verdict::Accept);
}

/// Writes a verdict on every route, for each of its parents and at its current generation.
pub fn judge_routes(server: &ApiServer, controller_name: &str, judge: impl Fn(&Value) -> Verdict) {
    let now = format_time(server.now());
    for route in server.list(HTTP_ROUTES, None) {
        let text = |pointer| fields::text(&route, pointer).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        // It may be gone by now, in which case there is nothing to judge.
        let _ = server.update(HTTP_ROUTES, namespace, name, |route| {
            let verdict = judge(route);
            let parents = parents(route, controller_name, &verdict, &now);
            route["status"]["parents"] = json!(parents);
        });
    }
}

/// The entries of other controllers, and one of this controller for each parent.
fn parents(route: &Value, controller_name: &str, verdict: &Verdict, now: &str) -> Vec<Value> {
    let earlier = fields::list(route, "/status/parents");
    let (own, others): (Vec<_>, Vec<_>) =
        earlier.iter().partition(|parent| parent["controllerName"] == controller_name);
    let judged = fields::list(route, "/spec/parentRefs").iter().map(|reference| {
        let before = own
            .iter()
            .find(|parent| parent["parentRef"] == *reference)
            .map_or(&[][..], |parent| fields::list(parent, "/conditions"));
        json!({
            "controllerName": controller_name,
            "parentRef": reference,
            "conditions": verdict.conditions(before, fields::generation(route), now),
        })
    });
    others.into_iter().cloned().chain(judged).collect()
}

impl Verdict {
    fn conditions(&self, earlier: &[Value], generation: Option<i64>, now: &str) -> Vec<Value> {
        ["Accepted", "ResolvedRefs"]
            .into_iter()
            .map(|kind| {
                let (holds, reason, message) = match self {
                    Self::Refuse { condition, reason, message } if *condition == kind => {
                        (false, *reason, message.as_str())
                    }
                    _ => (true, kind, ""),
                };
                let mut condition = conditions::next(earlier, kind, holds, reason, message, now);
                condition["observedGeneration"] = json!(generation);
                condition
            })
            .collect()
    }
}
