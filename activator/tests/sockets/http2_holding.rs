//! Streams that are held, released and given up.

use std::time::Duration;

use http::{Request, StatusCode, Version};
use hyper::body::Body as _;

use crate::{http2::*, support::*};

#[tokio::test]
async fn a_stream_waits_for_an_endpoint_and_says_so_in_its_response() {
    let rig = Rig::start().await;
    let backend = echoing_paths().await;
    let client = Client::connect(&rig).await;
    let answer = client.get("/cold");
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let response = head(answer).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.version(), Version::HTTP_2);
    let waited = response.headers()["x-stillwake-cold-start"]
        .to_str()
        .unwrap();
    waited.parse::<u64>().expect("whole milliseconds");
    assert!(!response.headers().contains_key("connection"));
    assert_eq!(read(response).await, "/cold");
    assert_eq!((rig.held(), rig.total("forwarded")), (0, 1));
}

#[tokio::test]
async fn a_stream_that_finds_an_endpoint_is_forwarded_without_the_header() {
    let rig = Rig::start().await;
    let backend = echoing_paths().await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let response = head(client.get("/warm")).await;
    assert!(!response.headers().contains_key("x-stillwake-cold-start"));
    assert_eq!(read(response).await, "/warm");
}

#[tokio::test]
async fn each_stream_counts_and_those_of_one_connection_share_one_to_the_endpoint() {
    let rig = Rig::start().await;
    let backend = echoing_paths().await;
    let client = Client::connect(&rig).await;
    let answers: Vec<_> = (0..100)
        .map(|number| client.get(&format!("/{number}")))
        .collect();
    rig.until_held(100).await;
    rig.ready("a", backend.address);
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(read(head(answer).await).await, format!("/{number}"));
    }
    assert_eq!((rig.held(), rig.total("forwarded")), (0, 100));
    assert_eq!(backend.accepted(), 1);
    assert_eq!(rig.state()["endpoints"][0]["outstanding"], 0);
}

#[tokio::test]
async fn past_a_bound_each_stream_is_told_in_its_form_and_the_held_survive() {
    let rig = Rig::with(|settings| settings.max_held = 2).await;
    let backend = echoing_paths().await;
    let client = Client::connect(&rig).await;
    let held = [client.get("/1"), client.get("/2")];
    rig.until_held(2).await;
    let response = head(client.get("/3")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let length = response.headers()["content-length"].clone();
    let reason = read(response).await;
    assert!(reason.contains("2 requests are held"), "{reason}");
    assert_eq!(length, reason.len().to_string());
    let only_head = Request::head("http://cart/").body(Sent::Nothing).unwrap();
    let response = head(client.send(only_head)).await;
    assert_eq!(response.headers()["content-length"], length);
    assert!(response.body().is_end_stream(), "there is no body to HEAD");
    let response = head(client.send(call())).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["grpc-status"], "14");
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("shop/Deployment/cart"), "{message}");
    assert!(response.body().is_end_stream(), "the head is all there is");
    rig.ready("a", backend.address);
    for answer in held {
        assert_eq!(head(answer).await.status(), StatusCode::OK);
    }
    assert_eq!((rig.total("overflow"), rig.total("forwarded")), (3, 2));
}

#[tokio::test]
async fn at_the_deadline_a_call_is_unavailable() {
    let rig = Rig::with(|settings| settings.hold_timeout = Duration::from_millis(100)).await;
    let client = Client::connect(&rig).await;
    let mut call = call();
    call.headers_mut()
        .insert("grpc-timeout", "1M".parse().unwrap());
    let response = head(client.send(call)).await;
    assert_eq!(response.headers()["grpc-status"], "14");
    let response = head(client.get("/")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((rig.held(), rig.total("deadline")), (0, 2));
}

#[tokio::test]
async fn a_call_is_held_no_longer_than_its_client_waits_and_does_not_speak_against_the_workload() {
    let rig = Rig::with(|settings| settings.hold_timeout = 3 * PATIENCE).await;
    let client = Client::connect(&rig).await;
    let stays = client.get("/stays");
    let mut call = call();
    call.headers_mut()
        .insert("grpc-timeout", "100m".parse().unwrap());
    let response = head(client.send(call)).await;
    assert_eq!(response.headers()["grpc-status"], "4");
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("0.1 s that its client gave"), "{message}");
    assert_eq!((rig.held(), rig.total("deadline")), (1, 1));
    assert_eq!(rig.state()["breakers"], serde_json::json!([]));
    stays.abort();
}

#[tokio::test]
async fn a_stream_that_its_client_resets_frees_its_place_alone() {
    let rig = Rig::start().await;
    let backend = echoing_paths().await;
    let client = Client::connect(&rig).await;
    let leaves = client.get("/leaves");
    let uploads = client.send(Request::post("http://cart/").body(piped().1).unwrap());
    let stays = client.get("/stays");
    rig.until_held(3).await;
    leaves.abort();
    uploads.abort();
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    assert_eq!(read(head(stays).await).await, "/stays");
    assert_eq!((rig.total("client_left"), rig.total("forwarded")), (2, 1));
}

#[tokio::test]
async fn a_connection_that_ends_frees_the_places_of_all_its_streams() {
    let rig = Rig::start().await;
    let mut frames = Frames::begin(&rig).await;
    frames.get(1).await;
    frames.get(3).await;
    rig.until_held(2).await;
    drop(frames);
    rig.until_held(0).await;
    eventually("counted", || rig.total("client_left") == 2).await;
}

#[tokio::test]
async fn pings_are_answered_while_a_stream_is_held_and_goaway_follows_the_wake() {
    let rig = Rig::start().await;
    let backend = echoing_paths().await;
    let mut frames = Frames::begin(&rig).await;
    frames.get(1).await;
    rig.until_held(1).await;
    frames.write(PING, 0, 0, b"are here").await;
    assert_eq!(frames.next(PING).await, (ACK, b"are here".to_vec()));
    assert_eq!(rig.held(), 1);
    rig.ready("a", backend.address);
    let (_, goaway) = frames.next(GOAWAY).await;
    assert_eq!(goaway[4..8], [0; 4], "without an error");
    let (_, data) = frames.next(DATA).await;
    assert_eq!(data, b"/");
    frames.end().await;
}

#[tokio::test]
async fn a_silent_client_that_begins_to_speak_http2_is_held_by_stream() {
    let rig = Rig::with(|settings| settings.first_byte_wait = Duration::from_millis(20)).await;
    let backend = echoing_paths().await;
    let stream = rig.connect().await;
    rig.until_held(1).await;
    let client = Client::on(stream).await;
    rig.until_held(0).await;
    let answers = [client.get("/1"), client.get("/2")];
    rig.until_held(2).await;
    rig.ready("a", backend.address);
    for answer in answers {
        assert_eq!(head(answer).await.status(), StatusCode::OK);
    }
    assert_eq!((rig.total("forwarded"), rig.total("client_left")), (2, 0));
}
