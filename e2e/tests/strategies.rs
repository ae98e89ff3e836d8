//! What each strategy does on a real cluster, under steady load. The numbers S… are those of Flagger's own scenarios.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use serin_e2e::app::{App, Split, Version};
use serin_e2e::canary::Canary;
use serin_e2e::objects::Kind;
use serin_e2e::scenario::scenario;
use serin_e2e::status::Status;
use serin_e2e::wait::{once, wait_for};
use tokio::time::sleep;

const ROLLOUT_LIMIT: Duration = Duration::from_mins(2);
/// The gateway follows a route within a tenth of a second or two, and kube-proxy a Service; on a busy machine it may take this long.
const GATEWAY_FOLLOWS: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s03_s13_blue_green_checks_and_then_moves_everything_at_once() -> Result<()> {
    scenario("s13", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 2, &Canary::default().iterations(3).on_inconclusive("Hold", 5)).await?;
        // Nobody sends anything to a canary without traffic, so the metrics of the gateway say nothing of it.
        let always = json!([{"name": "always", "query": "vector(100)", "thresholdRange": {"min": 99}}]);
        edit_analysis(&app, json!({"metrics": always})).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        load.stop().await?.all_succeeded()?;
        assert_eq!(recording.canary_weights(), [0, 100, 0], "all or nothing: {:#?}", status.history);
        assert_eq!(recording.primaries(), ["v1", "v2"]);
        everybody_gets(&app, "v2").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s04_s14_s20_those_who_match_get_the_canary_and_nobody_else() -> Result<()> {
    scenario("s14", async |scenario| {
        let app = scenario.app();
        let insiders = json!([
            {"headers": {"x-user": {"exact": "insider"}}},
            {"headers": {"cookie": {"regex": "^(.*?;)?(type=insider)(;.*)?$"}}},
        ]);
        let canary = Canary::default().iterations(5).interval(3).analysis("match", insiders);
        app.start(&Version::good("v1"), 2, &canary).await?;
        app.splits(Split { primary: 100, canary: 0 }, Duration::from_secs(10)).await?;
        let before = app.objects().get(Kind::HttpRoute, app.name()).await?;
        let by_header = app.seen_with("x-user", "insider")?;
        let by_cookie = app.seen_with("cookie", "a=b;type=insider")?;
        let almost = app.seen_with("x-user", "insiders")?;
        let load = [app.load()?, almost.load()?, by_header.load()?];

        let revision = app.roll_out(&Version::good("v2")).await?;
        app.status_where("is at weight 100", ROLLOUT_LIMIT, |status| status.canary_weight == 100).await?;
        by_header.leads_to("v2", GATEWAY_FOLLOWS).await?;
        for (client, version) in [(&by_header, "v2"), (&by_cookie, "v2"), (&app, "v1"), (&almost, "v1")] {
            let burst = client.burst(200, 4).await?;
            burst.all_succeeded()?;
            assert_eq!(burst.answered_by(version), 200, "{burst}");
        }
        let tested = app.status().await?;
        ensure!(tested.canary_weight == 100, "the test went on meanwhile: {tested:#?}");

        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        let [others, almost, insiders] = load;
        let promoted = status.decided(&revision, "Promoting").first().context("it was promoted")?.time;
        for load in [others, almost] {
            let report = load.stop().await?;
            report.all_succeeded()?;
            assert_eq!(
                report.within(&(Timestamp::MIN..promoted)).answered_by("v2"),
                0,
                "until the promotion: {report}"
            );
        }
        let report = insiders.stop().await?;
        report.all_succeeded()?;
        assert!(report.within(&(Timestamp::MIN..promoted)).answered_by("v2") > 0, "{report}");
        let after = app.objects().get(Kind::HttpRoute, app.name()).await?;
        assert_eq!(after["spec"], before["spec"], "nothing is left of the test");
        assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
        everybody_gets(&app, "v2").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s05_an_app_that_was_tested_by_match_is_handed_back_as_it_was() -> Result<()> {
    scenario("s05", async |scenario| {
        let app = scenario.app();
        app.deploy(&Version::good("v1"), 2).await?;
        app.serves(2).await?;
        let before = app.objects().get(Kind::HttpRoute, app.name()).await?;
        let insiders = json!([{"headers": {"x-user": {"exact": "insider"}}}]);
        app.apply(&Canary::default().iterations(2).analysis("match", insiders).revert_on_deletion()).await?;
        app.initialized().await?;
        app.scaled_down().await?;
        let insider = app.seen_with("x-user", "insider")?;
        let load = [app.load()?, insider.load()?];
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;

        let canary = app.objects().get(Kind::Canary, app.name()).await?;
        assert_eq!(canary["metadata"]["finalizers"], json!(["serin.dev/finalizer"]));
        app.delete_canary().await?;
        assert_eq!(app.replicas(app.name()).await?, (2, 2), "the app has its pods again");
        let after = app.objects().get(Kind::HttpRoute, app.name()).await?;
        assert_eq!(after["spec"], before["spec"], "the route is as it was");
        sleep(Duration::from_secs(5)).await;
        for load in load {
            load.stop().await?.all_succeeded()?;
        }
        everybody_gets(&app, "v2").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s07_s08_without_an_analysis_what_is_ready_is_promoted_and_nothing_else() -> Result<()> {
    scenario("s07", async |scenario| {
        let app = scenario.app();
        let canary = Canary::default().spec("skipAnalysis", json!(true)).progress_deadline(20);
        app.start(&Version::good("v1"), 2, &canary).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        everybody_gets(&app, "v2").await?;

        let template = app.template(&app.primary()).await?;
        let bad = app.roll_out(&Version::good("v3").without_image()).await?;
        let status = app.ends_as("Failed", &bad, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        assert_eq!(app.template(&app.primary()).await?, template, "the primary is untouched: {:#?}", status.history);
        assert_eq!(app.replicas(&app.primary()).await?, (2, 2));
        assert_eq!(recording.canary_weights(), [0], "the canary never had any traffic");
        load.stop().await?.all_succeeded()?;
        everybody_gets(&app, "v2").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s10_s15_clients_stay_on_the_version_that_they_were_given() -> Result<()> {
    scenario("s15", async |scenario| {
        let app = scenario.app();
        let cookies = json!({"cookieName": "app-new", "primaryCookieName": "app-old", "path": "/", "httpOnly": true});
        let canary = Canary::default().interval(8).steps(&[30, 60]).analysis("sessionAffinity", cookies);
        app.start(&Version::good("v1"), 2, &canary).await?;
        let load = app.load()?;
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&revision, 1).await?;
        let mut stays = Vec::new();
        for (name, version) in [("app-new", "v2"), ("app-old", "v1")] {
            let cookie = given(&app, name).await?;
            assert!(cookie.ends_with("; Path=/; HttpOnly"), "{cookie}");
            let value = cookie.split(';').next().unwrap_or_default();
            let client = app.seen_with("cookie", &format!("theme=dark; {value}"))?;
            for _ in 0..5 {
                let record = client.ask().await;
                assert_eq!(record.version(), Some(version), "{record}");
            }
            stays.push((client, version));
        }
        let status = app.status().await?;
        ensure!((1..100).contains(&status.canary_weight), "the analysis went on meanwhile: {status:#?}");

        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        let deleted = async || Ok(once(stays[0].0.ask().await.cookies() == ["app-new=; Max-Age=0; Path=/; HttpOnly"]));
        wait_for("the old cookie is deleted", GATEWAY_FOLLOWS, deleted).await?;
        assert!(app.ask().await.cookies().is_empty(), "nobody else is given one");
        load.stop().await?.all_succeeded()?;
        everybody_gets(&app, "v2").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s18_s31_own_steps_on_a_route_that_serin_makes_with_the_metadata_asked_for() -> Result<()> {
    scenario("s18", async |scenario| {
        let app = scenario.app();
        let steps = [10, 20, 30, 40, 50, 60];
        app.deploy_alone(&Version::good("v1"), 2).await?;
        let apex = json!({"labels": {"test": "labels-test"}, "annotations": {"test": "annotations-test"}});
        let mut canary = Canary::default().steps(&steps);
        canary = canary.service("apex", apex).service("headers", json!({"response": {"set": {"x-team": "blue"}}}));
        app.apply(&canary).await?;
        app.initialized().await?;
        app.scaled_down().await?;
        for kind in [Kind::Service, Kind::HttpRoute] {
            let object = app.objects().get(kind, app.name()).await?;
            assert_eq!(object["metadata"]["labels"]["test"], "labels-test", "{kind:?}");
            assert_eq!(object["metadata"]["annotations"]["test"], "annotations-test", "{kind:?}");
            assert_eq!(object["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"], "disabled");
        }
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        load.stop().await?.all_succeeded()?;
        let reached: Vec<_> = status.steps(&revision).iter().map(|(_, weight)| *weight).collect();
        assert_eq!(reached, steps.map(i64::from), "{:#?}", status.history);
        assert_eq!(recording.canary_weights(), [0, 10, 20, 30, 40, 50, 60, 0]);
        everybody_gets(&app, "v2").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s35_without_a_gateway_a_version_is_checked_and_promoted() -> Result<()> {
    scenario("s35", async |scenario| {
        let app = scenario.app();
        app.deploy_within(&Version::good("v1"), 2).await?;
        let app = app.seen_within().await?;
        app.serves(2).await?;
        let before = app.objects().get(Kind::Service, app.name()).await?;
        let load = app.load()?;
        let always = json!([{"name": "always", "query": "vector(100)", "thresholdRange": {"min": 99}}]);
        app.apply(&Canary::default().iterations(3).without_route().analysis("metrics", always)).await?;
        app.initialized().await?;
        app.scaled_down().await?;
        let made = app.objects().get(Kind::Service, &app.primary()).await?;
        assert_eq!(made["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"], "disabled");
        let users = app.objects().get(Kind::Service, app.name()).await?;
        assert_eq!(
            users["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"],
            Value::Null,
            "it is the user's"
        );
        assert_eq!(users["spec"]["selector"], json!({"app": app.primary()}));

        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        let promoted = status.decided(&revision, "Promoting").first().context("it was promoted")?.time;
        let report = load.stop().await?;
        report.all_succeeded()?;
        let early = report.within(&(Timestamp::MIN..promoted)).answered_by("v2");
        assert_eq!(early, 0, "until the promotion clients stay where they are: {report}");
        everybody_gets(&app, "v2").await?;
        assert_eq!(app.objects().find(Kind::HttpRoute, app.name()).await?, None, "there is no route");

        let load = app.load()?;
        app.delete_canary().await?;
        sleep(Duration::from_secs(5)).await;
        load.stop().await?.all_succeeded()?;
        let after = app.objects().get(Kind::Service, app.name()).await?;
        assert_eq!(after["spec"], before["spec"], "the Service is as it was");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s35_the_service_itself_moves_to_the_canary_and_back_without_a_failed_request() -> Result<()> {
    scenario("s35-switch", async |scenario| {
        let app = scenario.app();
        app.deploy_within(&Version::good("v1"), 2).await?;
        let app = app.seen_within().await?;
        app.serves(2).await?;
        let canary = Canary::default().iterations(6).without_route().analysis("switchTraffic", json!(true));
        app.apply(&canary).await?;
        app.initialized().await?;
        app.scaled_down().await?;

        let load = app.load()?;
        let revision = app.roll_out(&Version::good("v2")).await?;
        selects(&app, app.name()).await?;
        app.leads_to("v2", GATEWAY_FOLLOWS).await?;
        everybody_gets(&app, "v2").await?;
        assert_eq!(app.status().await?.phase, "Progressing", "all of it was on the canary, and not yet on the primary");
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        selects(&app, &app.primary()).await?;
        sleep(Duration::from_secs(2)).await;
        load.stop().await?.all_succeeded()?;
        everybody_gets(&app, "v2").await?;

        let load = app.load()?;
        let bad = app.roll_out(&Version::good("v3").failing(50)).await?;
        app.ends_as("Failed", &bad, ROLLOUT_LIMIT).await?;
        selects(&app, &app.primary()).await?;
        app.scaled_down().await?;
        let report = load.stop().await?;
        report.failed_only_by(Some("v3"))?;
        assert!(report.failed() > 0, "the bad version had its chance: {report}");
        everybody_gets(&app, "v2").await
    })
    .await
}

/// Traefik answers every request of a rule that copies with 500 and reports nothing, so Serin does not write one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn copies_are_refused_where_the_gateway_would_answer_with_errors() -> Result<()> {
    scenario("mirror", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 1, &Canary::default().iterations(3)).await?;
        let load = app.load()?;
        edit_analysis(&app, json!({"mirror": true})).await?;
        let stalled = |status: &Status| status.is("Stalled", "True");
        let status = app.status_where("is Stalled", Duration::from_secs(20), stalled).await?;
        let condition = status.condition("Stalled").context("it was just there")?;
        assert!(condition.message.contains("leave mirror out"), "{condition:#?}");
        app.splits(Split { primary: 100, canary: 0 }, GATEWAY_FOLLOWS).await?;
        sleep(Duration::from_secs(2)).await;
        load.stop().await?.all_succeeded()
    })
    .await
}

// ---- what the scenarios share

async fn everybody_gets(app: &App, version: &str) -> Result<()> {
    let burst = app.burst(200, 8).await?;
    burst.all_succeeded()?;
    assert_eq!(burst.answered_by(version), 200, "everybody gets {version}: {burst}");
    Ok(())
}

async fn edit_analysis(app: &App, analysis: Value) -> Result<()> {
    app.objects().merge(Kind::Canary, app.name(), json!({"spec": {"analysis": analysis}})).await
}

/// A cookie of this name, as a client is given it who has none.
async fn given(app: &App, name: &str) -> Result<String> {
    let cookie = async || {
        let record = app.ask().await;
        Ok(record.cookies().iter().find(|cookie| cookie.starts_with(&format!("{name}="))).cloned())
    };
    wait_for(&format!("somebody is given {name}"), GATEWAY_FOLLOWS, cookie).await
}

/// Waits until the app's Service selects the pods of a workload.
async fn selects(app: &App, workload: &str) -> Result<()> {
    let selected = async || {
        let service = app.objects().get(Kind::Service, app.name()).await?;
        Ok(once(service["spec"]["selector"]["app"] == workload))
    };
    wait_for(&format!("the Service selects {workload}"), Duration::from_mins(1), selected).await
}
