//! Flagger's own scenarios on the Gateway API, by their numbers, with the load and the assertions that its scripts lack.
//!
//! S11 and S12: metrics from templates, good and bad. S21 to S24: a version that fails, the way back, the same version
//! once more, and its success once what made it fail is mended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use serin_e2e::app::{App, Version};
use serin_e2e::canary::Canary;
use serin_e2e::objects::Kind;
use serin_e2e::scenario::{Scenario, scenario};
use serin_e2e::status::Status;
use tokio::time::sleep;

/// Five steps, each an interval and a scrape long, and what starting and stopping pods takes on a busy machine.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(2);

/// Percent of the canary's answers that are errors, as Traefik counts them.
const ERROR_RATE: &str = r#"
100 * (sum(rate(traefik_service_requests_total{service=~".*-{{ namespace }}-{{ service }}-canary-[0-9]+@kubernetesgateway",code=~"5.."}[{{ interval }}])) or vector(0))
/ sum(rate(traefik_service_requests_total{service=~".*-{{ namespace }}-{{ service }}-canary-[0-9]+@kubernetesgateway"}[{{ interval }}]))
"#;

/// Seconds within which so much of the canary's answers come.
const LATENCY: &str = r#"
histogram_quantile({{ variables.quantile }}, sum(rate(traefik_service_request_duration_seconds_bucket{service=~".*-{{ namespace }}-{{ service }}-canary-[0-9]+@kubernetesgateway"}[{{ interval }}])) by (le))
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s11_metrics_of_templates_promote_a_good_version() -> Result<()> {
    scenario("s11", async |scenario| {
        let app = templated(scenario, 1).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        load.stop().await?.all_succeeded()?;
        assert_eq!(status.steps(&revision), [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)], "{:#?}", status.history);
        assert_eq!(recording.primaries(), ["v1", "v2"]);
        for (metric, limit) in [("error-rate", 1.0), ("latency", 0.5)] {
            let check = status.check(metric).with_context(|| format!("{metric} was checked"))?;
            assert_eq!((check.max, check.verdict.as_str()), (Some(limit), "Pass"), "{check:#?}");
        }
        let burst = app.burst(200, 8).await?;
        assert_eq!(burst.answered_by("v2"), 200, "after the promotion everybody gets v2: {burst}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s12_metrics_of_templates_take_a_bad_version_back() -> Result<()> {
    scenario("s12", async |scenario| {
        let app = templated(scenario, 6).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2").failing(100)).await?;
        let status = app.ends_as("Failed", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        let report = load.stop().await?;
        report.failed_only_by(Some("v2"))?;
        assert_eq!(recording.primaries(), ["v1"], "the primary was never touched");
        assert!(recording.canary_weights().iter().all(|weight| *weight <= 10), "{:?}", recording.canary_weights());
        assert_eq!(status.failed_checks, 6, "it took as many failed checks as the threshold says: {status:#?}");
        let decisions = status.decided(&revision, "RolledBack");
        let [decision] = decisions[..] else { panic!("one rollback is in the history: {:#?}", status.history) };
        assert!(decision.message.contains("error-rate is 100, above the maximum 1"), "{decision:#?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s21_to_s24_a_version_fails_twice_and_is_promoted_once_its_cause_is_mended() -> Result<()> {
    scenario("s21", async |scenario| {
        let app = scenario.app();
        // What makes the version fail is outside of it: a ConfigMap that nobody follows.
        app.deploy_configured(&Version::good("v1"), 2).await?;
        let untracked = json!({"metadata": {"annotations": {"serin.dev/config-tracking": "disabled"}}});
        app.objects().merge(Kind::ConfigMap, &format!("{}-settings", app.name()), untracked).await?;
        set_version(&app, "v1", None).await?;
        app.serves(2).await?;
        app.apply(&Canary::default().threshold(2)).await?;
        app.initialized().await?;
        app.scaled_down().await?;
        app.configure(&Version::good("v1").failing(50)).await?;
        let (load, recording) = (app.load()?, app.record());

        // S21: it fails.
        set_version(&app, "v2", None).await?;
        let bad = app.new_candidate("").await?;
        let status = app.ends_as("Failed", &bad, ROLLOUT_LIMIT).await?;
        assert!(status.is("Promoted", "False"), "{:#?}", status.conditions);
        app.scaled_down().await?;

        // S22: back to what is promoted. Nothing is analysed, and the primary is not touched.
        let analysed = recording.canary_weights().len();
        set_version(&app, "v1", None).await?;
        let succeeded = |status: &Status| status.phase == "Succeeded";
        app.status_where("has Succeeded", Duration::from_secs(30), succeeded).await?;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(recording.canary_weights().len(), analysed, "{:?}", recording.canary_weights());
        assert_eq!(app.status().await?.phase, "Succeeded", "and it stays that way");

        // S23: the same version once more is analysed once more.
        set_version(&app, "v2", None).await?;
        app.status_where("is Progressing", Duration::from_secs(20), |status| status.phase == "Progressing").await?;
        assert_eq!(app.new_candidate("").await?, bad, "the same pods are the same version");
        app.status_where("has Failed", ROLLOUT_LIMIT, |status| status.phase == "Failed").await?;
        app.scaled_down().await?;
        load.stop().await?.failed_only_by(Some("v2"))?;
        assert_eq!(recording.primaries(), ["v1"], "it never reached the primary");

        // S24: the cause is mended, and an annotation of the pod template says: try again.
        app.configure(&Version::good("v1")).await?;
        let load = app.load()?;
        set_version(&app, "v2", Some("once more")).await?;
        let good = app.new_candidate(&bad).await?;
        let status = app.ends_as("Succeeded", &good, ROLLOUT_LIMIT).await?;
        assert_eq!(status.steps(&good), [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)], "{:#?}", status.history);
        sleep(Duration::from_secs(2)).await;
        let burst = app.burst(200, 8).await?;
        load.stop().await?.all_succeeded()?;
        assert_eq!(burst.answered_by("v2"), 200, "after the promotion everybody gets v2: {burst}");
        Ok(())
    })
    .await
}

/// The app with a Canary whose metrics come from two MetricTemplates.
async fn templated(scenario: &Scenario, threshold: u32) -> Result<App> {
    let app = scenario.app();
    for (name, query) in [("error-rate", ERROR_RATE), ("latency", LATENCY)] {
        let provider = json!({"type": "prometheus", "address": "http://prometheus.monitoring:9090"});
        let template = json!({
            "apiVersion": "serin.dev/v1beta1",
            "kind": "MetricTemplate",
            "metadata": {"name": name},
            "spec": {"provider": provider, "query": query},
        });
        app.objects().create(Kind::MetricTemplate, template).await?;
    }
    let metric = |name: &str, max: f64| json!({"name": name, "templateRef": {"name": name}, "interval": "5s", "thresholdRange": {"max": max}});
    let mut latency = metric("latency", 0.5);
    latency["templateVariables"] = json!({"quantile": "0.99"});
    let metrics = json!([metric("error-rate", 1.0), latency]);
    app.start(&Version::good("v1"), 2, &Canary::default().threshold(threshold).analysis("metrics", metrics)).await?;
    Ok(app)
}

/// Sets the version in the pod template, and leaves everything else to the ConfigMap.
async fn set_version(app: &App, version: &str, note: Option<&str>) -> Result<()> {
    let mut containers = app.template(app.name()).await?["spec"]["containers"].take();
    ensure!(containers[0].is_object(), "the app has a container: {containers}");
    containers[0]["env"] = json!([{"name": "VERSION", "value": version}]);
    let annotations = note.map_or(Value::Null, |note| json!({"note": note}));
    let patch =
        json!({"spec": {"template": {"metadata": {"annotations": annotations}, "spec": {"containers": containers}}}});
    app.objects().merge(Kind::Deployment, app.name(), patch).await
}
