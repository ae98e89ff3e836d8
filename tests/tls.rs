//! Whose certificates are believed: that of nobody unknown, unless the spec says so; and then that of that one only.

mod common;

use common::app::NAMESPACE;
use common::cluster::{Cluster, canary_with, template};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use serin_testing::{ALERT_PROVIDERS, CANARIES, METRIC_TEMPLATES};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a Prometheus says when all is well; everybody else only looks at the status.
const ALL_WELL: &str =
    r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"100"]}]}}"#;

/// A server with a certificate that only it believes in.
struct Unknown {
    address: String,
    requests: Arc<AtomicUsize>,
}

impl Unknown {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![own.cert.der().clone()], key.into()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = vec![0; 65536];
                    if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let head =
                            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}", ALL_WELL.len());
                        let _ = stream.write_all(format!("{head}\r\n\r\n{ALL_WELL}").as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_with_an_unknown_certificate_is_believed_only_with_disable_tls() {
    let server = Unknown::start().await;
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| {
        let gate = json!({"type": "confirm-rollout", "name": "gate", "url": server.address});
        spec["analysis"]["webhooks"] = json!([gate]);
    });
    cluster.settle().await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.phase() == "Waiting").await);
    cluster.pass_in_time().await;
    let status = cluster.status();
    let waiting = status["waiting"]["message"].as_str().unwrap_or_default();
    assert_eq!(status["phase"], "Waiting", "no yes of a stranger opens a gate");
    assert!(waiting.contains("cannot be reached") && waiting.contains("certificate"), "{waiting}");
    assert_eq!(server.requests(), 0, "nothing is said to a stranger");

    cluster.edit_spec(|spec| spec["analysis"]["webhooks"][0]["disableTLS"] = true.into());
    cluster.wait(10).await;
    cluster.pass_in_time().await;
    assert_eq!((cluster.phase().as_str(), server.requests()), ("Progressing", 1));
}

#[tokio::test(start_paused = true)]
async fn a_prometheus_with_an_unknown_certificate_is_believed_only_with_insecure_skip_verify() {
    let server = Unknown::start().await;
    let mut cluster = Cluster::with_app().await;
    cluster.put(METRIC_TEMPLATES, template("errors", &server.address, None));
    let metric = json!({"name": "errors", "templateRef": {"name": "errors"}, "thresholdRange": {"min": 99}});
    cluster.put(CANARIES, canary_with(&json!({"metrics": [metric]})));
    cluster.settle().await;
    cluster.deploy("web:2");
    cluster.settle().await;
    assert_eq!((cluster.phase().as_str(), server.requests()), ("Failed", 0));
    let check = cluster.status()["checks"][0].to_string();
    assert!(check.contains("Inconclusive") && check.contains("certificate"), "{check}");

    cluster
        .edit(METRIC_TEMPLATES, "errors", |template| template["spec"]["provider"]["insecureSkipVerify"] = true.into());
    cluster.deploy("web:3");
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded", "{}", cluster.status());
    assert!(server.requests() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_chat_with_an_unknown_certificate_is_told_nothing() {
    let server = Unknown::start().await;
    let mut cluster = Cluster::at_rest().await;
    let provider = json!({
        "apiVersion": "serin.dev/v1beta1", "kind": "AlertProvider",
        "metadata": {"name": "chat", "namespace": NAMESPACE},
        "spec": {"type": "generic", "address": server.address},
    });
    cluster.put(ALERT_PROVIDERS, provider);
    cluster.edit_spec(|spec| spec["analysis"]["alerts"] = json!([{"name": "chat", "providerRef": {"name": "chat"}}]));
    cluster.listens = false;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| cluster.status()["canaryWeight"] == 10).await);
    let counts = |cluster: &Cluster| cluster.operator.context.metrics.encode();
    let is_told = |cluster: &Cluster| counts(cluster).lines().any(|line| line == "serin_alerts_waiting 0");
    // It is tried three times.
    for _ in 0..1000 {
        if is_told(&cluster) {
            break;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(5))).await.unwrap();
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert!(is_told(&cluster));
    assert_eq!(server.requests(), 0);
    assert!(counts(&cluster).contains(r#"serin_alerts_total{channel="generic",outcome="failed"}"#));
}
