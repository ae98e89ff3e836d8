//! Queries with variables: `{{ namespace }}` and its like, as in Flagger's templates.
//!
//! Invariant: what a template may cost is bounded before it is evaluated. Text outside of `{{ … }}` is copied byte
//! for byte, so that no `PromQL` is mistaken for a statement; inside, one expression of minijinja is evaluated, with
//! strict variables, without escaping, and with nothing in reach that could loop or multiply.

mod filters;
mod scan;

use minijinja::{Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value};
use scan::Segment;
use std::collections::BTreeMap;

/// The longest template and the longest query, in bytes. No written query comes near it, and one that is longer
/// would not fit into a request.
pub const MAX_QUERY_BYTES: usize = 64 * 1024;

/// Steps of one expression. A variable takes 2, so this is far more than anyone writes.
const FUEL: u64 = 1_000;

/// What a template can name. A field that does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// The Canary's name.
    pub name: String,
    /// The Canary's namespace.
    pub namespace: String,
    /// Name of the workload that `targetRef` names: its pods are the canary's.
    pub target: String,
    /// Name of the apex Service; the canary's is this with `-canary` behind it.
    pub service: String,
    /// Name of the Ingress that `ingressRef` names.
    pub ingress: String,
    /// Name of the route that `routeRef` names.
    pub route: String,
    /// The metric's interval as a `PromQL` duration, see [`super::prometheus_duration`].
    pub interval: String,
    /// The metric's `templateVariables`.
    pub variables: BTreeMap<String, String>,
}

/// Why a template gives no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// No such name.
    #[error("the query template uses {name}, which does not exist; it can use {available}")]
    UnknownVariable {
        /// As it was written.
        name: String,
        /// All that could have been.
        available: String,
    },
    /// `{{` to the end.
    #[error("the query template has a {{{{ without }}}}; close it behind {0:?}")]
    Unclosed(String),
    /// Not a variable.
    #[error("the query template has {expression:?} between {{{{ and }}}}, which {problem}")]
    BadExpression {
        /// Its beginning.
        expression: String,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// A name that would end the string that it is put into.
    #[error("the value of {name} holds a quote, a backslash or a control character; write a Kubernetes name")]
    UnsafeName {
        /// The variable.
        name: &'static str,
    },
    /// Before or after rendering.
    #[error("the query is longer than {MAX_QUERY_BYTES} bytes; write a shorter one, or record part of it by a rule")]
    TooLong,
}

/// Puts the variables into the template.
///
/// The values of `variables` are inserted as they are, like Flagger does, because they may well be part of a
/// regular expression or a whole matcher; the template's author can pass them through the filters `escape` (text
/// within double quotes) or `regex` (literal text of a regular expression within double quotes).
///
/// # Errors
/// When the template is not one, names what does not exist, or gives more than [`MAX_QUERY_BYTES`].
pub fn render(template: &str, variables: &Variables) -> Result<String, InvalidTemplate> {
    variables.check_names()?;
    let environment = environment();
    let context = variables.context();
    let mut query = String::new();
    for segment in scan::segments(template)? {
        match segment {
            Segment::Text(text) => query.push_str(text),
            Segment::Expression(expression) => {
                query.push_str(&evaluate(&environment, expression, &context, variables)?);
            }
        }
        if query.len() > MAX_QUERY_BYTES {
            return Err(InvalidTemplate::TooLong);
        }
    }
    Ok(query)
}

impl Variables {
    fn names(&self) -> [(&'static str, &str); 7] {
        let Self { name, namespace, target, service, ingress, route, interval, variables: _ } = self;
        [
            ("name", name),
            ("namespace", namespace),
            ("target", target),
            ("service", service),
            ("ingress", ingress),
            ("route", route),
            ("interval", interval),
        ]
    }

    /// Kubernetes names cannot hold quotes. This is for the day when a field is filled from somewhere else.
    fn check_names(&self) -> Result<(), InvalidTemplate> {
        let unsafe_in_strings = |letter: char| letter.is_control() || "\"'`\\".contains(letter);
        match self.names().iter().find(|(_, value)| value.contains(unsafe_in_strings)) {
            Some((name, _)) => Err(InvalidTemplate::UnsafeName { name }),
            None => Ok(()),
        }
    }

    fn context(&self) -> Value {
        let own = Value::from(self.variables.clone());
        let names = self.names().map(|(name, value)| (name, Value::from(value)));
        Value::from(names.into_iter().chain([("variables", own)]).collect::<BTreeMap<_, _>>())
    }

    /// Everything that a template can name, in the words of a template.
    fn available(&self) -> Vec<String> {
        let names = self.names().map(|(name, _)| name.to_owned());
        names.into_iter().chain(self.variables.keys().map(|key| format!("variables.{key}"))).collect()
    }
}

/// Knows no function, no test and only harmless filters, unlike the default one.
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("default", minijinja::filters::default);
    environment.add_filter("escape", filters::escape);
    environment.add_filter("regex", filters::regex);
    environment
}

fn evaluate(
    environment: &Environment<'_>,
    expression: &str,
    context: &Value,
    variables: &Variables,
) -> Result<String, InvalidTemplate> {
    let compiled = environment.compile_expression(expression).map_err(|error| bad(expression, &error))?;
    let unknown = || unknown(&compiled, variables);
    match compiled.eval(context.clone()) {
        Ok(value) if value.is_undefined() => Err(unknown().unwrap_or_else(|| missing(expression, variables))),
        Ok(value) => text(expression, &value),
        Err(error) if error.kind() == ErrorKind::UndefinedError => {
            Err(unknown().unwrap_or_else(|| missing(expression, variables)))
        }
        Err(error) => Err(unknown().unwrap_or_else(|| bad(expression, &error))),
    }
}

/// Only what has one obvious spelling can be part of a query.
fn text(expression: &str, value: &Value) -> Result<String, InvalidTemplate> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_number() => Ok(value.to_string()),
        None => {
            let problem = format!("is a {}; write a single value, such as variables.name", value.kind());
            Err(InvalidTemplate::BadExpression { expression: scan::beginning(expression), problem })
        }
    }
}

/// Finds out which name it was: minijinja itself only says that there was one, or that a filter got nothing.
fn unknown(compiled: &Expression<'_, '_>, variables: &Variables) -> Option<InvalidTemplate> {
    let available = variables.available();
    let known = |name: &String| name == "variables" || available.contains(name);
    let name = compiled.undeclared_variables(true).into_iter().filter(|name| !known(name)).min()?;
    Some(missing(&name, variables))
}

fn missing(name: &str, variables: &Variables) -> InvalidTemplate {
    InvalidTemplate::UnknownVariable { name: scan::beginning(name), available: variables.available().join(", ") }
}

fn bad(expression: &str, error: &Error) -> InvalidTemplate {
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let problem = format!("cannot be evaluated ({}); write a variable such as namespace", scan::beginning(&reason));
    InvalidTemplate::BadExpression { expression: scan::beginning(expression), problem }
}

#[cfg(test)]
mod tests;
