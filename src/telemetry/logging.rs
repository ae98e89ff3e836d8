//! Structured logs on standard error.

use std::io::{IsTerminal, stderr};

use thiserror::Error;
use tracing::Subscriber;
use tracing::subscriber::set_global_default;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt};

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, with the fields of the event and of its span: for collectors.
    Json,
    /// One sentence a line: for people.
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is not in the syntax of `tracing`.
    #[error("could not read the log filter {filter:?}; write for example \"info\" or \"info,serin=debug\"")]
    ParseFilter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Another subscriber was there first.
    #[error("could not install the log writer")]
    InstallWriter {
        /// What the `tracing` crate says.
        source: tracing::subscriber::SetGlobalDefaultError,
    },
}

/// Sends all events from now on to standard error, as `filter` and `format` say. Standard output stays free for what a
/// command prints.
///
/// # Errors
///
/// When the filter does not parse, or when logging was set up before.
pub fn init_logging(filter: &str, format: LogFormat) -> Result<(), LoggingError> {
    let filter = parse_filter(filter)?;
    let installed = match format {
        LogFormat::Json => set_global_default(json(filter, stderr)),
        LogFormat::Text => {
            let lines = fmt().with_ansi(stderr().is_terminal()).with_env_filter(filter).with_writer(stderr);
            set_global_default(lines.finish())
        }
    };
    installed.map_err(|source| LoggingError::InstallWriter { source })
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(filter).map_err(|source| LoggingError::ParseFilter { filter: filter.to_owned(), source })
}

/// Fields of the event at the top level, and the innermost span (the pass) as `span`: what a log query wants to filter by.
fn json(
    filter: EnvFilter,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    let lines = fmt().json().flatten_event(true).with_current_span(true).with_span_list(false);
    lines.with_env_filter(filter).with_writer(writer).finish()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_carries_the_fields_of_the_event_and_of_its_span() {
        let page = Page::default();
        let writer = page.clone();
        with_default(json(parse_filter("info").unwrap(), move || writer.clone()), || {
            tracing::info_span!("pass", canary = "shop/web").in_scope(|| {
                tracing::info!(weight = 10, "step");
                tracing::debug!("not shown");
            });
        });

        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "step");
        assert_eq!(line["weight"], 10);
        assert_eq!(line["span"]["canary"], "shop/web");
    }

    #[test]
    fn a_filter_that_does_not_parse_says_what_to_write() {
        let message = parse_filter("serin=louder").unwrap_err().to_string();
        assert!(message.contains("info,serin=debug"), "{message}");
    }
}
