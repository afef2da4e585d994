//! Requests whose endpoint accepts a connection and closes it without an answer.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::*;

const GET: &str = "GET /it HTTP/1.1\r\nHost: Cart.Shop\r\nX-Odd-CASE: 1\r\n\r\n";

/// A rig that leaves an endpoint alone for good once it has failed.
async fn unforgiving() -> Rig {
    Rig::with(|settings| {
        settings.unanswered_pause = 3 * PATIENCE;
        settings.set_aside_limit = 3 * PATIENCE;
    })
    .await
}

#[tokio::test]
async fn a_request_that_only_asks_is_held_again_and_goes_to_the_next_endpoint() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        let rig = unforgiving().await;
        let (ending, first) = answering("").await;
        let (lasting, second) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
        rig.ready("ending", ending.address);
        let request = GET.replace("GET", method);
        let client = rig.send(&request).await;
        eventually("it came", || first.lock().len() == 1).await;
        rig.until_held(1).await;
        rig.ready("lasting", lasting.address);
        let response = read_all(client).await;
        assert!(
            response.starts_with("HTTP/1.1 204 "),
            "{method}: {response}"
        );
        assert_eq!(
            (&*first.lock(), &*second.lock()),
            (&vec![request.clone()], &vec![request])
        );
        assert_eq!((rig.total("forwarded"), rig.total("failed")), (1, 0));
        let text = rig.scrape();
        assert!(
            text.contains("stillwake_activator_retries_total 1\n"),
            "{text}"
        );
        for endpoint in rig.state()["endpoints"].as_array().unwrap() {
            assert_eq!(endpoint["outstanding"], 0);
        }
    }
}

#[tokio::test]
async fn it_is_sent_twice_at_most() {
    let rig = Rig::start().await;
    let (backend, heads) = answering("").await;
    rig.ready("a", backend.address);
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    assert_eq!(heads.lock().len(), 2);
    assert_eq!((rig.total("forwarded"), rig.total("failed")), (0, 1));
}

#[tokio::test]
async fn what_may_change_something_or_has_a_body_is_not_sent_again() {
    for request in [
        "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n",
        "DELETE / HTTP/1.1\r\nHost: cart\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: cart\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let rig = unforgiving().await;
        let (backend, heads) = answering("").await;
        rig.ready("a", backend.address);
        let response = rig.exchange(request).await;
        assert!(
            response.starts_with("HTTP/1.1 502 "),
            "{request}: {response}"
        );
        assert_eq!((heads.lock().len(), rig.total("failed")), (1, 1));
    }
}

#[tokio::test]
async fn an_endpoint_that_answers_nonsense_has_answered() {
    let rig = unforgiving().await;
    let (backend, heads) = answering("what?\r\n\r\n").await;
    rig.ready("a", backend.address);
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    assert_eq!(heads.lock().len(), 1);
}

#[tokio::test]
async fn after_one_that_was_lost_the_next_are_held_until_another_endpoint_comes() {
    let rig = unforgiving().await;
    let (ending, heads) = answering("").await;
    rig.ready("ending", ending.address);
    let lost = rig
        .exchange("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert!(lost.starts_with("HTTP/1.1 502 "), "{lost}");
    let client = rig.send(GET).await;
    rig.until_held(1).await;
    let lasting = Backend::echoing_lines().await;
    rig.ready("lasting", lasting.address);
    assert!(read_all(client).await.ends_with("GET /it HTTP/1.1"));
    assert_eq!(heads.lock().len(), 1);
}

#[tokio::test]
async fn what_ran_past_its_deadline_is_not_sent_again() {
    const HOLD: Duration = Duration::from_millis(100);
    let rig = Rig::with(|settings| settings.hold_timeout = HOLD).await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        tokio::time::sleep(2 * HOLD).await;
    })
    .await;
    rig.ready("a", backend.address);
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    assert_eq!((backend.accepted(), rig.total("failed")), (1, 1));
    assert_eq!(rig.state()["breakers"], serde_json::json!([]));
}
