//! Rollouts without end, with faults, and what grows meanwhile: nothing should.
//!
//! Invariant: the process that is measured is the same from the first minute to the last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

use crate::board::{app_name, namespace};
use crate::manifests::{self, Variables, render};
use crate::operator::Running;
use crate::played::http::Mood;
use crate::proxy::{Proxy, Weather, Wronged};
use crate::report::mebibytes;
use crate::stage::{Setting, Stage, duration, say};

/// Between two looks at the memory.
const SAMPLE: Duration = Duration::from_secs(10);

/// Between two counts of objects, which cost the API server something.
const COUNT: Duration = Duration::from_mins(1);

/// Memory may be so much more in the end than it was early, in percent.
const MEMORY_GROWTH: u64 = 5;

/// How long one app may take to come to rest before it counts as stuck: longer than any fault lasts.
const STUCK: Duration = Duration::from_mins(3);

/// What this run can be told.
#[derive(Args, Clone, Debug)]
pub struct Soak {
    #[command(flatten)]
    setting: Setting,

    /// How long it goes on; a sixth of it is what counts as early.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    time: Duration,
}

/// What happened and what was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// How many canaries.
    pub canaries: usize,
    /// How long it went on.
    pub seconds: f64,
    /// What users did, by kind.
    pub done: BTreeMap<&'static str, u64>,
    /// What the proxy did.
    pub wronged: Wronged,
    /// Of Prometheus.
    pub queries: u64,
    /// Of the operator, in seconds.
    pub cpu_seconds: f64,
    /// The median of some samples early and in the end.
    pub early: Sample,
    /// The same in the end.
    pub last: Sample,
    /// All that was sampled.
    pub samples: Samples,
    /// Apps that did not come to rest in time.
    pub stuck: Vec<String>,
    /// The most that ever was resident.
    pub peak: u64,
}

/// What was sampled, with the seconds since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Samples {
    /// In bytes.
    pub resident: Vec<(u64, u64)>,
    /// Less often.
    pub counts: Vec<(u64, Counts)>,
}

/// What could grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// In bytes.
    pub resident: u64,
    /// The most that was counted in the time around.
    pub counts: Counts,
}

/// Objects and what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Entries in the history of the Canary that has most.
    pub history: u64,
    /// Of all Canaries.
    pub revisions: u64,
    /// Copies of ConfigMaps.
    pub copies: u64,
    /// Series at `/metrics`.
    pub series: u64,
}

/// What users do with an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Good,
    Bad,
    Config,
    Superseded,
    Recreated,
}

impl Action {
    /// By a number below a hundred.
    fn chosen(number: u32) -> Self {
        match number {
            0..50 => Self::Good,
            50..70 => Self::Bad,
            70..85 => Self::Config,
            85..95 => Self::Superseded,
            _ => Self::Recreated,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good versions",
            Self::Bad => "bad versions",
            Self::Config => "changed ConfigMaps",
            Self::Superseded => "versions during a rollout",
            Self::Recreated => "Canaries deleted and made again",
        }
    }
}

const ACTIONS: [Action; 5] = [Action::Good, Action::Bad, Action::Config, Action::Superseded, Action::Recreated];

/// What the users of all apps have done.
#[derive(Default)]
struct Diary {
    version: AtomicU64,
    done: [AtomicU64; ACTIONS.len()],
    stuck: Mutex<BTreeSet<String>>,
}

impl Diary {
    fn note(&self, action: Action) {
        if let Some(count) = ACTIONS.iter().position(|other| *other == action).and_then(|at| self.done.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stuck_at(&self, app: &str) {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).insert(app.to_owned());
    }

    fn stuck(&self) -> Vec<String> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn done(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.done.iter().map(|count| count.load(Ordering::Relaxed));
        ACTIONS.into_iter().map(Action::name).zip(counts).collect()
    }

    /// A version that no app has had.
    fn version(&self) -> u32 {
        u32::try_from(self.version.fetch_add(1, Ordering::Relaxed) + 2).unwrap_or(u32::MAX)
    }
}

impl Soak {
    /// Where to write what was measured.
    #[must_use]
    pub fn json(&self) -> Option<&PathBuf> {
        self.setting.json.as_ref()
    }

    /// Runs it, from nothing to the report.
    ///
    /// # Errors
    /// When something does not start, or the operator ends.
    pub async fn run(self) -> Result<Report> {
        let mut stage = Stage::open(self.setting.clone()).await?;
        let tools = stage.tools.clone();
        stage.cluster.start_garbage_collector(&tools)?;
        let proxy = Proxy::start(&stage.cluster.url, &stage.cluster.authority).await?;
        let running = stage.start_operator(&proxy.url()).await?;
        let report = self.play(&stage, &proxy, &running).await;
        if report.is_err() {
            eprintln!("{}", running.process.tail());
        }
        stage.close(running).await?;
        report
    }

