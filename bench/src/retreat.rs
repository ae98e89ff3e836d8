//! What stands between a breach and weight 0 when everything else goes wrong at the same time.
//!
//! Some apps carry traffic on a new version. Then every webhook and every alert endpoint hangs, all other apps get a new
//! version at once, Prometheus says nothing of those, and the API server answers most writes with 429. Now the versions
//! that carry traffic turn bad.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use crate::board::{App, Rollout};
use crate::distribution::Distribution;
use crate::manifests::Variables;
use crate::operator::Operator;
use crate::proxy::{Proxy, Weather, Wronged};
use crate::stage::{Setting, Stage, duration, say};

/// What this run can be told.
#[derive(Args, Clone, Debug)]
pub struct Retreat {
    #[command(flatten)]
    setting: Setting,

    /// How many of the canaries carry traffic and turn bad; the others are in their way.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    subjects: usize,

    /// How many writes a second the API server takes; all others it answers with 429 and Retry-After.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    writes_per_second: u32,

    /// How long everything has gone wrong before the versions turn bad.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    trouble: Duration,

    /// How long the retreats may take.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    limit: Duration,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many were in the way.
    pub others: usize,
    /// In seconds.
    pub interval_seconds: f64,
    /// What the API server took.
    pub writes_per_second: u32,
    /// Until all weights were back.
    pub seconds: f64,
    /// Requests and refusals of that time.
    pub wronged: Wronged,
    /// From the moment when Prometheus first said that a version is bad.
    pub told_to_zero: Distribution,
    /// From the moment when the version turned bad.
    pub bad_to_zero: Distribution,
    /// How many never came back.
    pub left: usize,
}

impl Retreat {
    /// Where to write what was measured.
    #[must_use]
    pub fn json(&self) -> Option<&PathBuf> {
        self.setting.json.as_ref()
    }

    /// Runs it, from nothing to the report.
    ///
    /// # Errors
    /// When something does not start, or does not end in time.
    pub async fn run(self) -> Result<Report> {
        ensure!(self.setting.peer_command.is_none(), "another operator's webhooks and alerts are not known here");
        ensure!(self.subjects < self.setting.canaries, "somebody has to be in the way: choose fewer --subjects");
        let mut stage = Stage::open(self.setting.clone()).await?;
        // Alerts go where nothing will be answered either.
        if let Operator::Serin { flags, .. } = &mut stage.operator {
            flags.push(format!("--alert-webhook-url=http://{}/hook", stage.providers.address));
        }
        let proxy = Proxy::start(&stage.cluster.url, &stage.cluster.authority).await?;
        let running = stage.start_operator(&proxy.url()).await?;
        let measured = self.measure(&stage, &proxy).await;
        if measured.is_err() {
            eprintln!("{}", running.process.tail());
        }
        stage.close(running).await?;
        measured
    }

    async fn measure(&self, stage: &Stage, proxy: &Arc<Proxy>) -> Result<Report> {
        let hooked = |index| Variables { hook: Some(stage.hook()), ..stage.variables(index) };
        stage.make_apps(hooked).await?;
        stage.make_canaries(hooked).await?;

        let begin = Instant::now();
        stage.roll_out((0..self.subjects).map(|index| (index, None)), 2).await?;
        self.await_traffic(stage).await?;
        say(begin, "the subjects carry traffic");

        let begin = Instant::now();
        let before = proxy.wronged();
        stage.providers.hang_hooks(true);
        stage.providers.keep_silent_from(self.subjects);
        proxy.set(Weather { writes_per_second: Some(self.writes_per_second), ..Weather::default() });
        stage.roll_out((self.subjects..self.setting.canaries).map(|index| (index, None)), 2).await?;
        sleep(self.trouble).await;
        say(begin, "everything goes wrong");
        for index in 0..self.subjects {
            stage.board.turn_bad(index);
        }
        let left = self.await_retreats(stage).await;
        say(begin, "the subjects are back");
        let rollouts: Vec<_> =
            stage.board.snapshot().into_iter().take(self.subjects).filter_map(|app| app.rollout).collect();
        let back = |from: fn(&Rollout) -> Option<Instant>| {
            Distribution::of(rollouts.iter().filter_map(|rollout| Some(rollout.back?.duration_since(from(rollout)?))))
        };
        Ok(Report {
            others: self.setting.canaries - self.subjects,
            interval_seconds: self.setting.interval.as_secs_f64(),
            writes_per_second: self.writes_per_second,
            seconds: begin.elapsed().as_secs_f64(),
            wronged: proxy.wronged().since(before),
            told_to_zero: back(|rollout| rollout.told),
            bad_to_zero: back(|rollout| rollout.bad),
            left,
        })
    }

    async fn await_traffic(&self, stage: &Stage) -> Result<()> {
        let begin = Instant::now();
        while stage.board.count(|app| app.weight.is_some_and(|weight| weight > 0)) < self.subjects {
            if begin.elapsed() > self.limit {
                bail!("not all subjects carry traffic after {:?}", self.limit);
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// How many subjects still carry traffic when all are back, or the time is over.
    async fn await_retreats(&self, stage: &Stage) -> usize {
        let begin = Instant::now();
        let carries =
            |app: &App| app.rollout.as_ref().is_some_and(|rollout| rollout.bad.is_some() && rollout.back.is_none());
        loop {
            let left = stage.board.count(carries);
            if left == 0 || begin.elapsed() > self.limit {
                return left;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Report {
    /// What does not hold of what Serin promises.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let left = (self.left > 0).then(|| format!("{} bad versions still carry traffic", self.left));
        left.into_iter().collect()
    }
}

impl std::fmt::Display for Report {
    /// Markdown.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { others, interval_seconds, writes_per_second, seconds, wronged, told_to_zero, bad_to_zero, left } =
            self;
        writeln!(
            formatter,
            "{others} other canaries with a new version, interval {interval_seconds} s, all webhooks and alerts hanging, \
             {writes_per_second} writes a second let through: of {} writes {} were refused within {seconds:.0} s. \
             Bad versions that still carry traffic: {left}.\n",
            wronged.writes, wronged.refused,
        )?;
        writeln!(formatter, "| | p50 | p95 | p99 | max | measured |")?;
        writeln!(formatter, "|---|---|---|---|---|---|")?;
        writeln!(formatter, "| bad value answered → weight 0 in the route {told_to_zero}")?;
        writeln!(formatter, "| version turns bad → weight 0 in the route {bad_to_zero}")
    }
}
