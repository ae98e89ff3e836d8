//! Asking the metric providers: all at once, each with a deadline, and every failure an answer.

use crate::api::{Canary, CanarySpec, InvalidSpec, Metric, MetricTemplateSpec, duration};
use crate::controller::context::Context;
use crate::controller::egress::Egress;
use crate::controller::rollout::Rollout;
use crate::controller::secrets;
use crate::domain::{Answer, Check, Limits, Outcome, Unknown};
use crate::metrics::{Credentials, Query, Variables, builtin, prometheus, prometheus_duration, render};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::future::join_all;
use jiff::SignedDuration;
use kube::runtime::reflector::ObjectRef;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The window of a metric that does not say.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Whom questions are put to: the network, or what a simulation has in its place.
pub trait Network: Send + Sync {
    /// Sends one query and reads its answer, within `limit`.
    fn query<'a>(&'a self, query: &'a Query, limit: Duration) -> BoxFuture<'a, Answer>;
}

impl Network for Egress {
    fn query<'a>(&'a self, query: &'a Query, limit: Duration) -> BoxFuture<'a, Answer> {
        async move {
            let http = self.to(&query.address, query.insecure_skip_verify);
            let http = http.map_err(|refused| Unknown::NotAsked(refused.to_string()))?;
            send(http, query, limit).await
        }
        .boxed()
    }
}

/// One round of checks.
pub(super) async fn metrics(
    context: &Context,
    rollout: &Rollout,
    canary: &Canary,
    metrics: &[(String, Limits)],
) -> Outcome {
    let written = canary.spec.analysis.as_ref().map(|analysis| analysis.metrics.as_slice()).unwrap_or_default();
    let checks = metrics.iter().map(async |(name, limits)| {
        let answer = match written.iter().find(|metric| metric.name == *name) {
            Some(metric) => answer(context, rollout, &canary.spec, metric).await,
            None => Err(Unknown::NotAsked(format!("{name} is not in the spec"))),
        };
        Check { metric: name.clone(), limits: *limits, answer }
    });
    Outcome(join_all(checks).await)
}

async fn answer(context: &Context, rollout: &Rollout, spec: &CanarySpec, metric: &Metric) -> Answer {
    let query = query(context, rollout, spec, metric).await?;
    let started = Instant::now();
    let answer = context.network.query(&query, context.settings.query_timeout).await;
    context.metrics.query(if answer.is_ok() { "ok" } else { "error" }, started.elapsed());
    answer
}

/// Sends one query and reads its answer, within `limit` and [`prometheus::MAX_ANSWER_BYTES`].
///
/// # Errors
/// Everything that is not one number, as a sentence.
pub async fn send(http: &reqwest::Client, query: &Query, limit: Duration) -> Answer {
    let deadline = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    let request = prometheus::request(http, query, deadline)?;
    let exchange = async {
        let response = request.get_raw().await;
        let mut response = response.map_err(|error| prometheus::not_sent(&query.address, &error, deadline))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| prometheus::not_read(&query.address, &error, deadline))?
        {
            if body.len() + chunk.len() > prometheus::MAX_ANSWER_BYTES {
                return Err(prometheus::too_large(&query.address));
            }
            body.extend_from_slice(&chunk);
        }
        prometheus::parse_hiding(&prometheus::secrets(http, query), &query.address, status, &body)
    };
    timeout(limit, exchange).await.unwrap_or_else(|_| Err(prometheus::too_late(&query.address, deadline)))
}

