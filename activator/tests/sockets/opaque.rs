//! Connections whose protocol the activator does not speak.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::*;

const REDIS_PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

async fn reset(mut client: TcpStream) {
    let mut byte = [0];
    let read = timeout(PATIENCE, client.read(&mut byte)).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_is_not_http_is_held_and_then_joined_to_a_backend() {
    let rig = Rig::start().await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        let (mut reading, mut writing) = stream.split();
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
    })
    .await;
    let mut client = rig.send(REDIS_PING).await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let mut echoed = [0; REDIS_PING.len()];
    let read = client.read_exact(&mut echoed);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(echoed, REDIS_PING);
    assert_eq!(rig.held(), 0);
    client.write_all(b"more").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(client).await, "more");
    eventually("counted", || rig.total("forwarded") == 1).await;
}

#[tokio::test]
async fn a_silent_client_wakes_a_server_that_speaks_first() {
    let rig = Rig::with(|settings| settings.first_byte_wait = Duration::from_millis(20)).await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        stream.write_all(b"220 mail\r\n").await.unwrap();
        let mut quit = String::new();
        stream.read_to_string(&mut quit).await.unwrap();
        stream
            .write_all(format!("bye {quit}").as_bytes())
            .await
            .unwrap();
    })
    .await;
    let mut client = rig.connect().await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let mut banner = [0; 10];
    let read = client.read_exact(&mut banner);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(&banner, b"220 mail\r\n");
    client.write_all(b"QUIT").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(client).await, "bye QUIT");
}

#[tokio::test]
async fn past_a_bound_a_connection_is_reset() {
    let rig = Rig::with(|settings| {
        settings.max_held = 1;
        settings.first_byte_wait = Duration::from_millis(20);
    })
    .await;
    let _held = rig.send(REDIS_PING).await;
    rig.until_held(1).await;
    reset(rig.send(REDIS_PING).await).await;
    // Closing with unread bytes resets by itself; a silent client shows that it is meant.
    reset(rig.connect().await).await;
    assert_eq!((rig.held(), rig.total("overflow")), (1, 2));
}

#[tokio::test]
async fn at_the_deadline_a_connection_is_reset() {
    let rig = Rig::with(|settings| settings.hold_timeout = Duration::from_millis(100)).await;
    reset(rig.send(REDIS_PING).await).await;
    assert_eq!(rig.total("deadline"), 1);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_and_reaches_no_backend() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let client = rig.send(REDIS_PING).await;
    rig.until_held(1).await;
    drop(client);
    rig.until_held(0).await;
    rig.ready("a", backend.address);
    rig.exchange("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(backend.accepted(), 1);
    assert_eq!(rig.total("client_left"), 1);
}

#[tokio::test]
async fn a_connection_closed_before_its_first_byte_is_never_held() {
    let rig = Rig::start().await;
    drop(rig.connect().await);
    rig.drain.cancel();
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
    let state = rig.activator.debug_state();
    assert_eq!(state["workloads"][0]["totals"]["client_left"], 0);
}

#[tokio::test]
async fn a_silent_client_that_begins_to_speak_http_is_answered_in_http() {
    let rig = Rig::with(|settings| settings.first_byte_wait = Duration::from_millis(20)).await;
    let backend = Backend::echoing_lines().await;
    let mut client = rig.connect().await;
    rig.until_held(1).await;
    client
        .write_all(b"GET /late HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    eventually("its head counts", || rig.state()["held_bytes"] != 0).await;
    assert_eq!(rig.held(), 1);
    rig.ready("a", backend.address);
    let response = read_all(client).await;
    assert!(response.ends_with("GET /late HTTP/1.1"), "{response}");
    assert!(
        header(&response, "x-stillwake-cold-start").is_some(),
        "{response}"
    );
    assert_eq!((rig.total("forwarded"), rig.total("client_left")), (1, 0));
}

#[tokio::test]
async fn a_connection_that_gets_no_answer_does_not_weigh_on_its_endpoint() {
    let rig = Rig::start().await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    })
    .await;
    rig.ready("a", backend.address);
    let _client = rig.send(REDIS_PING).await;
    eventually("joined", || backend.accepted() == 1 && rig.held() == 0).await;
    assert_eq!(rig.state()["endpoints"][0]["outstanding"], 0);
}
