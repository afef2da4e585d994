//! The admin pages over a real socket.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{accept, metrics};

/// Returns all that comes back for a request without a body.
async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: tests\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn page(address: SocketAddr, path: &str) -> String {
    ask(address, "GET", path).await
}

/// Serves the pages of a process that is ready.
fn serving(stop: &CancellationToken) -> SocketAddr {
    let admin = Admin::new(
        Readiness::default(),
        metrics::registry("tests"),
        || serde_json::json!({"pods": 2}),
    );
    let listener = accept::bind("tests", ([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(admin.serve(listener, stop.clone()));
    address
}

#[tokio::test]
async fn each_page_says_what_it_is_and_head_is_answered_without_it() {
    let address = serving(&CancellationToken::new());
    for (path, media_type) in [
        ("/live", "text/plain; charset=utf-8"),
        ("/ready?verbose", "text/plain; charset=utf-8"),
        (
            "/metrics",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("/debug/state", "application/json"),
    ] {
        let answer = page(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let line = format!("\r\ncontent-type: {media_type}\r\n");
        assert!(answer.contains(&line), "{answer}");
        assert!(!answer.ends_with("\r\n\r\n"), "{answer}");

        let head = ask(address, "HEAD", path).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&line), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let address = serving(&CancellationToken::new());
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(address, method, "/live").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("\r\nallow: GET,HEAD\r\n"), "{answer}");
        assert!(answer.contains("\r\ncontent-length: 0\r\n"), "{answer}");
    }
    for method in ["GET", "POST"] {
        for path in ["/", "/live/", "/debug", "/metrics/stillwake"] {
            let answer = ask(address, method, path).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            assert!(answer.contains("\r\ncontent-length: 0\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_kept_until_the_pages_are_not_served_any_more() {
    let stop = CancellationToken::new();
    let mut stream = TcpStream::connect(serving(&stop)).await.unwrap();
    for _ in 0..2 {
        let request = "GET /live HTTP/1.1\r\nHost: tests\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nlive\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
    }
    stop.cancel();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn the_pages_follow_the_process() {
    let readiness = Readiness::default();
    let latch = readiness.latch();
    let admin = Admin::new(
        readiness.clone(),
        metrics::registry("tests"),
        || serde_json::json!({"pods": 2}),
    );
    let listener = accept::bind("tests", ([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(admin.serve(listener, stop.clone()));

    assert!(page(address, "/live").await.starts_with("HTTP/1.1 200"));
    assert!(page(address, "/ready").await.starts_with("HTTP/1.1 503"));
    drop(latch);
    assert!(page(address, "/ready").await.starts_with("HTTP/1.1 200"));
    assert!(
        page(address, "/metrics")
            .await
            .contains("stillwake_build_info")
    );
    assert!(
        page(address, "/debug/state")
            .await
            .ends_with("{\n  \"pods\": 2\n}\n")
    );
    readiness.stop();
    assert!(page(address, "/ready").await.starts_with("HTTP/1.1 503"));

    stop.cancel();
    served.await.unwrap();
}
