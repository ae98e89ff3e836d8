//! An error and its causes in one line.

use std::error::Error;

/// The error and each of its sources, outermost first, joined by `: `.
///
/// Some libraries repeat the source in their own message (kube does); what was said already is not said again.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = message(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = message(error);
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// What one error says for itself.
///
/// kube prints the API server's answer followed by its debug form, which would bury the sentence.
fn message(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => {
            format!("{} ({} {})", status.message, status.code, status.reason)
        }
        // Its source is the very status that was printed above.
        _ => match error.downcast_ref::<kube::core::Status>() {
            Some(status) => status.message.clone(),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;

    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("could not read the route")]
    struct ReadRoute {
        source: kube::Error,
    }

    #[test]
    fn an_answer_of_the_api_server_is_one_short_line() {
        let status = Status::failure("routes \"web\" not found", "NotFound").with_code(404);
        let error = ReadRoute { source: kube::Error::Api(Box::new(status)) };
        assert_eq!(chain(&error), "could not read the route: routes \"web\" not found (404 NotFound)");
    }

    #[test]
    fn a_source_that_was_printed_already_is_not_repeated() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let error = ReadRoute { source: kube::Error::Service(refused.into()) };
        assert_eq!(chain(&error), "could not read the route: ServiceError: connection refused");
    }
}