/// What is asked, and of whom: a template, a query of its own, or a built-in.
async fn query(context: &Context, rollout: &Rollout, spec: &CanarySpec, metric: &Metric) -> Result<Query, Unknown> {
    let window = match &metric.interval {
        None => WINDOW,
        Some(text) => duration("interval", text).map_err(|error| Unknown::NotAsked(error.to_string()))?,
    };
    let variables = Variables {
        name: rollout.key.name.clone(),
        namespace: rollout.key.namespace.clone(),
        target: rollout.app.target.clone(),
        service: rollout.app.service.clone(),
        ingress: String::new(),
        route: String::new(),
        interval: prometheus_duration(window),
        variables: metric.template_variables.clone(),
    };
    let fill = |text: &str| render(text, &variables).map_err(|error| Unknown::NotAsked(error.to_string()));
    let own = |text: &str| -> Result<Query, Unknown> {
        let address = spec.metrics_server.as_ref().unwrap_or(&context.settings.metrics_server);
        Ok(Query {
            address: address.clone(),
            text: fill(text)?,
            headers: vec![],
            insecure_skip_verify: false,
            credentials: None,
        })
    };
    if let Some(reference) = &metric.template_ref {
        let own = &rollout.key.namespace;
        let namespace = reference.namespace.as_ref().unwrap_or(own);
        may_ask(context, own, metric).map_err(|invalid| Unknown::NotAsked(invalid.to_string()))?;
        if namespace != own {
            listed(context, namespace).await?;
        }
        let (template, credentials) = template(context, namespace, &reference.name).await?;
        let refused = |why| Unknown::NotAsked(format!("MetricTemplate {}: spec.provider: {why}", reference.name));
        let address = template.provider.asked().map_err(refused)?.to_owned();
        let headers = template.provider.headers.iter();
        return Ok(Query {
            address,
            text: fill(&template.query)?,
            headers: headers
                .flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone())))
                .collect(),
            insecure_skip_verify: template.provider.insecure_skip_verify,
            credentials,
        });
    }
    if let Some(text) = &metric.query {
        return own(text);
    }
    let gateway = &context.settings.gateway_metrics;
    own(builtin::builtin(gateway, &metric.name).ok_or_else(|| {
        Unknown::NotAsked(format!(
            "{} is not a built-in metric of {gateway}; write a templateRef or a query",
            metric.name
        ))
    })?)
}

/// Whether a Canary in the namespace `from` may use the template that a metric refers to.
///
/// # Errors
/// Says what to write instead.
pub(in crate::controller) fn may_ask(context: &Context, from: &str, metric: &Metric) -> Result<(), InvalidSpec> {
    let Some((reference, to)) = metric.template_ref.as_ref().and_then(|it| Some((it, it.namespace.as_ref()?))) else {
        return Ok(());
    };
    context.settings.tenancy.may_refer(from, to).map_err(|forbidden| {
        InvalidSpec::Other(format!(
            "spec.analysis.metrics: {}: templateRef.namespace is {to}, but {forbidden}; create the MetricTemplate {} in \
             namespace {from} and leave templateRef.namespace out",
            metric.name, reference.name
        ))
    })
}

/// Waits until the templates of another namespace than the Canary's own are known, which may be a moment after a start.
async fn listed(context: &Context, namespace: &str) -> Result<(), Unknown> {
    let late = |_| Unknown::NotAsked(format!("the MetricTemplates of namespace {namespace} cannot be listed"));
    timeout(context.settings.query_timeout, context.filled(namespace)).await.map_err(late)
}

async fn template(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<(MetricTemplateSpec, Option<Credentials>), Unknown> {
    let templates = context.templates.within(namespace);
    let found = templates.and_then(|templates| templates.get(&ObjectRef::new(name).within(namespace)));
    let missing =
        || Unknown::NotAsked(format!("there is no MetricTemplate {name} in namespace {namespace}; create it"));
    let template = found.ok_or_else(missing)?.spec.clone();
    let credentials = match &template.provider.secret_ref {
        None => None,
        Some(reference) => Some(credentials(context, namespace, &reference.name).await?),
    };
    Ok((template, credentials))
}

/// Read when needed, and not kept.
async fn credentials(context: &Context, namespace: &str, name: &str) -> Result<Credentials, Unknown> {
    let not_asked = |why: String| Unknown::NotAsked(format!("secret {name} in namespace {namespace}: {why}"));
    let missing = || not_asked("it does not exist; create it with token, or with username and password".into());
    let data = secrets::read(&context.client, namespace, name).await.map_err(not_asked)?.ok_or_else(missing)?;
    Credentials::try_from(&data).map_err(|error| not_asked(error.to_string()))
}
