//! ConfigMaps and Secrets as part of a version: the real reconciler against an API server in this process.

mod common;

use common::app::{self, NAME, NAMESPACE};
use common::cluster::{Cluster, Operator, STUCK, settings};
use common::configs::{ENCODED, at_rest, config_map, secret, with_configs};
use common::prometheus::Says;
use serde_json::{Value, json};
use serin::controller::Settings;
use serin_testing::{
    CANARIES, CONFIG_MAPS, DEPLOYMENTS, Fault, GroupVersionResource, Request, SECRETS, SERVICES, Verb,
};
use std::collections::BTreeSet;

// ---- the life of a config ----

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_does_not_delay_a_retreat() {
    let mut cluster = at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.prometheus.says(Says::Value(50.0));
    cluster.wait(10).await;
    cluster.edit(SECRETS, "token", |token| token["data"]["color"] = "cmVk".into());
    cluster.server.set_faults(|request: &Request| {
        if request.resource == "secrets" && request.verb == Verb::Get { Fault::Hang } else { Fault::Pass }
    });
    let begun = tokio::time::Instant::now();
    let _ = cluster.pass().await;
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_changed_config_is_rolled_out_like_a_changed_image() {
    let mut cluster = at_rest().await;
    assert_eq!(cluster.status()["trackedConfigs"].as_object().unwrap().len(), 2, "{}", cluster.status());
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create configmaps/settings-primary-7ce7f1bc36: , owned by Canary
      create controllerrevisions/web-b08c9dff0e: web:1, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 3e09553481 -> b08c9dff0e | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch deployments/web: replace /spec/replicas 3
      event Normal NewRevision: revision b08c9dff0e is being started
    +0s
      update canaries/status/web: Progressing weight 10 step 1 pods Up of 3, 3e09553481 -> b08c9dff0e | Reconciling | Progressing: weight 10, step 1 of 3: the next check is at 00:00:15Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 90, replace /spec/rules/0/backendRefs/1/weight 10
    +10s
      update canaries/status/web: Progressing weight 30 step 2 pods Up of 3, 3e09553481 -> b08c9dff0e | Reconciling | Progressing: weight 30, step 2 of 3: the next check is at 00:00:25Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 70, replace /spec/rules/0/backendRefs/1/weight 30
    +20s
      update canaries/status/web: Progressing weight 60 step 3 pods Up of 3, 3e09553481 -> b08c9dff0e | Reconciling | Progressing: weight 60, step 3 of 3: the next check is at 00:00:35Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 40, replace /spec/rules/0/backendRefs/1/weight 60
    +30s
      update canaries/status/web: Promoting weight 60 step 3 pods Up of 3, 3e09553481 -> b08c9dff0e | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch deployments/web-primary: replace /metadata/annotations/serin.dev~1revision "b08c9dff0e", replace /spec/template/spec/containers/0/env/0/valueFrom/configMapKeyRef/name "settings-primary-7ce7f1bc36"
      event Normal Promoting: the primary is given revision b08c9dff0e: every check passed at the last step
    +30s
      update canaries/status/web: Finalising weight 0 step 0 pods Up of 3, b08c9dff0e -> - | Reconciling | Finalising: all traffic is going to the primary: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
    +30s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 3, b08c9dff0e -> - | Ready | Promoted | Succeeded: revision b08c9dff0e serves
      event Normal Succeeded: revision b08c9dff0e is promoted
    +35s
      patch deployments/web: replace /spec/replicas 0
    +35s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 3, b08c9dff0e -> - | Ready | Promoted | Succeeded: revision b08c9dff0e serves
      delete configmaps/settings-primary-f7aad57f16:
    "#);
    assert_eq!(primarys(&cluster, "color"), "green");
    assert_eq!(uses(&cluster, NAME), ["secret/token", "settings"], "the target uses what is the user's");
    assert_eq!(cluster.status()["trackedConfigs"].as_object().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_primary_gets_copies_that_do_not_change() {
    let cluster = at_rest().await;
    let copies = copies(&cluster, CONFIG_MAPS);
    assert_eq!(copies.len(), 1);
    insta::assert_yaml_snapshot!(copies[0], @r#"
    apiVersion: v1
    binaryData:
      binary: AAEC
    data:
      color: blue
    immutable: true
    kind: ConfigMap
    metadata:
      annotations:
        helm.toolkit.fluxcd.io/driftDetection: disabled
        kustomize.toolkit.fluxcd.io/reconcile: disabled
        serin.dev/copy-of: settings
      creationTimestamp: "2026-01-01T00:00:00Z"
      labels:
        app.kubernetes.io/managed-by: serin
        serin.dev/canary: web
      name: settings-primary-f7aad57f16
      namespace: shop
      ownerReferences:
        - apiVersion: serin.dev/v1beta1
          controller: true
          kind: Canary
          name: web
          uid: 00000000-0000-4000-8000-000000000007
      resourceVersion: "13"
      uid: 00000000-0000-4000-8000-000000000008
    "#);
    assert_eq!(uses(&cluster, "web-primary"), [name(&secrets(&cluster)[0]), name(&copies[0])].map(prefixed));
    assert_eq!((primarys(&cluster, "color").as_str(), primarys(&cluster, "binary").as_str()), ("blue", "AAEC"));
    assert_eq!(secrets(&cluster)[0]["data"]["password"], ENCODED);
    assert_eq!(secrets(&cluster)[0]["immutable"], true);
}

#[tokio::test(start_paused = true)]
async fn what_is_promoted_is_what_was_analysed_though_the_config_changed_since() {
    let mut cluster = at_rest().await;
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    cluster.reacts = false;
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "red".into());
    cluster.pass().await.unwrap();
    assert_eq!(cluster.phase(), "Promoting");
    assert_eq!(cluster.status()["canaryWeight"], 0, "the pods of the target may have the newer one");
    assert_eq!(primarys(&cluster, "color"), "green");
    cluster.reacts = true;
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), primarys(&cluster, "color").as_str()), ("Succeeded", "red"), "in its turn");
}

