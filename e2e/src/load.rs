//! Requests through the gateway, and what became of each of them.
//!
//! The load is open-loop: requests leave at a fixed rate however slow the answers are, so an outage of a second costs
//! a second's worth of requests. Every load is bounded in count, time and requests under way, and goes to loopback only.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::HOST;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// Longer than any answer that a scenario asks for; what takes longer has failed.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A forgotten load ends by itself, later than every scenario does.
const LONGEST_LOAD: Duration = Duration::from_mins(20);
/// More than any scenario sends, and few enough to be held in memory.
const MOST_REQUESTS: usize = 200_000;
/// When so many requests are under way the gateway hangs, and one more counts as failed without being sent.
const MOST_UNDER_WAY: usize = 1_000;
/// The rate above which a request a tick is no longer a steady stream.
const HIGHEST_RATE: u32 = 1_000;
/// An answer of the demo app has less than a hundred bytes.
const LARGEST_ANSWER: usize = 64 * 1024;
/// More connections than a load ever has.
const KEPT_CONNECTIONS: usize = MOST_UNDER_WAY;
/// Where `e2e/cluster` has its Services: kube-proxy leads there from this machine to pods of this machine.
const SERVICES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
/// So many failures tell what went wrong; the rest is a number.
const FAILURES_SHOWN: usize = 10;

/// A client of the gateway that keeps its connections alive, as a browser or a proxy in front would.
#[derive(Clone)]
pub struct Gateway {
    address: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
    headers: HeaderMap,
}

/// A steady stream of requests that runs until it is stopped.
pub struct Load {
    stop: oneshot::Sender<()>,
    records: Records,
    sender: JoinHandle<bool>,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Record {
    pub sent: Timestamp,
    pub elapsed: Duration,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    Answered { status: u16, version: Option<String>, host: Option<String>, cookies: Vec<String> },
    Broken { error: String },
}

/// What became of all requests of a load or a burst.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub records: Vec<Record>,
    /// The load reached its own bound and ended early: what came after was not measured.
    pub exhausted: bool,
}

type Records = Arc<Mutex<Vec<Record>>>;

impl Gateway {
    /// # Errors
    /// When the address is not on loopback: nothing else may be put under load.
    pub fn new(address: SocketAddr) -> Result<Self> {
        ensure!(address.ip().is_loopback(), "load goes to loopback only, and {address} is elsewhere");
        Ok(Self { address, client: client(KEPT_CONNECTIONS), headers: HeaderMap::new() })
    }

    /// The same for a Service's own address, which is on this machine only: each request has a connection of its own,
    /// because that is what a Service chooses a pod for.
    ///
    /// # Errors
    /// When the address is not one of the cluster's Services.
    pub fn of_service(address: SocketAddr) -> Result<Self> {
        let is_service = matches!(address.ip(), IpAddr::V4(ip) if ip.octets()[..2] == SERVICES.octets()[..2]);
        ensure!(is_service, "{address} is not within {SERVICES}/16, where the cluster's Services are");
        Ok(Self { address, client: client(0), headers: HeaderMap::new() })
    }

    /// The same for a client that sends this header too.
    ///
    /// # Errors
    /// When it is no header.
    pub fn with_header(&self, name: &'static str, value: &str) -> Result<Self> {
        let mut gateway = self.clone();
        gateway.headers.insert(name, value.parse().with_context(|| format!("{value} is no header"))?);
        Ok(gateway)
    }

    /// Sends one request and waits for the whole answer.
    pub async fn request(&self, host: &str) -> Record {
        let (sent, started) = (Timestamp::now(), Instant::now());
        let outcome = match tokio::time::timeout(REQUEST_DEADLINE, self.exchange(host)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Broken { error: format!("{error:#}") },
            Err(_) => Outcome::Broken { error: format!("no answer within {REQUEST_DEADLINE:?}") },
        };
        Record { sent, elapsed: started.elapsed(), outcome }
    }

