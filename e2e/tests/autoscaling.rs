//! Apps with autoscalers on a real cluster. The scenarios may run side by side.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use serin_e2e::app::{App, Split, Version};
use serin_e2e::canary::Canary;
use serin_e2e::objects::Kind;
use serin_e2e::scenario::scenario;
use serin_e2e::wait::{once, wait_for};
use tokio::time::sleep;

/// Five steps, and what starting and stopping pods takes on a busy machine.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(3);
/// What a watch and one write take, many times over.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Long enough for pods to come and go.
const SOON: Duration = Duration::from_secs(30);

/// An HPA for the app, as the older of the two versions that Serin knows: this cluster has no other. Nobody measures
/// pods here, so it never scales by itself, and the test plays its part.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s37_the_hpa_of_the_primary_follows_and_holds_the_pods_of_a_promotion() -> Result<()> {
    scenario("s37", async |scenario| {
        let app = scenario.app();
        app.objects().create(Kind::HorizontalPodAutoscaler, hpa(&app)).await?;
        app.start(&Version::good("v1"), 2, &autoscaled("HorizontalPodAutoscaler", "autoscaling/v2", &app)).await?;
        app.scaled_down().await?;
        released(&app).await?;
        let own = app.objects().get(Kind::HorizontalPodAutoscaler, app.name()).await?["spec"].take();
        let copy = hpa_of_primary(&app).await?;
        assert_eq!(copy["spec"]["scaleTargetRef"]["name"], json!(app.primary()), "{copy:#}");
        assert_eq!(copy["spec"]["metrics"], own["metrics"]);
        assert_eq!([&copy["spec"]["minReplicas"], &copy["spec"]["maxReplicas"]], [2, 4]);

        let edited = Instant::now();
        app.objects().merge(Kind::HorizontalPodAutoscaler, app.name(), json!({"spec": {"metrics": cpu(50)}})).await?;
        let follows = async || Ok(once(hpa_of_primary(&app).await?["spec"]["metrics"] == cpu(50)));
        wait_for("the primary's HPA has the new limit", AT_ONCE, follows).await?;
        println!("  the edit is in the primary's HPA after {:?}", edited.elapsed());

        let load = app.load()?;
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&revision, 1).await?;
        // What the HPA does when the canary gets the load.
        app.objects().merge(Kind::Deployment, app.name(), json!({"spec": {"replicas": 4}})).await?;
        let looking = tokio::time::timeout(ROLLOUT_LIMIT, highest_floor(&app, &revision)).await;
        let floor = looking.context("the rollout does not end")??;
        assert_eq!(floor, 4, "the promotion asks for as many pods as the canary has");
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        released(&app).await?;
        app.scaled_down().await?;
        assert_eq!(app.replicas(&app.primary()).await?, (4, 4), "it scales down by its own HPA, and that sees no load");
        load.stop().await?.all_succeeded()
    })
    .await
}

