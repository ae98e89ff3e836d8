//! What a rollout does on a real cluster, under steady load. The scenarios may run side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_e2e::app::{App, Split, Version, recorded_revisions};
use serin_e2e::canary::Canary;
use serin_e2e::load::Report;
use serin_e2e::objects::Kind;
use serin_e2e::recording::Recording;
use serin_e2e::scenario::scenario;
use serin_e2e::status::{Status, names};
use serin_e2e::wait::{once, wait_for};
use tokio::time::sleep;

const ALL_ON_PRIMARY: Split = Split { primary: 100, canary: 0 };
/// Five steps, each an interval and a scrape long, and what starting and stopping pods takes on a busy machine.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(2);
/// The gateway follows a route within a tenth of a second or two; this is when it is done for sure.
const GATEWAY_FOLLOWS: Duration = Duration::from_secs(2);
/// Two clocks of one machine, and times that may be written in whole seconds.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e01_serin_takes_over_a_running_app_without_a_failed_request() -> Result<()> {
    scenario("e01", async |scenario| {
        let app = scenario.app();
        app.deploy(&Version::good("v1"), 2).await?;
        app.serves(2).await?;
        let load = app.load()?;
        sleep(Duration::from_secs(2)).await;
        app.apply(&Canary::default()).await?;
        app.initialized().await?;
        app.splits(ALL_ON_PRIMARY, Duration::from_secs(10)).await?;
        app.scaled_down().await?;
        sleep(Duration::from_secs(2)).await;

        let burst = app.burst(300, 8).await?;
        let report = load.stop().await?;
        report.all_succeeded()?;
        burst.all_succeeded()?;
        let elsewhere = burst.only(|record| !answered_by_pod_of(record.host(), &app.primary()));
        assert_eq!(elsewhere.total(), 0, "the primary answers everything, and not {:?}", elsewhere.records.first());
        assert_eq!(app.replicas(&app.primary()).await?, (2, 2), "the primary has the replicas that the app had");
        let status = app.status().await?;
        assert!(!status.promoted().is_empty(), "the revision that the primary runs is known: {status:#?}");
        assert!(status.is("Ready", "True") && status.is("Promoted", "True"), "{:#?}", status.conditions);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e02_good_version_is_promoted_step_by_step() -> Result<()> {
    scenario("e02", async |scenario| {
        let app = scenario.app();
        // Long enough at each step for a burst of more than a thousand requests between two changes.
        app.start(&Version::good("v1"), 2, &Canary::default().interval(3)).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.reaches_step(&revision, 1).await?;
        assert!(status.is("Promoted", "False"), "a wait for Promoted cannot end too early: {:#?}", status.conditions);

        let measuring = tokio::time::timeout(ROLLOUT_LIMIT, measure_steps(&app)).await;
        let measured = measuring.context("the rollout does not get beyond its steps")??;
        assert!(measured.len() >= 2, "at least two of the five steps are measured: {measured:?}");
        for (weight, share) in &measured {
            let difference = (share - f64::from(*weight)).abs();
            assert!(difference <= 3.0, "at weight {weight} the app sees {share} % of the requests: {measured:?}");
        }

        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        sleep(Duration::from_secs(2)).await;
        let burst = app.burst(200, 8).await?;
        load.stop().await?.all_succeeded()?;
        burst.all_succeeded()?;
        assert_eq!(burst.answered_by("v2"), 200, "after the promotion everybody gets v2: {burst}");
        assert_eq!(status.steps(&revision), [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)], "{:#?}", status.history);
        assert!(status.is("Ready", "True") && status.is("Promoted", "True"), "{:#?}", status.conditions);
        assert_rose_step_by_step(&recording, &[10, 20, 30, 40, 50]);
        assert_promoted_what_was_analysed(&app).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e03_bad_version_is_rolled_back() -> Result<()> {
    scenario("e03", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 2, &Canary::default().threshold(2)).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2").failing(30)).await?;
        let status = app.ends_as("Failed", &revision, ROLLOUT_LIMIT).await?;
        let back = assert_rolled_back(&app, &recording, &status, &revision, "request-success-rate", 99.0).await?;
        let check = status.check("request-success-rate").and_then(|check| check.value).unwrap_or(100.0);
        assert!(check < 99.0, "the value that broke the limit is shown: {:#?}", status.checks);
        let failed = status.decided(&revision, "CheckFailed").len();
        assert!((1..=2).contains(&failed), "the threshold is 2, with or without the last: {:#?}", status.history);
        app.scaled_down().await?;
        sleep(Duration::from_secs(2)).await;

        let report = load.stop().await?;
        report.failed_only_by(Some("v2"))?;
        assert!(report.failed() > 0, "the bad version had its chance: {report}");
        assert_nothing_from("v2", &report, back);
        assert!(recording.primaries().iter().all(|version| version == "v1"), "{:?}", recording.primaries());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e04_slow_version_is_rolled_back() -> Result<()> {
    scenario("e04", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 2, &Canary::default().threshold(2)).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2").slow(800)).await?;
        let status = app.ends_as("Failed", &revision, ROLLOUT_LIMIT).await?;
        let back = assert_rolled_back(&app, &recording, &status, &revision, "request-duration", 500.0).await?;
        let check = status.check("request-duration").and_then(|check| check.value).unwrap_or_default();
        assert!(check > 500.0, "the value that broke the limit is shown: {:#?}", status.checks);
        app.scaled_down().await?;
        sleep(Duration::from_secs(2)).await;

        let report = load.stop().await?;
        report.all_succeeded()?;
        assert!(report.answered_by("v2") > 0, "the slow version had its chance: {report}");
        assert_nothing_from("v2", &report, back);
        assert!(recording.primaries().iter().all(|version| version == "v1"), "{:?}", recording.primaries());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e05_new_version_supersedes_the_one_under_analysis() -> Result<()> {
    scenario("e05", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 2, &Canary::default()).await?;
        let (load, recording) = (app.load()?, app.record());
        let first = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&first, 2).await?;
        let changed = Timestamp::now();
        let second = app.roll_out(&Version::good("v3")).await?;
        let status = app.ends_as("Succeeded", &second, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;

        let report = load.stop().await?;
        report.all_succeeded()?;
        let back = traffic_back(&recording, changed)?;
        assert!(back.duration_since(changed) <= SignedDuration::from_secs(2), "traffic went back at {back}");
        let splits = recording.splits_since(back);
        let again = splits.get(1).context("the analysis starts anew")?;
        assert_eq!(again.1.canary, 10, "the analysis starts anew with the first step: {splits:?}");
        let again = again.0;
        let early = report.within(&(changed..again)).answered_by("v3");
        assert_eq!(early, 0, "nobody gets v3 before its own first step at {again}");

        assert_eq!(status.steps(&second), [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)], "{:#?}", status.history);
        let superseded = status.history.iter().filter(|decision| decision.reason == "Superseded").count();
        assert_eq!(superseded, 1, "the history tells what became of v2: {:#?}", status.history);
        assert!(status.decided(&first, "Succeeded").is_empty(), "v2 never succeeds: {:#?}", status.history);
        assert_eq!(recording.primaries(), ["v1", "v3"], "v2 is never promoted");
        let promoted = |record: &serin_e2e::load::Record| answered_by_pod_of(record.host(), &app.primary());
        assert_eq!(report.only(promoted).answered_by("v2"), 0, "no pod of the primary ever answered as v2");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e06_way_back_to_the_promoted_version_needs_no_analysis() -> Result<()> {
    scenario("e06", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 2, &Canary::default()).await?;
        let promoted = app.status().await?.promoted().to_owned();
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&revision, 2).await?;
        let changed = Timestamp::now();
        app.set_version(&Version::good("v1")).await?;
        let succeeded = |status: &Status| status.phase == "Succeeded";
        let status = app.status_where("has Succeeded", Duration::from_secs(30), succeeded).await?;
        app.scaled_down().await?;
        sleep(Duration::from_secs(5)).await;

        let report = load.stop().await?;
        report.all_succeeded()?;
        let back = traffic_back(&recording, changed)?;
        assert!(back.duration_since(changed) <= SignedDuration::from_secs(2), "traffic went back at {back}");
        let weights: Vec<_> = recording.splits_since(back).iter().map(|(_, split)| split.canary).collect();
        assert_eq!(weights, [0], "there is no analysis of a version that is promoted already");
        assert_eq!(status.promoted(), promoted, "what the primary runs is what it ran before");
        assert!(status.history.iter().any(|decision| decision.reason == "Restored"), "{:#?}", status.history);
        assert_eq!(app.status().await?.phase, "Succeeded", "and it stays that way");
        assert_eq!(recording.primaries(), ["v1"], "the primary was never touched");
        assert_nothing_from("v2", &report, back);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e08_overwritten_weights_are_repaired_within_a_second() -> Result<()> {
    scenario("e08", async |scenario| {
        let app = scenario.app();
        // Longer than the repair may take, so that a step cannot be mistaken for it.
        app.start(&Version::good("v1"), 2, &Canary::default().interval(4).steps(&[20, 40])).await?;
        let (load, recording) = (app.load()?, app.record());
        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.reaches_step(&revision, 1).await?;
        let planned = Split { primary: 80, canary: 20 };
        app.splits(planned, Duration::from_secs(2)).await?;
        let overwritten = Split { primary: 40, canary: 60 };
        let moment = Timestamp::now();
        app.overwrite_split(overwritten).await?;
        let repaired = async || {
            let splits = recording.splits_since(moment);
            let wrong = splits.iter().position(|(_, split)| *split == overwritten);
            Ok(wrong.and_then(|wrong| Some((splits[wrong].0, *splits.get(wrong + 1)?))))
        };
        let (wrong, (right, split)) = wait_for("the weights are repaired", Duration::from_secs(10), repaired).await?;
        assert_eq!(split, planned, "they are what the plan says");
        let took = right.duration_since(wrong);
        assert!(took <= SignedDuration::from_secs(1), "the repair took {took}");
        assert_eq!(app.status().await?.step, status.step, "the analysis is where it was");

        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        load.stop().await?.all_succeeded()?;
        assert_eq!(status.steps(&revision), [(1, 20), (2, 40)], "it goes on and does not restart");
        assert_eq!(status.decided(&revision, "NewRevision").len(), 1, "{:#?}", status.history);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e10_no_traffic_is_inconclusive_and_says_so() -> Result<()> {
    scenario("e10", async |scenario| {
        let app = scenario.app();
        let canary = Canary::default().interval(1).steps(&[10, 30]).on_inconclusive("Hold", 3);
        app.start(&Version::good("v1"), 1, &canary).await?;
        let recording = app.record();
        let revision = app.roll_out(&Version::good("v2")).await?;
        let inconclusive = |status: &Status| status.waiting_reason() == "Inconclusive";
        let status = app.status_where("waits, Inconclusive", Duration::from_secs(40), inconclusive).await?;
        let check = status.check("request-success-rate").context("the check is in the status")?;
        assert_eq!(check.verdict, "Inconclusive", "{check:#?}");
        assert!(says_no_traffic(&check.message), "the check says that there is no traffic: {check:#?}");
        let waiting = status.waiting.context("it says what it waits for")?;
        assert!(says_no_traffic(&waiting.message), "the status says that there is no traffic: {waiting:#?}");

        // Longer than the limit of three checks: on hold it neither advances nor gives up.
        sleep(Duration::from_secs(8)).await;
        for (time, status) in recording.statuses() {
            assert!(status.canary_weight <= 10, "no step without a verdict, but at {time}: {status:#?}");
            assert_eq!(status.failed_checks, 0, "no data is no failure, but at {time}: {status:#?}");
            assert_ne!(status.phase, "Failed", "at {time}: {status:#?}");
        }
        let load = app.load()?;
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        load.stop().await?.all_succeeded()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e11_version_that_never_gets_ready_is_rolled_back() -> Result<()> {
    scenario("e11", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 2, &Canary::default().interval(1).progress_deadline(10)).await?;
        let (load, recording) = (app.load()?, app.record());
        let changed = Timestamp::now();
        let revision = app.roll_out(&Version::good("v2").never_ready()).await?;
        let waits = |status: &Status| status.waiting_reason() == "CanaryNotReady";
        app.status_where("waits for the canary", Duration::from_secs(10), waits).await?;
        let status = app.ends_as("Failed", &revision, Duration::from_secs(40)).await?;
        app.scaled_down().await?;

        let report = load.stop().await?;
        report.all_succeeded()?;
        assert_eq!(report.answered_by("v2"), 0, "no request ever reached it: {report}");
        assert!(recording.canary_weights().iter().all(|weight| *weight == 0), "{:?}", recording.splits());
        let decisions = status.decided(&revision, "RolledBack");
        let [decision] = decisions[..] else { panic!("one rollback is in the history: {:#?}", status.history) };
        let took = decision.time.duration_since(changed);
        let deadline = SignedDuration::from_secs(10);
        assert!(took >= deadline - CLOCK_TOLERANCE, "it had its ten seconds, and not {took}");
        assert!(took <= deadline + SignedDuration::from_secs(5), "after ten seconds it is over, and not after {took}");
        let said = decision.message.to_lowercase();
        assert!(said.contains("ready"), "the history says what was missing: {decision:#?}");
        let ready = status.condition("Ready").context("the condition Ready is there")?;
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "RolledBack"), "{ready:#?}");
        assert!(ready.message.to_lowercase().contains("ready"), "the condition says it too: {ready:#?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e12_invalid_canary_does_not_hold_up_a_good_one() -> Result<()> {
    scenario("e12", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 1, &Canary::default().interval(1).steps(&[10, 50])).await?;
        let load = app.load()?;
        for (index, (what, canary)) in invalid_canaries().into_iter().enumerate() {
            let name = format!("invalid-{index}");
            let manifest = canary.manifest(scenario.namespace(), &name, &format!("{name}.demo"));
            let sentence = match scenario.objects().try_create(Kind::Canary, manifest).await? {
                Some(refusal) => refusal,
                None => stalled(&scenario.app_named(&name)).await?,
            };
            println!("  {what}: {sentence}");
            assert!(sentence.split_whitespace().count() >= 4, "{what}: a sentence explains it, not {sentence:?}");
        }
        let revision = app.roll_out(&Version::good("v2")).await?;
        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        load.stop().await?.all_succeeded()?;
        assert_eq!(status.steps(&revision), [(1, 10), (2, 50)], "the good one rolls on: {:#?}", status.history);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e13_deleted_canary_leaves_the_app_serving() -> Result<()> {
    scenario("e13-plain", async |scenario| {
        let app = scenario.app();
        app.start(&Version::good("v1"), 2, &Canary::default()).await?;
        app.scaled_down().await?;
        let load = app.load()?;
        sleep(Duration::from_secs(2)).await;
        app.delete_canary().await?;
        // Whatever is collected after the Canary has gone by then.
        sleep(Duration::from_secs(15)).await;
        let burst = app.burst(200, 8).await?;
        load.stop().await?.all_succeeded()?;
        burst.all_succeeded()?;
        assert_eq!(burst.answered_by("v1"), 200, "{burst}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e13_deleted_canary_with_revert_leaves_everything_as_it_was() -> Result<()> {
    scenario("e13-revert", async |scenario| {
        let app = scenario.app();
        app.deploy(&Version::good("v1"), 2).await?;
        app.serves(2).await?;
        let before = what_the_user_owns(&app).await?;
        app.apply(&Canary::default().revert_on_deletion()).await?;
        app.initialized().await?;
        app.scaled_down().await?;
        let load = app.load()?;
        sleep(Duration::from_secs(2)).await;
        app.delete_canary().await?;
        let gone = async || {
            let objects = app.objects();
            let mut left = [
                objects.find(Kind::Deployment, &app.primary()).await?,
                objects.find(Kind::Service, &app.primary()).await?,
                objects.find(Kind::Service, &format!("{}-canary", app.name())).await?,
            ]
            .into_iter();
            Ok(left.all(|object| object.is_none()).then_some(()))
        };
        wait_for("what Serin made is gone", Duration::from_mins(1), gone).await?;
        sleep(Duration::from_secs(5)).await;
        let burst = app.burst(200, 8).await?;
        load.stop().await?.all_succeeded()?;
        burst.all_succeeded()?;
        let primary = burst.only(|record| answered_by_pod_of(record.host(), &app.primary()));
        assert_eq!(primary.total(), 0, "the app's own pods answer again: {burst}");
        let after = what_the_user_owns(&app).await?;
        for (what, value) in &before {
            assert_eq!(after.get(what), Some(value), "{what} is as before");
        }
        assert_eq!(app.replicas(app.name()).await?, (2, 2), "the app has its replicas");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn s36_daemonset_is_rolled_out_and_handed_back_without_a_failed_request() -> Result<()> {
    scenario("s36", async |scenario| {
        let app = scenario.app().as_daemon_set();
        app.deploy(&Version::good("v1"), 0).await?;
        app.serves(0).await?;
        let (nodes, _) = app.replicas(app.name()).await?;
        let load = app.load()?;
        let canary = Canary::default().target("DaemonSet").steps(&[20, 50]).revert_on_deletion();
        app.apply(&canary).await?;
        app.initialized().await?;
        app.splits(ALL_ON_PRIMARY, Duration::from_secs(10)).await?;
        app.scaled_down().await?;
        assert_eq!(app.replicas(&app.primary()).await?, (nodes, nodes), "the primary has a pod on each node");

        let recording = app.record();
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        // The only pod of a single node cannot be replaced under traffic: all of it is on the canary then.
        let plan: &[i64] = if nodes == 1 { &[20, 50, 100] } else { &[20, 50] };
        assert_rose_step_by_step(&recording, plan);
        let mut analysed = app.template(app.name()).await?;
        let selector = analysed["spec"].as_object_mut().and_then(|spec| spec.remove("nodeSelector"));
        assert_eq!(selector, Some(json!({"serin.dev/scale-to-zero": "true"})), "that is how it has no pods");
        let mut expected = analysed.clone();
        expected["metadata"]["labels"]["app"] = json!(app.primary());
        assert_eq!(app.template(&app.primary()).await?, expected, "the primary runs what was analysed");
        let recorded = recorded_revisions(&app).await?;
        assert!(recorded.iter().any(|record| holds(record, &analysed["spec"])), "it is on record: {recorded:#?}");
        let burst = app.burst(200, 8).await?;
        load.stop().await?.all_succeeded()?;
        burst.all_succeeded()?;
        assert_eq!(burst.answered_by("v2"), 200, "after the promotion everybody gets v2: {burst}");

        let (load, recording) = (app.load()?, app.record());
        let bad = app.roll_out(&Version::good("v3").failing(50)).await?;
        let status = app.ends_as("Failed", &bad, ROLLOUT_LIMIT).await?;
        assert_rolled_back(&app, &recording, &status, &bad, "request-success-rate", 99.0).await?;
        app.scaled_down().await?;
        let report = load.stop().await?;
        report.failed_only_by(Some("v3"))?;
        assert!(recording.primaries().iter().all(|version| version == "v2"), "{:?}", recording.primaries());

        let load = app.load()?;
        app.set_version(&Version::good("v2")).await?;
        app.status_where("is back", Duration::from_secs(30), |status| status.phase == "Succeeded").await?;
        app.delete_canary().await?;
        sleep(Duration::from_secs(5)).await;
        load.stop().await?.all_succeeded()?;
        assert_eq!(app.template(app.name()).await?, analysed, "nothing is left of what stopped it");
        assert_eq!(app.objects().find(Kind::DaemonSet, &app.primary()).await?, None);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn configs_changed_config_is_promoted_and_a_bad_one_taken_back() -> Result<()> {
    scenario("configs", async |scenario| {
        let app = scenario.app();
        app.deploy_configured(&Version::good("v1"), 2).await?;
        app.serves(2).await?;
        app.apply(&Canary::default()).await?;
        app.initialized().await?;
        app.scaled_down().await?;
        let first = copies(&app, Kind::ConfigMap).await?;
        assert_eq!(first.len(), 1, "the primary has a copy of its own: {first:?}");
        let load = app.load()?;

        // No pod template changes.
        app.configure(&Version::good("v2")).await?;
        let revision = app.new_candidate("").await?;
        app.reaches_step(&revision, 1).await?;
        assert_eq!(copies(&app, Kind::ConfigMap).await?.len(), 2, "what is analysed is copied before it is");
        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        assert_eq!(status.steps(&revision), [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50)], "{:#?}", status.history);
        app.scaled_down().await?;
        let collected = async || Ok(once(copies(&app, Kind::ConfigMap).await?.len() == 1));
        wait_for("the copy of before is collected", Duration::from_secs(30), collected).await?;
        let promoted = copies(&app, Kind::ConfigMap).await?;
        assert_eq!(promoted[0]["data"]["VERSION"], "v2");
        let used = &app.template(&app.primary()).await?["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"];
        assert_eq!(*used, promoted[0]["metadata"]["name"]);
        let burst = app.burst(200, 8).await?;
        assert_eq!(burst.answered_by("v2"), 200, "after the promotion everybody gets v2: {burst}");

        // One that fails, and back.
        app.configure(&Version::good("v3").failing(50)).await?;
        let bad = app.new_candidate("").await?;
        app.ends_as("Failed", &bad, ROLLOUT_LIMIT).await?;
        app.configure(&Version::good("v2")).await?;
        let succeeded = |status: &Status| status.phase == "Succeeded";
        app.status_where("has Succeeded", Duration::from_secs(30), succeeded).await?;

        // A Secret counts too, and its content is nowhere but in its copy.
        let patch = json!({"stringData": {"token": "two-hunter2"}});
        app.objects().merge(Kind::Secret, &format!("{}-token", app.name()), patch).await?;
        let revision = app.new_candidate("").await?;
        app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        app.scaled_down().await?;
        let tokens = copies(&app, Kind::Secret).await?;
        assert!(tokens.iter().any(|token| token["data"]["token"] == "dHdvLWh1bnRlcjI="), "the new token is copied");
        let canary = app.objects().get(Kind::Canary, app.name()).await?.to_string();
        assert!(!canary.contains("hunter2") && !canary.contains("dHdvLWh1bnRlcjI"));

        sleep(Duration::from_secs(2)).await;
        load.stop().await?.failed_only_by(Some("v3"))
    })
    .await
}

// ---- what the scenarios share

/// The copies of configs that Serin made for the app's primary.
async fn copies(app: &App, kind: Kind) -> Result<Vec<Value>> {
    app.objects().list(kind, &format!("serin.dev/canary={}", app.name())).await
}

fn answered_by_pod_of(host: Option<&str>, deployment: &str) -> bool {
    host.is_some_and(|host| host.starts_with(&format!("{deployment}-")))
}

/// The share of the requests that the canary answers at each weight, over more than a thousand requests each.
async fn measure_steps(app: &App) -> Result<BTreeMap<i32, f64>> {
    let mut measured = BTreeMap::new();
    while matches!(app.status().await?.phase.as_str(), "Progressing" | "Waiting") {
        sleep(Duration::from_millis(100)).await;
        let Some(before) = app.split().await?.filter(|split| split.canary > 0) else { continue };
        let weight = i32::try_from(before.canary).context("a weight is a percentage")?;
        if measured.contains_key(&weight) {
            continue;
        }
        // Where other scenarios keep the cores busy, the gateway follows a route by most of a second.
        sleep(Duration::from_secs(1)).await;
        let burst = app.burst(1_200, 8).await?;
        burst.all_succeeded()?;
        // A burst during which the weight moved measures nothing; the next step gets its own.
        if app.split().await? == Some(before) {
            let share = burst.share("v2").context("nobody answered")?;
            println!("  at weight {weight} the app sees {share:.1} % of {} requests", burst.total());
            measured.insert(weight, share);
        }
    }
    Ok(measured)
}

/// The route took every step in its order, never more than the plan, and all weights add up.
fn assert_rose_step_by_step(recording: &Recording, plan: &[i64]) {
    let splits = recording.splits();
    for (time, split) in &splits {
        assert_eq!(split.primary + split.canary, 100, "the weights add up, but not at {time}: {split:?}");
        assert!(Some(&split.canary) <= plan.iter().max(), "never more than the plan says, but at {time}: {split:?}");
    }
    let weights = recording.canary_weights();
    let rise = weights.windows(2).take_while(|pair| pair[0] < pair[1]).map(|pair| pair[1]).collect::<Vec<_>>();
    assert_eq!(rise, plan, "each step once, in its order: {weights:?}");
    assert_eq!(weights.last(), Some(&0), "in the end all traffic is on the primary: {weights:?}");
}

/// The primary runs the template that was analysed, byte for byte but for the label that tells its pods apart.
async fn assert_promoted_what_was_analysed(app: &App) -> Result<()> {
    let target = app.template(app.name()).await?;
    let mut expected = target.clone();
    expected["metadata"]["labels"]["app"] = json!(app.primary());
    let primary = app.template(&app.primary()).await?;
    assert_eq!(serde_json::to_string_pretty(&primary)?, serde_json::to_string_pretty(&expected)?);
    let recorded = recorded_revisions(app).await?;
    let record = recorded.iter().find(|revision| holds(revision, &target["spec"]));
    assert!(record.is_some(), "the analysed template is on record: {recorded:#?}");
    Ok(())
}

/// Whether a value is somewhere within another.
fn holds(within: &Value, value: &Value) -> bool {
    within == value
        || match within {
            Value::Array(items) => items.iter().any(|item| holds(item, value)),
            Value::Object(fields) => fields.values().any(|field| holds(field, value)),
            _ => false,
        }
}

/// The rollback took no longer than the pass that saw the breach, and every place says why. Answers with the moment at
/// which the traffic was back.
async fn assert_rolled_back(
    app: &App,
    recording: &Recording,
    status: &Status,
    revision: &str,
    metric: &str,
    limit: f64,
) -> Result<Timestamp> {
    assert_eq!(status.canary_weight, 0, "{status:#?}");
    app.splits(ALL_ON_PRIMARY, Duration::from_secs(2)).await?;
    let decisions = status.decided(revision, "RolledBack");
    let [decision] = decisions[..] else { panic!("one rollback is in the history: {:#?}", status.history) };
    let check = status.check(metric).context("the check is in the status")?;
    assert_eq!(check.verdict, "Fail", "{:#?}", status.checks);
    let value = check.value.context("a failed check has a value")?;
    assert_eq!(check.min.or(check.max), Some(limit), "the limit is shown: {check:#?}");
    let explains = |sentence: &str| sentence.contains(metric) && names(sentence, value) && names(sentence, limit);
    assert!(explains(&decision.message), "the history names {metric}, {value} and {limit}: {decision:#?}");
    for (kind, expected) in [("Ready", "False"), ("Stalled", "True")] {
        let condition = status.condition(kind).with_context(|| format!("the condition {kind} is there"))?;
        let found = (condition.status.as_str(), condition.reason.as_str());
        assert_eq!(found, (expected, "RolledBack"), "{condition:#?}");
        assert!(explains(&condition.message), "the condition names {metric}, {value} and {limit}: {condition:#?}");
    }
    let told = async || Ok(app.events("RolledBack").await?.into_iter().find(|note| explains(note)));
    wait_for(&format!("an event names {metric}, {value} and {limit}"), Duration::from_secs(10), told).await?;

    // An interval of two seconds is well beyond both tolerances: a later pass would be noticed.
    let checked = check.time.context("the check has a time")?;
    let decided = decision.time.duration_since(checked).abs();
    assert!(decided <= SignedDuration::from_millis(500), "the pass of the check decides, and not one {decided} later");
    let back = traffic_back(recording, decision.time - CLOCK_TOLERANCE)?;
    let took = back.duration_since(decision.time);
    assert!(took <= CLOCK_TOLERANCE, "the same pass takes the traffic back, and not one {took} later");
    Ok(back)
}

/// The first moment at or after another at which the route sent nothing to the canary.
fn traffic_back(recording: &Recording, since: Timestamp) -> Result<Timestamp> {
    let splits = recording.splits_since(since);
    let back = splits.iter().find(|(_, split)| split.canary == 0);
    Ok(back.with_context(|| format!("no traffic went back since {since}: {:?}", recording.splits()))?.0)
}

/// Nobody got an answer of a version once the traffic was back.
fn assert_nothing_from(version: &str, report: &Report, back: Timestamp) {
    let after = report.within(&(back + GATEWAY_FOLLOWS..Timestamp::MAX));
    assert!(after.total() > 0, "there were requests afterwards");
    assert_eq!(after.answered_by(version), 0, "no request reached {version} after {back}");
}

fn says_no_traffic(sentence: &str) -> bool {
    // The names of the metrics hold the word as well.
    let sentence = sentence.to_lowercase().replace("request-success-rate", "").replace("request-duration", "");
    sentence.contains("traffic") || sentence.contains("no request")
}

/// Specs that a careless user might write, and that cannot be carried out.
fn invalid_canaries() -> Vec<(&'static str, Canary)> {
    let range = |range: Value| json!([{"name": "request-success-rate", "interval": "5s", "thresholdRange": range}]);
    vec![
        ("an interval that is none", Canary::default().analysis("interval", json!("every now and then"))),
        ("steps that go down", Canary::default().steps(&[50, 10])),
        ("a weight beyond 100", Canary::default().analysis("maxWeight", json!(200))),
        ("a step of nothing", Canary::default().analysis("stepWeight", json!(0))),
        ("a range without room", Canary::default().analysis("metrics", range(json!({"min": 90, "max": 10})))),
        ("a metric without a query", Canary::default().analysis("metrics", json!([{"name": "no-such-metric"}]))),
    ]
}

/// The sentence with which Serin says that it cannot carry out a Canary.
async fn stalled(app: &App) -> Result<String> {
    let stalled = |status: &Status| status.is("Stalled", "True");
    let status = app.status_where("is Stalled", Duration::from_secs(20), stalled).await?;
    let condition = status.condition("Stalled").context("it was just there")?;
    ensure!(condition.reason == "InvalidSpec", "Stalled for another reason: {condition:#?}");
    Ok(condition.message.clone())
}

/// What belongs to the user and is to come back when the Canary goes.
async fn what_the_user_owns(app: &App) -> Result<BTreeMap<&'static str, Value>> {
    let service = app.objects().get(Kind::Service, app.name()).await?;
    let route = app.objects().get(Kind::HttpRoute, app.name()).await?;
    let deployment = app.objects().get(Kind::Deployment, app.name()).await?;
    Ok(BTreeMap::from([
        ("the Service", service["spec"].clone()),
        ("the Service's labels", service["metadata"]["labels"].clone()),
        ("the Service's annotations", service["metadata"]["annotations"].clone()),
        ("the Service's owners", service["metadata"]["ownerReferences"].clone()),
        ("the route", route["spec"].clone()),
        ("the route's labels", route["metadata"]["labels"].clone()),
        ("the route's annotations", route["metadata"]["annotations"].clone()),
        ("the route's owners", route["metadata"]["ownerReferences"].clone()),
        ("the number of replicas", deployment["spec"]["replicas"].clone()),
        ("the pod template", deployment["spec"]["template"].clone()),
        ("the Deployment's owners", deployment["metadata"]["ownerReferences"].clone()),
    ]))
}
