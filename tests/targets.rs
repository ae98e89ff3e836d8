//! What can be rolled out besides Deployments, and what cannot: the real reconciler against an API server in this
//! process.

mod common;

use common::app::{self, NAME};
use common::cluster::{BROKEN, Cluster};
use common::configs::config_map;
use common::prometheus::Says;
use kube::core::cel::Validator;
use serde_json::{Value, json};
use serin::workload;
use serin_testing::workloads::DaemonSetController;
use serin_testing::{CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, HTTP_ROUTES, SERVICES};

/// The key of the selector that stops a DaemonSet.
const STOPPED: &str = "/spec/template/spec/nodeSelector/serin.dev~1scale-to-zero";

fn canary() -> Value {
    let mut canary = app::canary();
    canary["spec"]["targetRef"]["kind"] = "DaemonSet".into();
    canary
}

/// A cluster with a DaemonSet, its Service and its route.
async fn with_daemon_set() -> Cluster {
    let cluster = Cluster::new().await;
    // The API server counts templates in an annotation, whatever anybody writes there.
    cluster.server.add_defaults(DAEMON_SETS, |daemon_set| {
        daemon_set["metadata"]["annotations"]["deprecated.daemonset.template.generation"] = "1".into();
    });
    cluster.put(DAEMON_SETS, app::daemon_set("web:1"));
    cluster.put(SERVICES, app::service());
    cluster.put(HTTP_ROUTES, app::route());
    cluster.react();
    cluster
}

/// The same, with its Canary at rest.
async fn at_rest() -> Cluster {
    let mut cluster = with_daemon_set().await;
    cluster.put(CANARIES, canary());
    cluster.settle().await;
    cluster.forget();
    cluster
}

fn deploy(cluster: &Cluster, image: &str) {
    cluster.edit(DAEMON_SETS, NAME, |daemon_set| {
        daemon_set["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    });
}

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
        canary["spec"]["targetRef"]["kind"] = kind.into();
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
