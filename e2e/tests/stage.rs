//! The stage on which the scenarios play, without Serin: what fails here is no fault of Serin's.

use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use serin_e2e::app::{Split, Version};
use serin_e2e::objects::Kind;
use serin_e2e::scenario::scenario;
use serin_e2e::wait::{once, wait_for};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e00_cluster_rolls_an_app_and_splits_its_traffic_without_a_failed_request() -> Result<()> {
    scenario("e00", async |scenario| {
        let app = scenario.app();
        app.deploy(&Version::good("v1"), 2).await?;
        app.serves(2).await?;
        let (load, recording) = (app.load()?, app.record());
        sleep(Duration::from_secs(1)).await;

        app.set_version(&Version::good("v2")).await?;
        let rolled = async || {
            let status = &app.objects().get(Kind::Deployment, "app").await?["status"];
            Ok(once(status["updatedReplicas"] == 2 && status["replicas"] == 2 && status["availableReplicas"] == 2))
        };
        wait_for("the Deployment has rolled to v2", Duration::from_mins(1), rolled).await?;

        // A second version beside the first, as Serin would have it.
        let canary = scenario.app_named("app-canary");
        canary.deploy(&Version::good("v3"), 1).await?;
        canary.serves(1).await?;
        let primary = scenario.app_named("app-primary");
        primary.deploy(&Version::good("v2"), 1).await?;
        primary.serves(1).await?;
        let moment = Timestamp::now();
        let backends = json!([{"name": "app-primary", "port": 80, "weight": 100}, {"name": "app-canary", "port": 80, "weight": 0}]);
        let rules = json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}]);
        app.objects().merge(Kind::HttpRoute, "app", json!({"spec": {"rules": rules}})).await?;
        for weight in [10, 50, 0] {
            app.overwrite_split(Split { primary: 100 - weight, canary: weight }).await?;
            sleep(Duration::from_secs(1)).await;
            let burst = app.burst(1_000, 8).await?;
            burst.all_succeeded()?;
            let share = burst.share("v3").unwrap_or(f64::NAN);
            println!("  at weight {weight} the app sees {share} %");
            assert!((share - f64::from(i32::try_from(weight)?)).abs() <= 3.0, "weight {weight}: {burst}");
        }
        sleep(Duration::from_secs(1)).await;
        let report = load.stop().await?;
        println!("  {report}");
        report.all_succeeded()?;
        let versions: Vec<_> = report.by_version().into_keys().collect();
        assert_eq!(versions, ["v1", "v2", "v3"], "every version had its time: {report}");
        let splits = recording.splits_since(moment - SignedDuration::from_secs(1));
        let weights: Vec<_> = splits.iter().map(|(_, split)| split.canary).collect();
        assert_eq!(weights, [0, 10, 50, 0], "the recording misses nothing");
        Ok(())
    })
    .await
}