    /// Sends `count` requests as fast as `concurrency` of them at a time allow.
    ///
    /// # Errors
    /// When the burst would be larger than a load may be.
    pub async fn burst(&self, host: &str, count: usize, concurrency: usize) -> Result<Report> {
        ensure!(count <= MOST_REQUESTS, "a burst of {count} requests is more than {MOST_REQUESTS}");
        ensure!(
            (1..=MOST_UNDER_WAY).contains(&concurrency),
            "{concurrency} requests at a time are not 1..={MOST_UNDER_WAY}"
        );
        let requests = futures::stream::iter(0..count).map(|_| self.request(host));
        let records = requests.buffer_unordered(concurrency).collect().await;
        Ok(Report { records, exhausted: false })
    }

    async fn exchange(&self, host: &str) -> Result<Outcome> {
        let mut request = Request::get(format!("http://{}/", self.address))
            .header(HOST, host)
            .body(Empty::new())
            .context("build the request")?;
        request.headers_mut().extend(self.headers.clone());
        let answer = self.client.request(request).await.context("send the request")?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        body.map_err(anyhow::Error::from_boxed).context("read the answer")?;
        Ok(Outcome::Answered {
            status: head.status.as_u16(),
            version: header(&head.headers, "x-version"),
            host: header(&head.headers, "x-host"),
            cookies: head
                .headers
                .get_all("set-cookie")
                .iter()
                .filter_map(|it| it.to_str().ok())
                .map(Into::into)
                .collect(),
        })
    }
}

fn client(idle: usize) -> Client<HttpConnector, Empty<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(idle).build(connector)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

impl Load {
    /// Starts to send `rate` requests a second.
    ///
    /// # Errors
    /// When the rate is zero or more than a steady stream can have.
    pub fn start(gateway: &Gateway, host: &str, rate: u32) -> Result<Self> {
        ensure!((1..=HIGHEST_RATE).contains(&rate), "{rate} requests a second are not 1..={HIGHEST_RATE}");
        let (stop, stopped) = oneshot::channel();
        let records = Records::default();
        let period = Duration::from_secs(1) / rate;
        let sender = tokio::spawn(send_steadily(gateway.clone(), host.to_owned(), period, records.clone(), stopped));
        Ok(Self { stop, records, sender })
    }

    /// What has been answered until now.
    #[must_use]
    pub fn report(&self) -> Report {
        Report { records: locked(&self.records).clone(), exhausted: self.sender.is_finished() }
    }

    /// Stops sending, waits for the answers that are under way, and tells what became of every request.
    ///
    /// # Errors
    /// When the sending task panicked.
    pub async fn stop(self) -> Result<Report> {
        // The receiver is gone only when the load ended by itself, and then the task says so.
        self.stop.send(()).ok();
        let exhausted = self.sender.await.context("the load's own task")?;
        Ok(Report { records: std::mem::take(&mut *locked(&self.records)), exhausted })
    }
}

fn locked(records: &Records) -> std::sync::MutexGuard<'_, Vec<Record>> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a request every `period`; the answer says whether a bound ended it rather than `stopped`.
async fn send_steadily(
    gateway: Gateway,
    host: String,
    period: Duration,
    records: Records,
    mut stopped: oneshot::Receiver<()>,
) -> bool {
    let mut ticks = tokio::time::interval(period);
    // A late tick is made up for: the rate is what was asked for, on a busy machine too.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = tokio::time::sleep(LONGEST_LOAD);
    tokio::pin!(end);
    let mut under_way = JoinSet::new();
    let mut sent = 0;
    let exhausted = loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break false,
            () = &mut end => break true,
            Some(_) = under_way.join_next() => {}
            _ = ticks.tick() => {
                if sent == MOST_REQUESTS {
                    break true;
                }
                sent += 1;
                if under_way.len() >= MOST_UNDER_WAY {
                    locked(&records).push(Record::unsent());
                    continue;
                }
                let (gateway, host, records) = (gateway.clone(), host.clone(), records.clone());
                under_way.spawn(async move {
                    let record = gateway.request(&host).await;
                    locked(&records).push(record);
                });
            }
        }
    };
    while under_way.join_next().await.is_some() {}
    exhausted
}

impl Record {
    fn unsent() -> Self {
        let error = format!("not sent: {MOST_UNDER_WAY} requests are under way already");
        Self { sent: Timestamp::now(), elapsed: Duration::ZERO, outcome: Outcome::Broken { error } }
    }

