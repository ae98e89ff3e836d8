//! Rolls out a good version and a bad one before the reader's eyes, on a cluster with Serin installed.
//!
//! It is a check as well: it ends with an error when either rollout ends otherwise than it should, or when a request
//! fails while the good version is rolled out.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use serin_e2e::app::{App, RATE, Version};
use serin_e2e::canary::Canary;
use serin_e2e::load::{Load, Report};
use serin_e2e::scenario::Scenario;
use serin_e2e::status::Status;

/// Twice as long as a rollout of the demo takes.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(2);
/// The shares are those of so many seconds.
const WINDOW: SignedDuration = SignedDuration::from_secs(2);
const BAR: usize = 20;

/// What a rollout came to.
struct Ended {
    phase: String,
    weight: i64,
    reason: String,
    seconds: f64,
    report: Report,
}

#[tokio::main]
async fn main() -> Result<()> {
    let scenario = Scenario::create("demo").await?;
    let shown = tokio::select! {
        shown = show(&scenario) => shown,
        _ = tokio::signal::ctrl_c() => Err(anyhow::Error::msg("interrupted")),
    };
    if shown.is_err() {
        scenario.explain().await;
    }
    let removed = scenario.remove().await;
    shown.and(removed)
}

async fn show(scenario: &Scenario) -> Result<()> {
    title(&format!("A Deployment, its Service and its route, in namespace {}", scenario.namespace()));
    scenario.operator().ready().await.context("is Serin installed in the namespace serin-system?")?;
    let app = scenario.app();
    app.deploy(&Version::good("v1"), 2).await?;
    app.serves(2).await?;

    title(&format!("{RATE} requests a second from now on, and a Canary"));
    let load = app.load()?;
    app.apply(&Canary::default()).await?;
    app.initialized().await?;

    title("A good version: v2");
    let good = roll_out(&app, load, &Version::good("v2"), ["v1", "v2"]).await?;
    title("A bad version: v3 fails 30 of 100 requests");
    let load = app.load()?;
    let bad = roll_out(&app, load, &Version::good("v3").failing(30), ["v2", "v3"]).await?;

    title("What came of it");
    summarize("v2", &good);
    summarize("v3", &bad);
    ensure!(good.phase == "Succeeded", "the good version was not promoted: {}", good.phase);
    good.report.all_succeeded().context("a request failed while the good version was rolled out")?;
    ensure!(bad.phase == "Failed" && bad.weight == 0, "the bad version was not taken back: {}", bad.phase);
    bad.report.failed_only_by(Some("v3")).context("a request failed that the bad version did not answer")
}

/// Rolls out a version, with a line a second, and stops the load two seconds after the end.
async fn roll_out(app: &App, load: Load, version: &Version, names: [&str; 2]) -> Result<Ended> {
    let started = Instant::now();
    let revision = app.roll_out(version).await?;
    println!("\n  time  phase            weight {:BAR$}  {:>5} {:>5}  failed  last decision", "", names[0], names[1]);
    let mut ended_at = None;
    loop {
        let status = app.status().await?;
        println!("{}", row(started.elapsed(), &status, &load.report(), names));
        if status.ended(&revision) {
            let ended_at = *ended_at.get_or_insert_with(Instant::now);
            // What the users get afterwards belongs to the picture.
            if ended_at.elapsed() >= Duration::from_secs(3) {
                return Ok(Ended {
                    reason: status.history.last().map(sentence).unwrap_or_default(),
                    weight: app.split().await?.map_or(0, |split| split.canary),
                    phase: status.phase,
                    seconds: (ended_at - started).as_secs_f64(),
                    report: load.stop().await?,
                });
            }
        }
        if started.elapsed() > ROLLOUT_LIMIT {
            bail!("the rollout has not ended after {} s", ROLLOUT_LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn row(elapsed: Duration, status: &Status, report: &Report, names: [&str; 2]) -> String {
    let now = Timestamp::now();
    let recent = report.within(&(now - WINDOW..now));
    let [old, new] = names.map(|name| recent.share(name).map_or("-".to_owned(), |share| format!("{share:.0} %")));
    format!(
        "{:>5.0}s  {:<15} {:>4} % {}  {old:>5} {new:>5}  {:>6}  {}",
        elapsed.as_secs_f64(),
        status.phase,
        status.canary_weight,
        bar(status.canary_weight),
        report.failed(),
        status.history.last().map(sentence).unwrap_or_default(),
    )
}

fn bar(weight: i64) -> String {
    let filled = usize::try_from(weight).unwrap_or_default().min(100) * BAR / 100;
    format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled))
}

fn sentence(decision: &serin_e2e::status::Decision) -> String {
    match decision.message.as_str() {
        "" => decision.reason.clone(),
        message => format!("{}: {message}", decision.reason),
    }
}

fn summarize(version: &str, ended: &Ended) {
    println!("  {version}: {} after {:.0} s, weight {}", ended.phase, ended.seconds, ended.weight);
    println!("      {}", ended.reason);
    println!(
        "      {} requests, {} failed, answered by {:?}",
        ended.report.total(),
        ended.report.failed(),
        ended.report.by_version()
    );
}

fn title(text: &str) {
    println!("\n== {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_weight() {
        assert_eq!(bar(0), "░".repeat(20));
        assert_eq!(bar(50), "█".repeat(10) + &"░".repeat(10));
        assert_eq!(bar(100), "█".repeat(20));
        assert_eq!(bar(250), "█".repeat(20));
    }
}
