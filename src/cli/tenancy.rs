//! The flags that say whose Canaries are handled.

use clap::{ArgAction, Args};

use super::values;
use crate::controller;

/// The part of the cluster that this installation is for.
#[derive(Debug, Args)]
pub(super) struct Tenancy {
    /// The only namespaces that are watched, repeated or separated by commas; nothing else is read or written, but the
    /// Lease [default: all namespaces]
    #[arg(long, env = "SERIN_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    #[arg(value_parser = values::namespace)]
    namespace: Vec<String>,

    /// Handle only Canaries with matching labels, such as `tier=gold` or `tier in (gold,silver),!legacy`. Installations
    /// side by side need selectors that do not overlap, and a --lease-name each [default: all Canaries]
    #[arg(long, env = "SERIN_CANARY_SELECTOR", value_name = "SELECTOR")]
    #[arg(value_parser = values::label_selector)]
    canary_selector: Option<String>,

    /// Let no Canary refer to anything in another namespace than its own. Gateways are not meant: they say themselves
    /// which routes may attach to them
    #[arg(long, env = "SERIN_NO_CROSS_NAMESPACE_REFS", action = ArgAction::SetTrue)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    no_cross_namespace_refs: bool,
}

impl Tenancy {
    pub(super) fn settings(&self) -> controller::Tenancy {
        controller::Tenancy {
            namespaces: self.namespace.iter().cloned().collect(),
            canary_selector: self.canary_selector.clone(),
            no_cross_namespace_refs: self.no_cross_namespace_refs,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        tenancy: Tenancy,
    }

    fn parse(arguments: &[&str]) -> Result<controller::Tenancy, String> {
        let arguments = ["serin"].iter().chain(arguments);
        Alone::try_parse_from(arguments).map(|alone| alone.tenancy.settings()).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_is_handled_unless_told_otherwise() {
        assert_eq!(parse(&[]), Ok(controller::Tenancy::default()));
    }

    #[test]
    fn namespaces_are_repeated_or_separated_by_commas() {
        let tenancy = parse(&["--namespace", "shop,blog", "--namespace=api", "--namespace=shop"]).unwrap();
        assert_eq!(tenancy.namespaces.iter().collect::<Vec<_>>(), ["api", "blog", "shop"]);
    }

    #[test]
    fn selector_and_references() {
        let tenancy = parse(&["--canary-selector", "tier in (gold, silver),!legacy", "--no-cross-namespace-refs"]);
        let tenancy = tenancy.unwrap();
        assert_eq!(tenancy.canary_selector.as_deref(), Some("tier in (gold, silver),!legacy"));
        assert!(tenancy.no_cross_namespace_refs);
    }

    #[test]
    fn nonsense_is_refused_with_the_flag_and_an_example() {
        let cases = [
            ("--namespace=", "leave --namespace out to watch all"),
            ("--namespace=shop,", "leave --namespace out to watch all"),
            ("--namespace=Shop", "write for example shop"),
            ("--namespace=shop/web", "write for example shop"),
            ("--canary-selector=", "write for example tier=gold"),
            ("--canary-selector=tier in gold", "write for example tier=gold"),
        ];
        for (flag, expected) in cases {
            let message = parse(&[flag]).unwrap_err();
            let (name, _) = flag.split_once('=').unwrap();
            assert!(message.contains(expected) && message.contains(name), "{flag}: {message}");
        }
    }
}
