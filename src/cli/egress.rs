//! The flags that say what is asked besides the API server.

use clap::Args;

use super::values;
use crate::controller::AllowedHosts;

/// What is asked besides the API server.
#[derive(Debug, Args)]
pub(super) struct Egress {
    /// The only hosts that webhooks, metrics and alerts may be at, repeated or separated by commas; * stands for any
    /// letters, as in *.example.com. A link-local address has to be listed itself to be reached [default: *]
    #[arg(long, env = "SERIN_ALLOWED_EGRESS", value_name = "HOST", value_delimiter = ',')]
    #[arg(value_parser = values::host_pattern)]
    allowed_egress: Vec<String>,
}

impl Egress {
    pub(super) fn allowed(&self) -> AllowedHosts {
        if self.allowed_egress.is_empty() {
            AllowedHosts::default()
        } else {
            AllowedHosts::new(self.allowed_egress.iter().cloned())
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
        egress: Egress,
    }

    fn parse(arguments: &[&str]) -> Result<AllowedHosts, String> {
        let arguments = ["serin"].iter().chain(arguments);
        Alone::try_parse_from(arguments).map(|alone| alone.egress.allowed()).map_err(|error| error.to_string())
    }

    #[test]
    fn all_hosts_are_allowed_unless_some_are_listed() {
        assert_eq!(parse(&[]), Ok(AllowedHosts::default()));
        let two = AllowedHosts::new(["*.example.com", "169.254.20.10"].map(str::to_owned));
        assert_eq!(parse(&["--allowed-egress=*.example.com,169.254.20.10"]), Ok(two.clone()));
        assert_eq!(parse(&["--allowed-egress=*.example.com", "--allowed-egress=169.254.20.10"]), Ok(two));
        for wrong in ["", "https://example.com", "example.com:443", "a b", "[::1]"] {
            let message = parse(&[&format!("--allowed-egress={wrong}")]).unwrap_err();
            assert!(message.contains("write for example *.example.com"), "{wrong}: {message}");
        }
        assert!(parse(&["--allowed-egress=::1"]).is_ok());
    }
}
