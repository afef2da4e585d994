//! How the sidecar goes away.

use crate::harness::{Aggregator, App, Client, Sidecar, counted};

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_what_still_comes() {
    let app = App::start();
    let aggregator = Aggregator::start().await;
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &[]);
    let address = sidecar.address("Listening").await;
    let mut client = Client::connect(address).await;
    let (head, _) = client.get("/one").await;
    assert!(!head.contains("Connection: close"), "{head}");
    client.send("/held", "").await;
    aggregator
        .hears("a request in flight", |report| counted(report).0 == 1)
        .await;

    sidecar.terminate();
    let draining = aggregator
        .hears("that it drains", |report| report.draining)
        .await;
    assert_eq!(counted(&draining).0, 1);
    let mut late = Client::connect(address).await;
    let (head, body) = late.get("/late").await;
    assert_eq!(body, "/late");
    assert!(head.contains("Connection: close"), "{head}");
    late.closed().await;
    assert!(sidecar.runs());

    app.release();
    let (head, body) = client.answer().await;
    assert_eq!(body, "/held");
    assert!(head.contains("Connection: close"), "{head}");
    client.closed().await;
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let last = aggregator
        .hears("the last report", |report| counted(report) == (0, 3))
        .await;
    assert!(last.draining);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let app = App::start();
    let aggregator = Aggregator::start().await;
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &[]);
    let mut client = Client::connect(sidecar.address("Listening").await).await;
    client.send("/held", "").await;
    aggregator
        .hears("a request in flight", |report| counted(report).0 == 1)
        .await;
    sidecar.terminate();
    aggregator
        .hears("that it drains", |report| report.draining)
        .await;
    assert!(sidecar.runs());
    sidecar.terminate();
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("Stopping at once"), "{log}");
    client.closed().await;
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut() {
    let app = App::start();
    let aggregator = Aggregator::start().await;
    let grace = [("DRAIN_GRACE", "100ms")];
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &grace);
    let mut client = Client::connect(sidecar.address("Listening").await).await;
    client.send("/held", "").await;
    aggregator
        .hears("a request in flight", |report| counted(report).0 == 1)
        .await;
    sidecar.terminate();
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("The grace is over"), "{log}");
    client.closed().await;
}

#[tokio::test]
async fn with_nothing_to_finish_it_ends_by_itself() {
    let aggregator = Aggregator::start().await;
    let mut sidecar = Sidecar::reporting(9, aggregator.address, &[]);
    sidecar.address("Reporting").await;
    sidecar.terminate();
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("Cannot report"), "{log}");
    // Once when the drain begins, and once for good.
    aggregator
        .hears_all("the last report", |reports| {
            reports.iter().filter(|report| report.draining).count() == 2
        })
        .await;
}

/// Returns the name of a control socket that no other test has.
fn control(test: &str) -> String {
    format!("stillwake-process-tests-{}-{test}", std::process::id())
}

#[tokio::test]
async fn a_drain_that_is_asked_for_begins_before_the_signal_and_ends_nothing() {
    let app = App::start();
    let aggregator = Aggregator::start().await;
    let control = control("asked");
    let variables = [("CONTROL", control.as_str())];
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &variables);
    let address = sidecar.address("Listening").await;
    let mut client = Client::connect(address).await;
    let (head, _) = client.get("/one").await;
    assert!(!head.contains("Connection: close"), "{head}");

    let (status, log) = Sidecar::command(&["drain"], &variables).ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    aggregator
        .hears("that it drains", |report| report.draining)
        .await;
    let (head, _) = client.get("/two").await;
    assert!(head.contains("Connection: close"), "{head}");
    client.closed().await;
    // Between two of these the port is without any connection.
    for path in ["/three", "/four"] {
        let mut late = Client::connect(address).await;
        let (head, body) = late.get(path).await;
        assert_eq!(body, path);
        assert!(head.contains("Connection: close"), "{head}");
        late.closed().await;
    }
    assert!(sidecar.runs());

    sidecar.terminate();
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let last = aggregator
        .hears("the last report", |report| counted(report) == (0, 4))
        .await;
    assert!(last.draining);
}

#[tokio::test]
async fn a_drain_that_reaches_no_sidecar_fails_and_says_why() {
    let (status, log) = Sidecar::command(&["drain"], &[]).ended().await;
    assert_eq!(status.code(), Some(64), "{log}");
    assert!(
        log.contains("STILLWAKE_SIDECAR_CONTROL is not set"),
        "{log}"
    );
    let control = control("nobody");
    let variables = [("CONTROL", control.as_str())];
    let (status, log) = Sidecar::command(&["drain"], &variables).ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("@{control}")), "{log}");
}
