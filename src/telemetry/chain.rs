//! An error and its causes in one line.

use std::error::Error;

/// The error and each of its sources, outermost first, joined by `: `.
///
/// Some libraries repeat the source in their own message (kube does); what was said already is not said again.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(answer) = refusal(error) {
            append(&mut line, &answer);
            break;
        }
        append(&mut line, &error.to_string());
        next = error.source();
    }
    line
}

/// What the API server said. kube prints it twice, the second time in its debug form, which would bury the sentence.
fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let Some(kube::Error::Api(status)) = error.downcast_ref() else { return None };
    Some(format!("{} ({} {})", status.message, status.code, status.reason))
}

fn append(line: &mut String, text: &str) {
    if line.is_empty() {
        line.push_str(text);
    } else if !line.contains(text) {
        line.push_str(": ");
        line.push_str(text);
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
