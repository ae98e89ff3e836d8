//! The benchmark: adopt, rest, roll all out at once, half of them bad.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use tokio::time::sleep;

use crate::audit::AuditLog;
use crate::board::{App, Rollout, app_name};
use crate::distribution::Distribution;
use crate::operator::Running;
use crate::played::http::Providers;
use crate::process::Usage;
use crate::report::{Outcome, Phase, Report, Times};
use crate::stage::{Setting, Stage, duration, image, say};

/// What this run can be told.
#[derive(Args, Clone, Debug)]
pub struct Load {
    #[command(flatten)]
    setting: Setting,

    /// How long to look at canaries at rest.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    idle: Duration,

    /// Of a hundred versions, so many turn bad at the middle step.
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    bad_share: u8,

    /// Over how long the new versions are spread; all at once, without.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    spread: Duration,

    /// How long all rollouts together may take.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    limit: Duration,
}

/// What is counted at one moment, to be compared with another.
struct Mark {
    at: Instant,
    usage: Usage,
    queries: u64,
}

impl Mark {
    fn now(running: &Running, providers: &Providers) -> Result<Self> {
        Ok(Self { at: Instant::now(), usage: running.process.usage()?, queries: providers.queries() })
    }

    fn until(&self, running: &Running, providers: &Providers, audit: &mut AuditLog) -> Result<Phase> {
        let now = Self::now(running, providers)?;
        Ok(Phase {
            seconds: now.at.duration_since(self.at).as_secs_f64(),
            requests: audit.since()?,
            queries: now.queries - self.queries,
            cpu_seconds: now.usage - self.usage,
            resident: now.usage.resident,
            peak: now.usage.peak,
        })
    }
}

impl Load {
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
        let mut stage = Stage::open(self.setting.clone()).await?;
        let running = stage.start_operator(&stage.cluster.url).await?;
        let measured = self.measure(&mut stage, &running).await;
        if measured.is_err() {
            eprintln!("{}", running.process.tail());
        }
        stage.close(running).await?;
        measured
    }

    async fn measure(&self, stage: &mut Stage, running: &Running) -> Result<Report> {
        stage.make_apps(|index| stage.variables(index)).await?;
        let begin = Mark::now(running, &stage.providers)?;
        stage.make_canaries(|index| stage.variables(index)).await?;
        let adoption = begin.until(running, &stage.providers, &mut stage.audit)?;
        stage.quiet(Duration::from_mins(1)).await?;

        let begin = Mark::now(running, &stage.providers)?;
        sleep(self.idle).await;
        let rest = begin.until(running, &stage.providers, &mut stage.audit)?;
        say(begin.at, "was a rest");

        let begin = Mark::now(running, &stage.providers)?;
        self.roll_out(stage).await?;
        say(begin.at, "all have their new version");
        stage.all("all rollouts are over", App::has_ended, self.limit).await?;
        let rollouts = begin.until(running, &stage.providers, &mut stage.audit)?;
        say(begin.at, "all rollouts are over");
        // What is written last, and a promotion that the watch has yet to show.
        sleep(Duration::from_secs(2)).await;
        let apps = stage.board.snapshot();
        Ok(Report {
            operator: stage.operator.name(),
            judged: stage.operator.is_serin(),
            canaries: self.setting.canaries,
            interval_seconds: self.setting.interval.as_secs_f64(),
            steps: self.setting.steps,
            step_weight: self.setting.step_weight,
            bad_share: self.bad_share,
            unrelated: self.setting.unrelated,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            adoption,
            rest,
            rollouts,
            times: times(&apps, self.setting.interval),
            outcome: outcome(&apps, &image(1)),
        })
    }

    async fn roll_out(&self, stage: &Stage) -> Result<()> {
        let canaries = self.setting.canaries;
        let middle = usize::from(self.setting.steps.div_ceil(2));
        let app = |index: usize| (index, self.is_bad(index).then_some(middle));
        if self.spread.is_zero() {
            return stage.roll_out((0..canaries).map(app), 2).await;
        }
        let begin = Instant::now();
        let pause = self.spread / u32::try_from(canaries)?;
        for index in 0..canaries {
            sleep((pause * u32::try_from(index)?).saturating_sub(begin.elapsed())).await;
            stage.roll_out([app(index)], 2).await?;
        }
        Ok(())
    }

    /// Good and bad ones take turns.
    fn is_bad(&self, index: usize) -> bool {
        let share = usize::from(self.bad_share);
        (index + 1) * share / 100 > index * share / 100
    }
}

