//! A workload that never becomes ready.

use std::time::Duration;

use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
const HOUR: Duration = Duration::from_hours(1);

/// A rig whose breaker opens at the second deadline and does not try again by itself.
async fn failing() -> Rig {
    Rig::with(|settings| {
        settings.hold_timeout = Duration::from_millis(100);
        settings.breaker_failures = 2;
        settings.probe_gap = HOUR;
        settings.probe_gap_limit = HOUR;
    })
    .await
}

#[tokio::test]
async fn after_deadlines_in_a_row_the_answer_comes_at_once_and_says_why() {
    let rig = failing().await;
    for failures in 1..=2 {
        let response = rig.exchange(GET).await;
        assert!(response.contains("see why"), "{response}");
        assert_eq!(rig.state()["breakers"][0]["failures"], failures);
        assert_eq!(rig.state()["breakers"][0]["open"], failures == 2);
    }
    let mut edges = rig.activator.source().edges();
    edges.mark_unchanged();
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("shop/Deployment/cart"), "{response}");
    assert!(response.contains("answered at once"), "{response}");
    let pause = header(&response, "retry-after").expect(&response);
    assert!(
        (1..=3600).contains(&pause.parse::<u32>().unwrap()),
        "{pause}"
    );
    assert_eq!((rig.total("deadline"), rig.total("broken")), (2, 1));
    assert!(!edges.has_changed().unwrap(), "it was held");
    let text = rig.scrape();
    assert!(
        text.contains("stillwake_activator_open_breakers 1\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_connection_of_another_protocol_is_reset_at_once() {
    let rig = failing().await;
    rig.exchange(GET).await;
    rig.exchange(GET).await;
    let mut client = rig.send(b"*1\r\n$4\r\nPING\r\n").await;
    let read = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
    assert!(read.is_err());
    assert_eq!((rig.total("deadline"), rig.total("broken")), (2, 1));
}

#[tokio::test]
async fn the_first_endpoint_ends_it() {
    let rig = failing().await;
    rig.exchange(GET).await;
    rig.exchange(GET).await;
    let backend = Backend::echoing_lines().await;
    rig.ready("a", backend.address);
    assert_eq!(rig.state()["breakers"], serde_json::json!([]));
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    rig.gone("a");
    let response = rig.exchange(GET).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert_eq!((rig.total("deadline"), rig.total("broken")), (3, 0));
    let text = rig.scrape();
    assert!(
        text.contains("stillwake_activator_open_breakers 0\n"),
        "{text}"
    );
}
