//! The simulated Deployment controller and gateway.

use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_testing::{
    ApiServer, DAEMON_SETS, DEPLOYMENTS, HTTP_ROUTES,
    workloads::{DaemonSetController, DeploymentController, Verdict, accept_routes, judge_routes},
};

use crate::support::{NAMESPACE, deployment};

const CONTROLLER: &str = "example.com/gateway";

fn status_of(server: &ApiServer, name: &str) -> Value {
    server.get(DEPLOYMENTS, NAMESPACE, name).unwrap()["status"].clone()
}

fn condition<'a>(status: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let conditions = status["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
    (condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
}

fn broken(template: &Value) -> bool {
    template["spec"]["containers"][0]["image"] == "broken"
}

/// A server whose clock the test moves.
fn server_with_clock() -> (ApiServer, Arc<Mutex<Timestamp>>) {
    let server = ApiServer::new();
    let time = Arc::new(Mutex::new(server.now()));
    let clock = Arc::clone(&time);
    server.set_clock(move || *clock.lock().unwrap());
    (server, time)
}

#[test]
fn pods_become_ready() {
    let server = ApiServer::new();
    server.put(DEPLOYMENTS, deployment("web", "v1")).unwrap();
    let controller = DeploymentController::new();
    controller.settle(&server);
    let status = status_of(&server, "web");
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[count], 2, "{count}");
    }
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(condition(&status, "Available"), ("True", "MinimumReplicasAvailable"));
    assert_eq!(condition(&status, "Progressing"), ("True", "NewReplicaSetAvailable"));
    let revision = server.revision();
    controller.settle(&server);
    assert_eq!(server.revision(), revision);
}

#[test]
fn zero_is_left_out() {
    let server = ApiServer::new();
    let mut idle = deployment("web", "v1");
    idle["spec"]["replicas"] = json!(0);
    server.put(DEPLOYMENTS, idle).unwrap();
    DeploymentController::new().settle(&server);
    let status = status_of(&server, "web");
    assert_eq!(status["replicas"], Value::Null);
    assert_eq!(condition(&status, "Available").0, "True");
}

#[test]
fn old_pods_serve_while_new_ones_never_come() {
    let (server, time) = server_with_clock();
    server.put(DEPLOYMENTS, deployment("web", "v1")).unwrap();
    server.put(DEPLOYMENTS, deployment("fresh", "broken")).unwrap();
    let controller = DeploymentController::new().never_ready(broken);
    controller.settle(&server);
    let fresh = status_of(&server, "fresh");
    assert_eq!((&fresh["updatedReplicas"], &fresh["availableReplicas"]), (&json!(2), &Value::Null));
    assert_eq!(condition(&fresh, "Available"), ("False", "MinimumReplicasUnavailable"));

    server.put(DEPLOYMENTS, deployment("web", "broken")).unwrap();
    controller.settle(&server);
    let status = status_of(&server, "web");
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!((&status["replicas"], &status["updatedReplicas"]), (&json!(3), &json!(1)));
    assert_eq!(status["availableReplicas"], 2);
    assert_eq!(condition(&status, "Available").0, "True");
    assert_eq!(condition(&status, "Progressing"), ("True", "ReplicaSetUpdated"));

    *time.lock().unwrap() += SignedDuration::from_secs(599);
    let revision = server.revision();
    controller.settle(&server);
    assert_eq!(server.revision(), revision);
    *time.lock().unwrap() += SignedDuration::from_secs(1);
    controller.settle(&server);
    let overdue = status_of(&server, "web");
    assert_eq!(condition(&overdue, "Progressing"), ("False", "ProgressDeadlineExceeded"));
    let revision = server.revision();
    *time.lock().unwrap() += SignedDuration::from_secs(1);
    controller.settle(&server);
    assert_eq!(server.revision(), revision);

    server.put(DEPLOYMENTS, deployment("web", "v2")).unwrap();
    controller.settle(&server);
    let status = status_of(&server, "web");
    assert_eq!(condition(&status, "Progressing"), ("True", "NewReplicaSetAvailable"));
}

#[test]
fn a_daemon_set_has_a_pod_on_each_node_and_is_updated_one_at_a_time() {
    let server = ApiServer::new();
    let counts = || {
        let status = server.get(DAEMON_SETS, NAMESPACE, "web").unwrap()["status"].clone();
        ["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable", "observedGeneration"]
            .map(|count| status[count].as_i64())
    };
    let controller = DaemonSetController::new(3).never_ready(broken);
    let daemon_set = |image| {
        let mut daemon_set = deployment("web", image);
        daemon_set["kind"] = json!("DaemonSet");
        daemon_set
    };
    server.put(DAEMON_SETS, daemon_set("v1")).unwrap();
    controller.settle(&server);
    assert_eq!(counts(), [Some(3), Some(3), Some(3), Some(1)]);
    server.put(DAEMON_SETS, daemon_set("broken")).unwrap();
    for _ in 0..2 {
        controller.settle(&server);
        assert_eq!(counts(), [Some(3), Some(1), Some(2), Some(2)]);
    }
    let nowhere = json!({ "spec": { "template": { "spec": { "nodeSelector": { "disk": "ssd" } } } } });
    server.patch(DAEMON_SETS, NAMESPACE, "web", &nowhere).unwrap();
    controller.settle(&server);
    assert_eq!(counts(), [Some(0), None, None, Some(3)]);
    let fresh = json!({ "spec": { "template": { "spec": { "nodeSelector": null } } } });
    server.patch(DAEMON_SETS, NAMESPACE, "web", &fresh).unwrap();
    controller.settle(&server);
    assert_eq!(counts(), [Some(3), Some(3), None, Some(4)]);
}

#[test]
fn routes_are_judged_for_each_parent() {
    let server = ApiServer::new();
    let other = json!({ "controllerName": "other", "parentRef": { "name": "a" }, "conditions": [] });
    let route = json!({
        "metadata": { "name": "web", "namespace": NAMESPACE },
        "spec": { "parentRefs": [{ "name": "a" }, { "name": "b" }] },
        "status": { "parents": [other] },
    });
    server.put(HTTP_ROUTES, route).unwrap();
    let parents = || server.get(HTTP_ROUTES, NAMESPACE, "web").unwrap()["status"]["parents"].clone();
    accept_routes(&server, CONTROLLER);
    let accepted = parents();
    assert_eq!(accepted[0], other);
    assert_eq!(accepted[2]["parentRef"], json!({ "name": "b" }));
    assert_eq!(condition(&accepted[1], "Accepted"), ("True", "Accepted"));
    assert_eq!(condition(&accepted[1], "ResolvedRefs"), ("True", "ResolvedRefs"));
    let revision = server.revision();
    accept_routes(&server, CONTROLLER);
    assert_eq!(server.revision(), revision);

    let patch = json!({ "spec": { "parentRefs": [{ "name": "b" }] } });
    server.patch(HTTP_ROUTES, NAMESPACE, "web", &patch).unwrap();
    judge_routes(&server, CONTROLLER, |_| Verdict::Refuse {
        condition: "ResolvedRefs",
        reason: "BackendNotFound",
        message: "no such service".to_owned(),
    });
    let refused = parents();
    assert_eq!(refused.as_array().unwrap().len(), 2);
    assert_eq!(condition(&refused[1], "Accepted").0, "True");
    assert_eq!(condition(&refused[1], "ResolvedRefs"), ("False", "BackendNotFound"));
    assert_eq!(refused[1]["conditions"][0]["observedGeneration"], 2);
}
