//! A loopback proxy in front of the API server that can go wrong: refuse, fail, lose requests or answers, cut watches.
//!
//! Invariant: the Lease is left alone. Whoever cannot renew it has to stop, which is right and would end every run.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What goes wrong; shares are of a thousand requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Writes that are answered with 429.
    pub refused: u32,
    /// Requests that are answered with 500.
    pub failed: u32,
    /// Requests that never arrive: the connection breaks.
    pub lost_before: u32,
    /// Requests that are carried out, and whose answer never comes.
    pub lost_after: u32,
    /// How many writes a second are let through; the others are answered with 429. None is no limit.
    pub writes_per_second: Option<u32>,
}

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wronged {
    /// Requests in all.
    pub requests: u64,
    /// Writes in all.
    pub writes: u64,
    /// Answered with 429.
    pub refused: u64,
    /// Answered with 500.
    pub failed: u64,
    /// Connections that broke, before or after.
    pub lost: u64,
    /// Times that all watches were cut.
    pub cut: u64,
}

impl Wronged {
    /// What has come to it since an earlier look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            writes: self.writes - earlier.writes,
            refused: self.refused - earlier.refused,
            failed: self.failed - earlier.failed,
            lost: self.lost - earlier.lost,
            cut: self.cut - earlier.cut,
        }
    }
}

/// The proxy, which serves until the process ends.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    upstream: Uri,
    http: reqwest::Client,
    refused: AtomicU32,
    failed: AtomicU32,
    lost_before: AtomicU32,
    lost_after: AtomicU32,
    bucket: Mutex<Option<Bucket>>,
    cuts: watch::Sender<u64>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    writes: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

/// Lets so many through a second, and after a pause no more than that at once.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    per_second: f64,
    left: f64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: per_second, filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.per_second);
        self.filled = now;
        let taken = self.left >= 1.0;
        self.left -= if taken { 1.0 } else { 0.0 };
        taken
    }
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Served,
    Refused,
    Failed,
    LostBefore,
    LostAfter,
}

impl Proxy {
    /// Listens on a free port, for the API server at an address, whose certificate this authority signed.
    ///
    /// # Errors
    /// When there is no port, or the authority is none.
    pub async fn start(upstream: &str, authority: &str) -> Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let authority = reqwest::Certificate::from_pem(authority.as_bytes())?;
        let http = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build()?;
        let proxy = Arc::new(Self {
            address: listener.local_addr()?,
            upstream: upstream.parse().context("the API server's address is none")?,
            http,
            refused: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            lost_before: AtomicU32::new(0),
            lost_after: AtomicU32::new(0),
            bucket: Mutex::default(),
            cuts: watch::Sender::default(),
            counts: Counts::default(),
        });
        tokio::spawn(Arc::clone(&proxy).listen(listener));
        Ok(proxy)
    }

    /// Where a client finds it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this goes wrong.
    pub fn set(&self, weather: Weather) {
        let Weather { refused, failed, lost_before, lost_after, writes_per_second } = weather;
        self.refused.store(refused, Ordering::Relaxed);
        self.failed.store(failed, Ordering::Relaxed);
        self.lost_before.store(lost_before, Ordering::Relaxed);
        self.lost_after.store(lost_after, Ordering::Relaxed);
        let bucket = writes_per_second.map(|rate| Bucket::new(rate, Instant::now()));
        *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) = bucket;
    }

    /// Breaks every watch that is open.
    pub fn cut_watches(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// What went wrong so far.
    #[must_use]
    pub fn wronged(&self) -> Wronged {
        let Counts { requests, writes, refused, failed, lost } = &self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Wronged {
            requests: read(requests),
            writes: read(writes),
            refused: read(refused),
            failed: read(failed),
            lost: read(lost),
            cut: *self.cuts.borrow(),
        }
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        loop {
            // A connection that is gone before it is taken is no reason to stop.
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(Arc::clone(&self).connection(stream));
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let serve = service_fn(|request| Arc::clone(&self).serve(request));
        // How a connection ends is the client's matter.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await;
    }

    /// An error ends the connection without a word.
    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let fate = self.fate(request.method(), request.uri().path());
        let count = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        count(&self.counts.requests);
        if is_write(request.method()) {
            count(&self.counts.writes);
        }
        match fate {
            Fate::Served => self.forward(request).await,
            Fate::Refused => {
                count(&self.counts.refused);
                Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"))
            }
            Fate::Failed => {
                count(&self.counts.failed);
                Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
            }
            Fate::LostBefore => {
                count(&self.counts.lost);
                Err("the request is lost".into())
            }
            Fate::LostAfter => {
                self.forward(request).await?;
                count(&self.counts.lost);
                Err("the answer is lost".into())
            }
        }
    }

    fn fate(&self, method: &Method, path: &str) -> Fate {
        if path.contains("/leases") {
            return Fate::Served;
        }
        let share = |share: &AtomicU32| share.load(Ordering::Relaxed);
        if is_write(method) {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            if bucket.as_mut().is_some_and(|bucket| !bucket.take(Instant::now())) {
                return Fate::Refused;
            }
        }
        let refused = if is_write(method) { share(&self.refused) } else { 0 };
        let fates = [
            (refused, Fate::Refused),
            (share(&self.failed), Fate::Failed),
            (share(&self.lost_before), Fate::LostBefore),
            (share(&self.lost_after), Fate::LostAfter),
        ];
        chosen(fastrand::u32(0..1000), fates)
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let is_watch = head.uri.query().is_some_and(|query| query.contains("watch="));
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}{path}", self.upstream.to_string().trim_end_matches('/'));
        let mut headers = head.headers;
        for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        let answer = self.http.request(head.method, url).headers(headers).body(body).send().await?;
        let (mut head, body) = Response::<reqwest::Body>::from(answer).into_parts();
        head.headers.remove(TRANSFER_ENCODING);
        let body = body.map_err(BoxError::from);
        let body = if is_watch { until_cut(body, self.cuts.subscribe()) } else { body.boxed_unsync() };
        Ok(Response::from_parts(head, body))
    }
}

fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// By a number below a thousand, and shares of a thousand.
fn chosen(number: u32, fates: impl IntoIterator<Item = (u32, Fate)>) -> Fate {
    let mut upper = 0;
    let hit = fates.into_iter().find(|(share, _)| {
        upper += share;
        number < upper
    });
    hit.map_or(Fate::Served, |(_, fate)| fate)
}

/// What the API server says when it has too much to do.
fn refusal(code: StatusCode, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "planted by the benchmark",
        "reason": reason, "code": code.as_u16(), "details": {"retryAfterSeconds": 1},
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// A body that breaks off when watches are cut.
fn until_cut(
    body: impl hyper::body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    mut cuts: watch::Receiver<u64>,
) -> Body {
    // What was cut before is not this one.
    cuts.mark_unchanged();
    // The sender lives as long as the proxy.
    let cut = async move { cuts.changed().await.unwrap_or_default() };
    let broken = stream::once(async { Err(BoxError::from("the watch is cut")) });
    StreamBody::new(BodyStream::new(body).take_until(Box::pin(cut)).chain(broken)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// The upstream of these tests speaks no TLS, but there has to be an authority.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUfwv98GwiVM82Vne2t4CvX5HRrGMwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjgxODM2MzNaGA8yMTI2MTEwNDE4MzYz
M1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGw8
y7LntIE0SiE5sU6LY17DRmwHOMvKqaBdxxiWFCriiJhxngU6vD/0oCATZ1z6znye
ONZyt/WhbPwCTEggYQejUzBRMB0GA1UdDgQWBBT4c8lvv7sqLp9bEqo72G1SBhVT
BjAfBgNVHSMEGDAWgBT4c8lvv7sqLp9bEqo72G1SBhVTBjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQDfeskqfzhWMIBmH3sIz32J3HfUr4BypTV/
UZUtR1HArQIhAJvjkprX4X/0UYE47hWKszQfMQABGOe24NKfl72h8nIA
-----END CERTIFICATE-----
";

    /// An API server that answers a watch with one line and then stays silent, and everything else with its method.
    async fn upstream() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = async |method: Method, uri: Uri| {
            let line = format!("{method} {uri}\n");
            if uri.query() != Some("watch=true") {
                return axum::body::Body::from(line);
            }
            let first = stream::iter([Ok::<_, BoxError>(line)]);
            axum::body::Body::from_stream(first.chain(stream::pending()))
        };
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn proxy() -> (Arc<Proxy>, reqwest::Client) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = Proxy::start(&format!("http://{}", upstream().await), CERTIFICATE).await.unwrap();
        (proxy, reqwest::Client::new())
    }

    #[tokio::test]
    async fn without_weather_everything_goes_through() {
        let (proxy, http) = proxy().await;
        let answer = http.patch(format!("{}/apis/x?y=z", proxy.url())).body("{}").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "PATCH /apis/x?y=z\n");
        let expected = Wronged { requests: 1, writes: 1, ..Wronged::default() };
        assert_eq!(proxy.wronged(), expected);
    }

    #[tokio::test]
    async fn only_so_many_writes_a_second_are_let_through_and_never_the_lease_refused() {
        let (proxy, http) = proxy().await;
        proxy.set(Weather { writes_per_second: Some(2), ..Weather::default() });
        let mut codes = vec![];
        for _ in 0..4 {
            let answer = http.patch(format!("{}/apis/x", proxy.url())).send().await.unwrap();
            codes.push(answer.status().as_u16());
            assert!(answer.status() == 200 || answer.headers()[RETRY_AFTER] == "1");
        }
        assert_eq!(codes, [200, 200, 429, 429]);
        assert_eq!(http.get(format!("{}/apis/x", proxy.url())).send().await.unwrap().status(), 200);
        let lease = format!("{}/apis/coordination.k8s.io/v1/namespaces/a/leases/b", proxy.url());
        assert_eq!(http.put(lease).send().await.unwrap().status(), 200);
        assert_eq!(proxy.wronged().refused, 2);
    }

    #[test]
    fn a_bucket_fills_with_time_and_not_beyond_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, start);
        let taken = |bucket: &mut Bucket, after: Duration| (0..9).filter(|_| bucket.take(start + after)).count();
        assert_eq!(taken(&mut bucket, Duration::ZERO), 2);
        assert_eq!(taken(&mut bucket, Duration::from_millis(500)), 1);
        assert_eq!(taken(&mut bucket, Duration::from_mins(1)), 2);
    }

    #[tokio::test]
    async fn a_lost_request_breaks_the_connection() {
        let (proxy, http) = proxy().await;
        proxy.set(Weather { lost_before: 1000, ..Weather::default() });
        assert!(http.get(format!("{}/apis/x", proxy.url())).send().await.is_err());
        proxy.set(Weather { failed: 1000, ..Weather::default() });
        assert_eq!(http.get(format!("{}/apis/x", proxy.url())).send().await.unwrap().status(), 500);
        // The client may have tried again over a new connection.
        assert!(proxy.wronged().lost >= 1);
        assert_eq!(proxy.wronged().failed, 1);
    }

    #[tokio::test]
    async fn a_watch_goes_on_until_it_is_cut() {
        let (proxy, http) = proxy().await;
        proxy.cut_watches();
        let mut watch = http.get(format!("{}/apis/x?watch=true", proxy.url())).send().await.unwrap();
        assert_eq!(watch.chunk().await.unwrap().unwrap(), "GET /apis/x?watch=true\n");
        let silence = tokio::time::timeout(Duration::from_millis(100), watch.chunk()).await;
        assert!(silence.is_err(), "it is open, and what was cut before was another one");
        proxy.cut_watches();
        assert!(watch.chunk().await.is_err());
    }

    #[test]
    fn shares_are_of_a_thousand() {
        let fates = [(0, Fate::Refused), (100, Fate::Failed), (100, Fate::LostBefore), (50, Fate::LostAfter)];
        let count = |fate| (0..1000).filter(|number| chosen(*number, fates) == fate).count();
        assert_eq!([Fate::Refused, Fate::Failed, Fate::LostBefore, Fate::LostAfter].map(count), [0, 100, 100, 50]);
        assert_eq!(count(Fate::Served), 750);
    }
}
