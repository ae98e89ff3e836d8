//! Sends steady load through the gateway, and prints a line a second.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use jiff::Timestamp;
use serin_e2e::environment;
use serin_e2e::load::{Load, Report};
use tokio::time::MissedTickBehavior;

#[derive(Debug, Parser)]
#[command(about)]
struct Options {
    /// Host name of the route
    host: String,
    /// Requests a second
    #[arg(long, default_value_t = 60)]
    rate: u32,
    /// How long; Ctrl-C ends it earlier
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let load = Load::start(&environment::gateway()?, &options.host, options.rate)?;
    tokio::select! {
        () = print_every_second(&load, options.seconds) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let report = load.stop().await?;
    println!("{report}");
    ensure!(report.failed() == 0, "{} requests failed", report.failed());
    Ok(())
}

async fn print_every_second(load: &Load, seconds: u64) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut since = Timestamp::now();
    for _ in 0..seconds {
        ticks.tick().await;
        let until = Timestamp::now();
        println!("{}", line(&load.report().within(&(since..until))));
        since = until;
    }
}

fn line(second: &Report) -> String {
    let shares = second.by_version().into_keys().filter_map(|version| {
        let share = second.share(version)?;
        Some(format!("{version} {share:.0} %"))
    });
    let shares = shares.collect::<Vec<_>>().join(", ");
    format!("{:>4}/s   {:<24} {:>3} failed", second.total(), shares, second.failed())
}
