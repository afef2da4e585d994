//! The admin pages over a real socket.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{accept, metrics};

async fn page(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: tests\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
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
    served.await.unwrap().unwrap();
}
