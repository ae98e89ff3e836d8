//! Queries over a real socket.

use jiff::SignedDuration;
use serin::{
    controller::{AllowedHosts, Egress, send},
    domain::{Answer, Unknown},
    metrics::{Credentials, Query},
};
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
};

const DEADLINE: SignedDuration = SignedDuration::from_secs(1);

async fn ask(http: &reqwest::Client, query: &Query) -> Answer {
    send(http, query, DEADLINE.unsigned_abs()).await
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Egress::new(AllowedHosts::default()).unwrap().to("http://127.0.0.1", false).unwrap().clone()
}

fn query(address: String) -> Query {
    Query { address, text: "up".into(), headers: vec![], insecure_skip_verify: false, credentials: None }
}

/// Answers one request with these bytes, and gives the request's.
fn server(answer: &'static [u8]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = vec![0; 65536];
        let length = stream.read(&mut text).unwrap();
        send.send(String::from_utf8_lossy(&text[..length]).into_owned()).unwrap();
        if answer == b"silence" {
            std::thread::sleep(std::time::Duration::from_secs(3));
        } else if answer == b"flood" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            while stream.write_all(&[b' '; 4096]).is_ok() {}
        } else {
            let _ = stream.write_all(answer);
        }
    });
    (address, receive)
}

#[tokio::test]
async fn a_number_is_asked_for_and_read() {
    let (address, seen) = server(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1,\"7\"]}]}}");
    let query = Query {
        text: "sum(rate(x[1m])) * 100".into(),
        headers: vec![("X-Scope-OrgID".into(), "team".into())],
        credentials: Some(Credentials::Basic { username: "me".into(), password: "pw".into() }),
        ..query(format!("{address}/prom/"))
    };
    assert_eq!(ask(&http(), &query).await, Ok(7.0));
    let request = seen.recv().unwrap().to_lowercase();
    println!("{request}");
    assert!(
        request.starts_with("get /prom/api/v1/query?query=sum%28rate%28x%5b1m%5d%29%29+*+100&timeout=1000ms http/1.1")
    );
    for header in ["x-scope-orgid: team", "authorization: basic bwu6chc=", "user-agent: serin/"] {
        assert!(request.contains(header), "{header}");
    }
}

async fn answered(answer: &'static [u8]) -> Answer {
    ask(&http(), &query(server(answer).0)).await
}

#[tokio::test]
async fn every_failure_is_named() {
    let html = answered(
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>hunter</html>",
    )
    .await;
    assert!(matches!(&html, Err(Unknown::Refused(_, reason)) if reason == "HTTP 502 Bad Gateway"), "{html:?}");
    let redirect = answered(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(&redirect, Err(Unknown::Refused(..))), "{redirect:?}");
    let silence = answered(b"silence").await;
    assert_eq!(silence.unwrap_err().to_string().split_once(" did").unwrap().1, " not answer within 1s");
    assert!(matches!(answered(b"flood").await, Err(Unknown::Garbled(..))));
    for (what, answer) in [
        ("no http", &b"hunter\r\n\r\n"[..]),
        ("cut off", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
        ("closed", b""),
    ] {
        let answer = answered(answer).await;
        println!("{what}: {}", answer.clone().unwrap_err());
        assert!(matches!(&answer, Err(Unknown::Unreachable(..))), "{answer:?}");
    }
    for address in ["http://127.0.0.1:1", "http://nowhere.invalid:9090", "https://127.0.0.1:1"] {
        let answer = ask(&http(), &query(address.into())).await;
        println!("{address}: {}", answer.clone().unwrap_err());
        assert!(matches!(&answer, Err(Unknown::Unreachable(..))), "{answer:?}");
    }
    let (address, _seen) = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let answer = ask(&http(), &query(address.replace("http:", "https:"))).await;
    println!("plain http behind https: {}", answer.clone().unwrap_err());
    assert!(matches!(&answer, Err(Unknown::Unreachable(..))), "{answer:?}");
}

#[tokio::test]
async fn the_clients_own_timeout_is_a_timeout() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().timeout(std::time::Duration::from_millis(100)).build().unwrap();
    let answer = ask(&http, &query(server(b"silence").0)).await;
    assert!(matches!(&answer, Err(Unknown::Timeout(..))), "{answer:?}");
}