#[tokio::test(start_paused = true)]
async fn a_config_that_changes_before_its_copy_is_made_is_never_recorded_as_another() {
    let mut cluster = at_rest().await;
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    let server = cluster.server.clone();
    let mut once = Some(());
    cluster.server.set_faults(move |request| {
        if request.resource == "configmaps" && request.verb == Verb::Get && once.take().is_some() {
            let red = |settings: &mut Value| settings["data"]["color"] = "red".into();
            server.update(CONFIG_MAPS, NAMESPACE, "settings", red).unwrap();
        }
        Fault::Pass
    });
    let error = cluster.pass().await.unwrap_err();
    insta::assert_snapshot!(error, @"ConfigMap shop/settings was changed by somebody else in the middle of this pass");
    assert_eq!(cluster.phase(), "Initialized");
    cluster.settle().await;
    assert_eq!(primarys(&cluster, "color"), "red");
    let colors: BTreeSet<_> =
        copies(&cluster, CONFIG_MAPS).iter().map(|copy| copy["data"]["color"].to_string()).collect();
    assert!(!colors.contains("\"green\""), "{colors:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_of_another_config_are_started_anew_before_they_get_traffic() {
    let mut cluster = at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    insta::assert_snapshot!(cluster.story(), @r"
    +10s
      update canaries/status/web: Progressing weight 0 step 0 pods Stale of 3, 3e09553481 -> 4a7af9187b | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 3 of 3 pods available, 3 updated
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      create configmaps/settings-primary-7ce7f1bc36: , owned by Canary
      create controllerrevisions/web-4a7af9187b: web:2, owned by Canary
      event Normal Superseded: revision 4a7af9187b replaces f81e7465ca in the middle of its analysis; all traffic goes to the primary
      event Normal NewRevision: revision 4a7af9187b is being started
    +10s
      update canaries/status/web: Progressing weight 0 step 0 pods Draining of 3, 3e09553481 -> 4a7af9187b | Reconciling | Progressing: weight 0, step 0 of 3: the canary's pods were started before the configs of this version changed; they are started anew
    +15s
      patch deployments/web: replace /spec/replicas 0
    +15s
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 3e09553481 -> 4a7af9187b | Reconciling | Progressing: weight 0, step 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch deployments/web: replace /spec/replicas 3
    +15s
      update canaries/status/web: Progressing weight 10 step 1 pods Up of 3, 3e09553481 -> 4a7af9187b | Reconciling | Progressing: weight 10, step 1 of 3: the next check is at 00:00:30Z
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 90, replace /spec/rules/0/backendRefs/1/weight 10
    ");
}

#[tokio::test(start_paused = true)]
async fn back_to_the_config_before_there_is_nothing_to_analyse() {
    let mut cluster = at_rest().await;
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "blue".into());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r"
    +10s
      update canaries/status/web: Succeeded weight 0 step 0 pods Up of 3, 3e09553481 -> - | Ready | Promoted | Succeeded: revision 3e09553481 serves: the gateway does not report the new weights yet
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Normal Restored: the target is back at the promoted revision 3e09553481; there is nothing to analyse
    +10s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 3, 3e09553481 -> - | Ready | Promoted | Succeeded: revision 3e09553481 serves
    +15s
      patch deployments/web: replace /spec/replicas 0
    +15s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 3, 3e09553481 -> - | Ready | Promoted | Succeeded: revision 3e09553481 serves
      delete configmaps/settings-primary-7ce7f1bc36:
    ");
    assert_eq!(primarys(&cluster, "color"), "blue");
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_fails_goes_back_to_the_template_and_the_configs_before() {
    let mut cluster = at_rest().await;
    let before = cluster.get(DEPLOYMENTS, "web-primary")["spec"].clone();
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    cluster.deploy(STUCK);
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Promoting").await);
    assert_eq!((cluster.image("web-primary").as_str(), primarys(&cluster, "color").as_str()), (STUCK, "green"));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert_eq!(cluster.get(DEPLOYMENTS, "web-primary")["spec"], before);
    assert_eq!(primarys(&cluster, "color"), "blue");
}

#[tokio::test(start_paused = true)]
async fn a_bad_config_is_taken_back() {
    let mut cluster = at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "red".into());
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), primarys(&cluster, "color").as_str()), ("Failed", "blue"));
    cluster.forget();
    for _ in 0..5 {
        cluster.wait(60).await;
        cluster.pass().await.unwrap();
    }
    assert_eq!(cluster.server.requests(), [], "it is not tried again by itself");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_somebody_deletes_is_made_anew() {
    let mut cluster = at_rest().await;
    let before = copies(&cluster, CONFIG_MAPS);
    cluster.server.delete(CONFIG_MAPS, NAMESPACE, &name(&before[0])).unwrap();
    cluster.settle().await;
    let after = copies(&cluster, CONFIG_MAPS);
    assert_eq!((name(&after[0]), &after[0]["data"]), (name(&before[0]), &before[0]["data"]));
}

