//! Processes of our own: started with a log, measured from `/proc`, ended by their id.
//!
//! Invariant: none of them outlives the value that stands for it.

use std::fs::{self, File};
use std::ops::Sub;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::time::sleep;

/// What a process may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// How much of a log is shown when its process has failed, in bytes.
const TAIL: usize = 2000;

/// A process that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    pid: Pid,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// In user and kernel mode, in seconds.
    pub cpu_seconds: f64,
    /// Resident now, in bytes.
    pub resident: u64,
    /// The most that ever was resident, in bytes.
    pub peak: u64,
}

impl Process {
    /// Starts a command with both its outputs in a log of its name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        // A group of its own: Ctrl-C is for us, and we end the others in order.
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        let pid = Pid::from_child(&child);
        Ok(Self { name: name.to_owned(), log, child, pid })
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.pid.as_raw_nonzero());
            fs::read_to_string(&path).with_context(|| format!("{} has ended: {}", self.name, self.tail()))
        };
        usage(&read("stat")?, &read("status")?, clock_ticks_per_second())
    }

    /// Fails when it has ended by itself.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} has ended with {status}: {}", self.name, self.tail())),
        }
    }

    /// Asks it to end, and kills it when it does not.
    ///
    /// # Errors
    /// When nobody knows whether it has ended.
    pub async fn stop(mut self) -> Result<()> {
        // It may have ended by itself, which is as good.
        let _ = kill_process(self.pid, Signal::TERM);
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() && begin.elapsed() < GRACE {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(TAIL);
        let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        format!("the end of {}:\n{}", self.log.display(), &text[from..])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already. After the signal it is gone in a moment.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sub for Usage {
    type Output = f64;

    /// The seconds of CPU between two looks.
    fn sub(self, earlier: Self) -> f64 {
        self.cpu_seconds - earlier.cpu_seconds
    }
}

/// Reads `/proc/PID/stat` and `/proc/PID/status`, as proc(5) has them.
fn usage(stat: &str, status: &str, ticks_per_second: u64) -> Result<Usage> {
    // The name in parentheses may hold anything; after it, user time is the 12th field and system time the 13th.
    let fields: Vec<_> = stat.rsplit_once(") ").context("stat has no name")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u32>().ok()).context("stat is too short");
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes =
            line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.map(|kibibytes| kibibytes * 1024).with_context(|| format!("status has no {name}"))
    };
    let per_second = f64::from(u32::try_from(ticks_per_second)?);
    Ok(Usage {
        cpu_seconds: (f64::from(ticks(11)?) + f64::from(ticks(12)?)) / per_second,
        resident: bytes("VmRSS")?,
        peak: bytes("VmHWM")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_shifts_no_field() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 200";
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let usage = usage(stat, status, 100).unwrap();
        assert_eq!(usage, Usage { cpu_seconds: 3.0, resident: 1024 * 1024, peak: 2048 * 1024 });
    }

    #[tokio::test]
    async fn a_process_is_measured_and_ended() {
        let logs = std::env::temp_dir();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut process = Process::start(&format!("sleep-{}", std::process::id()), command, &logs).unwrap();
        assert!(process.usage().unwrap().resident > 0);
        process.alive().unwrap();
        let (pid, log) = (process.pid, process.log.clone());
        process.stop().await.unwrap();
        assert!(rustix::process::test_kill_process(pid).is_err(), "it still runs");
        fs::remove_file(log).unwrap();
    }
}
