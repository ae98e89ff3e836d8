//! What happens when a cable is pulled that all share: one scenario at a time.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serin_e2e::app::{App, Split, Version};
use serin_e2e::cables::{AuditLog, Operator, Prometheus, Request};
use serin_e2e::canary::Canary;
use serin_e2e::scenario::{Scenario, scenario};
use serin_e2e::status::Status;
use serin_e2e::wait::{once, wait_for};
use tokio::sync::Mutex;
use tokio::time::sleep;

/// Held by the one scenario that may pull cables.
static CABLES: Mutex<()> = Mutex::const_new(());

const KILLS: u32 = 10;
/// A new process may have to wait for the Lease of the killed one.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(3);
/// What is promised of a clean stop.
const HAND_OVER: SignedDuration = SignedDuration::from_secs(5);
/// A Lease of 15 s, and a look every two; and the machine has other things to do.
const TAKE_OVER: Duration = Duration::from_secs(25);
const IDLE_CANARIES: usize = 30;
const IDLE_TIME: Duration = Duration::from_mins(1);

/// What the history says about a rollout: reason, step and weight of each decision.
type Trace = Vec<(String, i64, i64)>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e07_killed_operator_ends_where_it_would_have_without() -> Result<()> {
    let _cables = CABLES.lock().await;
    scenario("e07", async |scenario| {
        let (app, operator) = (scenario.app(), scenario.operator());
        operator.renew().await?;
        app.start(&Version::good("v1"), 2, &Canary::default().interval(1).steps(&[10, 30, 50])).await?;
        let (load, recording) = (app.load()?, app.record());

        let started = Instant::now();
        let revision = app.roll_out(&Version::good("undisturbed")).await?;
        let undisturbed = trace(&app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?, &revision);
        let duration = started.elapsed();
        println!("  undisturbed: {:.1} s, {undisturbed:?}", duration.as_secs_f64());
        ensure!(steps(&undisturbed) == [(1, 10), (2, 30), (3, 50)], "it takes every step: {undisturbed:?}");

        for number in 1..=KILLS {
            app.scaled_down().await?;
            let moment = random_moment(number, duration);
            let status = rollout_with_kill(&app, &operator, number, moment).await?;
            let killed = trace(&status, status.promoted());
            assert_eq!(killed, undisturbed, "kill {number}, {:.2} s after the start", moment.as_secs_f64());
            operator.renew().await?;
        }
        let report = load.stop().await?;
        report.all_succeeded()?;
        for (time, split) in recording.splits() {
            assert_eq!(split.primary + split.canary, 100, "at {time}");
            assert!([0, 10, 30, 50].contains(&split.canary), "a weight that is in no plan at {time}: {split:?}");
        }
        println!("  {report}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e09_without_prometheus_the_weight_is_held_until_the_policy_decides() -> Result<()> {
    let _cables = CABLES.lock().await;
    scenario("e09", async |scenario| {
        let tenacious = scenario.app_named("tenacious");
        let strict = scenario.app_named("strict");
        let patient = scenario.app_named("patient");
        let canary = |policy, limit| Canary::default().interval(2).steps(&[10, 20, 30]).on_inconclusive(policy, limit);
        let starts = [
            start(&tenacious, canary("Rollback", 60)),
            start(&strict, canary("Rollback", 3)),
            start(&patient, canary("Hold", 3)),
        ];
        try_join_all(starts).await?;
        let apps = [&tenacious, &strict, &patient];
        let loads = apps.map(App::load).into_iter().collect::<Result<Vec<_>>>()?;
        let v2 = Version::good("v2");
        let revisions = try_join_all(apps.map(|app| app.roll_out(&v2))).await?;
        try_join_all(apps.iter().zip(&revisions).map(|(app, revision)| app.reaches_step(revision, 1))).await?;

        let prometheus = Prometheus;
        prometheus.stop()?;
        let waits = |status: &Status| status.waiting_reason() == "Inconclusive";
        let limit = Duration::from_secs(30);
        let held = try_join_all(apps.map(|app| app.status_where("waits, Inconclusive", limit, waits))).await?;
        let check = held[0].checks.iter().find(|check| check.verdict == "Inconclusive");
        let sentence = &check.context("an inconclusive check is in the status")?.message;
        assert!(sentence.to_lowercase().contains("prometheus"), "the check says who did not answer: {sentence:?}");

        let status = strict.ends_as("Failed", &revisions[1], ROLLOUT_LIMIT).await?;
        assert_eq!(status.canary_weight, 0, "what cannot be seen is not trusted: {status:#?}");
        assert_eq!(status.decided(&revisions[1], "RolledBack").len(), 1, "{:#?}", status.history);
        assert_eq!(status.failed_checks, 0, "no data is no failure: {status:#?}");
        // The two others hold, one because its limit is far away, one because its policy says so.
        sleep(Duration::from_secs(6)).await;
        for (app, held) in [(&tenacious, &held[0]), (&patient, &held[2])] {
            let status = app.status().await?;
            assert_eq!(status.waiting_reason(), "Inconclusive", "{}: {status:#?}", app.name());
            assert_eq!(status.canary_weight, held.canary_weight, "{} holds its weight", app.name());
            let split = app.split().await?.context("the route splits")?;
            assert_eq!(split.canary, held.canary_weight, "{} holds its weight on the route", app.name());
            assert_eq!(status.failed_checks, 0, "{}: no data is no failure", app.name());
        }

        prometheus.start()?;
        for (app, revision) in [(&tenacious, &revisions[0]), (&patient, &revisions[2])] {
            let status = app.ends_as("Succeeded", revision, ROLLOUT_LIMIT).await?;
            assert_eq!(status.steps(revision), [(1, 10), (2, 20), (3, 30)], "{} goes on", app.name());
        }
        for load in loads {
            load.stop().await?.all_succeeded()?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn e14_idle_canaries_cost_nothing() -> Result<()> {
    let _cables = CABLES.lock().await;
    scenario("e14", async |scenario| {
        let operator = scenario.operator();
        operator.ready().await?;
        start_many(scenario, IDLE_CANARIES).await?;
        println!("  … 15 seconds for what is still under way");
        sleep(Duration::from_secs(15)).await;

        let (log, before) = (AuditLog::from_now_on()?, queries(&operator).await?);
        let began = Timestamp::now();
        println!("  … a minute of rest");
        sleep(IDLE_TIME).await;
        let requests = log.requests(&(began..Timestamp::now()))?;
        let after = queries(&operator).await?;

        let (alive, beyond): (Vec<_>, Vec<_>) = requests.into_iter().partition(Request::keeps_alive);
        let renewals = alive.iter().filter(|request| request.renews_lease()).count();
        println!("  {renewals} renewals of the Lease, {} of watches", alive.len() - renewals);
        assert!(renewals > 0, "a log without a renewal of the Lease does not show Serin at all");
        assert!(beyond.is_empty(), "{} idle canaries cost {} requests: {beyond:#?}", IDLE_CANARIES, beyond.len());
        assert_eq!(after, before, "idle canaries cost no query (counted by Serin, by Prometheus)");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn leader_that_is_asked_to_stop_hands_over_within_five_seconds() -> Result<()> {
    let _cables = CABLES.lock().await;
    scenario("handover", async |scenario| {
        let (app, operator) = (scenario.app(), scenario.operator());
        operator.scale(2).await?;
        app.start(&Version::good("v1"), 2, &Canary::default().interval(6).steps(&[10, 30, 50])).await?;
        let (load, recording, log) = (app.load()?, app.record(), AuditLog::from_now_on()?);
        let (began, leader) = (Timestamp::now(), operator.lease().await?.holder);
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&revision, 1).await?;
        let planned = app.split().await?.context("the route splits")?;

        operator.delete_pod(&leader).await?;
        // Something to be put right by whoever leads then.
        let lease = operator.led_by_another(&leader).await?;
        app.overwrite_split(Split { primary: 40, canary: 60 }).await?;
        app.splits(planned, Duration::from_secs(10)).await?;

        let requests = log.requests(&(began..Timestamp::now()))?;
        let writes = || requests.iter().filter(|request| request.is_write());
        let of_lease = writes().filter(|write| write.renews_lease()).map(|write| write.time);
        let released = of_lease.filter(|time| *time < lease.acquired).max().context("the Lease was given back")?;
        let written = writes().filter(|write| !write.renews_lease()).map(|write| write.time);
        let first = written.filter(|time| *time > lease.acquired).min().context("the next leader writes")?;
        let (taken, acted) = (lease.acquired.duration_since(released), first.duration_since(released));
        println!("  the Lease was taken {taken:#} after it was given back, and the first write came after {acted:#}");
        ensure!(acted < HAND_OVER, "the hand-over took {acted:#}");

        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        assert_eq!(status.steps(&revision), [(1, 10), (2, 30), (3, 50)], "no step is skipped, none taken twice");
        load.stop().await?.all_succeeded()?;
        for (time, split) in recording.splits() {
            assert_eq!(split.primary + split.canary, 100, "at {time}");
        }
        operator.scale(1).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn leader_that_is_cut_off_from_the_api_server_is_replaced_and_undoes_nothing() -> Result<()> {
    let _cables = CABLES.lock().await;
    scenario("cut-off", async |scenario| {
        let (app, operator) = (scenario.app(), scenario.operator());
        operator.scale(2).await?;
        app.start(&Version::good("v1"), 2, &Canary::default().interval(8).steps(&[10, 30, 50])).await?;
        let (load, recording) = (app.load()?, app.record());
        let leader = operator.lease().await?.holder;
        let revision = app.roll_out(&Version::good("v2")).await?;
        app.reaches_step(&revision, 1).await?;

        let (cut, began) = (operator.cut_off(&leader)?, Instant::now());
        let lease = operator.led_by_another(&leader).await?;
        println!("  {} leads {:.1} s after that", lease.holder, began.elapsed().as_secs_f64());
        ensure!(began.elapsed() < TAKE_OVER, "the take-over took {:?}", began.elapsed());
        drop(cut);

        let status = app.ends_as("Succeeded", &revision, ROLLOUT_LIMIT).await?;
        assert_eq!(status.steps(&revision), [(1, 10), (2, 30), (3, 50)], "no step is skipped, none taken twice");
        assert_eq!(operator.lease().await?.holder, lease.holder, "who came back stands by");
        load.stop().await?.all_succeeded()?;
        let canary = recording.splits().into_iter().map(|(_, split)| split.canary).collect::<Vec<_>>();
        let rising = canary.iter().take_while(|weight| **weight != 50).collect::<Vec<_>>();
        assert!(rising.is_sorted(), "no weight is put back: {canary:?}");
        operator.scale(1).await
    })
    .await
}

fn trace(status: &Status, revision: &str) -> Trace {
    // A check without samples, right after a step, is no step: whether there is one depends on when the scrape came.
    let decisions = status.history.iter().filter(|entry| entry.revision == revision && entry.reason != "Inconclusive");
    decisions.map(|entry| (entry.reason.clone(), entry.step, entry.weight)).collect()
}

fn steps(trace: &Trace) -> Vec<(i64, i64)> {
    let advanced = trace.iter().filter(|(reason, ..)| reason == "Advanced");
    advanced.map(|(_, step, weight)| (*step, *weight)).collect()
}

/// A moment of its own tenth of the rollout, so that ten of them meet every phase.
fn random_moment(number: u32, duration: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(number) % 1_000).unwrap_or_default();
    duration * ((number - 1) * 1_000 + random) / (KILLS * 1_000)
}

/// Rolls out a version, kills Serin on the way, and waits for the end.
async fn rollout_with_kill(app: &App, operator: &Operator, number: u32, moment: Duration) -> Result<Status> {
    let restarts = operator.restarts().await?;
    let started = Instant::now();
    let before = app.status().await?.promoted().to_owned();
    app.set_version(&Version::good(&format!("killed-{number}"))).await?;
    sleep(moment.saturating_sub(started.elapsed())).await;
    let killed = operator.kill().await?;
    let status = app.status().await?;
    println!(
        "  → kill {number}: {killed} process after {:.2} s in {} at weight {}",
        started.elapsed().as_secs_f64(),
        status.phase,
        status.canary_weight
    );
    let promoted = |status: &Status| status.phase == "Succeeded" && status.promoted() != before;
    let status = app.status_where("has Succeeded", ROLLOUT_LIMIT, promoted).await?;
    let restarted = async || Ok(once(operator.restarts().await? > restarts));
    wait_for("the kubelet has restarted Serin", Duration::from_mins(1), restarted).await?;
    Ok(status)
}

async fn start(app: &App, canary: Canary) -> Result<()> {
    app.start(&Version::good("v1"), 1, &canary).await
}

/// Real pods, a few at a time: the machine starts them all, but not at once.
async fn start_many(scenario: &Scenario, count: usize) -> Result<()> {
    let apps = (0..count).map(|number| scenario.app_named(&format!("app-{number:02}")));
    let started = stream::iter(apps).map(async |app| {
        start(&app, Canary::default()).await?;
        app.scaled_down().await
    });
    started.buffer_unordered(6).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// The queries to Prometheus until now, as Serin counts them and as Prometheus does.
async fn queries(operator: &Operator) -> Result<(f64, f64)> {
    Ok((operator.counted("serin_prometheus_queries_total").await?, Prometheus::queries().await?))
}