// ---- collecting ----

#[tokio::test(start_paused = true)]
async fn copies_that_nobody_needs_are_collected_and_no_others() {
    let mut cluster = at_rest().await;
    for color in ["green", "red", "black"] {
        cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = color.into());
        cluster.settle().await;
        let colors: Vec<_> = copies(&cluster, CONFIG_MAPS).iter().map(|copy| copy["data"]["color"].clone()).collect();
        assert_eq!(colors, [color]);
        assert_eq!(secrets(&cluster).len(), 1, "the Secret's copy is in use all the time");
    }
    cluster.prometheus.says(Says::Value(0.0));
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "white".into());
    cluster.settle().await;
    let colors: BTreeSet<_> =
        copies(&cluster, CONFIG_MAPS).iter().map(|copy| copy["data"]["color"].to_string()).collect();
    assert_eq!(colors, ["\"black\"", "\"white\""].map(str::to_owned).into(), "what failed can be looked at");
    let user = cluster.find(CONFIG_MAPS, "settings");
    assert!(user.is_some() && cluster.find(CONFIG_MAPS, "unrelated").is_some());
}

#[tokio::test(start_paused = true)]
async fn no_copy_is_collected_while_pods_of_the_primary_may_use_it() {
    let mut cluster = at_rest().await;
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    cluster.settle().await;
    // A copy of before, and a primary that is in the middle of an update.
    let mut old = copies(&cluster, CONFIG_MAPS)[0].clone();
    old["metadata"] = json!({
        "name": "settings-primary-0123456789", "namespace": NAMESPACE,
        "labels": old["metadata"]["labels"], "ownerReferences": old["metadata"]["ownerReferences"],
    });
    cluster.put(CONFIG_MAPS, old);
    cluster.reacts = false;
    cluster.edit(DEPLOYMENTS, "web-primary", |primary| primary["status"]["replicas"] = 4.into());
    cluster.pass().await.unwrap();
    assert_eq!(copies(&cluster, CONFIG_MAPS).len(), 2);
    cluster.reacts = true;
    cluster.pass().await.unwrap();
    assert_eq!(copies(&cluster, CONFIG_MAPS).len(), 1);
}