/// What the board says of all rollouts.
fn times(apps: &[App], interval: Duration) -> Times {
    let rollouts: Vec<&Rollout> = apps.iter().filter_map(|app| app.rollout.as_ref()).collect();
    let between = |from: fn(&Rollout) -> Option<Instant>, to: fn(&Rollout) -> Option<Instant>| {
        let times = rollouts.iter().filter_map(|rollout| Some(to(rollout)?.duration_since(from(rollout)?)));
        Distribution::of(times)
    };
    let first = |rollout: &Rollout| rollout.steps.first().map(|(at, _)| *at);
    let intervals = || rollouts.iter().flat_map(|rollout| rollout.intervals());
    Times {
        change_to_first_weight: between(|rollout| Some(rollout.changed), first),
        ready_to_first_weight: between(|rollout| rollout.ready, first),
        step_interval: Distribution::of(intervals()),
        step_late: Distribution::of(intervals().map(|step| step.saturating_sub(interval))),
        bad_to_zero: between(|rollout| rollout.told.and(rollout.bad), |rollout| rollout.back),
        told_to_zero: between(|rollout| rollout.told, |rollout| rollout.back),
    }
}

/// What became of them, and which of them ended otherwise than they should have.
fn outcome(apps: &[App], first: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for (index, app) in apps.iter().enumerate() {
        let Some(rollout) = &app.rollout else { continue };
        let promoted = app.primary.image == rollout.image;
        outcome.promoted += usize::from(promoted);
        outcome.taken_back += usize::from(!promoted && app.primary.image == first);
        if let Some(what) = wrong(rollout, promoted) {
            outcome.wrong.push(format!("{} ({what})", app_name(index)));
        }
    }
    outcome
}

/// What should not have become of a rollout.
fn wrong(rollout: &Rollout, promoted: bool) -> Option<&'static str> {
    let is_bad = rollout.bad.is_some();
    match promoted {
        _ if rollout.rose_again => Some("got traffic again after it was taken back"),
        true if rollout.told.is_some() => Some("bad by an answer, and promoted"),
        true if is_bad => Some("bad, and promoted before anybody asked"),
        false if !is_bad => Some("good, and not promoted"),
        false if rollout.back.is_none() => Some("bad, and kept its traffic"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{Board, Pods, Role};

    const INTERVAL: Duration = Duration::from_secs(10);

    fn rollout(board: &Board, index: usize, start: Instant, steps: &[u64], bad: bool, primary: &str) {
        let at = |seconds| start + Duration::from_secs(seconds);
        board.begin(index, "app:2", None);
        board.route(index, 0, at(0));
        for (weight, seconds) in (1..).zip(steps) {
            board.route(index, weight * 10, at(*seconds));
        }
        if bad {
            board.turn_bad(index);
            assert!(!board.is_good(index));
        }
        board.route(index, 0, at(100));
        let pods = |image: &str| Pods { wanted: Some(0), total: 0, image: image.to_owned() };
        board.deployment(index, Role::Primary, pods(primary), at(100));
        board.deployment(index, Role::Target, pods("app:2"), at(100));
    }

    #[test]
    fn a_step_is_late_by_what_is_over_the_interval() {
        let board = Board::new(2, INTERVAL);
        rollout(&board, 0, Instant::now(), &[1, 11, 23], false, "app:2");
        let times = times(&board.snapshot(), INTERVAL);
        assert_eq!((times.step_interval.count, times.step_interval.max), (2, 12.0));
        assert_eq!((times.step_late.p50, times.step_late.max), (0.0, 2.0));
        assert_eq!(times.told_to_zero.count, 0, "what was good was not taken back");
    }

    #[test]
    fn an_end_that_should_not_be_is_found() {
        let board = Board::new(4, INTERVAL);
        let now = Instant::now();
        rollout(&board, 0, now, &[1, 11], false, "app:2");
        rollout(&board, 1, now, &[1, 11], true, "app:1");
        rollout(&board, 2, now, &[1, 11], false, "app:1");
        rollout(&board, 3, now, &[1, 11], true, "app:2");
        let outcome = outcome(&board.snapshot(), "app:1");
        assert_eq!((outcome.promoted, outcome.taken_back), (2, 2));
        assert_eq!(outcome.wrong, ["app00002 (good, and not promoted)", "app00003 (bad by an answer, and promoted)"]);
    }

    #[test]
    fn good_and_bad_ones_take_turns() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            load: Load,
        }
        let bad = |share: &str| {
            let line = <Line as clap::Parser>::parse_from(["load", "--bad-share", share]);
            (0..100).filter(|index| line.load.is_bad(*index)).count()
        };
        assert_eq!((bad("0"), bad("50"), bad("33"), bad("100")), (0, 50, 33, 100));
    }
}