    async fn play(&self, stage: &Stage, proxy: &Arc<Proxy>, running: &Running) -> Result<Report> {
        let variables = |index| Variables { config: Some(settings(index)), ..stage.variables(index) };
        let namespaces = (0..self.setting.canaries).map(|index| manifests::namespace(&namespace(index)));
        stage.maker.make_all(namespaces).await?;
        stage.maker.make_all((0..self.setting.canaries).map(|index| config_map(index, "first"))).await?;
        stage.make_apps(variables).await?;
        stage.make_canaries(variables).await?;

        let (begin, diary, before) = (Instant::now(), Diary::default(), running.process.usage()?);
        let users = join_all((0..self.setting.canaries).map(|index| use_app(stage, &diary, index)));
        let samples = tokio::select! {
            samples = Samples::take(stage, running, begin, self.time) => samples?,
            _ = users => Samples::default(),
            () = turn_weather(stage, proxy) => Samples::default(),
        };
        let used = running.process.usage()?;
        Ok(Report {
            canaries: self.setting.canaries,
            seconds: begin.elapsed().as_secs_f64(),
            done: diary.done(),
            wronged: proxy.wronged(),
            queries: stage.providers.queries(),
            cpu_seconds: used - before,
            peak: used.peak,
            early: samples.around(self.time / 6, self.time),
            last: samples.around(self.time, self.time),
            stuck: diary.stuck(),
            samples,
        })
    }
}

impl Samples {
    /// Samples memory and counts until the time is over.
    async fn take(stage: &Stage, running: &Running, begin: Instant, time: Duration) -> Result<Self> {
        let mut samples = Self::default();
        let mut ticks = interval(SAMPLE.min(time / 60));
        let mut counted = Instant::now();
        let count_every = COUNT.min(time / 20);
        while begin.elapsed() < time {
            ticks.tick().await;
            let at = begin.elapsed().as_secs();
            samples.resident.push((at, running.process.usage()?.resident));
            if counted.elapsed() >= count_every {
                counted = Instant::now();
                samples.counts.push((at, Counts::now(stage, running).await?));
                let (resident, counts) = (running.process.usage()?.resident, samples.counts.last());
                say(begin, &format!("{} resident, {counts:?}", mebibytes(resident)));
            }
        }
        Ok(samples)
    }

    /// What there was in the time before a moment: memory changes from second to second, and so does how many
    /// rollouts are under way.
    fn around(&self, moment: Duration, time: Duration) -> Sample {
        let (from, to) = (moment.saturating_sub(time / 12).as_secs(), moment.as_secs());
        let within = |at: &u64| (from..=to).contains(at);
        let mut resident: Vec<_> = self.resident.iter().filter(|(at, _)| within(at)).map(|(_, bytes)| *bytes).collect();
        resident.sort_unstable();
        let counts = self.counts.iter().filter(|(at, _)| within(at)).map(|(_, counts)| *counts);
        Sample {
            resident: resident.get(resident.len() / 2).copied().unwrap_or_default(),
            counts: counts.fold(Counts::default(), Counts::most),
        }
    }
}

impl Counts {
    async fn now(stage: &Stage, running: &Running) -> Result<Self> {
        let all = ListParams::default();
        let canaries = Api::<DynamicObject>::all_with(stage.client.clone(), &canary_kind()).list(&all).await?;
        let history = |canary: &DynamicObject| canary.data["status"]["history"].as_array().map_or(0, Vec::len);
        let revisions = Api::<ControllerRevision>::all(stage.client.clone()).list_metadata(&all).await?;
        let config_maps = Api::<ConfigMap>::all(stage.client.clone()).list_metadata(&all).await?;
        let is_copy = |name: &Option<String>| name.as_deref().is_some_and(|name| name.contains("-primary-"));
        let metrics = running.metrics().await?;
        Ok(Self {
            history: count(canaries.iter().map(history).max().unwrap_or_default()),
            revisions: count(revisions.items.len()),
            copies: count(config_maps.iter().filter(|config_map| is_copy(&config_map.metadata.name)).count()),
            series: count(series(&metrics)),
        })
    }