    /// Not answered with a success: another status, or no answer at all.
    #[must_use]
    pub fn failed(&self) -> bool {
        !self.status().is_some_and(|status| status.is_success())
    }

    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match &self.outcome {
            Outcome::Answered { status, .. } => StatusCode::from_u16(*status).ok(),
            Outcome::Broken { .. } => None,
        }
    }

    /// The version that answered; an answer of the gateway itself has none.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answered { version, .. } => version.as_deref(),
            Outcome::Broken { .. } => None,
        }
    }

    /// The cookies that the answer sets.
    #[must_use]
    pub fn cookies(&self) -> &[String] {
        match &self.outcome {
            Outcome::Answered { cookies, .. } => cookies,
            Outcome::Broken { .. } => &[],
        }
    }

    /// The pod that answered.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answered { host, .. } => host.as_deref(),
            Outcome::Broken { .. } => None,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} after {} ms: ", self.sent, self.elapsed.as_millis())?;
        match &self.outcome {
            Outcome::Broken { error } => formatter.write_str(error),
            Outcome::Answered { status, version, host, cookies: _ } => {
                let version = version.as_deref().unwrap_or("the gateway itself");
                write!(formatter, "{status} from {version} {}", host.as_deref().unwrap_or_default())
            }
        }
    }
}

impl Report {
    #[must_use]
    pub fn total(&self) -> usize {
        self.records.len()
    }

    #[must_use]
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    pub fn failures(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.failed())
    }

    /// That nobody noticed anything: there were requests until the end, and each was answered with success.
    ///
    /// # Errors
    /// When a request failed, or none was sent.
    pub fn all_succeeded(&self) -> Result<()> {
        self.failed_only_by(None)
    }

    /// That nothing failed but what a faulty version answered itself.
    ///
    /// # Errors
    /// When a request failed otherwise, or none was sent.
    pub fn failed_only_by(&self, version: Option<&str>) -> Result<()> {
        let others = self.only(|record| record.failed() && (version.is_none() || record.version() != version));
        ensure!(!self.exhausted, "the load ended before the scenario did: {self}");
        ensure!(self.total() > 0, "no request was sent");
        ensure!(others.total() == 0, "of {} requests these should not have failed: {others}", self.total());
        Ok(())
    }

    /// How many requests each version answered, with success or not.
    #[must_use]
    pub fn by_version(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for version in self.records.iter().filter_map(Record::version) {
            *counts.entry(version).or_default() += 1;
        }
        counts
    }

    #[must_use]
    pub fn answered_by(&self, version: &str) -> usize {
        self.by_version().get(version).copied().unwrap_or_default()
    }

    /// The part of the answers that came from a version, in percent; nothing when no version answered.
    #[must_use]
    pub fn share(&self, version: &str) -> Option<f64> {
        let answered = self.by_version().values().sum::<usize>();
        (answered > 0).then(|| percent(self.answered_by(version), answered))
    }

    /// The requests that were sent within a span of time.
    #[must_use]
    pub fn within(&self, window: &Range<Timestamp>) -> Self {
        self.only(|record| window.contains(&record.sent))
    }

    /// The requests that hold to a condition.
    #[must_use]
    pub fn only(&self, condition: impl Fn(&Record) -> bool) -> Self {
        let records = self.records.iter().filter(|record| condition(record)).cloned().collect();
        Self { records, exhausted: self.exhausted }
    }
}

