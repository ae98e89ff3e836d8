//! What came of a run, and of many.

use std::collections::BTreeMap;

/// What came of one seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was wrong: nothing, if all is well.
    pub wrong: Vec<String>,
    /// What happened, one line a step, if that was wanted.
    pub trace: Vec<String>,
    /// Rollouts that began.
    pub rollouts: u64,
    /// Rollouts that were promoted.
    pub promoted: u64,
    /// Rollouts that were taken back.
    pub rolled_back: u64,
    /// Rollouts during which something went wrong by chance.
    pub disturbed: u64,
    /// How long it took, in virtual time.
    pub milliseconds: u64,
    /// Requests to the API server.
    pub requests: u64,
    /// What was counted, by name.
    pub faults: BTreeMap<&'static str, u64>,
}

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// How many there were.
    pub seeds: u64,
    /// Those that failed, and what was wrong with each.
    pub failed: Vec<(u64, String)>,
    /// Rollouts that began.
    pub rollouts: u64,
    /// Rollouts that were promoted.
    pub promoted: u64,
    /// Rollouts that were taken back.
    pub rolled_back: u64,
    /// Rollouts during which something went wrong by chance.
    pub disturbed: u64,
    /// Virtual time in all.
    pub milliseconds: u64,
    /// What was counted, by name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Total {
    /// Adds what came of one more seed.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.rollouts += report.rollouts;
        self.promoted += report.promoted;
        self.rolled_back += report.rolled_back;
        self.disturbed += report.disturbed;
        self.milliseconds += report.milliseconds;
        for (name, count) in &report.faults {
            *self.counts.entry(name).or_default() += count;
        }
        if let Some(wrong) = report.wrong.first() {
            self.failed.push((report.seed, wrong.clone()));
        }
    }

    /// How many things went wrong by chance.
    #[must_use]
    pub fn faults(&self) -> u64 {
        let no_faults = ["passes", "requests", "queries", "webhooks"];
        self.counts.iter().filter(|(name, _)| !no_faults.contains(name)).map(|(_, count)| count).sum()
    }
}
