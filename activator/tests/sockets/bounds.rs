//! Past which bound who is told what.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use stillwake_activator::Availability;
use tokio::io::AsyncWriteExt as _;

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";

#[tokio::test]
async fn past_the_most_requests_the_next_is_told_at_once_and_the_held_survive() {
    let rig = Rig::with(|settings| settings.max_held = 2).await;
    let backend = Backend::echoing_lines().await;
    let held = [rig.send(GET).await, rig.send(GET).await];
    rig.until_held(2).await;
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert_eq!(header(&response, "retry-after"), Some("1"));
    assert!(response.contains("shop/Deployment/cart"), "{response}");
    assert!(response.contains("2 requests are held"), "{response}");
    assert_eq!(rig.held(), 2);
    rig.ready("a", backend.address);
    for client in held {
        let response = read_all(client).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    assert_eq!((rig.total("overflow"), rig.total("forwarded")), (1, 2));
}

#[tokio::test]
async fn past_the_most_bytes_the_next_is_told_at_once_and_the_held_survive() {
    let rig = Rig::with(|settings| settings.max_held_bytes = 8 * 1024).await;
    let backend = Backend::echoing_lines().await;
    let padding = "x".repeat(5 * 1024);
    let large = format!("GET / HTTP/1.1\r\nHost: cart\r\nPadding: {padding}\r\n\r\n");
    let held = rig.send(&large).await;
    rig.until_held(1).await;
    let response = rig.exchange(&large).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert_eq!(header(&response, "retry-after"), Some("1"));
    assert!(response.contains("8192 bytes"), "{response}");
    rig.ready("a", backend.address);
    assert!(read_all(held).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_sending_its_body() {
    let rig = Rig::with(|settings| settings.max_held = 0).await;
    let mut client = rig
        .send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 400000\r\n\r\n")
        .await;
    client.write_all(&vec![b'x'; 400_000]).await.unwrap();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
}

#[tokio::test]
async fn at_the_deadline_the_answer_names_the_workload_and_the_wait() {
    let rig = Rig::with(|settings| settings.hold_timeout = Duration::from_millis(100)).await;
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("shop/Deployment/cart"), "{response}");
    assert!(response.contains("within 0."), "{response}");
    assert_eq!((rig.held(), rig.total("deadline")), (0, 1));
}

#[tokio::test]
async fn a_workload_nobody_wakes_is_answered_at_once_with_the_reason() {
    let rig = Rig::start().await;
    let held = rig.send(GET).await;
    rig.until_held(1).await;
    let reason = "its ScaledObject is paused".to_owned();
    let unavailable = Availability::Unavailable { reason };
    rig.activator.set_workload(workload(), unavailable);
    for response in [read_all(held).await, rig.exchange(GET).await] {
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(response.contains("ScaledObject is paused"), "{response}");
    }
    rig.activator.remove_workload(&workload());
    let response = rig.exchange(GET).await;
    assert!(response.contains("does not know"), "{response}");
    assert_eq!(rig.total("unavailable"), 3);
}

#[tokio::test]
async fn grpc_is_told_in_its_own_form() {
    let rig = Rig::with(|settings| settings.max_held = 0).await;
    let response = rig
        .exchange(
            "POST /cart.Cart/Add HTTP/1.1\r\nHost: cart\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert_eq!(header(&response, "grpc-status"), Some("14"));
    let message = header(&response, "grpc-message").expect(&response);
    assert!(message.contains("shop/Deployment/cart"), "{message}");
}

#[tokio::test]
async fn a_head_past_the_buffer_is_too_large() {
    let rig = Rig::start().await;
    let padding = "x".repeat(200 * 1024);
    let response = rig
        .exchange(format!("GET / HTTP/1.1\r\nPadding: {padding}\r\n\r\n"))
        .await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
}

#[tokio::test]
async fn an_endpoint_gets_no_more_at_once_than_its_share() {
    let rig = Rig::with(|settings| {
        settings.endpoint_concurrency = 2;
        settings.pacing_limit = PATIENCE;
    })
    .await;
    let (release, released) = tokio::sync::watch::channel(false);
    let backend = Backend::start(move |mut stream| {
        let mut released = released.clone();
        async move {
            read_head(&mut stream).await;
            released.wait_for(|released| *released).await.unwrap();
            respond(&mut stream, "done").await;
        }
    })
    .await;
    let clients = [GET; 4].map(|request| rig.send(request));
    let mut streams = Vec::new();
    for client in clients {
        streams.push(client.await);
    }
    rig.until_held(4).await;
    rig.ready("a", backend.address);
    rig.until_held(2).await;
    assert_eq!(rig.state()["endpoints"][0]["outstanding"], 2);
    assert_eq!(backend.accepted(), 2);
    release.send(true).unwrap();
    for stream in streams {
        assert!(read_all(stream).await.ends_with("done"));
    }
}

#[tokio::test]
async fn many_at_once_are_all_served_and_never_more_of_them_at_a_time_than_the_share() {
    const SHARE: usize = 4;
    let rig = Rig::with(|settings| {
        settings.endpoint_concurrency = SHARE;
        settings.pacing_limit = PATIENCE;
    })
    .await;
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let backend = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        Backend::start(move |mut stream| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                read_head(&mut stream).await;
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                // Lets others come in, if any were let go.
                tokio::time::sleep(Duration::from_millis(1)).await;
                running.fetch_sub(1, SeqCst);
                respond(&mut stream, "done").await;
            }
        })
        .await
    };
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(rig.send(GET).await);
    }
    rig.until_held(200).await;
    rig.ready("a", backend.address);
    for client in clients {
        assert!(read_all(client).await.ends_with("done"));
    }
    assert_eq!((most.load(SeqCst), rig.total("forwarded")), (SHARE, 200));
}
