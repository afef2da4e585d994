//! What is held, released and given up.

use std::collections::HashSet;

use tokio::{io::AsyncWriteExt as _, task::JoinSet, time::timeout};

use crate::support::*;

const GET: &str = "GET /cold HTTP/1.1\r\nHost: cart\r\n\r\n";

#[tokio::test]
async fn a_request_waits_for_an_endpoint_and_says_so_in_its_response() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("GET /cold HTTP/1.1"), "{response}");
    let waited = header(&response, "x-stillwake-cold-start").expect(&response);
    waited.parse::<u64>().expect("whole milliseconds");
    assert_eq!(header(&response, "connection"), Some("close"));
    assert_eq!((rig.held(), rig.total("forwarded")), (0, 1));
}

#[tokio::test]
async fn a_request_that_finds_an_endpoint_is_forwarded_without_the_header() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    rig.ready("a", backend.address);
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(header(&response, "x-stillwake-cold-start"), None);
    assert_eq!(header(&response, "connection"), Some("close"));
}

#[tokio::test]
async fn a_hundred_first_requests_are_each_answered_exactly_once() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let mut clients = JoinSet::new();
    for number in 0..100 {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: cart\r\n\r\n");
        let client = rig.send(request).await;
        clients.spawn(async move {
            let response = read_all(client).await;
            assert!(
                response.ends_with(&format!("GET /{number} HTTP/1.1")),
                "{response}"
            );
            number
        });
    }
    rig.until_held(100).await;
    rig.ready("a", backend.address);
    let answered: HashSet<_> = clients.join_all().await.into_iter().collect();
    assert_eq!(answered.len(), 100);
    assert_eq!(backend.accepted(), 100);
    assert_eq!(rig.total("forwarded"), 100);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_and_reaches_no_backend() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    drop(client);
    rig.until_held(0).await;
    rig.ready("a", backend.address);
    // A later request shows that the backend would have been reached by now.
    rig.exchange(GET).await;
    assert_eq!(backend.accepted(), 1);
    assert_eq!(rig.total("client_left"), 1);
}

#[tokio::test]
async fn a_client_that_leaves_with_an_unread_body_is_noticed_as_well() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let mut client = rig
        .send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    client.write_all(&vec![b'x'; 30_000]).await.unwrap();
    rig.until_held(1).await;
    drop(client);
    rig.until_held(0).await;
    rig.ready("a", backend.address);
    rig.exchange(GET).await;
    assert_eq!(backend.accepted(), 1);
    assert_eq!(rig.total("client_left"), 1);
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over_for_another() {
    let rig = Rig::start().await;
    let backend = Backend::echoing_lines().await;
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.ready("dead", refusing_address().await);
    rig.ready("alive", backend.address);
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_at_first_is_tried_again() {
    let rig = Rig::start().await;
    let address = refusing_address().await;
    rig.ready("slow", address);
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    read_head(&mut stream).await;
    respond(&mut stream, "at last").await;
    let response = read_all(client).await;
    assert!(response.ends_with("at last"), "{response}");
    assert!(header(&response, "x-stillwake-cold-start").is_none());
}

#[tokio::test]
async fn a_gone_endpoint_is_not_dialled() {
    let rig = Rig::start().await;
    let (old, new) = (
        Backend::echoing_lines().await,
        Backend::echoing_lines().await,
    );
    rig.ready("old", old.address);
    rig.gone("old");
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.ready("new", new.address);
    read_all(client).await;
    assert_eq!((old.accepted(), new.accepted()), (0, 1));
}

#[tokio::test]
async fn a_request_that_comes_right_after_the_only_endpoint_went_is_held_for_the_next() {
    let rig = Rig::start().await;
    let old = Backend::echoing_lines().await;
    let address = old.address;
    rig.ready("old", address);
    rig.exchange(GET).await;
    old.stop().await;
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    rig.gone("old");
    let new = Backend::echoing_lines().await;
    rig.ready("new", new.address);
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!((new.accepted(), rig.total("forwarded")), (1, 2));
}
