//! Plays many seeds, or shows what happens with one.

use clap::Parser;
use mimalloc::MiMalloc;
use serin_simulation::{Total, play, replay};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Rolls out many versions in a simulated cluster, with everything going wrong, and checks that nothing did.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Play this one only, and tell what happens, one line a step.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this many seconds, whatever is left.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many at a time; as many as there are cores, if nothing is said.
    #[arg(long)]
    threads: Option<usize>,
    /// Stop after this many seeds that failed.
    #[arg(long, default_value_t = 5)]
    failures: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => show(seed),
        None => search(&arguments),
    }
}

/// Tells what happens with one seed.
fn show(seed: u64) -> ExitCode {
    let report = replay(seed);
    for line in &report.trace {
        println!("{line}");
    }
    for wrong in &report.wrong {
        println!("WRONG  {wrong}");
    }
    let (rollouts, seconds) = (report.rollouts, report.milliseconds / 1000);
    println!("seed {seed}: {rollouts} rollouts in {seconds} s of virtual time, {} wrong", report.wrong.len());
    if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays many.
fn search(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let threads = arguments.threads.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let total = Mutex::new(Total::default());
    let told = Mutex::new(began);
    let is_over = || arguments.seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over() && lock(&total).failed.len() < arguments.failures {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = play(seed);
                    lock(&total).add(&report);
                    if let Some(wrong) = report.wrong.first() {
                        println!("seed {seed}: {wrong}");
                    }
                    let mut last = lock(&told);
                    if last.elapsed() > Duration::from_secs(10) {
                        *last = Instant::now();
                        println!("{}", summary(&lock(&total), began.elapsed()));
                    }
                }
            });
        }
    });
    let total = lock(&total).clone();
    println!("{}", summary(&total, began.elapsed()));
    for (what, count) in &total.counts {
        println!("  {count:>12}  {what}");
    }
    let mut kinds: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (seed, wrong) in &total.failed {
        kinds.entry(wrong.split(':').next().unwrap_or_default()).or_default().push(*seed);
    }
    for (kind, seeds) in &kinds {
        println!("failed, {kind}: seeds {seeds:?}");
    }
    if let Some((seed, _)) = total.failed.iter().min() {
        println!("replay it with: make simulate SEED={seed}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[expect(clippy::cast_precision_loss, reason = "a rate is read by people")]
fn summary(total: &Total, elapsed: Duration) -> String {
    let Total { seeds, rollouts, promoted, rolled_back, disturbed, .. } = total;
    let rate = *rollouts as f64 / elapsed.as_secs_f64();
    format!(
        "{seeds} seeds, {rollouts} rollouts ({disturbed} with faults in them, {promoted} promoted, {rolled_back} taken back), \
         {} faults, {} hours of virtual time, {} failed, {rate:.0} rollouts/s",
        total.faults(),
        total.milliseconds / 3_600_000,
        total.failed.len(),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
