//! What can be rolled out besides Deployments, and what cannot: the real reconciler against an API server in this
//! process.

mod common;

use common::app::{self, NAME};
use common::cluster::{BROKEN, Cluster};
use common::configs::config_map;
use common::daemon_set::{at_rest, canary, deploy, with_daemon_set};
use common::prometheus::Says;
use common::service::{lead_to, service_at_rest, service_canary, with_service};
use kube::core::cel::Validator;
use serde_json::{Value, json};
use serin::workload;
use serin_testing::workloads::DaemonSetController;
use serin_testing::{
    CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, ENDPOINTS, HTTP_ROUTES, SERVICES,
};

/// The key of the selector that stops a DaemonSet.
const STOPPED: &str = "/spec/template/spec/nodeSelector/serin.dev~1scale-to-zero";

fn image(cluster: &Cluster, name: &str) -> Value {
    cluster.get(DAEMON_SETS, name)["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

fn is_stopped(cluster: &Cluster) -> bool {
    cluster.get(DAEMON_SETS, NAME).pointer(STOPPED).is_some()
}

// ---- DaemonSets ----

#[tokio::test(start_paused = true)]
async fn a_running_daemon_set_is_adopted() {
    let mut cluster = with_daemon_set().await;
    let before = cluster.get(DAEMON_SETS, NAME);
    cluster.put(CANARIES, canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch canaries/web: add /metadata/finalizers ["serin.dev/finalizer"]
      create controllerrevisions/web-aa3e661de5: web:1, owned by Canary
      update canaries/status/web: Initializing weight 0 step 0 pods Up of 2, aa3e661de5 -> - | Reconciling | Initializing: the primary is being made: the primary is being made or updated
      create services/web-primary: {"app":"web-primary"}, owned by Canary
      create services/web-canary: {"app":"web"}, owned by Canary
      create daemonsets/web-primary: web:1, owned by Canary
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Up of 2, aa3e661de5 -> - | Ready | Promoted | Initialized: revision aa3e661de5 serves: the gateway does not report the new weights yet
      patch services/web: add /metadata/annotations/serin.dev~1original-selector "{\"app\":\"web\",\"tier\":\"front\"}", replace /spec/selector/app "web-primary", remove /spec/selector/tier
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/name "web-primary", replace /spec/rules/0/backendRefs/0/weight 100, add /spec/rules/0/backendRefs/1 {"group":"","kind":"Service","name":"web-canary","port":80,"weight":0}
      event Normal Initialized: revision aa3e661de5 is the primary; it gets all traffic
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Draining of 2, aa3e661de5 -> - | Ready | Promoted | Initialized: revision aa3e661de5 serves
    +5s
      patch daemonsets/web: add /spec/template/spec/nodeSelector {"serin.dev/scale-to-zero":"true"}
    +5s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 2, aa3e661de5 -> - | Ready | Promoted | Initialized: revision aa3e661de5 serves
    "#);
    assert!(is_stopped(&cluster));
    let mut expected = before["spec"]["template"].clone();
    expected["metadata"]["labels"]["app"] = "web-primary".into();
    expected["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["app"] = "web-primary".into();
    let primary = cluster.get(DAEMON_SETS, "web-primary");
    assert_eq!(primary["spec"]["template"], expected);
    assert_eq!(primary["spec"]["updateStrategy"], before["spec"]["updateStrategy"]);
    for record in cluster.server.list(CONTROLLER_REVISIONS, None) {
        assert_eq!(record["data"]["template"], before["spec"]["template"], "what stops it is in no record");
    }
    assert_eq!(cluster.errors.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_good_version_of_a_daemon_set_is_promoted() {
    let mut cluster = at_rest().await;
    deploy(&cluster, "web:2");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-3aaec9abe6: web:2, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 2, aa3e661de5 -> 3aaec9abe6 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch daemonsets/web: remove /spec/template/spec/nodeSelector
      event Normal NewRevision: revision 3aaec9abe6 is being started
    +0s
      update canaries/status/web: Progressing weight 10 step 1 pods Up of 2, aa3e661de5 -> 3aaec9abe6 | Reconciling | Progressing: weight 10, step 1 of 3: the next check is at 00:00:15Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 90, replace /spec/rules/0/backendRefs/1/weight 10
      event Normal Advanced: canary weight 10: its pods are ready
    +10s
      update canaries/status/web: Progressing weight 30 step 2 pods Up of 2, aa3e661de5 -> 3aaec9abe6 | Reconciling | Progressing: weight 30, step 2 of 3: the next check is at 00:00:25Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 70, replace /spec/rules/0/backendRefs/1/weight 30
      event Normal Advanced: canary weight 30: every check passed
    +20s
      update canaries/status/web: Progressing weight 60 step 3 pods Up of 2, aa3e661de5 -> 3aaec9abe6 | Reconciling | Progressing: weight 60, step 3 of 3: the next check is at 00:00:35Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 40, replace /spec/rules/0/backendRefs/1/weight 60
      event Normal Advanced: canary weight 60: every check passed
    +30s
      update canaries/status/web: Promoting weight 60 step 3 pods Up of 2, aa3e661de5 -> 3aaec9abe6 | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch daemonsets/web-primary: replace /metadata/annotations/serin.dev~1revision "3aaec9abe6", replace /spec/template/spec/containers/0/image "web:2"
      event Normal Promoting: the primary is given revision 3aaec9abe6: every check passed at the last step
    +30s
      update canaries/status/web: Finalising weight 0 step 0 pods Up of 2, 3aaec9abe6 -> - | Reconciling | Finalising: all traffic is going to the primary: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Normal Finalising: the primary runs the analysed version; it gets all traffic
    +30s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 2, 3aaec9abe6 -> - | Ready | Promoted | Succeeded: revision 3aaec9abe6 serves
      event Normal Succeeded: revision 3aaec9abe6 is promoted
    +35s
      patch daemonsets/web: add /spec/template/spec/nodeSelector {"serin.dev/scale-to-zero":"true"}
    +35s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 2, 3aaec9abe6 -> - | Ready | Promoted | Succeeded: revision 3aaec9abe6 serves
    "#);
    assert_eq!(image(&cluster, "web-primary"), "web:2");
    assert!(is_stopped(&cluster));
    assert_eq!(cluster.get(DAEMON_SETS, "web-primary").pointer(STOPPED), None);
}

#[tokio::test(start_paused = true)]
async fn configs_of_a_daemon_set_are_part_of_its_version() {
    let mut cluster = with_daemon_set().await;
    cluster.put(CONFIG_MAPS, config_map("settings"));
    cluster.edit(DAEMON_SETS, NAME, |daemon_set| {
        daemon_set["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}]);
    });
    cluster.put(CANARIES, canary());
    cluster.settle().await;
    let used = |cluster: &Cluster, name: &str| {
        let daemon_set = cluster.get(DAEMON_SETS, name);
        let reference = daemon_set.pointer("/spec/template/spec/containers/0/envFrom/0/configMapRef/name");
        cluster.get(CONFIG_MAPS, reference.and_then(Value::as_str).unwrap())
    };
    let color = |cluster: &Cluster| used(cluster, "web-primary")["data"]["color"].clone();
    assert_eq!(color(&cluster), "blue");
    deploy(&cluster, "web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    assert!(cluster.settle_until(is_stopped).await, "its pods began with another config");
    assert_eq!((cluster.status()["canaryWeight"].clone(), color(&cluster)), (json!(0), json!("blue")));
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), color(&cluster)), ("Succeeded", json!("green")));
    assert_eq!(used(&cluster, NAME)["metadata"]["name"], "settings");
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_of_a_daemon_set_is_taken_back() {
    let mut cluster = at_rest().await;
    cluster.prometheus.says(Says::Value(72.5));
    deploy(&cluster, "web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    assert_eq!(image(&cluster, "web-primary"), "web:1");
    assert!(is_stopped(&cluster));
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_pods_never_become_ready_gets_no_traffic() {
    let mut cluster = at_rest().await;
    deploy(&cluster, BROKEN);
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert!(!cluster.story().contains("httproutes"), "no weight was ever written");
    let why = "the canary is not ready: 0 of 2 pods available, 2 updated after the progress deadline of 60s";
    assert!(cluster.condition("Ready").contains(why), "{}", cluster.condition("Ready"));
}

#[tokio::test(start_paused = true)]
async fn on_a_single_node_the_traffic_leaves_the_primary_before_its_pod_does() {
    for skip in [false, true] {
        let mut cluster = with_daemon_set().await;
        cluster.daemon_sets = DaemonSetController::new(1);
        cluster.put(CANARIES, canary());
        cluster.edit_spec(|spec| spec["skipAnalysis"] = skip.into());
        cluster.settle().await;
        deploy(&cluster, "web:2");
        let left = |cluster: &Cluster| cluster.backends() == "web-primary 0, web-canary 100";
        assert!(cluster.settle_until(left).await);
        assert_eq!(image(&cluster, "web-primary"), "web:1", "skipAnalysis: {skip}");
        assert!(cluster.settle_until(|cluster| image(cluster, "web-primary") == "web:2").await);
        assert!(left(&cluster));
        cluster.settle().await;
        assert_eq!(image(&cluster, "web-primary"), "web:2");
        assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
        assert_eq!(cluster.prometheus.asked().is_empty(), skip);
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_that_somebody_starts_or_stops_is_put_right() {
    let mut cluster = at_rest().await;
    // A user who replaces the whole object knows nothing of the selector.
    cluster.edit(DAEMON_SETS, NAME, |target| target["spec"]["template"]["spec"]["nodeSelector"] = Value::Null);
    cluster.edit(DAEMON_SETS, "web-primary", |primary| {
        primary["spec"]["template"]["spec"]["nodeSelector"] = json!({"serin.dev/scale-to-zero": "true"});
    });
    cluster.settle().await;
    assert!(is_stopped(&cluster));
    assert_eq!(cluster.get(DAEMON_SETS, "web-primary").pointer(STOPPED), None);
    assert_eq!(cluster.phase(), "Initialized", "no rollout comes of it");
    assert!(!cluster.story().contains("NewRevision"));
}

#[tokio::test(start_paused = true)]
async fn an_adopted_daemon_set_is_handed_back_as_it_was_found() {
    for revert in [true, false] {
        let mut cluster = with_daemon_set().await;
        let before = cluster.get(DAEMON_SETS, NAME);
        cluster.put(CANARIES, canary());
        cluster.edit_spec(|spec| spec["revertOnDeletion"] = revert.into());
        cluster.settle().await;
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None);
        cluster.server.collect_garbage();
        let after = cluster.get(DAEMON_SETS, NAME);
        assert_eq!((&after["spec"], &after["metadata"]["labels"]), (&before["spec"], &before["metadata"]["labels"]));
        assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
        assert_eq!(cluster.left(), ["daemonsets/web", "httproutes/web", "services/web"], "revertOnDeletion: {revert}");
        assert_eq!(cluster.backends(), "web 1");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_daemon_set_makes_no_request() {
    let mut cluster = at_rest().await;
    cluster.server.clear_log();
    cluster.pass().await.unwrap();
    assert_eq!(cluster.server.requests().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_that_could_not_be_rolled_out_is_refused() {
    let cases: [(&str, Value, &str); 2] = [
        ("/spec/updateStrategy", json!({"type": "OnDelete"}), "write RollingUpdate"),
        ("/spec/template/spec/containers/0/ports/0/hostPort", json!(8080), "port 8080 of their node"),
    ];
    for (path, value, sentence) in cases {
        let mut cluster = Cluster::new().await;
        let mut daemon_set = app::daemon_set("web:1");
        let (parent, field) = path.rsplit_once('/').unwrap();
        daemon_set.pointer_mut(parent).unwrap()[field] = value;
        cluster.put(DAEMON_SETS, daemon_set);
        cluster.put(CANARIES, canary());
        cluster.settle().await;
        let stalled = cluster.condition("Stalled");
        assert!(stalled.starts_with("True InvalidTarget: DaemonSet web: ") && stalled.contains(sentence), "{stalled}");
        assert_eq!(cluster.left(), ["daemonsets/web"]);
    }
}

// ---- Services ----

/// Where a Service leads.
fn leads_to(cluster: &Cluster, name: &str) -> Value {
    cluster.get(SERVICES, name)["spec"]["selector"]["version"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_service_is_adopted() {
    let mut cluster = with_service().await;
    let before = [cluster.get(SERVICES, NAME), cluster.get(DEPLOYMENTS, "web-v1"), cluster.get(DEPLOYMENTS, "web-v2")];
    cluster.put(CANARIES, service_canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch canaries/web: add /metadata/finalizers ["serin.dev/finalizer"]
      create controllerrevisions/web-2d30f69fd4: {"app":"web","version":"v1"}, owned by Canary
      update canaries/status/web: Initializing weight 0 step 0 pods Up of 1, 2d30f69fd4 -> - | Reconciling | Initializing: the primary is being made: the primary is being made or updated
      create services/web-canary: {"app":"web","version":"v1"}, owned by Canary
      create services/web-primary: {"app":"web","version":"v1"}, owned by Canary
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Up of 1, 2d30f69fd4 -> - | Ready | Promoted | Initialized: revision 2d30f69fd4 serves: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/name "web-primary", replace /spec/rules/0/backendRefs/0/weight 100, add /spec/rules/0/backendRefs/1 {"group":"","kind":"Service","name":"web-canary","port":80,"weight":0}
      event Normal Initialized: revision 2d30f69fd4 is the primary; it gets all traffic
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Draining of 1, 2d30f69fd4 -> - | Ready | Promoted | Initialized: revision 2d30f69fd4 serves
    +5s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 1, 2d30f69fd4 -> - | Ready | Promoted | Initialized: revision 2d30f69fd4 serves
    "#);
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    let after = [cluster.get(SERVICES, NAME), cluster.get(DEPLOYMENTS, "web-v1"), cluster.get(DEPLOYMENTS, "web-v2")];
    assert_eq!(after, before, "the target and everybody's pods are as they were");
    assert_eq!(cluster.errors.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_route_gets_one() {
    let mut cluster = with_service().await;
    cluster.server.delete(HTTP_ROUTES, app::NAMESPACE, NAME).unwrap();
    cluster.put(CANARIES, service_canary());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

#[tokio::test(start_paused = true)]
async fn a_good_version_of_a_service_is_promoted() {
    let mut cluster = service_at_rest().await;
    lead_to(&cluster, "v2");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-488d6727c3: {"app":"web","version":"v2"}, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: its controller has not looked at it yet
      patch services/web-canary: replace /metadata/labels/serin.dev~1revision "488d6727c3", replace /spec/selector/version "v2"
      event Normal NewRevision: revision 488d6727c3 is being started
    +0s
      update canaries/status/web: Progressing weight 10 step 1 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Reconciling | Progressing: weight 10, step 1 of 3: the next check is at 00:00:15Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 90, replace /spec/rules/0/backendRefs/1/weight 10
      event Normal Advanced: canary weight 10: its pods are ready
    +10s
      update canaries/status/web: Progressing weight 30 step 2 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Reconciling | Progressing: weight 30, step 2 of 3: the next check is at 00:00:25Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 70, replace /spec/rules/0/backendRefs/1/weight 30
      event Normal Advanced: canary weight 30: every check passed
    +20s
      update canaries/status/web: Progressing weight 60 step 3 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Reconciling | Progressing: weight 60, step 3 of 3: the next check is at 00:00:35Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 40, replace /spec/rules/0/backendRefs/1/weight 60
      event Normal Advanced: canary weight 60: every check passed
    +30s
      update canaries/status/web: Promoting weight 60 step 3 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch services/web-primary: replace /metadata/annotations/serin.dev~1revision "488d6727c3", replace /metadata/labels/serin.dev~1revision "488d6727c3", replace /spec/selector/version "v2"
      event Normal Promoting: the primary is given revision 488d6727c3: every check passed at the last step
    +30s
      update canaries/status/web: Finalising weight 0 step 0 pods Up of 1, 488d6727c3 -> - | Reconciling | Finalising: all traffic is going to the primary: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Normal Finalising: the primary runs the analysed version; it gets all traffic
    +30s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 1, 488d6727c3 -> - | Ready | Promoted | Succeeded: revision 488d6727c3 serves
      event Normal Succeeded: revision 488d6727c3 is promoted
    +35s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 1, 488d6727c3 -> - | Ready | Promoted | Succeeded: revision 488d6727c3 serves
    "#);
    assert_eq!([leads_to(&cluster, "web-primary"), leads_to(&cluster, "web-canary")], ["v2", "v2"]);
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    assert_eq!(cluster.status()["canaryPods"], "Down");
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_of_a_service_is_taken_back() {
    let mut cluster = service_at_rest().await;
    cluster.prometheus.says(Says::Value(50.0));
    lead_to(&cluster, "v2");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-488d6727c3: {"app":"web","version":"v2"}, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: its controller has not looked at it yet
      patch services/web-canary: replace /metadata/labels/serin.dev~1revision "488d6727c3", replace /spec/selector/version "v2"
      event Normal NewRevision: revision 488d6727c3 is being started
    +0s
      update canaries/status/web: Progressing weight 10 step 1 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Reconciling | Progressing: weight 10, step 1 of 3: the next check is at 00:00:15Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 90, replace /spec/rules/0/backendRefs/1/weight 10
      event Normal Advanced: canary weight 10: its pods are ready
    +10s
      update canaries/status/web: Failed weight 0 step 0 pods Up of 1, 2d30f69fd4 -> 488d6727c3 | Stalled | RolledBack: revision 2d30f69fd4 serves; the new version was taken back: request-success-rate is 50, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Warning RolledBack: all traffic goes to the primary: request-success-rate is 50, below the minimum 99 (failed check 1 of 1)
    +10s
      update canaries/status/web: Failed weight 0 step 0 pods Draining of 1, 2d30f69fd4 -> 488d6727c3 | Stalled | RolledBack: revision 2d30f69fd4 serves; the new version was taken back: request-success-rate is 50, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
    +15s
      update canaries/status/web: Failed weight 0 step 0 pods Down of 1, 2d30f69fd4 -> 488d6727c3 | Stalled | RolledBack: revision 2d30f69fd4 serves; the new version was taken back: request-success-rate is 50, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
    "#);
    assert_eq!([leads_to(&cluster, "web-primary"), leads_to(&cluster, "web-canary")], ["v1", "v2"]);
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    cluster.forget();
    lead_to(&cluster, "v1");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded", "back to the promoted version: nothing to analyse");
    assert!(!cluster.story().contains("Advanced"));
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_of_a_service_gets_no_traffic_before_the_route_left_it() {
    let mut cluster = service_at_rest().await;
    lead_to(&cluster, "v2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.pass().await.unwrap();
    cluster.forget();
    lead_to(&cluster, "v1x");
    cluster.pass().await.unwrap();
    let story = cluster.story();
    let place = |text: &str| story.find(text).unwrap_or_else(|| panic!("{text} is in\n{story}"));
    assert!(place("patch httproutes/web") < place("patch services/web-canary"), "{story}");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

#[tokio::test(start_paused = true)]
async fn a_version_of_a_service_without_ready_pods_gets_no_traffic() {
    for version in ["v3", "nobody"] {
        let mut cluster = service_at_rest().await;
        lead_to(&cluster, version);
        cluster.settle().await;
        let story = cluster.story();
        assert!(!story.contains("patch httproutes"), "{version}: {story}");
        assert_eq!(cluster.phase(), "Failed", "{version}");
        let why = cluster.condition("Ready");
        assert!(why.contains("the canary is not ready") && why.contains("progress deadline of 60s"), "{why}");
        assert_eq!(leads_to(&cluster, "web-primary"), "v1");
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_the_version_before_are_not_believed() {
    let mut cluster = service_at_rest().await;
    cluster.counts = false;
    lead_to(&cluster, "v2");
    for _ in 0..3 {
        cluster.pass().await.unwrap();
        cluster.wait(1).await;
    }
    assert_eq!(cluster.get(SERVICES, "web-canary")["spec"]["selector"]["version"], "v2");
    assert_eq!(cluster.get(ENDPOINTS, "web-canary")["subsets"][0]["addresses"].as_array().map(Vec::len), Some(3));
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0", "three pods are ready, but of which version?");
    cluster.counts = true;
    cluster.pass().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 90, web-canary 10");
}

#[tokio::test(start_paused = true)]
async fn a_promoted_service_that_nobody_answers_for_leads_where_it_led_before() {
    let mut cluster = service_at_rest().await;
    lead_to(&cluster, "v2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 60).await);
    // The Endpoints of the primary stand still from here: whether anybody is there is not known.
    cluster.counts = false;
    let failed = |cluster: &Cluster| cluster.status()["history"].to_string().contains("PromotionFailed");
    assert!(cluster.settle_until(failed).await);
    assert_eq!(cluster.backends(), "web-primary 40, web-canary 60");
    cluster.counts = true;
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert_eq!(leads_to(&cluster, "web-primary"), "v1");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

#[tokio::test(start_paused = true)]
async fn a_service_is_handed_back() {
    let mut cluster = with_service().await;
    let before = cluster.get(SERVICES, NAME);
    cluster.put(CANARIES, service_canary());
    cluster.settle().await;
    cluster.forget();
    cluster.delete_canary();
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: Terminating weight 0 step 0 pods Up of 1, 2d30f69fd4 -> - | Reconciling | Terminating: the app is being handed back
      event Normal Terminating: the Canary is being deleted; the app is handed back
    +0s
      update canaries/status/web: Terminating weight 0 step 0 pods Up of 1, 2d30f69fd4 -> - | Reconciling | Terminating: the app is being handed back: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/name "web", replace /spec/rules/0/backendRefs/0/weight 1, remove /spec/rules/0/backendRefs/1
    +0s
      update canaries/status/web: Terminating weight 0 step 0 pods Up of 1, 2d30f69fd4 -> - | Reconciling | Terminating: the app is being handed back
    +5s
      update canaries/status/web: Terminating weight 0 step 0 pods Up of 1, 2d30f69fd4 -> - | Reconciling | Terminating: the app is being handed back
      patch canaries/web: remove /metadata/finalizers/0
    "#);
    assert_eq!(cluster.find(CANARIES, NAME), None);
    cluster.server.collect_garbage();
    let pods = ["deployments/web-v1", "deployments/web-v2", "deployments/web-v3", "deployments/web-v4"];
    let left = [&pods[..], &["httproutes/web", "services/web"]].concat();
    assert_eq!(cluster.left(), left);
    assert_eq!(cluster.get(SERVICES, NAME), before);
    assert_eq!(cluster.backends(), "web 1");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leads_to_a_version_that_failed_keeps_its_primary() {
    let mut cluster = service_at_rest().await;
    cluster.prometheus.says(Says::Value(50.0));
    lead_to(&cluster, "v2");
    cluster.settle().await;
    cluster.delete_canary();
    cluster.settle().await;
    cluster.server.collect_garbage();
    assert_eq!(cluster.find(CANARIES, NAME), None);
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    assert_eq!(leads_to(&cluster, "web-primary"), "v1");
    assert_eq!(cluster.get(SERVICES, "web-primary")["metadata"]["ownerReferences"][0]["kind"], "Service");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_rolled_out_is_refused_with_a_reason() {
    for (field, value, sentence) in [
        ("selector", Value::Null, "Service web: it has no spec.selector"),
        ("ports", json!([{"port": 8080}]), "Service web has no port 80; write one of its own in service.port: 8080"),
    ] {
        let mut cluster = with_service().await;
        cluster.edit(SERVICES, NAME, |service| service["spec"][field] = value.clone());
        cluster.put(CANARIES, service_canary());
        cluster.settle().await;
        let stalled = cluster.condition("Stalled");
        assert!(stalled.starts_with(&format!("True InvalidTarget: {sentence}")), "{stalled}");
        assert_eq!(cluster.find(SERVICES, "web-primary"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_does_to_the_services_of_a_service_is_put_right() {
    let mut cluster = service_at_rest().await;
    for name in ["web-primary", "web-canary"] {
        let before = cluster.get(SERVICES, name)["spec"].clone();
        cluster.edit(SERVICES, name, |service| service["spec"]["selector"] = json!({"app": "evil"}));
        cluster.settle().await;
        assert_eq!(cluster.get(SERVICES, name)["spec"], before);
    }
    cluster.forget();
    cluster.settle().await;
    assert_eq!(cluster.story(), "", "and then there is peace");
}

// ---- the Services in front of workloads ----

#[tokio::test(start_paused = true)]
async fn services_are_shaped_as_the_canary_says() {
    let mut cluster = Cluster::new().await;
    let mut deployment = app::deployment("web:1");
    deployment["spec"]["template"]["spec"]["containers"] = json!([
        {"name": "main", "image": "web:1", "ports": [{"containerPort": 8080}, {"name": "metrics", "containerPort": 9797}]},
        {"name": "istio-proxy", "image": "proxy:1", "ports": [{"containerPort": 15090}]},
    ]);
    cluster.put(DEPLOYMENTS, deployment);
    let mut canary = app::canary();
    for (field, value) in [
        ("headless", json!(true)),
        ("portDiscovery", json!(true)),
        ("trafficDistribution", json!("PreferClose")),
        ("appProtocol", json!("kubernetes.io/h2c")),
        ("apex", json!({"labels": {"team": "blue"}})),
        ("unmanagedMetadata", json!({"labels": ["team"]})),
    ] {
        canary["spec"]["service"][field] = value;
    }
    cluster.put(CANARIES, canary);
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
    for (name, leads_to) in [("web", "web-primary"), ("web-primary", "web-primary"), ("web-canary", "web")] {
        let made = cluster.get(SERVICES, name);
        let own = json!({"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"});
        let found = json!({"name": "metrics", "port": 9797, "targetPort": 9797, "protocol": "TCP"});
        let spec = json!({"clusterIP": "None", "trafficDistribution": "PreferClose", "selector": {"app": leads_to}, "ports": [own, found]});
        assert_eq!(made["spec"], spec, "{name}");
        assert_eq!(made["metadata"]["labels"].get("team"), None);
    }
    cluster.edit(SERVICES, "web", |service| service["metadata"]["labels"]["team"] = "red".into());
    cluster.edit_spec(|spec| spec["service"]["trafficDistribution"] = Value::Null);
    cluster.settle().await;
    let made = cluster.get(SERVICES, "web");
    assert_eq!(made["spec"].get("trafficDistribution"), None);
    assert_eq!(made["metadata"]["labels"]["team"], "red");
    assert_eq!(cluster.errors.len(), 0);
}

// ---- other kinds ----

/// What is refused, by a part of the sentence.
const REFUSED: [(&str, &str); 4] = [
    ("StatefulSet", "names and volumes of their own"),
    ("ReplicaSet", "cannot be rolled out"),
    ("deployment", "cannot be rolled out"),
    ("", "cannot be rolled out"),
];

#[tokio::test(start_paused = true)]
async fn other_kinds_are_refused_with_a_reason() {
    for (kind, sentence) in REFUSED {
        let mut cluster = Cluster::with_app().await;
        cluster.put(CANARIES, app::canary());
        cluster.edit_spec(|spec| spec["targetRef"]["kind"] = kind.into());
        cluster.settle().await;
        let stalled = cluster.condition("Stalled");
        assert!(stalled.starts_with("True InvalidSpec: spec.targetRef.kind: "), "{stalled}");
        assert!(stalled.contains(sentence) && stalled.contains("write Deployment, DaemonSet or Service"), "{stalled}");
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None, "{kind}");
    }
}

#[test]
fn the_api_server_says_the_same_at_once() {
    let definition = serin::api::crds().remove(0);
    let schema = json!(definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema);
    let said = |kind: &str| {
        let mut canary = app::canary();
        let version = if kind == "Service" { "v1" } else { "apps/v1" };
        canary["spec"]["targetRef"] = json!({"apiVersion": version, "kind": kind, "name": NAME});
        let verdict = Validator::new().validate(&schema, &canary, None);
        let errors = verdict.err().map(kube::core::cel::ValidationErrors::into_vec).unwrap_or_default();
        errors.into_iter().map(|error| error.message).collect::<Vec<_>>()
    };
    for (kind, _) in workload::all() {
        assert_eq!(said(kind), Vec::<String>::new(), "{kind}");
        assert_eq!(serin::api::target_kind(kind), Ok(kind));
    }
    for (kind, _) in REFUSED {
        let [sentence] = said(kind).try_into().unwrap_or_else(|said| panic!("{kind}: one sentence, not {said:?}"));
        let refusal = serin::api::target_kind(kind).unwrap_err().to_string();
        assert!(sentence.contains("write Deployment, DaemonSet or Service"), "{sentence}");
        assert_eq!(kind == "StatefulSet", refusal.ends_with(&sentence), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_cannot_turn_to_another_kind_and_can_still_be_deleted() {
    for (kind, sentence) in [("DaemonSet", "web-primary is a Deployment"), ("StatefulSet", "volumes of their own")] {
        let mut cluster = Cluster::at_rest().await;
        cluster.put(DAEMON_SETS, app::daemon_set("web:9"));
        cluster.edit_spec(|spec| spec["targetRef"]["kind"] = kind.into());
        cluster.settle().await;
        assert!(cluster.condition("Stalled").contains(sentence), "{}", cluster.condition("Stalled"));
        assert_eq!(cluster.find(DAEMON_SETS, "web-primary"), None);
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None);
        assert_eq!(cluster.replicas(NAME), 3, "{kind}: the Deployment got its pods back");
        assert_eq!(cluster.backends(), "web 1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_asks_for_what_its_provider_cannot_do_can_still_be_deleted() {
    let wrong = [
        ("", "provider", json!("istio"), "spec.provider: Serin moves traffic with the Gateway API"),
        ("/analysis", "switchTraffic", json!(true), "spec: switchTraffic moves the app's Service"),
    ];
    for (part, field, value, sentence) in wrong {
        let mut cluster = Cluster::at_rest().await;
        cluster.edit_spec(|spec| spec.pointer_mut(part).unwrap()[field] = value.clone());
        cluster.settle().await;
        assert!(cluster.condition("Stalled").contains(sentence), "{}", cluster.condition("Stalled"));
        assert_eq!(cluster.backends(), "web-primary 100, web-canary 0", "what serves is left alone");
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None);
        assert_eq!(cluster.backends(), "web 1");
    }
}

// ---- labels ----

#[tokio::test(start_paused = true)]
async fn labels_of_the_target_reach_the_primary_as_they_change_and_those_of_tools_do_not() {
    let mut cluster = Cluster::new().await;
    cluster.server.add_defaults(DAEMON_SETS, |daemon_set| {
        daemon_set["metadata"]["annotations"]["deprecated.daemonset.template.generation"] = "1".into();
    });
    cluster.set(|settings| settings.include_label_prefix = vec!["*".to_owned()]);
    let mut daemon_set = app::daemon_set("web:1");
    daemon_set["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = "shop".into();
    daemon_set["metadata"]["annotations"] =
        json!({"argocd.argoproj.io/tracking-id": "shop", "example.com/owner": "ann"});
    cluster.put(DAEMON_SETS, daemon_set);
    cluster.put(CANARIES, canary());
    cluster.settle().await;
    let metadata = |cluster: &Cluster| cluster.get(DAEMON_SETS, "web-primary")["metadata"].clone();
    insta::assert_yaml_snapshot!(json!([metadata(&cluster)["labels"], metadata(&cluster)["annotations"]]), @r#"
    - app: web-primary
      app.kubernetes.io/managed-by: serin
      team: blue
    - deprecated.daemonset.template.generation: "1"
      example.com/owner: ann
      helm.toolkit.fluxcd.io/driftDetection: disabled
      kustomize.toolkit.fluxcd.io/reconcile: disabled
      serin.dev/copied: "{\"annotations\":[\"example.com/owner\"],\"labels\":[\"team\"]}"
      serin.dev/revision: aa3e661de5
    "#);
    cluster.edit(DAEMON_SETS, NAME, |target| target["metadata"]["labels"] = json!({"team": "green"}));
    cluster.forget();
    cluster.settle().await;
    assert_eq!(metadata(&cluster)["labels"]["team"], "green");
    assert!(!cluster.story().contains("NewRevision"), "a label of the target is no new version");
    assert_eq!(cluster.errors.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_label_can_tell_the_versions_apart() {
    let mut cluster = Cluster::new().await;
    cluster.set(|settings| settings.selector_labels = vec!["service".to_owned()]);
    let mut deployment = app::deployment("web:1");
    deployment["spec"]["selector"]["matchLabels"] = json!({"service": "shop-web"});
    deployment["spec"]["template"]["metadata"]["labels"]["service"] = "shop-web".into();
    cluster.put(DEPLOYMENTS, deployment);
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;

    assert_eq!(cluster.phase(), "Initialized");
    let primary = cluster.get(DEPLOYMENTS, "web-primary");
    let labels = json!({"app": NAME, "tier": "front", "service": "shop-web-primary"});
    assert_eq!(primary["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(cluster.get(SERVICES, "web-canary")["spec"]["selector"], json!({"service": "shop-web"}));
}

#[tokio::test(start_paused = true)]
async fn only_what_serin_makes_is_marked_as_generated() {
    let mark = "kustomize.toolkit.fluxcd.io/reconcile";
    let marked = |cluster: &Cluster| {
        let kinds = [CONTROLLER_REVISIONS, DEPLOYMENTS, HTTP_ROUTES, SERVICES];
        let objects = kinds.into_iter().flat_map(|kind| cluster.server.list(kind, None));
        let marked = objects.filter(|object| object["metadata"]["annotations"][mark] == "disabled");
        let name = |object: Value| format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', "");
        marked.map(name).filter(|name| !name.starts_with("ControllerRevision")).collect::<Vec<_>>()
    };
    let cluster = Cluster::at_rest().await;
    assert_eq!(marked(&cluster), ["Deployment web-primary", "Service web-canary", "Service web-primary"]);

    let mut cluster = Cluster::new().await;
    cluster.put(DEPLOYMENTS, app::deployment("web:1"));
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    let made = ["Deployment web-primary", "HTTPRoute web", "Service web", "Service web-canary", "Service web-primary"];
    assert_eq!(marked(&cluster), made);
    cluster.delete_canary();
    cluster.settle().await;
    cluster.server.collect_garbage();
    assert_eq!(marked(&cluster), Vec::<String>::new(), "what outlives its Canary is the user's");
}
