//! One GET over plain HTTP, for metrics and probes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

const DEADLINE: Duration = Duration::from_secs(10);
/// Metrics of a gateway with many routes have a megabyte or two.
const LARGEST_PAGE: usize = 32 * 1024 * 1024;

/// The status and the text behind an address.
///
/// # Errors
/// When the address is none or does not answer in time.
pub async fn fetch(url: &str) -> Result<(StatusCode, String)> {
    let uri = url.parse::<Uri>().with_context(|| format!("{url} is no address"))?;
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let (head, body) = client.get(uri).await?.into_parts();
        let body = Limited::new(body, LARGEST_PAGE).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok::<_, anyhow::Error>((head.status, String::from_utf8(body.to_bytes().to_vec())?))
    };
    let answer = tokio::time::timeout(DEADLINE, exchange).await;
    answer.with_context(|| format!("{url} did not answer within {DEADLINE:?}"))?.with_context(|| format!("get {url}"))
}

/// The sum of a counter over all its series that hold a text among their labels; nothing when there is no such series.
///
/// # Errors
/// When the page cannot be read.
pub async fn counter(url: &str, name: &str, labels: &str) -> Result<Option<f64>> {
    let (status, page) = fetch(url).await?;
    ensure!(status.is_success(), "{url} answered {status}");
    Ok(sum(&page, name, labels))
}

fn sum(page: &str, name: &str, labels: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (series, value) = rest.rsplit_once(' ')?;
        let named = series.is_empty() || series.starts_with('{');
        (named && series.contains(labels)).then(|| value.parse::<f64>().ok())?
    });
    values.reduce(|total, value| total + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_the_series_asked_for() {
        let page = "# TYPE queries_total counter\nqueries_total{a=\"x\",b=\"1 2\"} 2\nqueries_total{a=\"y\"} 3.5\n\
                    queries_total_other 9\nplain_total 7\n";
        assert_eq!(sum(page, "queries_total", ""), Some(5.5));
        assert_eq!(sum(page, "queries_total", "a=\"y\""), Some(3.5));
        assert_eq!(sum(page, "plain_total", ""), Some(7.0));
        assert_eq!(sum(page, "absent_total", ""), None);
    }
}