// ---- what is followed ----

#[tokio::test(start_paused = true)]
async fn what_is_opted_out_is_shared() {
    for annotation in ["serin.dev/config-tracking", "flagger.app/config-tracking"] {
        let mut cluster = with_configs().await;
        for (kind, name) in [(CONFIG_MAPS, "settings"), (SECRETS, "token")] {
            cluster.edit(kind, name, |config| config["metadata"]["annotations"] = json!({annotation: "disabled"}));
        }
        cluster.put(CANARIES, app::canary());
        cluster.settle().await;
        assert_eq!(uses(&cluster, "web-primary"), uses(&cluster, NAME));
        assert_eq!(cluster.status()["trackedConfigs"], Value::Null);
        cluster.forget();
        cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
        cluster.settle().await;
        assert_eq!(cluster.server.requests(), [], "{annotation}");
        // To follow it from now on is no new version; what changes from now on is.
        cluster.edit(CONFIG_MAPS, "settings", |settings| settings["metadata"]["annotations"] = Value::Null);
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Initialized");
        cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "red".into());
        cluster.settle().await;
        assert_eq!((cluster.phase().as_str(), primarys(&cluster, "color").as_str()), ("Succeeded", "red"));
    }
}

#[tokio::test(start_paused = true)]
async fn neither_the_switch_nor_an_upgrade_starts_a_rollout() {
    let mut cluster = with_configs().await;
    follow(&mut cluster, false);
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!(uses(&cluster, "web-primary"), uses(&cluster, NAME));
    assert_eq!(cluster.status()["trackedConfigs"], Value::Null);
    let reads = |request: &Request| ["configmaps", "secrets"].contains(&request.resource.as_str());
    assert!(!cluster.server.requests().iter().any(reads), "nothing is read that is not followed");

    let primary = cluster.get(DEPLOYMENTS, "web-primary");
    for on in [true, false, true] {
        follow(&mut cluster, on);
        cluster.settle().await;
        assert_eq!(cluster.phase(), "Initialized");
        assert_eq!(cluster.get(DEPLOYMENTS, "web-primary")["spec"], primary["spec"]);
    }
    assert_eq!(copies(&cluster, CONFIG_MAPS).len(), 0, "there is no record that would need one");
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), primarys(&cluster, "color").as_str()), ("Succeeded", "green"));

    // What was promoted with copies keeps them when nothing is followed any more.
    let primary = cluster.get(DEPLOYMENTS, "web-primary");
    follow(&mut cluster, false);
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "red".into());
    cluster.settle().await;
    assert_eq!(cluster.get(DEPLOYMENTS, "web-primary")["spec"], primary["spec"]);
    assert_eq!(primarys(&cluster, "color"), "green");
}

