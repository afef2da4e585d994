//! What becomes of HTTP/2 connections while the activator drains, when it is stopped, and when nothing happens on them.

use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;

use crate::{http2::*, support::*};

#[tokio::test]
async fn draining_finishes_held_streams_and_ends_connections_without_any() {
    let rig = Rig::start().await;
    let backend = echoing_paths().await;
    let (idle, busy) = (Client::connect(&rig).await, Client::connect(&rig).await);
    let answer = busy.get("/held");
    rig.until_held(1).await;
    rig.drained().await;
    idle.ended().await;
    assert!(!rig.serving.is_finished());
    rig.ready("a", backend.address);
    assert_eq!(read(head(answer).await).await, "/held");
    busy.ended().await;
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn aborting_answers_held_streams_and_ends() {
    let rig = Rig::start().await;
    let client = Client::connect(&rig).await;
    let answers = [client.get("/"), client.send(call())];
    rig.until_held(2).await;
    rig.abort.cancel();
    let [first, second] = answers;
    let response = head(first).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let response = head(second).await;
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(rig.total("stopped"), 2);
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn aborting_ends_streams_that_would_last() {
    let rig = Rig::start().await;
    let backend = serving(async |_| std::future::pending().await).await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let answer = client.get("/");
    eventually("taken", || rig.state()["endpoints"][0]["outstanding"] == 1).await;
    eventually("not held", || rig.held() == 0).await;
    rig.abort.cancel();
    timeout(PATIENCE, rig.serving).await.unwrap().unwrap();
    answer.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_connection_without_streams_is_told_to_go() {
    let rig = Rig::with(|settings| settings.head_timeout = Duration::from_millis(50)).await;
    Client::connect(&rig).await.ended().await;
    let client = Client::connect(&rig).await;
    let held = client.get("/");
    rig.until_held(1).await;
    // Another's end shows that the time is over.
    Client::connect(&rig).await.ended().await;
    assert_eq!(rig.held(), 1);
    assert!(!client.sender.is_closed());
    held.abort();
    client.ended().await;
}
