//! The `serin` command.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use serin::cli::Cli;
use serin::telemetry::chain;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Passes wait for answers and hardly compute, and an operator is to be small next to what it looks after.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serin: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("could not start the threads of the process")?;
    let result = runtime.block_on(cli.execute());
    // Without waiting for what still runs: after a lost Lease not one more write may be made.
    runtime.shutdown_background();
    result
}
