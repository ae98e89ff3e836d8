//! The command line.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use serde::Serialize;
use serin_bench::load::Load;
use serin_bench::retreat::Retreat;
use serin_bench::soak::Soak;
use tokio::signal::unix::{SignalKind, signal};

/// Serin, or another operator, under load on a bare API server.
#[derive(Debug, Parser)]
#[command(name = "serin-bench")]
enum Command {
    /// Adopts all apps, rests, and rolls all out at once, some of them bad.
    Load(Load),

    /// Takes bad versions back while everything else goes wrong: hooks, alerts, Prometheus and the API server.
    Retreat(Retreat),

    /// Rolls out without end, with faults, and fails when something grows.
    Soak(Soak),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Of all crates that speak TLS here none brings its own choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = Command::parse();
    // Dropping a run ends every process that it has started.
    let result = tokio::select! {
        result = run(command) => result,
        result = interrupted() => result,
    };
    match result {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => {
            eprintln!("\ndoes not hold:");
            for sentence in broken {
                eprintln!("- {sentence}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<Vec<String>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    anyhow::bail!("interrupted")
}

async fn run(command: Command) -> Result<Vec<String>> {
    match command {
        Command::Load(load) => {
            let json = load.json().cloned();
            let report = load.run().await?;
            show(json.as_deref(), &report)?;
            Ok(report.broken())
        }
        Command::Retreat(retreat) => {
            let json = retreat.json().cloned();
            let report = retreat.run().await?;
            show(json.as_deref(), &report)?;
            Ok(report.broken())
        }
        Command::Soak(soak) => {
            let json = soak.json().cloned();
            let report = soak.run().await?;
            show(json.as_deref(), &report)?;
            Ok(report.broken())
        }
    }
}

/// For people, and as JSON where that is wanted.
fn show(path: Option<&Path>, report: &(impl Display + Serialize)) -> Result<()> {
    println!("\n{report}");
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, serde_json::to_string_pretty(report)?).with_context(|| path.display().to_string())
}