#[tokio::test(start_paused = true)]
async fn an_optional_config_may_be_missing_and_its_appearance_is_a_version() {
    let mut cluster = Cluster::with_app().await;
    cluster.edit(DEPLOYMENTS, NAME, |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings", "optional": true}}]);
    });
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
    assert_eq!(cluster.status()["trackedConfigs"], json!({"configmap/settings": "absent"}));
    assert_eq!(copies(&cluster, CONFIG_MAPS).len(), 0);
    assert_ne!(uses(&cluster, "web-primary"), ["settings"], "one that comes later is not for the primary");
    cluster.prometheus.says(Says::Value(0.0));
    cluster.put(CONFIG_MAPS, config_map("settings"));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert!(cluster.find(CONFIG_MAPS, &uses(&cluster, "web-primary")[0]).is_none());
    // It goes again: back at what is promoted.
    cluster.server.delete(CONFIG_MAPS, NAMESPACE, "settings").unwrap();
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_config_that_is_needed_and_missing_is_named_and_waited_for() {
    let mut cluster = with_configs().await;
    cluster.server.delete(CONFIG_MAPS, NAMESPACE, "settings").unwrap();
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Stalled"), @"True TargetIncomplete: the primary is being made: ConfigMap settings, which the pod template needs, does not exist; create it, or mark the reference as optional");
    assert!(cluster.find(DEPLOYMENTS, "web-primary").is_none());
    cluster.put(CONFIG_MAPS, config_map("settings"));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
    assert!(cluster.condition("Stalled").starts_with("False"), "{}", cluster.condition("Stalled"));

    // Deleted and made again as it was: nothing is rolled out.
    cluster.forget();
    cluster.server.delete(CONFIG_MAPS, NAMESPACE, "settings").unwrap();
    cluster.settle().await;
    assert!(cluster.condition("Stalled").starts_with("True TargetIncomplete"), "{}", cluster.condition("Stalled"));
    cluster.put(CONFIG_MAPS, config_map("settings"));
    cluster.settle().await;
    assert!(cluster.condition("Ready").starts_with("True"), "{}", cluster.condition("Ready"));
    insta::assert_snapshot!(cluster.story(), @r"
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 3, 3e09553481 -> - | Stalled | TargetIncomplete: revision 3e09553481 serves: ConfigMap settings, which the pod template needs, does not exist; create it, or mark the reference as optional
    +0s
      update canaries/status/web: Initialized weight 0 step 0 pods Down of 3, 3e09553481 -> - | Ready | Promoted | Initialized: revision 3e09553481 serves
    ");
}

#[tokio::test(start_paused = true)]
async fn a_template_that_needs_what_is_missing_gets_no_traffic() {
    let mut cluster = at_rest().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.story();
    cluster.edit(DEPLOYMENTS, NAME, |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "more"}}]);
    });
    cluster.pass().await.unwrap();
    insta::assert_snapshot!(cluster.story(), @r"
    +10s
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 3e09553481 -> f81e7465ca | Stalled | TargetIncomplete: weight 0, step 0 of 3: Secret more, which the pod template needs, does not exist; create it, or mark the reference as optional
      patch httproutes/web: replace /spec/rules/0/backendRefs/0/weight 100, replace /spec/rules/0/backendRefs/1/weight 0
      event Warning Retreated: all traffic goes to the primary: the target changed; Secret more, which the pod template needs, does not exist; create it, or mark the reference as optional
    ");
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    cluster.put(SECRETS, secret("more"));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert_eq!(uses(&cluster, "web-primary").len(), 3);
}

