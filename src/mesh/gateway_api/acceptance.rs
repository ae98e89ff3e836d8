//! What the gateways say of a route: `status.parents`, at the route's generation.

use crate::domain::Acceptance;
use crate::object;
use serde_json::Value;

/// Accepted when every parent that the route names has a controller that accepts it as it is now.
pub(super) fn of(route: &Value) -> Acceptance {
    let reports = list(route, &["status", "parents"]);
    if reports.is_empty() {
        return Acceptance::Silent;
    }
    let generation = object::get(route, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default();
    let namespace = object::get(route, &["metadata", "namespace"]).cloned().unwrap_or_default();
    let said = list(route, &["spec", "parentRefs"]).iter().map(|parent| {
        let about = reports.iter().filter(|report| same_parent(&report["parentRef"], parent, &namespace));
        of_parent(about.map(|report| of_report(report, generation)))
    });
    said.max_by_key(severity).unwrap_or(Acceptance::Pending)
}

fn severity(acceptance: &Acceptance) -> u8 {
    match acceptance {
        Acceptance::Accepted => 0,
        Acceptance::Silent | Acceptance::Pending => 1,
        Acceptance::Refused(_) => 2,
    }
}

/// Several controllers may speak of one parent; the one that accepts is the one that serves.
fn of_parent(reports: impl Iterator<Item = Acceptance>) -> Acceptance {
    reports.min_by_key(severity).unwrap_or(Acceptance::Pending)
}

fn of_report(report: &Value, generation: i64) -> Acceptance {
    let conditions = list(report, &["conditions"]);
    let find = |kind| conditions.iter().find(|condition| condition["type"] == kind);
    let Some(accepted) = find("Accepted") else { return Acceptance::Pending };
    for condition in [Some(accepted), find("ResolvedRefs")].into_iter().flatten() {
        if condition.get("observedGeneration").and_then(Value::as_i64).is_some_and(|seen| seen < generation) {
            return Acceptance::Pending;
        }
        if condition["status"] != "True" {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let controller = report["controllerName"].as_str().unwrap_or("its controller");
            return Acceptance::Refused(format!("{controller} says {}: {}", text("reason"), text("message")));
        }
    }
    Acceptance::Accepted
}

fn same_parent(reported: &Value, named: &Value, namespace: &Value) -> bool {
    let both =
        |field: &str, default: &Value| reported.get(field).unwrap_or(default) == named.get(field).unwrap_or(default);
    both("name", &Value::Null)
        && both("namespace", namespace)
        && both("sectionName", &Value::Null)
        && both("port", &Value::Null)
}

fn list<'value>(value: &'value Value, path: &[&str]) -> &'value [Value] {
    object::get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route(parents: &Value) -> Value {
        json!({
            "metadata": {"namespace": "shop", "generation": 3},
            "spec": {"parentRefs": [{"name": "gw"}]},
            "status": {"parents": parents},
        })
    }

    fn parent(generation: i64, accepted: &str, resolved: &str) -> Value {
        json!({"parentRef": {"name": "gw", "namespace": "shop"}, "controllerName": "example.com/gateway", "conditions": [
            {"type": "Accepted", "status": accepted, "observedGeneration": generation, "reason": "R", "message": "m"},
            {"type": "ResolvedRefs", "status": resolved, "observedGeneration": generation, "reason": "S", "message": "n"},
        ]})
    }

    #[test]
    fn only_a_report_on_this_generation_counts() {
        assert_eq!(of(&route(&json!([]))), Acceptance::Silent);
        assert_eq!(of(&route(&json!([parent(2, "True", "True")]))), Acceptance::Pending);
        assert_eq!(of(&route(&json!([parent(3, "True", "True")]))), Acceptance::Accepted);
    }

    #[test]
    fn a_refusal_names_controller_and_reason() {
        let refused = |text: &str| Acceptance::Refused(format!("example.com/gateway says {text}"));
        assert_eq!(of(&route(&json!([parent(3, "False", "True")]))), refused("R: m"));
        assert_eq!(of(&route(&json!([parent(3, "True", "False")]))), refused("S: n"));
    }

    #[test]
    fn one_of_several_controllers_is_enough_but_every_parent_is_needed() {
        let mixed = route(&json!([parent(3, "False", "True"), parent(3, "True", "True")]));
        assert_eq!(of(&mixed), Acceptance::Accepted);
        let mut two = mixed;
        two["spec"]["parentRefs"] = json!([{"name": "gw"}, {"name": "other"}]);
        assert_eq!(of(&two), Acceptance::Pending);
    }
}
