//! Every change of an app's route, status and primary, with the time at which it was seen.
//!
//! A recording comes from watches and not from polling: what was applied for a tenth of a second is in it.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::app::{Split, version_of};
use crate::objects::{Kind, Objects, json};
use crate::status::Status;

/// The values that something had, each with the time since when; neighbours differ.
type Timeline<T> = Arc<Mutex<Vec<(Timestamp, T)>>>;

/// A recording in progress; it ends when it is dropped.
pub struct Recording {
    splits: Timeline<Split>,
    statuses: Timeline<Status>,
    primaries: Timeline<String>,
    watches: JoinSet<()>,
}

impl Recording {
    pub(crate) fn start(objects: &Objects, app: &str, workload: Kind) -> Self {
        let mut recording = Self {
            splits: Timeline::default(),
            statuses: Timeline::default(),
            primaries: Timeline::default(),
            watches: JoinSet::new(),
        };
        let name = app.to_owned();
        let split = move |route: &Value| Split::of(route, &name);
        let version = |primary: &Value| version_of(&primary["spec"]["template"]);
        recording.watch(objects, Kind::HttpRoute, app, recording.splits.clone(), split);
        recording.watch(objects, Kind::Canary, app, recording.statuses.clone(), |canary| Status::of(canary).ok());
        let primary = format!("{app}-primary");
        recording.watch(objects, workload, &primary, recording.primaries.clone(), version);
        recording
    }

    fn watch<T: PartialEq + Send + 'static>(
        &mut self,
        objects: &Objects,
        kind: Kind,
        name: &str,
        timeline: Timeline<T>,
        read: impl Fn(&Value) -> Option<T> + Send + 'static,
    ) {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut changes = watcher(objects.api(kind), config).default_backoff().applied_objects().boxed();
        self.watches.spawn(async move {
            while let Some(change) = changes.next().await {
                // An interrupted watch reports an error and starts anew.
                let Ok(object) = change.map_err(anyhow::Error::new).and_then(json) else { continue };
                let Some(value) = read(&object) else { continue };
                let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
                if timeline.last().is_none_or(|(_, last)| *last != value) {
                    timeline.push((Timestamp::now(), value));
                }
            }
        });
    }

    /// The splits that the route had.
    #[must_use]
    pub fn splits(&self) -> Vec<(Timestamp, Split)> {
        snapshot(&self.splits)
    }

    /// The splits that the route got at or after a moment.
    #[must_use]
    pub fn splits_since(&self, moment: Timestamp) -> Vec<(Timestamp, Split)> {
        self.splits().into_iter().filter(|(time, _)| *time >= moment).collect()
    }

    /// The weights that the canary had, one after the other.
    #[must_use]
    pub fn canary_weights(&self) -> Vec<i64> {
        self.splits().iter().map(|(_, split)| split.canary).collect()
    }

    /// The statuses that Serin wrote.
    #[must_use]
    pub fn statuses(&self) -> Vec<(Timestamp, Status)> {
        snapshot(&self.statuses)
    }

    /// The versions that the primary was told to run.
    #[must_use]
    pub fn primaries(&self) -> Vec<String> {
        snapshot(&self.primaries).into_iter().map(|(_, version)| version).collect()
    }
}

fn snapshot<T: Clone>(timeline: &Timeline<T>) -> Vec<(Timestamp, T)> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
