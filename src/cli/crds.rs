//! `serin crds`: what `kubectl apply` needs before the first Canary.

use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::api;

/// What `serin crds` can be told.
#[derive(Debug, Args)]
pub(super) struct Crds {
    /// Write each definition to a file of its own in this directory, instead of all to standard output.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

impl Crds {
    pub(super) fn execute(&self) -> anyhow::Result<()> {
        let Some(directory) = &self.directory else { return print(stdout().lock()) };
        fs::create_dir_all(directory).with_context(|| format!("could not make {}", directory.display()))?;
        for (name, yaml) in documents()? {
            let path = directory.join(format!("{name}.yaml"));
            let written = File::create(&path).and_then(|mut file| file.write_all(yaml.as_bytes()));
            written.with_context(|| format!("could not write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Each definition's name and YAML.
fn documents() -> anyhow::Result<Vec<(String, String)>> {
    let document = |definition| {
        let name = kube::ResourceExt::name_any(&definition);
        let yaml = serde_saphyr::to_string(&definition).with_context(|| format!("could not write {name} as YAML"))?;
        Ok((name, yaml))
    };
    api::crds().into_iter().map(document).collect()
}

/// Writes all definitions as one YAML stream.
fn print(mut output: impl Write) -> anyhow::Result<()> {
    for (_, yaml) in documents()? {
        write!(output, "---\n{yaml}").context("could not write to standard output")?;
    }
    output.flush().context("could not write to standard output")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    use super::*;

    #[test]
    fn what_is_printed_reads_back_as_the_definitions() {
        let mut printed = Vec::new();
        print(&mut printed).unwrap();
        let text = String::from_utf8(printed).unwrap();
        let read: Vec<CustomResourceDefinition> =
            text.split("---\n").skip(1).map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        assert_eq!(read, api::crds());
        assert!(text.ends_with('\n'));
    }
}
