//! Apps with autoscalers: the primary's copy, the pods that a promotion needs, and the rest of the target's scaler.

mod common;

use common::app::{NAME, NAMESPACE};
use common::cluster::Cluster;
use common::prometheus::Says;
use common::scalers::{self, autoscale, canary, hpa, scaled_object};
use serde_json::{Value, json};
use serin_testing::{
    AUTOSCALERS, CANARIES, DEPLOYMENTS, GroupVersionResource, HTTP_ROUTES, OLD_AUTOSCALERS, Request, SCALED_OBJECTS,
    Verb,
};

const PRIMARY: &str = "web-primary";

/// By this KEDA keeps a target at a number of pods.
const PAUSED: &str = "autoscaling.keda.sh/paused-replicas";

// ---- the copy ----

#[tokio::test(start_paused = true)]
async fn the_primary_gets_a_copy_of_the_hpa() {
    let mut cluster = scalers::with_hpa().await;
    let before = cluster.get(AUTOSCALERS, NAME);
    cluster.put(CANARIES, canary("HorizontalPodAutoscaler"));
    assert!(cluster.settle_until(|cluster| cluster.find(AUTOSCALERS, PRIMARY).is_some()).await);
    assert_eq!(cluster.get(AUTOSCALERS, PRIMARY)["spec"]["minReplicas"], 3, "as many pods as the app has now");
    cluster.settle().await;
    let copy = cluster.get(AUTOSCALERS, PRIMARY);
    assert_eq!(copy["metadata"]["ownerReferences"][0]["kind"], "Canary");
    insta::assert_yaml_snapshot!(copy["spec"], @r"
    maxReplicas: 6
    metrics:
      - resource:
          name: cpu
          target:
            averageUtilization: 99
            type: Utilization
        type: Resource
    minReplicas: 2
    scaleTargetRef:
      apiVersion: apps/v1
      kind: Deployment
      name: web-primary
    ");
    assert_eq!(cluster.get(AUTOSCALERS, NAME), before, "nothing is written to the user's");
    assert_eq!(cluster.replicas(NAME), 0);
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_the_scaler_reaches_the_primary_at_once() {
    for (kind, resource) in [("HorizontalPodAutoscaler", AUTOSCALERS), ("ScaledObject", SCALED_OBJECTS)] {
        let mut cluster = scalers::at_rest(kind).await;
        cluster.edit(resource, NAME, |scaler| {
            scaler["spec"]["cooldownPeriod"] = 7.into();
            scaler["metadata"]["annotations"]["unrelated"] = "yes".into();
        });
        cluster.pass().await.unwrap();
        assert_eq!(cluster.get(resource, PRIMARY)["spec"]["cooldownPeriod"], 7, "{kind}: in the next pass");
        assert_eq!(cluster.server.writes().len(), 1, "{kind}: {}", cluster.story());
        cluster.edit(resource, NAME, |scaler| drop(scaler["spec"].as_object_mut().unwrap().remove("cooldownPeriod")));
        cluster.pass().await.unwrap();
        assert_eq!(cluster.get(resource, PRIMARY)["spec"].get("cooldownPeriod"), None, "{kind}");
        cluster.edit(resource, PRIMARY, |copy| copy["spec"]["scaleTargetRef"]["name"] = "blog".into());
        cluster.pass().await.unwrap();
        assert_eq!(cluster.get(resource, PRIMARY)["spec"]["scaleTargetRef"]["name"], PRIMARY, "{kind}: a drift");
    }
}

#[tokio::test(start_paused = true)]
async fn the_canary_can_give_the_primary_another_range() {
    let mut cluster = scalers::at_rest("HorizontalPodAutoscaler").await;
    cluster.edit_spec(|spec| {
        spec["autoscalerRef"]["primaryScalerReplicas"] = json!({"minReplicas": 4, "maxReplicas": 9});
    });
    cluster.settle().await;
    let copy = cluster.get(AUTOSCALERS, PRIMARY);
    assert_eq!([&copy["spec"]["minReplicas"], &copy["spec"]["maxReplicas"]], [4, 9]);
}

#[tokio::test(start_paused = true)]
async fn an_old_cluster_has_an_older_version_of_hpas() {
    let mut cluster = Cluster::new().await;
    cluster.server.stop_serving(AUTOSCALERS);
    cluster.restart();
    cluster.put(DEPLOYMENTS, common::app::deployment("web:1"));
    cluster.put(OLD_AUTOSCALERS, hpa_of("autoscaling/v2beta2"));
    for written in ["autoscaling/v2", "autoscaling/v2beta2", "autoscaling/v1"] {
        let mut canary = canary("HorizontalPodAutoscaler");
        canary["spec"]["autoscalerRef"]["apiVersion"] = written.into();
        cluster.put(CANARIES, canary);
        cluster.settle().await;
        assert_eq!(cluster.get(OLD_AUTOSCALERS, PRIMARY)["apiVersion"], "autoscaling/v2beta2", "{written}");
        cluster.delete_canary();
        cluster.settle().await;
        cluster.server.collect_garbage();
        assert_eq!(cluster.find(OLD_AUTOSCALERS, PRIMARY), None, "the copy goes with its Canary");
    }
}

fn hpa_of(version: &str) -> Value {
    let mut hpa = hpa();
    hpa["apiVersion"] = version.into();
    hpa
}

// ---- how many pods ----

#[tokio::test(start_paused = true)]
async fn the_autoscaler_has_its_way_with_the_primary() {
    let mut cluster = scalers::at_rest("HorizontalPodAutoscaler").await;
    for pods in [5, 2, 6] {
        autoscale(&cluster, 0, pods);
        cluster.settle().await;
        assert_eq!(cluster.replicas(PRIMARY), pods);
    }
    assert_eq!(cluster.server.writes(), [], "{}", cluster.story());
    cluster.edit_spec(|spec| drop(spec.as_object_mut().unwrap().remove("autoscalerRef")));
    cluster.settle().await;
    assert_eq!(cluster.replicas(PRIMARY), 3, "without one the app has as many pods as its target had");
}

#[tokio::test(start_paused = true)]
async fn no_traffic_goes_to_a_primary_that_shrank_meanwhile() {
    let mut cluster = scalers::at_rest("HorizontalPodAutoscaler").await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 60).await);
    autoscale(&cluster, 5, 2);
    assert_eq!([cluster.replicas(NAME), cluster.replicas(PRIMARY)], [5, 2], "the canary took the load");
    cluster.react();
    cluster.reacts = false;
    cluster.wait(10).await;
    for _ in 0..3 {
        cluster.pass_over_what_is_there().await.unwrap();
        autoscale(&cluster, 5, 2);
    }
    assert_eq!(cluster.replicas(PRIMARY), 5, "the floor holds against the autoscaler");
    assert_eq!(cluster.get(AUTOSCALERS, PRIMARY)["spec"]["minReplicas"], 5);
    assert_eq!(cluster.phase(), "Promoting");
    assert_eq!(cluster.backends(), "web-primary 40, web-canary 60", "two pods are not enough for everything");

    // Somebody takes pods away: those that are left are ready, and too few.
    cluster.edit(DEPLOYMENTS, PRIMARY, |primary| {
        primary["spec"]["replicas"] = 2.into();
        primary["status"] =
            json!({"observedGeneration": 99, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    });
    cluster.pass_over_what_is_there().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 40, web-canary 60");
    assert_eq!(cluster.replicas(PRIMARY), 5);

    // All five are there, but one that is not ready.
    cluster.edit(DEPLOYMENTS, PRIMARY, |primary| {
        let generation = primary["metadata"]["generation"].clone();
        primary["status"] =
            json!({"observedGeneration": generation, "replicas": 5, "updatedReplicas": 5, "availableReplicas": 4});
    });
    cluster.pass_over_what_is_there().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 40, web-canary 60");

    cluster.reacts = true;
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Finalising").await);
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
    autoscale(&cluster, 5, 2);
    assert_eq!(cluster.replicas(PRIMARY), 5);
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert_eq!(cluster.get(AUTOSCALERS, PRIMARY)["spec"]["minReplicas"], 2, "the floor is gone");
    autoscale(&cluster, 0, 2);
    cluster.settle().await;
    assert_eq!([cluster.replicas(NAME), cluster.replicas(PRIMARY)], [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn the_scaler_is_not_fought_over_the_target() {
    let mut cluster = scalers::at_rest("HorizontalPodAutoscaler").await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    for pods in [6, 2, 4] {
        autoscale(&cluster, pods, 3);
        cluster.pass().await.unwrap();
        assert_eq!(cluster.replicas(NAME), pods);
    }
    cluster.prometheus.says(Says::Value(50.0));
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Failed");
    assert_eq!(cluster.replicas(NAME), 0);
}

#[tokio::test(start_paused = true)]
async fn an_app_is_handed_back_with_the_pods_that_it_needs() {
    let mut cluster = scalers::at_rest("HorizontalPodAutoscaler").await;
    autoscale(&cluster, 0, 6);
    let before = cluster.get(AUTOSCALERS, NAME);
    cluster.delete_canary();
    assert!(cluster.settle_until(|cluster| cluster.find(CANARIES, NAME).is_none()).await);
    cluster.server.collect_garbage();
    assert_eq!(cluster.replicas(NAME), 6);
    assert_eq!(cluster.get(AUTOSCALERS, NAME), before);
    assert_eq!([cluster.find(AUTOSCALERS, PRIMARY), cluster.find(DEPLOYMENTS, PRIMARY)], [None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_stays_keeps_its_scaler() {
    for (kind, resource) in [("HorizontalPodAutoscaler", AUTOSCALERS), ("ScaledObject", SCALED_OBJECTS)] {
        let mut cluster = scalers::at_rest(kind).await;
        cluster.prometheus.says(Says::Value(50.0));
        cluster.deploy("web:2");
        cluster.settle().await;
        cluster.delete_canary();
        cluster.settle().await;
        cluster.server.collect_garbage();
        assert_eq!(cluster.find(CANARIES, NAME), None);
        let copy = cluster.get(resource, PRIMARY);
        assert_eq!(copy["metadata"]["ownerReferences"][0]["kind"], "Deployment", "{kind}: it goes with the target");
        assert_eq!(cluster.get(resource, NAME)["metadata"]["annotations"].get(PAUSED), None, "{kind}");
    }
}

// ---- KEDA ----

#[tokio::test(start_paused = true)]
async fn a_scaled_object_rests_while_its_target_does() {
    let mut cluster = scalers::with_scaled_object().await;
    let before = cluster.get(SCALED_OBJECTS, NAME);
    cluster.put(CANARIES, canary("ScaledObject"));
    cluster.settle().await;
    let query = |cluster: &Cluster, name: &str| {
        cluster.get(SCALED_OBJECTS, name)["spec"]["triggers"][0]["metadata"]["query"].clone()
    };
    assert_eq!(query(&cluster, PRIMARY), "sum(rate(requests{app=\"web-primary\"}[30s]))");
    assert_eq!(query(&cluster, NAME), "sum(rate(requests{app=\"web\"}[30s]))");
    assert_eq!(paused(&cluster, NAME), "0");
    assert_eq!(paused(&cluster, PRIMARY), json!(null), "the primary never rests");

    cluster.deploy("web:2");
    cluster.forget();
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    assert_eq!(without_versions(cluster.get(SCALED_OBJECTS, NAME)), without_versions(before.clone()));
    let resumed = place(&cluster, "scaledobjects", NAME);
    assert!(resumed < place(&cluster, "deployments", NAME), "it wakes up before pods are started: {}", cluster.story());
    cluster.forget();
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    assert_eq!(paused(&cluster, NAME), "0");
    assert!(place(&cluster, "scaledobjects", NAME) < place(&cluster, "deployments", NAME), "{}", cluster.story());
    assert_eq!(cluster.replicas(NAME), 0);

    cluster
        .edit(SCALED_OBJECTS, NAME, |own| drop(own["metadata"]["annotations"].as_object_mut().unwrap().remove(PAUSED)));
    cluster.pass().await.unwrap();
    assert_eq!(paused(&cluster, NAME), "0", "a drift is repaired");

    cluster.delete_canary();
    cluster.settle().await;
    cluster.server.collect_garbage();
    assert_eq!(without_versions(cluster.get(SCALED_OBJECTS, NAME)), without_versions(before));
    assert_eq!(cluster.find(SCALED_OBJECTS, PRIMARY), None);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_a_canary_that_is_gone_does_not_stay() {
    let mut cluster = scalers::at_rest("ScaledObject").await;
    cluster.edit(SCALED_OBJECTS, NAME, |own| {
        own["metadata"]["annotations"]["serin.dev/paused-by"] = "one-that-is-gone".into();
    });
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    assert_eq!(paused(&cluster, NAME), json!(null));
}

#[tokio::test(start_paused = true)]
async fn a_query_of_the_primary_can_be_given() {
    let mut cluster = scalers::at_rest("ScaledObject").await;
    let queries = json!({"requests": "sum(rate(requests{pod=~\"web-primary-.*\"}[30s]))"});
    cluster.edit_spec(|spec| spec["autoscalerRef"]["primaryScalerQueries"] = queries.clone());
    cluster.settle().await;
    let copy = cluster.get(SCALED_OBJECTS, PRIMARY);
    assert_eq!(copy["spec"]["triggers"][0]["metadata"]["query"], queries["requests"]);
    cluster.edit_spec(|spec| spec["autoscalerRef"]["primaryScalerQueries"] = json!({"reqests": "typo"}));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Ready"), @r"
    False TargetIncomplete: revision 34004e8f4c serves: spec.autoscalerRef.primaryScalerQueries: ScaledObject web has no trigger reqests; write one of: requests. A trigger is called what its name field says
    ");
}

fn paused(cluster: &Cluster, name: &str) -> Value {
    cluster.get(SCALED_OBJECTS, name)["metadata"]["annotations"][PAUSED].clone()
}

fn without_versions(mut object: Value) -> Value {
    for field in ["resourceVersion", "generation"] {
        object["metadata"][field] = json!(null);
    }
    object
}

/// When an object was changed first.
fn place(cluster: &Cluster, resource: &str, name: &str) -> Option<u64> {
    let changes = |write: &&Request| {
        write.verb == Verb::Patch && write.resource == resource && write.name.as_deref() == Some(name)
    };
    cluster.server.writes().iter().find(changes).map(|write| write.ordinal)
}

// ---- what cannot be followed ----

#[tokio::test(start_paused = true)]
async fn a_scaler_that_is_not_there_is_waited_for() {
    let mut cluster = Cluster::with_app().await;
    cluster.put(CANARIES, canary("HorizontalPodAutoscaler"));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Stalled"), @r"
    True TargetIncomplete: the primary is being made: spec.autoscalerRef: there is no HorizontalPodAutoscaler web; create it, or remove autoscalerRef
    ");
    assert_eq!(cluster.find(DEPLOYMENTS, PRIMARY), None, "nothing is begun");
    cluster.put(AUTOSCALERS, hpa());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized");

    cluster.server.delete(AUTOSCALERS, NAMESPACE, NAME).unwrap();
    cluster.deploy("web:2");
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Stalled"), @r"
    True TargetIncomplete: revision 34004e8f4c serves: spec.autoscalerRef: there is no HorizontalPodAutoscaler web; create it, or remove autoscalerRef
    ");
    assert_eq!(cluster.image(PRIMARY), "web:1");
    assert!(cluster.find(AUTOSCALERS, PRIMARY).is_some(), "the primary's copy stays");
    cluster.put(AUTOSCALERS, hpa());
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), cluster.image(PRIMARY).as_str()), ("Succeeded", "web:2"), "nothing is lost");
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_answered_without_the_scaler() {
    let mut cluster = scalers::at_rest("HorizontalPodAutoscaler").await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 30).await);
    cluster.server.delete(AUTOSCALERS, NAMESPACE, NAME).unwrap();
    cluster.pass().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 70, web-canary 30");
    cluster.prometheus.says(Says::Value(50.0));
    cluster.wait(10).await;
    cluster.pass().await.unwrap();
    assert_eq!(cluster.backends(), "web-primary 100, web-canary 0");
}

#[tokio::test(start_paused = true)]
async fn a_scaler_of_something_else_is_refused() {
    let mut cluster = Cluster::with_app().await;
    let mut other = hpa();
    other["spec"]["scaleTargetRef"]["name"] = "blog".into();
    cluster.put(AUTOSCALERS, other.clone());
    cluster.put(CANARIES, canary("HorizontalPodAutoscaler"));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Stalled"), @r"
    True TargetIncomplete: the primary is being made: spec.autoscalerRef: HorizontalPodAutoscaler web scales Deployment blog; write Deployment web in its spec.scaleTargetRef, or name the scaler of Deployment web
    ");
    assert_eq!(cluster.find(AUTOSCALERS, PRIMARY), None);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_says_so() {
    let mut cluster = Cluster::with_app().await;
    cluster.server.stop_serving(SCALED_OBJECTS);
    cluster.restart();
    cluster.put(CANARIES, canary("ScaledObject"));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Stalled"), @r"
    True TargetIncomplete: the primary is being made: spec.autoscalerRef: the API server serves no ScaledObject; install KEDA and restart Serin, or remove autoscalerRef
    ");
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_scaler_is_not_touched() {
    let mut cluster = scalers::with_hpa().await;
    let mut foreign = hpa();
    foreign["metadata"]["name"] = PRIMARY.into();
    let foreign = cluster.put(AUTOSCALERS, foreign);
    cluster.put(CANARIES, canary("HorizontalPodAutoscaler"));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.condition("Stalled"), @r"
    True InvalidTarget: HorizontalPodAutoscaler web-primary exists and is not Serin's; delete or rename it, or hand it over to Serin with: kubectl annotate HorizontalPodAutoscaler web-primary serin.dev/adopt=true
    ");
    assert_eq!(cluster.get(AUTOSCALERS, PRIMARY), foreign);
}

#[tokio::test(start_paused = true)]
async fn another_reference_takes_back_what_was_done_for_the_one_before() {
    let mut cluster = scalers::at_rest("ScaledObject").await;
    cluster.put(AUTOSCALERS, hpa());
    cluster.edit_spec(|spec| spec["autoscalerRef"]["kind"] = "HorizontalPodAutoscaler".into());
    cluster.settle().await;
    assert_eq!(cluster.find(SCALED_OBJECTS, PRIMARY), None);
    let resumed = cluster.get(SCALED_OBJECTS, NAME);
    assert_eq!(resumed["metadata"]["annotations"], scaled_object()["metadata"]["annotations"]);
    assert!(cluster.find(AUTOSCALERS, PRIMARY).is_some());

    let mut other = hpa();
    other["metadata"]["name"] = "other".into();
    cluster.put(AUTOSCALERS, other);
    cluster.edit_spec(|spec| spec["autoscalerRef"]["name"] = "other".into());
    cluster.settle().await;
    assert_eq!(names(&cluster, AUTOSCALERS), ["other", "other-primary", "web"]);
    cluster.edit_spec(|spec| drop(spec.as_object_mut().unwrap().remove("autoscalerRef")));
    cluster.settle().await;
    assert_eq!(names(&cluster, AUTOSCALERS), ["other", "web"]);
    assert_eq!(cluster.get(HTTP_ROUTES, NAME)["spec"]["rules"][0]["backendRefs"][0]["name"], PRIMARY);
}

fn names(cluster: &Cluster, kind: GroupVersionResource) -> Vec<String> {
    let objects = cluster.server.list(kind, None);
    let mut names: Vec<_> =
        objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}
