//! What becomes of requests while the activator drains, and when it is stopped.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::support::*;

const GET: &str = "GET /cold HTTP/1.1\r\nHost: cart\r\n\r\n";

#[tokio::test]
async fn draining_finishes_what_is_held_and_takes_nothing_new() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.drained().await;
    assert!(!rig.serving.is_finished());
    rig.ready("a", backend.address);
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn aborting_answers_what_is_held_and_ends() {
    let rig = Rig::start().await;
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.abort.cancel();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(
        response.contains("is being stopped; try again"),
        "{response}"
    );
    assert_eq!(header(&response, "retry-after"), Some("1"));
    assert_eq!(header(&response, "connection"), Some("close"));
    assert_eq!(rig.total("stopped"), 1);
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn draining_takes_what_the_kernel_has_accepted_already() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    rig.ready("a", backend.address);
    // Blocks this runtime's only thread, so the activator cannot have accepted it when the drain begins.
    let client = std::net::TcpStream::connect(rig.address).unwrap();
    rig.drain.cancel();
    client.set_nonblocking(true).unwrap();
    let mut client = tokio::net::TcpStream::from_std(client).unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

#[tokio::test]
async fn draining_lets_deadlines_fall() {
    let rig = Rig::with(|settings| settings.hold_timeout = Duration::from_millis(300)).await;
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.drain.cancel();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert_eq!(header(&response, "retry-after"), Some("1"));
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn draining_lets_a_head_that_has_begun_come_and_be_answered() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    rig.ready("a", backend.address);
    let (begun, rest) = GET.split_at(20);
    let mut client = rig.send(begun).await;
    rig.drained().await;
    client.write_all(rest.as_bytes()).await.unwrap();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(header(&response, "connection"), Some("close"));
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn aborting_answers_a_client_that_is_still_sending_its_body() {
    // More than the kernel takes for a peer that does not read.
    const LENGTH: usize = 16_000_000;
    let rig = Rig::start().await;
    let mut client = rig
        .send(format!(
            "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: {LENGTH}\r\n\r\n"
        ))
        .await;
    rig.until_held(1).await;
    rig.abort.cancel();
    client.write_all(&vec![b'x'; LENGTH]).await.unwrap();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn aborting_resets_held_connections() {
    let rig = Rig::start().await;
    let mut client = rig.send(b"*1\r\n$4\r\nPING\r\n").await;
    rig.until_held(1).await;
    rig.abort.cancel();
    let read = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.total("stopped"), 1);
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}