/// The cluster has KEDA's definition and no KEDA: this is about what Serin writes, and nobody acts on it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s38_a_scaled_object_rests_while_its_target_does() -> Result<()> {
    scenario("s38", async |scenario| {
        let app = scenario.app();
        let query = |name: &str| format!("sum(rate(http_requests_total{{app=\"{name}\",of=\"{name}-two\"}}[30s]))");
        app.objects().create(Kind::ScaledObject, scaled_object(&app, &query(app.name()))).await?;
        let before = app.objects().get(Kind::ScaledObject, app.name()).await?;
        app.start(&Version::good("v1"), 2, &autoscaled("ScaledObject", "keda.sh/v1alpha1", &app)).await?;
        app.scaled_down().await?;
        rests(&app, true).await?;
        let copy = app.objects().get(Kind::ScaledObject, &app.primary()).await?;
        let expected = format!("sum(rate(http_requests_total{{app=\"{}\",of=\"app-two\"}}[30s]))", app.primary());
        assert_eq!(copy["spec"]["triggers"][0]["metadata"]["query"], json!(expected), "a whole word is replaced");
        assert_eq!(pause(&copy), &Value::Null, "the primary never rests");

        let load = app.load()?;
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&revision, 1).await?;
        let own = app.objects().get(Kind::ScaledObject, app.name()).await?;
        assert_eq!(pause(&own), &Value::Null, "{own:#}");
        assert_eq!(own["spec"], before["spec"], "nothing else of the user's is touched");
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        rests(&app, true).await?;
        load.stop().await?.all_succeeded()?;

        app.delete_canary().await?;
        rests(&app, false).await?;
        let own = app.objects().get(Kind::ScaledObject, app.name()).await?;
        assert_eq!(own["metadata"]["annotations"], before["metadata"]["annotations"], "as it was");
        let gone = async || Ok(once(app.objects().find(Kind::ScaledObject, &app.primary()).await?.is_none()));
        wait_for("the primary's ScaledObject goes with the Canary", SOON, gone).await
    })
    .await
}

fn autoscaled(kind: &str, version: &str, app: &App) -> Canary {
    let canary = Canary::default().interval(3).steps(&[20, 50]);
    canary.spec("autoscalerRef", json!({"apiVersion": version, "kind": kind, "name": app.name()}))
}

fn hpa(app: &App) -> Value {
    json!({
        "apiVersion": "autoscaling/v2beta2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": app.name()},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": app.name()},
            "minReplicas": 2, "maxReplicas": 4, "metrics": cpu(99),
        },
    })
}

fn cpu(percent: u32) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
}

fn scaled_object(app: &App, query: &str) -> Value {
    let metadata = json!({"serverAddress": "http://prometheus.monitoring:9090", "query": query, "threshold": "5"});
    json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": app.name(), "annotations": {"example.com/team": "blue"}},
        "spec": {
            "scaleTargetRef": {"name": app.name()}, "minReplicaCount": 1, "maxReplicaCount": 3,
            "triggers": [{"type": "prometheus", "name": "requests", "metadata": metadata}],
        },
    })
}

async fn hpa_of_primary(app: &App) -> Result<Value> {
    app.objects().get(Kind::HorizontalPodAutoscaler, &app.primary()).await
}

/// Waits until the primary's HPA has the range that the user gave.
async fn released(app: &App) -> Result<()> {
    let is_users = async || Ok(once(hpa_of_primary(app).await?["spec"]["minReplicas"] == 2));
    wait_for("the primary's HPA has the user's range", SOON, is_users).await
}

/// Looks on until the rollout ends: all traffic is on the primary only when it has as many pods as the floor says.
/// Answers with the highest floor.
async fn highest_floor(app: &App, revision: &str) -> Result<u64> {
    let mut highest = 2;
    let mut promoted = false;
    while !app.status().await?.ended(revision) {
        let floor = hpa_of_primary(app).await?["spec"]["minReplicas"].as_u64().unwrap_or_default();
        highest = highest.max(floor);
        promoted |= floor > 2;
        let split = app.split().await?;
        let primary = app.objects().get(Kind::Deployment, &app.primary()).await?;
        let available = primary["status"]["availableReplicas"].as_u64().unwrap_or_default();
        if promoted && split == Some(Split { primary: 100, canary: 0 }) {
            assert!(available >= highest, "all traffic is on {available} pods, and {highest} are needed");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(highest)
}

/// Waits until the user's ScaledObject keeps its target at no pods, or does not.
async fn rests(app: &App, expected: bool) -> Result<()> {
    let question = async || {
        let own = app.objects().get(Kind::ScaledObject, app.name()).await?;
        Ok(once(*pause(&own) == if expected { json!("0") } else { Value::Null }))
    };
    wait_for(&format!("the ScaledObject rests: {expected}"), SOON, question).await
}

fn pause(scaled_object: &Value) -> &Value {
    &scaled_object["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"]
}