/// Counts of requests are far below the 2^52 at which a float would round them.
#[expect(clippy::cast_precision_loss)]
fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole as f64
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} requests, {} failed, answered by {:?}", self.total(), self.failed(), self.by_version())?;
        if self.exhausted {
            formatter.write_str(", ended at its own bound")?;
        }
        for failure in self.failures().take(FAILURES_SHOWN) {
            write!(formatter, "\n  {failure}")?;
        }
        let hidden = self.failed().saturating_sub(FAILURES_SHOWN);
        if hidden > 0 {
            write!(formatter, "\n  and {hidden} more failures")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(second: i64, status: u16, version: &str) -> Record {
        let outcome = match status {
            0 => Outcome::Broken { error: "connection refused".to_owned() },
            _ => Outcome::Answered {
                status,
                version: Some(version.to_owned()),
                host: Some("pod".to_owned()),
                cookies: vec![],
            },
        };
        let sent = Timestamp::from_second(second).expect("a small number of seconds");
        Record { sent, elapsed: Duration::from_millis(7), outcome }
    }

    fn window(seconds: Range<i64>) -> Range<Timestamp> {
        let time = |second| Timestamp::from_second(second).expect("a small number of seconds");
        time(seconds.start)..time(seconds.end)
    }

    fn report(records: Vec<Record>) -> Report {
        Report { records, exhausted: false }
    }

    #[test]
    fn share_counts_every_answer_of_a_version_within_the_window() {
        let report = report(vec![
            record(1, 200, "v1"),
            record(2, 200, "v1"),
            record(3, 500, "v2"),
            record(4, 200, "v1"),
            record(5, 0, ""),
            record(6, 200, "v2"),
        ]);
        let share = |version, seconds| report.within(&window(seconds)).share(version);
        assert_eq!(report.share("v2"), Some(40.0), "an error of a version is its answer, a broken connection nobody's");
        assert_eq!(share("v2", 1..3), Some(0.0));
        assert_eq!(share("v2", 3..5), Some(50.0), "the end of a window is not part of it");
        assert_eq!(share("v1", 5..6), None, "nobody answered");
    }

    #[test]
    fn failures_are_counted_and_the_first_are_shown() {
        let mut records = vec![record(1, 200, "v1"), record(2, 0, "")];
        records.extend((3..30).map(|second| record(second, 503, "v2")));
        let report = report(records);
        assert_eq!((report.total(), report.failed()), (29, 28));
        let text = report.to_string();
        assert!(text.contains("29 requests, 28 failed, answered by {\"v1\": 1, \"v2\": 27}"), "{text}");
        assert!(text.contains("1970-01-01T00:00:02.000Z after 7 ms: connection refused"), "{text}");
        assert!(text.contains("503 from v2 pod") && text.ends_with("and 18 more failures"), "{text}");
    }

    #[test]
    fn a_faulty_version_excuses_its_own_failures_only() {
        let good = report(vec![record(1, 200, "v1")]);
        let faulty = report(vec![record(1, 200, "v1"), record(2, 500, "v2")]);
        let broken = report(vec![record(1, 500, "v2"), record(2, 0, "")]);
        assert!(good.all_succeeded().is_ok() && faulty.failed_only_by(Some("v2")).is_ok());
        assert!(faulty.all_succeeded().is_err() && faulty.failed_only_by(Some("v1")).is_err());
        assert!(broken.failed_only_by(Some("v2")).is_err(), "a broken connection is nobody's answer");
        assert!(report(Vec::new()).all_succeeded().is_err(), "no request is no success");
        assert!(Report { exhausted: true, ..good }.all_succeeded().is_err());
    }

    #[tokio::test]
    async fn load_is_refused_beyond_loopback_and_its_bounds() {
        assert!(Gateway::new("192.0.2.1:80".parse().expect("an address")).is_err());
        assert!(Gateway::of_service("192.0.2.1:80".parse().expect("an address")).is_err());
        assert!(Gateway::of_service("10.96.1.2:80".parse().expect("an address")).is_ok());
        let gateway = Gateway::new("127.0.0.1:9".parse().expect("an address")).expect("loopback");
        assert!(Load::start(&gateway, "demo", 0).is_err());
        assert!(Load::start(&gateway, "demo", HIGHEST_RATE + 1).is_err());
        assert!(gateway.burst("demo", MOST_REQUESTS + 1, 1).await.is_err());
        assert!(gateway.burst("demo", 1, 0).await.is_err());
    }

    #[tokio::test]
    async fn an_unreachable_gateway_is_a_failure_and_not_silence() {
        // Port 9 (discard) is not served on any machine that builds this.
        let gateway = Gateway::new("127.0.0.1:9".parse().expect("an address")).expect("loopback");
        let report = gateway.burst("demo", 5, 2).await.expect("a small burst");
        assert_eq!((report.total(), report.failed(), report.share("v1")), (5, 5, None), "{report}");
    }
}