// ---- Secrets ----

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_rolled_out_and_read_three_times() {
    let mut cluster = at_rest().await;
    cluster.edit(SECRETS, "token", |token| token["metadata"]["labels"] = json!({"team": "blue"}));
    cluster.settle().await;
    let reads = |cluster: &Cluster| {
        let requests = cluster.server.requests();
        requests.iter().filter(|request| request.resource == "secrets" && request.verb == Verb::Get).count()
    };
    assert_eq!((reads(&cluster), cluster.phase().as_str()), (1, "Initialized"), "the same content is no version");
    cluster.forget();
    cluster.edit(SECRETS, "token", |token| token["data"]["password"] = "bmV3".into());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert_eq!(reads(&cluster), 3, "once to see it, once for the copy, and once before it is promoted");
    let maps = cluster.server.requests();
    let maps = maps.iter().filter(|request| request.resource == "configmaps" && request.verb == Verb::Get).count();
    assert_eq!(maps, 2, "what has not changed is read before pods begin with it, and before they are promoted");
    assert_eq!(secrets(&cluster)[0]["data"]["password"], "bmV3");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_the_apps_own_is_shared() {
    let mut cluster = Cluster::with_app().await;
    cluster.put(
        SECRETS,
        json!({
            "metadata": {"name": "account", "namespace": NAMESPACE}, "type": "kubernetes.io/service-account-token",
            "data": {"token": ENCODED},
        }),
    );
    cluster.edit(DEPLOYMENTS, NAME, |deployment| {
        deployment["spec"]["template"]["spec"]["volumes"] =
            json!([{"name": "account", "secret": {"secretName": "account"}}]);
    });
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!(
        (cluster.phase().as_str(), uses(&cluster, "web-primary")),
        ("Initialized", vec!["secret/account".into()])
    );
    cluster.edit(SECRETS, "account", |account| account["data"]["token"] = "bmV3".into());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_holds_up_nothing_but_the_steps() {
    let mut cluster = at_rest().await;
    let refuse = |request: &Request| match (request.resource.as_str(), request.verb) {
        ("secrets", Verb::Get) => Fault::Fail(500, "InternalError"),
        _ => Fault::Pass,
    };
    // At rest: no rollout.
    cluster.server.set_faults(refuse);
    cluster.edit(SECRETS, "token", |token| token["data"]["password"] = "bmV3".into());
    cluster.pass().await.unwrap_err();
    assert_eq!(cluster.phase(), "Initialized");
    insta::assert_snapshot!(cluster.condition("Stalled"), @"True TargetIncomplete: revision 3e09553481 serves: Secret token could not be read yet");
    cluster.server.clear_faults();
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await, "once it can be read");

    // In an analysis: no step forward, but a way back.
    cluster.server.set_faults(refuse);
    cluster.edit(SECRETS, "token", |token| token["metadata"]["labels"] = json!({"team": "blue"}));
    cluster.wait(10).await;
    cluster.pass().await.unwrap_err();
    assert_eq!((cluster.status()["canaryWeight"].clone(), cluster.phase().as_str()), (json!(30), "Progressing"));
    cluster.prometheus.says(Says::Value(0.0));
    cluster.wait(10).await;
    cluster.pass().await.unwrap_err();
    assert_eq!((cluster.phase().as_str(), cluster.backends().as_str()), ("Failed", "web-primary 100, web-canary 0"));
}

// ---- others ----

#[tokio::test(start_paused = true)]
async fn two_canaries_that_share_a_config_do_not_touch_each_other() {
    let mut cluster = at_rest().await;
    cluster.put(DEPLOYMENTS, other(&cluster.get(DEPLOYMENTS, NAME)));
    let mut canary = other(&app::canary());
    // Its route would be one more object to make; this is about configs.
    canary["spec"]["skipAnalysis"] = true.into();
    cluster.put(CANARIES, canary);
    cluster.edit(DEPLOYMENTS, "other", |deployment| deployment["spec"]["replicas"] = 3.into());
    settle_other(&mut cluster).await;
    assert_eq!(cluster.get(CANARIES, "other")["status"]["phase"], "Initialized");
    assert_eq!(copies(&cluster, CONFIG_MAPS).len(), 2, "one each");
    let [mine, others] = [uses(&cluster, "web-primary"), uses(&cluster, "other-primary")];
    assert!(mine.iter().all(|name| !others.contains(name)), "{mine:?} {others:?}");

    // One promotes a change, the other takes it back.
    cluster.prometheus.says(Says::Value(0.0));
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    settle_other(&mut cluster).await;
    cluster.settle().await;
    assert_eq!(cluster.get(CANARIES, "other")["status"]["phase"], "Succeeded");
    assert_eq!(cluster.phase(), "Failed");
    let color = |cluster: &Cluster, primary: &str| copy_used(cluster, primary)["data"]["color"].clone();
    assert_eq!((color(&cluster, "web-primary"), color(&cluster, "other-primary")), (json!("blue"), json!("green")));

    // One goes; the other's copies stay.
    cluster.server.delete(CANARIES, NAMESPACE, "other").unwrap();
    settle_other(&mut cluster).await;
    cluster.server.collect_garbage();
    assert!(cluster.find(DEPLOYMENTS, "other-primary").is_none());
    assert_eq!(color(&cluster, "web-primary"), "blue");
    cluster.settle().await;
    assert!(copies(&cluster, CONFIG_MAPS).iter().all(|copy| copy["metadata"]["labels"]["serin.dev/canary"] == NAME));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_outlives_its_canary_keeps_its_copies() {
    let mut cluster = at_rest().await;
    cluster.prometheus.says(Says::Value(0.0));
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "red".into());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    cluster.delete_canary();
    cluster.settle().await;
    cluster.server.collect_garbage();
    assert!(cluster.find(CANARIES, NAME).is_none());
    assert_eq!(primarys(&cluster, "color"), "blue");
    assert_eq!(copies(&cluster, CONFIG_MAPS).len(), 1, "those of the version that failed are gone");
    assert_eq!(copies(&cluster, CONFIG_MAPS)[0]["metadata"]["ownerReferences"][0]["kind"], "Deployment");

    // Another Canary takes it over, rolls out, and collects what its predecessor left.
    cluster.prometheus.says(Says::Value(100.0));
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), primarys(&cluster, "color").as_str()), ("Succeeded", "red"));
    let owners: Vec<_> = copies(&cluster, CONFIG_MAPS)
        .iter()
        .map(|copy| copy["metadata"]["ownerReferences"][0]["kind"].clone())
        .collect();
    assert_eq!(owners, ["Canary"]);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_comes_back_at_once_waits_for_the_records_of_the_one_before_to_go() {
    let mut cluster = at_rest().await;
    cluster.delete_canary();
    cluster.settle().await;
    // The garbage collector takes its time, and the records last.
    for (kind, name) in [(DEPLOYMENTS, "web-primary"), (SERVICES, "web-primary"), (SERVICES, "web-canary")] {
        cluster.server.delete(kind, NAMESPACE, name).unwrap();
    }
    cluster.put(CANARIES, app::canary());
    let error = cluster.pass().await.unwrap_err();
    insta::assert_snapshot!(error, @"ControllerRevision shop/web-3e09553481 is of a deleted Canary of this name; its deletion by the garbage collector is waited for");
    cluster.server.collect_garbage();
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");
    cluster.server.collect_garbage();
    assert_eq!(primarys(&cluster, "color"), "blue");
}

