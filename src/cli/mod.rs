//! The command line: one file a command.

mod alerts;
mod client;
mod crds;
mod egress;
mod run;
mod signals;
mod tenancy;
mod values;

use clap::{Parser, Subcommand};

/// Progressive delivery for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "serin", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch Canaries and act on them, until told to stop.
    // Boxed, because it is many times the size of its siblings.
    Run(Box<run::Run>),
    /// Print the custom resource definitions as YAML, for `kubectl apply --server-side --filename -`.
    Crds(crds::Crds),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// When that failed; the chain of causes is meant to be printed in one line.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.execute().await,
            Command::Crds(crds) => crds.execute(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_is_explained_and_has_its_environment_variable() {
        let cli = Cli::command();
        let run = cli.find_subcommand("run").unwrap();
        for flag in run.get_arguments() {
            let name = flag.get_long().unwrap();
            let variable = format!("SERIN_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(flag.get_env().unwrap().to_str().unwrap(), variable);
            assert!(flag.get_help().is_some_and(|help| help.to_string().len() > 20), "--{name} has no help");
        }
    }
}
