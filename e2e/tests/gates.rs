//! Webhooks and orders on a real cluster, under steady load: gates hold, people open them, and a rollback webhook is heeded.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use serin_e2e::app::{App, Split, Version};
use serin_e2e::canary::Canary;
use serin_e2e::objects::Kind;
use serin_e2e::scenario::scenario;
use serin_e2e::status::Status;
use serin_e2e::webhooks::Webhooks;
use tokio::time::{Instant, sleep};

/// Two steps, each an interval and a scrape long, and what starting and stopping pods takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

const ALL_ON_PRIMARY: Split = Split { primary: 100, canary: 0 };

/// What `kubectl annotate` does, under a name of its own.
async fn order(app: &App, written: &str) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {"serin.dev/command": written}}});
    let parameters = PatchParams { field_manager: Some("release-bot".to_owned()), ..PatchParams::default() };
    app.objects().api(Kind::Canary).patch(app.name(), &parameters, &Patch::Merge(&patch)).await?;
    Ok(())
}

async fn ordered(app: &App) -> Result<bool> {
    let canary = app.objects().get(Kind::Canary, app.name()).await?;
    Ok(canary["metadata"]["annotations"].get("serin.dev/command").is_some())
}

fn said(status: &Status, reason: &str, text: &str) -> bool {
    status.history.iter().any(|decision| decision.reason == reason && decision.message.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s04_hooks_are_asked_in_their_turn_and_a_gate_holds_the_promotion() -> Result<()> {
    scenario("s04", async |scenario| {
        let (app, server) = (scenario.app(), Webhooks::start().await?);
        let kinds = ["pre-rollout", "rollout", "confirm-promotion", "post-rollout"];
        let webhooks: Vec<_> = kinds.iter().map(|kind| server.webhook(kind)).collect();
        server.answer("confirm-promotion", 403);
        server.answer("rollout", 204);
        let canary = Canary::default().steps(&[20, 50]).analysis("webhooks", json!(webhooks));
        app.start(&Version::good("v1"), 2, &canary).await?;
        ensure!(server.asked("rollout").is_empty(), "nothing is asked while nothing is rolled out");

        let load = app.load()?;
        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.status_where("the gate holds", LIMIT, |status| status.waiting_reason() == "Gate").await?;
        assert_eq!((status.phase.as_str(), status.canary_weight), ("WaitingPromotion", 50));
        let before = server.asked("confirm-promotion").len();
        sleep(Duration::from_secs(5)).await;
        let asked = server.asked("confirm-promotion");
        assert!(asked.len() > before, "it is asked again");
        let keys: BTreeSet<_> = asked.iter().map(|letter| &letter.key).collect();
        assert_eq!(keys.len(), asked.len(), "each round is a question of its own");
        assert_eq!(app.status().await?.canary_weight, 50, "the weight is held, and shown");
        assert_eq!(server.asked("pre-rollout").len(), 1);
        assert!(server.asked("post-rollout").is_empty());
        assert_eq!(asked[0].body["canaryWeight"], 50);
        assert_eq!(asked[0].body["revision"], revision.as_str());

        server.answer("confirm-promotion", 200);
        app.ends_as("Succeeded", &revision, LIMIT).await?;
        app.scaled_down().await?;
        let told = server.asked("post-rollout");
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(told[0].body["phase"], "Succeeded");
        load.stop().await?.all_succeeded()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s35_a_rollout_waits_to_be_confirmed_and_a_person_can_do_it_too() -> Result<()> {
    scenario("s35", async |scenario| {
        let (app, server) = (scenario.app(), Webhooks::start().await?);
        server.answer("confirm-rollout", 403);
        let webhooks = json!([server.webhook("confirm-rollout")]);
        let canary = Canary::default().steps(&[20, 50]).analysis("webhooks", webhooks);
        app.start(&Version::good("v1"), 2, &canary).await?;
        app.scaled_down().await?;

        let load = app.load()?;
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.status_where("it waits", LIMIT, |status| status.phase == "Waiting").await?;
        sleep(Duration::from_secs(6)).await;
        assert_eq!(app.replicas(app.name()).await?.0, 0, "no pod is started before it is confirmed");
        assert!(server.asked("confirm-rollout").len() >= 2);
        order(&app, "aprove").await?;
        app.status_where("the order is refused", LIMIT, |status| said(status, "OrderRefused", "aprove by release-bot"))
            .await?;
        order(&app, "approve").await?;
        app.reaches_step(&revision, 1).await?;
        let status = app.status().await?;
        assert!(said(&status, "Ordered", "approved by release-bot"), "{:#?}", status.history);
        assert!(!ordered(&app).await?, "an order that was taken is removed");
        app.ends_as("Succeeded", &revision, LIMIT).await?;

        // The same by the webhook.
        let revision = app.roll_out(&Version::good("v3")).await?;
        app.status_where("it waits again", LIMIT, |status| status.phase == "Waiting").await?;
        server.answer("confirm-rollout", 202);
        app.ends_as("Succeeded", &revision, LIMIT).await?;
        load.stop().await?.all_succeeded()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn a_rollback_webhook_and_an_order_take_a_version_back_under_traffic() -> Result<()> {
    scenario("rollback", async |scenario| {
        let (app, server) = (scenario.app(), Webhooks::start().await?);
        server.answer("rollback", 403);
        let webhooks = json!([server.webhook("rollback"), server.webhook("event")]);
        let canary = Canary::default().steps(&[20, 50, 80]).interval(2).analysis("webhooks", webhooks);
        app.start(&Version::good("v1"), 2, &canary).await?;
        let load = app.load()?;
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&revision, 1).await?;
        server.answer("rollback", 200);
        let status = app.ends_as("Failed", &revision, Duration::from_secs(15)).await?;
        assert!(said(&status, "RolledBack", "the rollback webhook rollback asks for it"), "{:#?}", status.history);
        app.splits(ALL_ON_PRIMARY, Duration::from_secs(5)).await?;
        app.scaled_down().await?;

        server.answer("rollback", 403);
        order(&app, "retry").await?;
        app.status_where("it is analysed again", LIMIT, |status| status.canary_weight == 20).await?;
        order(&app, "pause").await?;
        app.status_where("it is paused", LIMIT, |status| said(status, "Ordered", "paused by release-bot")).await?;
        let paused = app.status().await?.canary_weight;
        sleep(Duration::from_secs(6)).await;
        assert_eq!(app.status().await?.canary_weight, paused, "nothing rises while it is paused");
        let began = Instant::now();
        order(&app, "abort").await?;
        app.splits(ALL_ON_PRIMARY, Duration::from_secs(5)).await?;
        println!("aborted: all traffic on the primary after {} ms", began.elapsed().as_millis());
        app.status_where("it has failed", LIMIT, |status| status.phase == "Failed").await?;
        app.scaled_down().await?;
        let told = server
            .asked("event")
            .iter()
            .map(|letter| letter.body["metadata"]["eventMessage"].clone())
            .collect::<Vec<_>>();
        assert!(
            told.iter().any(|text| text.as_str().is_some_and(|text| text.contains("aborted by release-bot"))),
            "{told:#?}"
        );
        load.stop().await?.all_succeeded()
    })
    .await
}