#[tokio::test(start_paused = true)]
async fn an_idle_canary_with_configs_makes_no_request() {
    let mut cluster = at_rest().await;
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = "green".into());
    cluster.settle().await;
    cluster.forget();
    for _ in 0..20 {
        cluster.wait(60).await;
        cluster.edit(CONFIG_MAPS, "unrelated", |unrelated| unrelated["data"]["at"] = "now".into());
        cluster.pass().await.unwrap();
    }
    assert_eq!(cluster.server.requests(), []);
    // A process that begins knows no Secret yet: one request each, once.
    cluster.restart();
    cluster.pass().await.unwrap();
    cluster.pass().await.unwrap();
    let requests = cluster.server.requests();
    assert_eq!(
        requests.iter().map(|request| (request.verb, request.target())).collect::<Vec<_>>(),
        [(Verb::Get, "secrets".into())]
    );
}

// ---- helpers ----

/// Another process, which follows configs or does not.
fn follow(cluster: &mut Cluster, config_tracking: bool) {
    let settings = Settings { config_tracking, ..settings(&cluster.prometheus.address) };
    cluster.restart();
    cluster.operator = Operator::with(&cluster.server, settings, cluster.clock, cluster.leadership.clone());
}

/// The same app and Canary under another name.
fn other(object: &Value) -> Value {
    let mut other: Value = serde_json::from_str(&object.to_string().replace("\"web\"", "\"other\"")).unwrap();
    other["metadata"] = json!({"name": "other", "namespace": NAMESPACE});
    other
}

/// Passes over the other Canary until nothing changes.
async fn settle_other(cluster: &mut Cluster) {
    for _ in 0..40 {
        cluster.react();
        cluster.operator.refresh(&cluster.server);
        let Some(canary) = cluster.find(CANARIES, "other") else { return };
        cluster.operator.pass(canary).await.unwrap();
        cluster.wait(5).await;
    }
}

/// The names of the configs that the pods of a Deployment use: of Secrets in volumes, and of ConfigMaps.
fn uses(cluster: &Cluster, deployment: &str) -> Vec<String> {
    let template = &cluster.get(DEPLOYMENTS, deployment)["spec"]["template"];
    let references = serin::workload::configs::references(template).into_keys();
    let mut names: Vec<_> = references
        .map(|config| match config.kind {
            serin::workload::configs::Kind::ConfigMap => config.name,
            serin::workload::configs::Kind::Secret => format!("secret/{}", config.name),
        })
        .collect();
    names.sort();
    names
}

fn prefixed(name: String) -> String {
    if name.starts_with("token") { format!("secret/{name}") } else { name }
}

/// The copy of the ConfigMap that a primary uses.
fn copy_used(cluster: &Cluster, primary: &str) -> Value {
    let name = uses(cluster, primary).into_iter().find(|name| name.starts_with("settings")).expect("it uses one");
    cluster.get(CONFIG_MAPS, &name)
}

/// What the primary's ConfigMap says.
fn primarys(cluster: &Cluster, key: &str) -> String {
    let copy = copy_used(cluster, "web-primary");
    let found = copy["data"].get(key).or_else(|| copy["binaryData"].get(key)).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

fn copies(cluster: &Cluster, kind: GroupVersionResource) -> Vec<Value> {
    let all = cluster.server.list(kind, None);
    all.into_iter().filter(|object| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "serin").collect()
}

fn secrets(cluster: &Cluster) -> Vec<Value> {
    copies(cluster, SECRETS)
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