    fn most(self, other: Self) -> Self {
        Self {
            history: self.history.max(other.history),
            revisions: self.revisions.max(other.revisions),
            copies: self.copies.max(other.copies),
            series: self.series.max(other.series),
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// How many lines of a page of metrics are values.
fn series(page: &str) -> usize {
    page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

fn canary_kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("serin.dev", "v1beta1", "Canary"), "canaries")
}

/// The ConfigMap of an app.
fn settings(index: usize) -> String {
    format!("{}-settings", app_name(index))
}

fn config_map(index: usize, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": settings(index), "namespace": namespace(index)},
        "data": {"value": value},
    })
}

/// One user, who never stops. What the API server refuses is done another time.
async fn use_app(stage: &Stage, diary: &Diary, index: usize) {
    loop {
        rest(stage, diary, index).await;
        sleep(Duration::from_millis(fastrand::u64(0..2000))).await;
        let action = Action::chosen(fastrand::u32(0..100));
        if let Err(error) = act(stage, diary, index, action).await {
            eprintln!("{}: {}: {error:#}", app_name(index), action.name());
            continue;
        }
        diary.note(action);
        // The change has to be seen before the rest can be.
        sleep(stage.setting.interval).await;
    }
}

/// Waits until an app is at rest, or has been at work for too long.
async fn rest(stage: &Stage, diary: &Diary, index: usize) {
    let begin = Instant::now();
    while !stage.board.app(index).is_at_rest() {
        if begin.elapsed() > STUCK {
            diary.stuck_at(&app_name(index));
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn act(stage: &Stage, diary: &Diary, index: usize, action: Action) -> Result<()> {
    let steps = usize::from(stage.setting.steps);
    match action {
        Action::Good => stage.roll_out([(index, None)], diary.version()).await,
        Action::Bad => stage.roll_out([(index, Some(fastrand::usize(1..=steps)))], diary.version()).await,
        Action::Superseded => {
            stage.roll_out([(index, None)], diary.version()).await?;
            sleep(stage.setting.interval.mul_f64(f64::from(stage.setting.steps) * fastrand::f64())).await;
            stage.roll_out([(index, None)], diary.version()).await
        }
        Action::Config => {
            let api: Api<ConfigMap> = Api::namespaced(stage.client.clone(), &namespace(index));
            let patch = Patch::Merge(json!({"data": {"value": diary.version().to_string()}}));
            api.patch(&settings(index), &PatchParams::default(), &patch).await?;
            Ok(())
        }
        Action::Recreated => recreate(stage, index).await,
    }
}

/// Deletes a Canary, waits until nothing of it is left, and makes it again.
async fn recreate(stage: &Stage, index: usize) -> Result<()> {
    let (name, namespace) = (app_name(index), namespace(index));
    let client = || stage.client.clone();
    let canaries: Api<DynamicObject> = Api::namespaced_with(client(), &namespace, &canary_kind());
    canaries.delete(&name, &DeleteParams::default()).await?;
    let deployments: Api<Deployment> = Api::namespaced(client(), &namespace);
    let begin = Instant::now();
    while canaries.get_opt(&name).await?.is_some() {
        anyhow::ensure!(begin.elapsed() < STUCK, "it is still there after {STUCK:?}");
        sleep(Duration::from_millis(500)).await;
    }
    // A primary stays when the target holds a version that was never promoted.
    while begin.elapsed() < STUCK && deployments.get_opt(&format!("{name}-primary")).await?.is_some_and(is_owned) {
        sleep(Duration::from_millis(500)).await;
    }
    let template = stage.operator.canary()?;
    stage.maker.make_all(render(&template, &stage.variables(index))?).await
}

fn is_owned(deployment: Deployment) -> bool {
    deployment.metadata.owner_references.is_some_and(|owners| owners.iter().any(|owner| owner.kind == "Canary"))
}

/// Something goes wrong for some seconds, and then nothing for some.
async fn turn_weather(stage: &Stage, proxy: &Proxy) {
    loop {
        sleep(Duration::from_secs(fastrand::u64(5..15))).await;
        match fastrand::u32(0..7) {
            0 => proxy.set(Weather { refused: 300, ..Weather::default() }),
            1 => proxy.set(Weather { failed: 200, ..Weather::default() }),
            2 => proxy.set(Weather { lost_before: 100, lost_after: 100, ..Weather::default() }),
            3 => proxy.cut_watches(),
            4 => stage.providers.set_mood(Mood::Down),
            5 => stage.providers.set_mood(Mood::Empty),
            _ => stage.providers.set_mood(Mood::Silent),
        }
        sleep(Duration::from_secs(fastrand::u64(2..8))).await;
        proxy.set(Weather::default());
        stage.providers.set_mood(Mood::Well);
    }
}

impl Report {
    /// What grew that should not, and who got stuck.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let Self { early, last, stuck, .. } = self;
        let mut broken = vec![];
        if last.resident * 100 > early.resident * (100 + MEMORY_GROWTH) {
            broken.push(format!("memory grew from {} to {}", mebibytes(early.resident), mebibytes(last.resident)));
        }
        let (before, after) = (early.counts, last.counts);
        // In the middle of a rollout an app has one more of these than at rest.
        let rolling = count(self.canaries);
        let counts = [
            ("entries of history", before.history, after.history, 0),
            ("revisions", before.revisions, after.revisions, rolling),
            ("copies of ConfigMaps", before.copies, after.copies, rolling),
            ("series", before.series, after.series, 0),
        ];
        // How many rollouts are under way differs from minute to minute; what leaks, leaks with every one of them.
        let grown = counts.into_iter().filter(|(_, before, after, more)| after * 10 > before * 11 + more * 10);
        broken.extend(grown.map(|(what, before, after, _)| format!("{what} grew from {before} to {after}")));
        if !stuck.is_empty() {
            broken.push(format!("these did not come to rest within {STUCK:?}: {}", stuck.join(", ")));
        }
        broken
    }
}

impl fmt::Display for Report {
    /// Markdown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { canaries, seconds, done, wronged, queries, cpu_seconds, early, last, peak, stuck, .. } = self;
        let done: Vec<_> = done.iter().map(|(what, count)| format!("{count} {what}")).collect();
        writeln!(
            formatter,
            "{canaries} canaries for {:.0} minutes: {}. Of {} requests {} were answered with 429, {} with 500, {} were lost; all \
             watches were cut {} times. {queries} queries, {cpu_seconds:.0} s of CPU, peak {}, stuck {}.\n",
            seconds / 60.0,
            done.join(", "),
            wronged.requests,
            wronged.refused,
            wronged.failed,
            wronged.lost,
            wronged.cut,
            mebibytes(*peak),
            stuck.len(),
        )?;
        writeln!(formatter, "| | after {:.0} minutes | after {:.0} minutes |", seconds / 360.0, seconds / 60.0)?;
        writeln!(formatter, "|---|---|---|")?;
        writeln!(formatter, "| memory | {} | {} |", mebibytes(early.resident), mebibytes(last.resident))?;
        let (before, after) = (early.counts, last.counts);
        writeln!(formatter, "| longest history | {} | {} |", before.history, after.history)?;
        writeln!(formatter, "| ControllerRevisions | {} | {} |", before.revisions, after.revisions)?;
        writeln!(formatter, "| copies of ConfigMaps | {} | {} |", before.copies, after.copies)?;
        writeln!(formatter, "| series at /metrics | {} | {} |", before.series, after.series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let counts = |at: u64| Counts { history: 32, revisions: 100 + at % 3, copies: 40, series: 500 };
        Samples {
            resident: (0..360).map(|tenth| (tenth * 10, (20 << 20) + tenth % 7)).collect(),
            counts: (1..60).map(|minute| (minute * 60, counts(minute))).collect(),
        }
    }

    fn report(samples: &Samples) -> Report {
        let hour = Duration::from_hours(1);
        Report { early: samples.around(hour / 6, hour), last: samples.around(hour, hour), ..Report::default() }
    }

    #[test]
    fn what_only_goes_up_and_down_does_not_grow() {
        let report = report(&samples());
        assert_eq!(report.broken(), Vec::<String>::new());
        assert_eq!(report.early.counts, Counts { history: 32, revisions: 102, copies: 40, series: 500 });
    }

    #[test]
    fn what_grows_is_found() {
        let mut samples = samples();
        for (at, bytes) in &mut samples.resident {
            *bytes += *at * 1000;
        }
        for (at, counts) in &mut samples.counts {
            counts.revisions += *at / 60;
            counts.series += *at / 10;
        }
        let broken = report(&samples).broken();
        assert_eq!(broken.len(), 3, "{broken:?}");
        let stuck = Report { stuck: vec!["app00001".into()], ..Report::default() };
        assert_eq!(stuck.broken().len(), 1);
    }

    #[test]
    fn lines_that_are_no_values_are_no_series() {
        assert_eq!(series("# HELP a b\n# TYPE a gauge\na{b=\"c\"} 1\na 2\n# EOF\n"), 2);
    }

    #[test]
    fn every_action_has_its_share() {
        let share = |action| (0..100).filter(|number| Action::chosen(*number) == action).count();
        assert_eq!(ACTIONS.map(share), [50, 20, 15, 10, 5]);
    }
}
