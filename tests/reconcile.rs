//! The real reconciler against an API server in this process: each test states the whole effect.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::{BROKEN, Cluster, STUCK, canary_with, template};
use common::prometheus::Says;
use jiff::SignedDuration;
use serde_json::{Value, json};
use serin::controller::lease::Leadership;
use serin_testing::{
    CANARIES, CONTROLLER_REVISIONS, DEPLOYMENTS, Fault, HTTP_ROUTES, METRIC_TEMPLATES, Request, SECRETS, SERVICES, Verb,
};
use std::time::Duration;

// ---- the life of a Canary ----

#[tokio::test(start_paused = true)]
async fn a_running_app_is_adopted() {
    let mut cluster = Cluster::with_app().await;
    let [service, route] = [cluster.get(SERVICES, NAME), cluster.get(HTTP_ROUTES, NAME)];
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch canaries/web: add /metadata/finalizers ["serin.dev/finalizer"]
      create controllerrevisions/web-34004e8f4c: web:1, owned by Canary
      update canaries/status/web: Initializing weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Initializing: the primary is being made: the primary is being made or updated
      create services/web-primary: {"app":"web-primary"}, owned by Canary
      create services/web-canary: {"app":"web"}, owned by Canary
      create deployments/web-primary: 3 x web:1, owned by Canary
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves: the gateway does not report the new weights yet
      patch services/web: add /metadata/annotations/serin.dev~1original-selector "{\"app\":\"web\",\"tier\":\"front\"}", replace /spec/selector/app "web-primary", remove /spec/selector/tier
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/name "web-primary", replace /spec/rules/0/backendRefs/0/weight 100, add /spec/rules/0/backendRefs/1 {"group":"","kind":"Service","name":"web-canary","port":80,"weight":0}
      event Normal Initialized: revision 34004e8f4c is the primary; it gets all traffic
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Draining of 3, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves
    +5s
      patch deployments/web: replace /spec/replicas 0
    +5s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 3, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves
    "#);

    // Serin owns neither: but for the selector and the one rule, both are as they were (S10).
    let mut adopted = cluster.get(SERVICES, NAME);
    assert_eq!(adopted["spec"]["selector"], json!({"app": "web-primary"}));
    adopted["spec"]["selector"] = service["spec"]["selector"].clone();
    adopted["metadata"]["annotations"] = service["metadata"]["annotations"].clone();
    assert_eq!(without_version(adopted), without_version(service));
    let mut split = cluster.get(HTTP_ROUTES, NAME);
    split["spec"]["rules"][0]["backendRefs"] = route["spec"]["rules"][0]["backendRefs"].clone();
    assert_eq!(split["spec"], route["spec"]);
    assert_eq!(split["metadata"]["annotations"], route["metadata"]["annotations"]);

    let primary = cluster.get(DEPLOYMENTS, "web-primary");
    insta::assert_yaml_snapshot!(primary["spec"], @r#"
    minReadySeconds: 1
    replicas: 3
    selector:
      matchLabels:
        app: web-primary
    template:
      metadata:
        labels:
          app: web-primary
          tier: front
      spec:
        containers:
          - image: "web:1"
            name: main
            ports:
              - containerPort: 8080
    "#);
    assert_eq!(cluster.errors.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_app_without_service_and_route_gets_both() {
    let mut cluster = Cluster::new().await;
    cluster.put(DEPLOYMENTS, app::deployment("web:1"));
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch canaries/web: add /metadata/finalizers ["serin.dev/finalizer"]
      create controllerrevisions/web-34004e8f4c: web:1, owned by Canary
      update canaries/status/web: Initializing weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Initializing: the primary is being made: the primary is being made or updated
      create services/web-primary: {"app":"web-primary"}, owned by Canary
      create services/web-canary: {"app":"web"}, owned by Canary
      create deployments/web-primary: 3 x web:1, owned by Canary
      create services/web: {"app":"web"}, owned by Canary
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves: the gateway does not report the new weights yet
      patch services/web: replace /spec/selector/app "web-primary"
      create httproutes/web: web-primary 100, web-canary 0, owned by Canary
      event Normal Initialized: revision 34004e8f4c is the primary; it gets all traffic
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Draining of 3, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves
    +5s
      patch deployments/web: replace /spec/replicas 0
    +5s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 3, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves
    "#);
    insta::assert_yaml_snapshot!(cluster.get(HTTP_ROUTES, NAME)["spec"], @r#"
    parentRefs:
      - name: gateway
    rules:
      - backendRefs:
          - name: web-primary
            port: 80
            weight: 100
          - name: web-canary
            port: 80
            weight: 0
    "#);
    insta::assert_yaml_snapshot!(cluster.get(SERVICES, NAME)["spec"], @r#"
    ports:
      - name: http
        port: 80
        protocol: TCP
        targetPort: 8080
    selector:
      app: web-primary
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_canary_waits_for_its_target() {
    let mut cluster = Cluster::new().await;
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch canaries/web: add /metadata/finalizers ["serin.dev/finalizer"]
      update canaries/status/web: Initializing weight 0 step 0 pods Up of 1, - -> - | Stalled | TargetMissing: the primary is being made: the target does not exist; create it or change targetRef. The primary goes on serving
    "#);
    cluster.put(DEPLOYMENTS, app::deployment("web:1"));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
}

#[tokio::test(start_paused = true)]
async fn a_good_version_is_promoted() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-6ebea71b19: web:2, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch deployments/web: replace /spec/replicas 3
      event Normal NewRevision: revision 6ebea71b19 is being started
    +0s
      update canaries/status/web: Progressing weight 10 step 1 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 10, step 1 of 3: the next check is at 00:00:15Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 90, replace /spec/rules/0/backendRefs/1/weight 10
    +10s
      update canaries/status/web: Progressing weight 30 step 2 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 30, step 2 of 3: the next check is at 00:00:25Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 70, replace /spec/rules/0/backendRefs/1/weight 30
    +20s
      update canaries/status/web: Progressing weight 60 step 3 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 60, step 3 of 3: the next check is at 00:00:35Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 40, replace /spec/rules/0/backendRefs/1/weight 60
    +30s
      update canaries/status/web: Promoting weight 60 step 3 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch deployments/web-primary: replace /metadata/annotations/serin.dev~1revision "6ebea71b19", replace /spec/template/spec/containers/0/image "web:2"
      event Normal Promoting: the primary is given revision 6ebea71b19: every check passed at the last step
    +30s
      update canaries/status/web: Finalising weight 0 step 0 pods Up of 3, 6ebea71b19 -> - | Reconciling | Finalising: all traffic is going to the primary: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
    +30s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 3, 6ebea71b19 -> - | Ready | Promoted | Succeeded: revision 6ebea71b19 serves
      event Normal Succeeded: revision 6ebea71b19 is promoted
    +35s
      patch deployments/web: replace /spec/replicas 0
    +35s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 3, 6ebea71b19 -> - | Ready | Promoted | Succeeded: revision 6ebea71b19 serves
    "#);
    assert_eq!(cluster.image("web-primary"), "web:2");
    assert_eq!([cluster.replicas("web-primary"), cluster.replicas(NAME)], [3, 0]);
    let asked = cluster.prometheus.asked();
    assert_eq!(asked.len(), 3, "one query at the end of each step: {asked:?}");
    assert!(asked.iter().all(|asked| asked.parameters.contains("web-canary")), "{asked:?}");
}

/// What a rollout costs the API server is what limits how many there can be.
#[tokio::test(start_paused = true)]
async fn a_rollout_of_five_steps_costs_25_requests() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["analysis"]["stepWeights"] = json!([10, 20, 30, 40, 50]));
    cluster.settle().await;
    cluster.forget();
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert_eq!(cluster.prometheus.asked().len(), 5);
    let mut requests = std::collections::BTreeMap::<_, usize>::new();
    for request in cluster.server.requests() {
        *requests.entry(format!("{} {}", request.verb, request.target())).or_default() += 1;
    }
    insta::assert_yaml_snapshot!(requests, @r"
    create controllerrevisions: 1
    create events: 3
    get canaries: 1
    get deployments: 1
    patch deployments: 3
    patch httproutes: 6
    update canaries/status: 10
    ");
    assert_eq!(requests.values().sum::<usize>(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_is_taken_back_in_the_pass_that_sees_it() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.prometheus.says(Says::Value(97.5));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r"
    +20s
      update canaries/status/web: Failed weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: request-success-rate is 97.5, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Warning RolledBack: all traffic goes to the primary: request-success-rate is 97.5, below the minimum 99 (failed check 1 of 1)
    +20s
      update canaries/status/web: Failed weight 0 step 0 pods Draining of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: request-success-rate is 97.5, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
    +25s
      patch deployments/web: replace /spec/replicas 0
    +25s
      update canaries/status/web: Failed weight 0 step 0 pods Down of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: request-success-rate is 97.5, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
    ");
    assert_eq!(cluster.image("web-primary"), "web:1");
    assert_eq!(cluster.status()["failedChecks"], 1);
    assert_eq!(cluster.status()["checks"][0]["value"], 97.5);
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_replaces_the_one_under_analysis() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.deploy("web:3");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +10s
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> ce6b739075 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 3 of 3 pods available, 3 updated
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      create controllerrevisions/web-ce6b739075: web:3, owned by Canary
      event Normal Superseded: revision ce6b739075 replaces 6ebea71b19 in the middle of its analysis; all traffic goes to the primary
      event Normal NewRevision: revision ce6b739075 is being started
    +10s
      update canaries/status/web: Progressing weight 10 step 1 pods Up of 3, 34004e8f4c -> ce6b739075 | Reconciling | Progressing: weight 10, step 1 of 3: the next check is at 00:00:25Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 90, replace /spec/rules/0/backendRefs/1/weight 10
    +20s
      update canaries/status/web: Progressing weight 30 step 2 pods Up of 3, 34004e8f4c -> ce6b739075 | Reconciling | Progressing: weight 30, step 2 of 3: the next check is at 00:00:35Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 70, replace /spec/rules/0/backendRefs/1/weight 30
    +30s
      update canaries/status/web: Progressing weight 60 step 3 pods Up of 3, 34004e8f4c -> ce6b739075 | Reconciling | Progressing: weight 60, step 3 of 3: the next check is at 00:00:45Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 40, replace /spec/rules/0/backendRefs/1/weight 60
    +40s
      update canaries/status/web: Promoting weight 60 step 3 pods Up of 3, 34004e8f4c -> ce6b739075 | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch deployments/web-primary: replace /metadata/annotations/serin.dev~1revision "ce6b739075", replace /spec/template/spec/containers/0/image "web:3"
      event Normal Promoting: the primary is given revision ce6b739075: every check passed at the last step
    +40s
      update canaries/status/web: Finalising weight 0 step 0 pods Up of 3, ce6b739075 -> - | Reconciling | Finalising: all traffic is going to the primary: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
    +40s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 3, ce6b739075 -> - | Ready | Promoted | Succeeded: revision ce6b739075 serves
      event Normal Succeeded: revision ce6b739075 is promoted
    +45s
      patch deployments/web: replace /spec/replicas 0
    +45s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 3, ce6b739075 -> - | Ready | Promoted | Succeeded: revision ce6b739075 serves
    "#);
    assert_eq!(cluster.image("web-primary"), "web:3");
}

#[tokio::test(start_paused = true)]
async fn a_target_back_at_the_promoted_version_needs_no_analysis() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.deploy("web:1");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +10s
      update canaries/status/web: Succeeded weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Ready | Promoted | Succeeded: revision 34004e8f4c serves: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Normal Restored: the target is back at the promoted revision 34004e8f4c; there is nothing to analyse
    +10s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 3, 34004e8f4c -> - | Ready | Promoted | Succeeded: revision 34004e8f4c serves
    +15s
      patch deployments/web: replace /spec/replicas 0
    +15s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 3, 34004e8f4c -> - | Ready | Promoted | Succeeded: revision 34004e8f4c serves
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_changes_during_its_promotion_is_promoted_as_it_was_analysed() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    cluster.story();
    cluster.deploy("web:3");
    cluster.reacts = false;
    cluster.pass().await.unwrap();
    insta::assert_snapshot!(cluster.story(), @r"
    +30s
      update canaries/status/web: Promoting weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Warning Retreated: canary weight 0 while the primary is updated: the target changed, and its new pods were not analysed
    ");
    assert_eq!(cluster.image("web-primary"), "web:2");
    cluster.reacts = true;
    cluster.settle().await;
    assert_eq!(cluster.image("web-primary"), "web:3", "analysed in its turn");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_never_becomes_ready_gets_no_traffic() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy(BROKEN);
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r"
    +0s
      create controllerrevisions/web-305c86f015: web:broken, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 305c86f015 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch deployments/web: replace /spec/replicas 3
      event Normal NewRevision: revision 305c86f015 is being started
    +0s
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 305c86f015 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 3 pods available, 3 updated
    +60s
      update canaries/status/web: Failed weight 0 step 0 pods Up of 3, 34004e8f4c -> 305c86f015 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the canary is not ready: 0 of 3 pods available, 3 updated after the progress deadline of 60s; change the pod template to roll out a fix or try again
      event Warning RolledBack: all traffic goes to the primary: the canary is not ready: 0 of 3 pods available, 3 updated after the progress deadline of 60s
    +60s
      update canaries/status/web: Failed weight 0 step 0 pods Draining of 3, 34004e8f4c -> 305c86f015 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the canary is not ready: 0 of 3 pods available, 3 updated after the progress deadline of 60s; change the pod template to roll out a fix or try again
    +65s
      patch deployments/web: replace /spec/replicas 0
    +65s
      update canaries/status/web: Failed weight 0 step 0 pods Down of 3, 34004e8f4c -> 305c86f015 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the canary is not ready: 0 of 3 pods available, 3 updated after the progress deadline of 60s; change the pod template to roll out a fix or try again
    ");
    assert!(cluster.prometheus.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_cannot_run_the_version_gets_the_one_before_back() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy(STUCK);
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    cluster.story();
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +30s
      update canaries/status/web: Promoting weight 60 step 3 pods Up of 3, 34004e8f4c -> 9f1b88b841 | Reconciling | Promoting: the primary is being given the analysed version: the primary is not ready: 3 of 3 pods available, 1 updated, 3 old ones still there
    +90s
      update canaries/status/web: Promoting weight 60 step 3 pods Up of 3, 34004e8f4c -> 9f1b88b841 | Reconciling | PromotionFailed: the primary is being put back: the primary did not become ready with the analysed version: 3 of 3 pods available, 1 updated, 3 old ones still there
      patch deployments/web-primary: replace /metadata/annotations/serin.dev~1revision "34004e8f4c", replace /spec/template/spec/containers/0/image "web:1"
      event Warning PromotionFailed: the primary did not become ready with the analysed version: 3 of 3 pods available, 1 updated, 3 old ones still there; it gets the version before
    +90s
      update canaries/status/web: Failed weight 0 step 0 pods Up of 3, 34004e8f4c -> 9f1b88b841 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the primary did not become ready with the analysed version: 3 of 3 pods available, 1 updated, 3 old ones still there; change the pod template to roll out a fix or try again
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Warning RolledBack: all traffic goes to the version before: the primary did not become ready with the analysed version: 3 of 3 pods available, 1 updated, 3 old ones still there
    +90s
      update canaries/status/web: Failed weight 0 step 0 pods Draining of 3, 34004e8f4c -> 9f1b88b841 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the primary did not become ready with the analysed version: 3 of 3 pods available, 1 updated, 3 old ones still there; change the pod template to roll out a fix or try again
    +95s
      patch deployments/web: replace /spec/replicas 0
    +95s
      update canaries/status/web: Failed weight 0 step 0 pods Down of 3, 34004e8f4c -> 9f1b88b841 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the primary did not become ready with the analysed version: 3 of 3 pods available, 1 updated, 3 old ones still there; change the pod template to roll out a fix or try again
    "#);
    assert_eq!(cluster.image("web-primary"), "web:1");
}

#[tokio::test(start_paused = true)]
async fn without_analysis_a_version_is_promoted_when_its_pods_are_ready() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["skipAnalysis"] = true.into());
    cluster.deploy("web:2");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-6ebea71b19: web:2, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch deployments/web: replace /spec/replicas 3
      event Normal NewRevision: revision 6ebea71b19 is being started
    +0s
      update canaries/status/web: Promoting weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch deployments/web-primary: replace /metadata/annotations/serin.dev~1revision "6ebea71b19", replace /spec/template/spec/containers/0/image "web:2"
      event Normal Promoting: the primary is given revision 6ebea71b19: its pods are ready, and the analysis is skipped
    +0s
      update canaries/status/web: Finalising weight 0 step 0 pods Up of 3, 6ebea71b19 -> - | Reconciling | Finalising: all traffic is going to the primary: the gateway does not report the new weights yet
    +0s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 3, 6ebea71b19 -> - | Ready | Promoted | Succeeded: revision 6ebea71b19 serves
      event Normal Succeeded: revision 6ebea71b19 is promoted
    +5s
      patch deployments/web: replace /spec/replicas 0
    +5s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 3, 6ebea71b19 -> - | Ready | Promoted | Succeeded: revision 6ebea71b19 serves
    "#);
    assert!(cluster.prometheus.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_suspended_canary_holds_everything() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["suspend"] = true.into());
    cluster.deploy("web:2");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 3, 34004e8f4c -> - | Initialized: revision 34004e8f4c serves: suspend is set; weights are held until it is false
    "#);
}

#[tokio::test(start_paused = true)]
async fn the_traffic_leaves_a_target_that_is_deleted() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    cluster.story();
    cluster.server.delete(DEPLOYMENTS, NAMESPACE, NAME).unwrap();
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r"
    +0s
      update canaries/status/web: Failed weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the target was deleted; change the pod template to roll out a fix or try again
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Warning RolledBack: all traffic goes to the primary: the target was deleted
    +0s
      update canaries/status/web: Failed weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: the target was deleted; change the pod template to roll out a fix or try again
    ");
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_comes_again_finds_its_primary() {
    let mut cluster = deleted_with_an_unpromoted_version().await;
    cluster.prometheus.says(Says::Value(100.0));
    cluster.put(CANARIES, app::canary());
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Progressing").await);
    assert_eq!(cluster.image("web-primary"), "web:1", "the version that was not promoted is analysed first");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert_eq!(cluster.image("web-primary"), "web:2");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_was_found_keeps_its_pods() {
    let mut cluster = deleted_with_an_unpromoted_version().await;
    assert_eq!([cluster.replicas("web-primary"), cluster.replicas(NAME)], [3, 0]);
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!(cluster.replicas("web-primary"), 3, "it carries all traffic");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_was_found_gets_its_version_back_too() {
    let mut cluster = deleted_with_an_unpromoted_version().await;
    cluster.prometheus.says(Says::Value(100.0));
    cluster.deploy(STUCK);
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert_eq!(cluster.image("web-primary"), "web:1");
}

// ---- what somebody else does ----

#[tokio::test(start_paused = true)]
async fn pods_that_somebody_asks_for_are_given_to_the_primary() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit(DEPLOYMENTS, NAME, |deployment| deployment["spec"]["replicas"] = 5.into());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 5, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves
      patch deployments/web-primary: replace /spec/replicas 5
      patch deployments/web: replace /spec/replicas 0
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 5, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves
    "#);
    assert_eq!([cluster.replicas("web-primary"), cluster.replicas(NAME)], [5, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_edit_outside_of_the_pod_template_is_no_new_version() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit(DEPLOYMENTS, NAME, |deployment| deployment["metadata"]["annotations"]["note"] = "hello".into());
    cluster.edit(DEPLOYMENTS, NAME, |deployment| deployment["spec"]["minReadySeconds"] = 2.into());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 3, 34004e8f4c -> - | Ready | Promoted | Initialized: revision 34004e8f4c serves
      patch deployments/web-primary: replace /spec/minReadySeconds 2
    "#);
    assert_eq!(cluster.phase(), "Initialized");
}

#[tokio::test(start_paused = true)]
async fn weights_that_somebody_changed_are_put_right_and_nothing_else() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit(HTTP_ROUTES, NAME, |route| {
        route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 50.into();
        route["spec"]["rules"][0]["timeouts"] = json!({"request": "3s"});
        route["spec"]["unknown"] = json!({"kept": [1, 2]});
    });
    let changed = cluster.get(HTTP_ROUTES, NAME);
    cluster.pass().await.unwrap();
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch httproutes/web: replace /spec/rules/0/backendRefs/1/weight 0
    "#);
    let mut expected = changed["spec"].clone();
    expected["rules"][0]["backendRefs"][1]["weight"] = 0.into();
    assert_eq!(cluster.get(HTTP_ROUTES, NAME)["spec"], expected);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_somebody_changed_is_put_right() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit(SERVICES, NAME, |service| service["spec"]["selector"] = json!({"app": NAME}));
    cluster.edit(SERVICES, "web-primary", |service| service["spec"]["selector"] = json!({"app": "other"}));
    cluster.edit(DEPLOYMENTS, "web-primary", |primary| {
        primary["spec"]["template"]["spec"]["containers"][0]["image"] = "web:edited".into();
    });
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch services/web-primary: replace /spec/selector/app "web-primary"
      patch deployments/web-primary: replace /spec/template/spec/containers/0/image "web:1"
      patch services/web: replace /spec/selector/app "web-primary"
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_the_route_is_resolved_in_the_same_pass() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit(HTTP_ROUTES, NAME, |route| route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 50.into());
    let server = cluster.server.clone();
    once(&cluster, is_patch_of_route, move || {
        let patch = json!({"metadata": {"annotations": {"team": "green"}}});
        server.patch(HTTP_ROUTES, NAMESPACE, NAME, &patch).unwrap();
    });
    cluster.pass().await.unwrap();
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch httproutes/web: replace /spec/rules/0/backendRefs/1/weight 0 -> 409
      patch httproutes/web: replace /spec/rules/0/backendRefs/1/weight 0
    "#);
    assert_eq!(cluster.get(HTTP_ROUTES, NAME)["metadata"]["annotations"]["team"], "green");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_the_route_after_another_leader_went_on_is_left_alone() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit(HTTP_ROUTES, NAME, |route| route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 50.into());
    let server = cluster.server.clone();
    once(&cluster, is_patch_of_route, move || {
        let touch = json!({"metadata": {"annotations": {"team": "green"}}});
        server.patch(HTTP_ROUTES, NAMESPACE, NAME, &touch).unwrap();
        server
            .patch(CANARIES, NAMESPACE, NAME, &json!({"status": {"phase": "Progressing", "canaryWeight": 10}}))
            .unwrap();
    });
    let error = cluster.pass().await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      patch httproutes/web: replace /spec/rules/0/backendRefs/1/weight 0 -> 409
    "#);
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_the_canarys_metadata_does_not_disturb_a_pass() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    let server = cluster.server.clone();
    once(&cluster, is_status, move || {
        let patch = json!({"metadata": {"annotations": {"note": "hands off"}}});
        server.patch(CANARIES, NAMESPACE, NAME, &patch).unwrap();
    });
    cluster.pass().await.unwrap();
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-6ebea71b19: web:2, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated -> 409
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch deployments/web: replace /spec/replicas 3
      event Normal NewRevision: revision 6ebea71b19 is being started
    "#);
    assert_eq!(cluster.get(CANARIES, NAME)["metadata"]["annotations"]["note"], "hands off");
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_the_spec_ends_the_pass() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    let server = cluster.server.clone();
    once(&cluster, is_status, move || {
        server.patch(CANARIES, NAMESPACE, NAME, &json!({"spec": {"suspend": true}})).unwrap();
    });
    let error = cluster.pass().await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-6ebea71b19: web:2, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated -> 409
    "#);
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_another_leader_overtook_writes_nothing() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    cluster.story();
    cluster.wait(10).await;
    let server = cluster.server.clone();
    once(&cluster, is_status, move || {
        let patch = json!({"status": {"canaryWeight": 30, "step": 2, "since": "2026-01-01T00:00:20Z"}});
        server.patch(CANARIES, NAMESPACE, NAME, &patch).unwrap();
    });
    let error = cluster.pass().await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    insta::assert_snapshot!(cluster.story(), @r#"
    +10s
      update canaries/status/web: Progressing weight 30 step 2 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 30, step 2 of 3: the next check is at 00:00:25Z -> 409
    "#);
    assert_eq!(cluster.backends(), "web-primary 90, web-canary 10");
}

#[tokio::test(start_paused = true)]
async fn without_certain_leadership_nothing_is_written() {
    let mut cluster = Cluster::with_app().await;
    cluster.leadership = Leadership::lasting(Duration::ZERO);
    cluster.restart();
    cluster.put(CANARIES, app::canary());
    let error = cluster.pass().await.unwrap_err();
    assert_eq!(error.to_string(), "this instance cannot be sure that it leads; it writes nothing");

    let mut cluster = Cluster::at_rest().await;
    cluster.leadership = Leadership::lasting(Duration::from_secs(5));
    cluster.restart();
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    cluster.forget();
    cluster.wait(10).await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.pass().await.unwrap_err();
    assert_eq!(cluster.server.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_retreat_waits_for_nothing() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.wait(10).await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.edit(SERVICES, "web-canary", |service| service["spec"]["selector"] = json!({"app": "other"}));
    cluster.server.set_faults(|request| match request.resource.as_str() {
        "services" | "deployments" | "events" => Fault::Fail(500, "InternalError"),
        _ => Fault::Pass,
    });
    cluster.pass().await.unwrap_err();
    assert_eq!((cluster.phase().as_str(), cluster.backends().as_str()), ("Failed", "web-primary 100, web-canary 0"));
}

#[tokio::test(start_paused = true)]
async fn a_retreat_needs_no_record_of_the_next_version() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.server.set_faults(|request| match request.resource.as_str() {
        "controllerrevisions" => Fault::Fail(403, "Forbidden"),
        _ => Fault::Pass,
    });
    cluster.deploy("web:3");
    cluster.pass().await.unwrap_err();
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0", "what runs now was not analysed");
}

#[tokio::test(start_paused = true)]
async fn a_late_watch_is_no_reason_to_write_again() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    cluster.wait(10).await;
    let before = cluster.get(CANARIES, NAME);
    cluster.pass().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 70, web-canary 30");
    cluster.forget();
    // The same Canary as before, and caches that were not filled again.
    cluster.operator.pass(before).await.unwrap();
    assert_eq!(cluster.server.requests(), []);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_changes_what_is_written_is_named() {
    let mut cluster = Cluster::at_rest().await;
    cluster.server.add_defaults(HTTP_ROUTES, |route| {
        route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 5.into();
    });
    cluster.edit(HTTP_ROUTES, NAME, |route| route["spec"]["hostnames"] = json!(["other.example"]));
    let error = cluster.pass().await.unwrap_err();
    insta::assert_snapshot!(error, @"HTTPRoute shop/web does not keep what Serin writes; look for a webhook or a controller that changes it back");
}

#[tokio::test(start_paused = true)]
async fn objects_of_another_app_are_left_alone() {
    for (kind, mut foreign) in [(SERVICES, app::service()), (DEPLOYMENTS, app::deployment("other:1"))] {
        let mut cluster = Cluster::with_app().await;
        foreign["metadata"]["name"] = "web-primary".into();
        cluster.put(kind, foreign);
        let before = cluster.get(kind, "web-primary");
        cluster.put(CANARIES, app::canary());
        cluster.settle_until(|_| false).await;
        assert_eq!(cluster.get(kind, "web-primary")["spec"], before["spec"], "S10: {}", kind.plural);
        assert!(cluster.condition("Stalled").starts_with("True"), "{}", cluster.condition("Stalled"));
    }
}

// ---- what cannot be carried out ----

#[tokio::test(start_paused = true)]
async fn an_invalid_spec_is_refused_with_a_sentence() {
    let mut cluster = Cluster::with_app().await;
    cluster.put(CANARIES, canary_with(&json!({"stepWeights": [30, 10]})));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: - weight 0 step 0 pods - of null, - -> - | Stalled | InvalidSpec: spec.analysis: stepWeights must rise, but 10 follows 30; write them in ascending order
      event Warning InvalidSpec: spec.analysis: stepWeights must rise, but 10 follows 30; write them in ascending order
    "#);
    cluster.forget();
    cluster.restart();
    cluster.settle().await;
    assert_eq!(cluster.server.requests(), [], "once is enough");
    cluster.edit_spec(|spec| spec["analysis"]["stepWeights"] = json!([10, 30]));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
    assert!(cluster.condition("Stalled").starts_with("False"), "{}", cluster.condition("Stalled"));
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_becomes_invalid_keeps_what_was_recorded() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.edit_spec(|spec| spec["analysis"]["interval"] = "soon".into());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +10s
      update canaries/status/web: Progressing weight 30 step 2 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Stalled | InvalidSpec: spec.analysis.interval: "soon" is not a duration; write for example 30s, 1m or 1m30s
      event Warning InvalidSpec: spec.analysis.interval: "soon" is not a duration; write for example 30s, 1m or 1m30s
    "#);
    assert_eq!(cluster.status()["canaryWeight"], 30);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_told_apart_is_refused() {
    let mut cluster = Cluster::with_app().await;
    cluster.server.delete(DEPLOYMENTS, NAMESPACE, NAME).unwrap();
    let mut deployment = app::deployment("web:1");
    deployment["spec"]["selector"]["matchLabels"] = json!({"tier": "front"});
    cluster.put(DEPLOYMENTS, deployment);
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: - weight 0 step 0 pods - of null, - -> - | Stalled | InvalidTarget: Deployment web: spec.selector.matchLabels has none of the labels app, name, app.kubernetes.io/name; one of them is needed to tell primary and canary apart; name one that it has with --selector-labels
      event Warning InvalidTarget: Deployment web: spec.selector.matchLabels has none of the labels app, name, app.kubernetes.io/name; one of them is needed to tell primary and canary apart; name one that it has with --selector-labels
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_no_serin_wrote_is_refused() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit(CANARIES, NAME, |canary| canary["status"]["phase"] = "Dancing".into());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: Dancing weight 0 step 0 pods Down of 3, 34004e8f4c -> - | Stalled | InvalidStatus: status.phase is Dancing, which is no state of a rollout; to start over, remove it with: kubectl patch canary web --subresource=status --type=json -p '[{"op":"remove","path":"/status"}]'
      event Warning InvalidStatus: status.phase is Dancing, which is no state of a rollout; to start over, remove it with: kubectl patch canary web --subresource=status --type=json -p '[{"op":"remove","path":"/status"}]'
    "#);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_canary_is_left_alone() {
    let mut cluster = Cluster::with_app().await;
    let mut canary = app::canary();
    canary["spec"]["service"]["port"] = "http".into();
    cluster.put(CANARIES, canary);
    assert_eq!(cluster.pass().await.unwrap(), None);
    assert_eq!(cluster.server.requests(), []);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_cannot_be_split_says_what_to_write() {
    let mut cluster = Cluster::with_app().await;
    cluster.edit(HTTP_ROUTES, NAME, |route| route["spec"]["rules"][0]["backendRefs"][0]["name"] = "other".into());
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Stalled"), @"True RouteUnusable: the primary is being made: the route cannot be split: no rule of HTTPRoute web sends to Service web; add {name: web, port: 80} to the backendRefs of the rule that is to be split");
    cluster.edit(HTTP_ROUTES, NAME, |route| route["spec"]["rules"][0]["backendRefs"][0]["name"] = NAME.into());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
}

// ---- metrics ----

#[tokio::test(start_paused = true)]
async fn a_missing_template_is_inconclusive_and_named() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| {
        spec["analysis"]["inconclusiveLimit"] = 2.into();
        spec["analysis"]["metrics"] =
            json!([{"name": "errors", "templateRef": {"name": "errors"}, "thresholdRange": {"max": 1}}]);
    });
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["inconclusiveChecks"] == 1).await);
    insta::assert_snapshot!(cluster.condition("Ready"), @"False Progressing: weight 10, step 1 of 3: errors is unknown: there is no MetricTemplate errors in namespace shop; create it (inconclusive check 1 of 2)");
    assert_eq!(cluster.status()["canaryWeight"], 10);

    // It is found as soon as it is there.
    let address = cluster.prometheus.address.clone();
    cluster.put(METRIC_TEMPLATES, template("errors", &address, None));
    cluster.prometheus.says(Says::Value(0.0));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert!(cluster.prometheus.asked()[0].parameters.contains("web"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_taken_back_or_held() {
    for says in [Says::Nothing, Says::Broken, Says::Value(f64::NAN)] {
        let mut cluster = Cluster::at_rest().await;
        cluster.prometheus.says(says);
        cluster.deploy("web:2");
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Failed", "{says:?}");
        assert_eq!(cluster.status()["failedChecks"], 0, "{says:?}: it is no failed check");

        let mut cluster = Cluster::at_rest().await;
        cluster.edit_spec(|spec| spec["analysis"]["onInconclusive"] = "Hold".into());
        cluster.prometheus.says(says);
        cluster.deploy("web:2");
        assert!(cluster.settle_until(|cluster| cluster.status()["inconclusiveChecks"] == 1).await);
        cluster.forget();
        for _ in 0..10 {
            cluster.wait(10).await;
            cluster.pass().await.unwrap();
        }
        assert_eq!(cluster.status()["canaryWeight"], 10, "{says:?}");
        cluster.prometheus.says(Says::Value(100.0));
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Succeeded", "{says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_come_from_the_secret_each_time() {
    let mut cluster = Cluster::at_rest().await;
    let address = cluster.prometheus.address.clone();
    cluster.put(METRIC_TEMPLATES, template("errors", &address, Some("prometheus")));
    cluster.edit_spec(|spec| {
        spec["analysis"]["inconclusiveLimit"] = 2.into();
        spec["analysis"]["metrics"] =
            json!([{"name": "errors", "templateRef": {"name": "errors"}, "thresholdRange": {"max": 1}}]);
    });
    cluster.prometheus.says(Says::Value(0.0));
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["inconclusiveChecks"] == 1).await);
    insta::assert_snapshot!(cluster.status()["checks"][0]["message"].as_str().unwrap_or_default(), @"errors is unknown: secret prometheus in namespace shop: it does not exist; create it with token, or with username and password");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "prometheus", "namespace": NAMESPACE},
        "data": {"token": "aHVudGVyMg=="},
    });
    cluster.put(SECRETS, secret);
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    let asked = cluster.prometheus.asked();
    assert!(asked.iter().all(|asked| asked.authorization.as_deref() == Some("Bearer hunter2")), "{asked:?}");
    let written = format!("{:?}", cluster.server.writes());
    assert!(!written.contains("hunter2"), "no secret is written anywhere");
}

// ---- the end of a Canary ----

#[tokio::test(start_paused = true)]
async fn an_adopted_app_is_handed_back_as_it_was_found() {
    for revert in [true, false] {
        let mut cluster = Cluster::with_app().await;
        let before = [cluster.get(SERVICES, NAME), cluster.get(HTTP_ROUTES, NAME), cluster.get(DEPLOYMENTS, NAME)];
        cluster.put(CANARIES, app::canary());
        cluster.edit_spec(|spec| spec["revertOnDeletion"] = revert.into());
        cluster.settle().await;
        cluster.forget();
        cluster.delete_canary();
        cluster.settle().await;
        if revert {
            insta::assert_snapshot!(cluster.story(), @r#"
            +0s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back
              patch deployments/web: replace /spec/replicas 3
              event Normal Terminating: the Canary is being deleted; the app is handed back
            +0s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back: the gateway does not report the new weights yet
              patch services/web: remove /metadata/annotations/serin.dev~1original-selector, replace /spec/selector/app "web", add /spec/selector/tier "front"
              patch httproutes/web: replace /spec/rules/0/backendRefs/0/name "web", replace /spec/rules/0/backendRefs/0/weight 1, remove /spec/rules/0/backendRefs/1
            +0s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back
            +5s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back
              patch canaries/web: remove /metadata/finalizers/0
            "#);
        }
        assert_eq!(cluster.find(CANARIES, NAME), None);
        cluster.server.collect_garbage();
        let after = [cluster.get(SERVICES, NAME), cluster.get(HTTP_ROUTES, NAME), cluster.get(DEPLOYMENTS, NAME)];
        for (before, after) in before.into_iter().zip(after) {
            assert_eq!(without_version(after), without_version(before), "revertOnDeletion: {revert}");
        }
        assert_eq!(cluster.left(), ["deployments/web", "httproutes/web", "services/web"], "revertOnDeletion: {revert}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_serin_made_stays_or_goes_as_the_spec_says() {
    for (revert, left) in
        [(true, &["deployments/web"][..]), (false, &["deployments/web", "httproutes/web", "services/web"])]
    {
        let mut cluster = Cluster::new().await;
        cluster.put(DEPLOYMENTS, app::deployment("web:1"));
        cluster.put(CANARIES, app::canary());
        cluster.edit_spec(|spec| spec["revertOnDeletion"] = revert.into());
        cluster.settle().await;
        cluster.forget();
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None);
        cluster.server.collect_garbage();
        assert_eq!(cluster.left(), left, "revertOnDeletion: {revert}");
        if !revert {
            insta::assert_snapshot!(cluster.story(), @r#"
            +0s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back
              patch deployments/web: replace /spec/replicas 3
              event Normal Terminating: the Canary is being deleted; the app is handed back
            +0s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back: the gateway does not report the new weights yet
              patch services/web: replace /spec/selector/app "web"
              patch httproutes/web: replace /spec/rules/0/backendRefs/0/name "web", replace /spec/rules/0/backendRefs/0/weight 1, remove /spec/rules/0/backendRefs/1
            +0s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back
            +5s
              update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> - | Reconciling | Terminating: the app is being handed back
              patch services/web: remove /metadata/ownerReferences/0, remove /metadata/annotations
              patch httproutes/web: remove /metadata/annotations/helm.toolkit.fluxcd.io~1driftDetection, remove /metadata/annotations/kustomize.toolkit.fluxcd.io~1reconcile, remove /metadata/ownerReferences/0
              patch canaries/web: remove /metadata/finalizers/0
            "#);
            assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"], json!({"app": NAME}));
            assert_eq!(cluster.backends(), "web 1");
        }
        assert_eq!(cluster.replicas(NAME), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_not_promoted_does_not_get_the_traffic_by_a_deletion() {
    let mut cluster = deleted_with_an_unpromoted_version().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Terminating: the app is being handed back
      patch services/web-primary: replace /metadata/ownerReferences/0/apiVersion "apps/v1", replace /metadata/ownerReferences/0/kind "Deployment", replace /metadata/ownerReferences/0/uid "00000000-0000-4000-8000-000000000001", remove /metadata/ownerReferences/0/controller
      patch services/web-canary: replace /metadata/ownerReferences/0/apiVersion "apps/v1", replace /metadata/ownerReferences/0/kind "Deployment", replace /metadata/ownerReferences/0/uid "00000000-0000-4000-8000-000000000001", remove /metadata/ownerReferences/0/controller
      patch deployments/web-primary: replace /metadata/ownerReferences/0/apiVersion "apps/v1", replace /metadata/ownerReferences/0/kind "Deployment", replace /metadata/ownerReferences/0/uid "00000000-0000-4000-8000-000000000001", remove /metadata/ownerReferences/0/controller
      event Warning PrimaryKept: the primary goes on serving: the target holds a version that was not promoted
      patch canaries/web: remove /metadata/finalizers/0
    "#);
    assert_eq!(cluster.image("web-primary"), "web:1");
    assert_eq!(cluster.get(DEPLOYMENTS, "web-primary")["metadata"]["ownerReferences"][0]["kind"], "Deployment");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_was_left_on_its_primary_is_handed_back_by_its_next_canary() {
    let mut cluster = Cluster::new().await;
    cluster.put(DEPLOYMENTS, app::deployment("web:1"));
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    cluster.deploy("web:2");
    cluster.delete_canary();
    cluster.settle().await;
    cluster.server.collect_garbage();
    assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"], json!({"app": "web-primary"}));

    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!((cluster.phase(), cluster.image("web-primary")), ("Succeeded".into(), "web:2".into()));
    cluster.delete_canary();
    assert!(cluster.settle_until(|cluster| cluster.find(CANARIES, NAME).is_none()).await, "{}", cluster.story());
    assert_eq!(cluster.get(SERVICES, NAME)["spec"]["selector"], json!({"app": NAME}));
    assert_eq!(cluster.backends(), "web 1");
    cluster.server.collect_garbage();
    assert_eq!(cluster.left(), ["deployments/web", "httproutes/web", "services/web"]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_in_the_middle_of_an_analysis_takes_the_traffic_back() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.delete_canary();
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +10s
      update canaries/status/web: Terminating weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Terminating: the app is being handed back
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      patch services/web-primary: replace /metadata/ownerReferences/0/apiVersion "apps/v1", replace /metadata/ownerReferences/0/kind "Deployment", replace /metadata/ownerReferences/0/uid "00000000-0000-4000-8000-000000000001", remove /metadata/ownerReferences/0/controller
      patch services/web-canary: replace /metadata/ownerReferences/0/apiVersion "apps/v1", replace /metadata/ownerReferences/0/kind "Deployment", replace /metadata/ownerReferences/0/uid "00000000-0000-4000-8000-000000000001", remove /metadata/ownerReferences/0/controller
      patch deployments/web-primary: replace /metadata/ownerReferences/0/apiVersion "apps/v1", replace /metadata/ownerReferences/0/kind "Deployment", replace /metadata/ownerReferences/0/uid "00000000-0000-4000-8000-000000000001", remove /metadata/ownerReferences/0/controller
      event Warning PrimaryKept: the primary goes on serving: the target holds a version that was not promoted
      patch canaries/web: remove /metadata/finalizers/0
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_canary_without_a_primary_yet_goes_at_once() {
    let mut cluster = Cluster::with_app().await;
    let before = cluster.get(SERVICES, NAME);
    cluster.put(CANARIES, app::canary());
    cluster.reacts = false;
    cluster.pass().await.unwrap();
    cluster.delete_canary();
    cluster.reacts = true;
    cluster.settle().await;
    assert_eq!(cluster.find(CANARIES, NAME), None);
    assert_eq!(cluster.get(SERVICES, NAME), before);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_cannot_be_carried_out_can_be_deleted() {
    for (field, value) in [("interval", json!("soon")), ("stepWeights", json!([30, 10]))] {
        let mut cluster = Cluster::at_rest().await;
        cluster.edit_spec(|spec| spec["analysis"][field] = value.clone());
        cluster.settle().await;
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None, "{field}");
        assert_eq!(cluster.replicas(NAME), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_whose_target_was_refused_can_be_deleted() {
    let mut cluster = Cluster::new().await;
    let mut deployment = app::deployment("web:1");
    deployment["spec"]["selector"]["matchLabels"] = json!({"tier": "front"});
    cluster.put(DEPLOYMENTS, deployment);
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert!(cluster.condition("Stalled").starts_with("True InvalidTarget"));
    cluster.delete_canary();
    cluster.settle().await;
    assert_eq!(cluster.find(CANARIES, NAME), None);
    assert_eq!(cluster.left(), ["deployments/web"]);
}

// ---- limits ----

#[tokio::test(start_paused = true)]
async fn old_records_are_collected() {
    let mut cluster = Cluster::at_rest().await;
    for version in 2..=8 {
        cluster.deploy(&format!("web:{version}"));
        cluster.settle().await;
    }
    assert_eq!(cluster.phase(), "Succeeded");
    let mut records = cluster.server.list(CONTROLLER_REVISIONS, None);
    records.sort_by_key(|record| record["revision"].as_i64());
    let image = |record: &Value| record["data"]["template"]["spec"]["containers"][0]["image"].clone();
    let images: Vec<_> = records.iter().map(image).collect();
    assert_eq!(images, ["web:5", "web:6", "web:7", "web:8"], "the one in use, and three more");
}

/// Whatever is under the name by now, nobody has looked at it.
#[tokio::test(start_paused = true)]
async fn what_was_made_anew_is_not_deleted_for_what_it_was() {
    let mut cluster = Cluster::at_rest().await;
    for version in 2..=4 {
        cluster.deploy(&format!("web:{version}"));
        cluster.settle().await;
    }
    cluster.server.set_faults(|request| if request.verb == Verb::Delete { Fault::DropBefore } else { Fault::Pass });
    let doomed = |cluster: &Cluster| {
        let deletion = cluster.server.requests().into_iter().find(|request| request.verb == Verb::Delete);
        deletion.and_then(|request| request.name)
    };
    cluster.deploy("web:5");
    assert!(cluster.settle_until(|cluster| doomed(cluster).is_some()).await);
    cluster.server.clear_faults();
    let name = doomed(&cluster).unwrap();
    let mut anew = cluster.get(CONTROLLER_REVISIONS, &name);
    cluster.server.delete(CONTROLLER_REVISIONS, NAMESPACE, &name).unwrap();
    let metadata = anew["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| !["uid", "resourceVersion", "creationTimestamp"].contains(&field.as_str()));
    cluster.put(CONTROLLER_REVISIONS, anew);
    // The watch still shows the one before.
    let outcome = cluster.operator.pass(cluster.get(CANARIES, NAME)).await;
    assert!(outcome.unwrap_err().is_conflict());
    assert!(cluster.find(CONTROLLER_REVISIONS, &name).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_idle_canary_makes_no_request() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    cluster.settle().await;
    let reached = [Says::Value(100.0), Says::Value(0.0)];
    for (version, says) in reached.into_iter().enumerate() {
        cluster.prometheus.says(says);
        cluster.deploy(&format!("web:{}", version + 3));
        cluster.settle().await;
        cluster.forget();
        for _ in 0..20 {
            cluster.wait(60).await;
            assert_eq!(cluster.pass().await.unwrap(), None, "{}", cluster.phase());
        }
        cluster.restart();
        cluster.pass().await.unwrap();
        assert_eq!(cluster.server.requests(), [], "{}", cluster.phase());
        assert!(cluster.prometheus.asked().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_in_the_middle_of_a_step_makes_no_request() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    cluster.pass().await.unwrap();
    cluster.forget();
    for _ in 0..9 {
        cluster.wait(1).await;
        cluster.pass().await.unwrap();
    }
    assert_eq!(cluster.server.requests(), []);
    assert!(cluster.prometheus.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_five_steps_makes_few_requests() {
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["analysis"]["stepWeights"] = json!([10, 20, 30, 40, 50]));
    cluster.settle().await;
    cluster.forget();
    cluster.deploy("web:2");
    cluster.settle().await;
    let requests = cluster.server.requests();
    println!("{} requests:\n{}", requests.len(), cluster.story());
    assert_eq!(cluster.phase(), "Succeeded");
    assert!(requests.len() <= 30, "{}", requests.len());
    let read: Vec<_> = requests.iter().filter(|request| !request.is_write()).map(Request::target).collect();
    // Before the promotion: is the target still what was asked about? Before the pods are stopped, which is recorded already:
    // is the record the newest?
    assert_eq!(read, ["deployments", "canaries"]);
}

/// The record comes before the write: a write that is late must not shorten what a weight is watched for.
#[tokio::test(start_paused = true)]
async fn an_interval_begins_when_the_weight_is_written() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Progressing").await);
    let late = Duration::from_secs(4);
    cluster.server.set_faults(move |request| if is_patch_of_route(request) { Fault::Delay(late) } else { Fault::Pass });
    let took = cluster.pass_in_time().await;
    assert!(took >= SignedDuration::try_from(late).unwrap(), "{took}");
    assert_eq!(
        (cluster.status()["canaryWeight"].clone(), cluster.backends().as_str()),
        (10.into(), "web-primary 90, web-canary 10")
    );
    for (seconds, weight) in [(7, 10), (4, 30)] {
        cluster.wait(seconds).await;
        cluster.pass_in_time().await;
        assert_eq!(cluster.status()["canaryWeight"], weight);
    }
    cluster.server.clear_faults();
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
}

/// Who resets the weights all the time must not keep Serin from asking how the new version does.
#[tokio::test(start_paused = true)]
async fn weights_that_are_put_right_again_and_again_hold_up_no_check() {
    let mut cluster = Cluster::at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.backends() == "web-primary 90, web-canary 10").await);
    for _ in 0..3 {
        cluster.wait(3).await;
        cluster.edit(HTTP_ROUTES, NAME, |route| route["spec"]["rules"][0]["backendRefs"][1]["weight"] = 50.into());
        cluster.pass().await.unwrap();
        assert_eq!(cluster.backends(), "web-primary 90, web-canary 10");
    }
    assert_eq!(cluster.status()["canaryWeight"], 10);
    cluster.wait(1).await;
    cluster.pass().await.unwrap();
    assert_eq!(cluster.status()["canaryWeight"], 30);
}

// ---- helpers ----

/// The Canary was deleted after a version was taken back, which the target still holds.
async fn deleted_with_an_unpromoted_version() -> Cluster {
    let mut cluster = Cluster::at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    cluster.forget();
    cluster.delete_canary();
    cluster.settle().await;
    assert_eq!(cluster.find(CANARIES, NAME), None);
    cluster.server.collect_garbage();
    cluster
}

/// Does something right before the first request that `picks` arrives.
fn once(cluster: &Cluster, picks: impl Fn(&Request) -> bool + Send + 'static, act: impl FnOnce() + Send + 'static) {
    let mut act = Some(act);
    cluster.server.set_faults(move |request| {
        if picks(request)
            && let Some(act) = act.take()
        {
            act();
        }
        Fault::Pass
    });
}

fn is_patch_of_route(request: &Request) -> bool {
    request.verb == Verb::Patch && request.resource == "httproutes"
}

fn is_status(request: &Request) -> bool {
    request.is_write() && request.target() == "canaries/status"
}

/// The object without what every write changes.
fn without_version(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("generation");
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    object
}
