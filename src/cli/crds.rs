//! `serin crds`: what `kubectl apply` needs before the first Canary.

use std::io::Write;

use anyhow::Context;

use crate::api;

/// Writes all definitions as one YAML stream.
pub(super) fn print(mut output: impl Write) -> anyhow::Result<()> {
    for definition in api::crds() {
        let name = definition.metadata.name.as_deref().unwrap_or_default();
        let yaml = serde_saphyr::to_string(&definition).with_context(|| format!("could not write {name} as YAML"))?;
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
