//! Requests pass, are counted and reported, whatever the aggregators do.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use stillwake_proto::{
    REPORT_VERSION,
    frame::FrameCodec,
    report::{AggregatorFrame, Port, ReporterFrame, Role, reporter_frame::Kind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::codec::Framed;

use crate::harness::{Aggregator, App, Client, Sidecar, counted, reserved_port, soon};

#[tokio::test]
async fn requests_are_relayed_counted_and_reported() {
    let app = App::start();
    let mut aggregator = Aggregator::start().await;
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &[]);
    let address = sidecar.address("Listening").await;

    let hello = aggregator.hello().await;
    assert_eq!(
        (hello.version, hello.role()),
        (REPORT_VERSION, Role::Sidecar)
    );
    assert_eq!(
        (
            hello.namespace.as_str(),
            hello.pod.as_str(),
            hello.uid.as_str()
        ),
        ("shop", "web-1", "u-1")
    );
    assert_eq!(hello.address, "127.0.0.1");
    let port = Port {
        listen: address.port().into(),
        app: app.port.into(),
    };
    assert_eq!(hello.ports, [port]);
    assert_ne!(hello.epoch, 0);
    aggregator
        .hears("that the app is ready", |report| report.app_ready)
        .await;

    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/one").await.1, "/one");
    aggregator
        .hears("the first request", |report| counted(report) == (0, 1))
        .await;
    client.send("/held", "").await;
    let during = aggregator
        .hears("a request in flight", |report| counted(report) == (1, 2))
        .await;
    let mut other = Client::connect(address).await;
    assert_eq!(other.get("/two").await.1, "/two");
    app.release();
    assert_eq!(client.answer().await.1, "/held");
    let after = aggregator
        .hears("its end", |report| counted(report) == (0, 3))
        .await;
    assert!(after.elapsed > during.elapsed);
    assert!(after.count.unwrap().in_flight_time > during.count.unwrap().in_flight_time);
}

#[tokio::test]
async fn an_app_that_starts_later_is_reported_as_soon_as_it_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut aggregator = Aggregator::start().await;
    let _sidecar = Sidecar::reporting(address.port(), aggregator.address, &[]);
    aggregator.hello().await;
    let before = aggregator
        .hears("a report", |report| report.elapsed > 0)
        .await;
    assert!(!before.app_ready);
    App::start_on(TcpListener::bind(address).await.unwrap());
    aggregator
        .hears("that the app is ready", |report| report.app_ready)
        .await;
}

#[tokio::test]
async fn the_app_is_served_when_no_aggregator_can_be_reached() {
    let app = App::start();
    let nobody = reserved_port();
    let nowhere = nobody.local_addr().unwrap();
    let mut sidecar = Sidecar::reporting(app.port, nowhere, &[]);
    let address = sidecar.address("Listening").await;
    sidecar.address("Cannot report, trying again").await;
    assert_eq!(Client::connect(address).await.get("/one").await.1, "/one");
}

#[tokio::test]
async fn the_app_is_served_when_the_aggregator_cannot_prove_who_it_is() {
    let app = App::start();
    // It speaks no TLS at all.
    let mut aggregator = Aggregator::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap();
    let variables = [("AGGREGATOR_CA", authority.pem())];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &variables);
    let address = sidecar.address("Listening").await;
    sidecar.address("no TLS connection as 127.0.0.1").await;
    assert_eq!(Client::connect(address).await.get("/one").await.1, "/one");
    assert!(!aggregator.was_greeted());
}

#[tokio::test]
async fn a_lost_aggregator_hears_the_same_totals_again() {
    let app = App::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sidecar = Sidecar::reporting(app.port, listener.local_addr().unwrap(), &[]);
    let address = sidecar.address("Listening").await;
    let (lost, _) = soon("a reporter", listener.accept()).await.unwrap();
    assert_eq!(Client::connect(address).await.get("/one").await.1, "/one");
    drop(lost);
    let (again, _) = soon("the reporter to come back", listener.accept())
        .await
        .unwrap();
    let mut frames = Framed::new(
        again,
        FrameCodec::<AggregatorFrame, ReporterFrame>::default(),
    );
    let mut frame = async || {
        soon("a frame", frames.next())
            .await
            .unwrap()
            .unwrap()
            .kind
            .unwrap()
    };
    assert!(matches!(frame().await, Kind::Hello(_)));
    match frame().await {
        Kind::Pod(report) => assert_eq!(counted(&report), (0, 1)),
        other => panic!("not a report: {other:?}"),
    }
}

#[tokio::test]
async fn probes_scrapes_and_excluded_requests_pass_uncounted() {
    let app = App::start();
    let aggregator = Aggregator::start().await;
    let readiness = format!("http:{}/health", app.port);
    let variables = [
        ("READINESS", readiness.as_str()),
        ("IGNORE_PATHS", "/quiet"),
        ("IGNORE_USER_AGENTS", "Checker/"),
    ];
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &variables);
    let address = sidecar.address("Listening").await;
    aggregator
        .hears("that the app is ready", |report| report.app_ready)
        .await;
    let mut client = Client::connect(address).await;
    for agent in ["kube-probe/1.33", "Prometheus/3.5.0", "Checker/2"] {
        client.send("/", &format!("User-Agent: {agent}\r\n")).await;
        assert_eq!(client.answer().await.1, "/");
    }
    assert_eq!(client.get("/quiet/please").await.1, "/quiet/please");
    client.send("/counted", "User-Agent: curl/8.5.0\r\n").await;
    assert_eq!(client.answer().await.1, "/counted");
    let report = aggregator
        .hears("the end", |report| counted(report).1 > 0)
        .await;
    assert_eq!(counted(&report).1, 1);
}

#[tokio::test]
async fn the_admin_pages_tell_what_is_counted_and_who_is_told() {
    let app = App::start();
    let aggregator = Aggregator::start().await;
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &[("ADMIN", "127.0.0.1:0")]);
    let admin = sidecar.address("Serving admin pages").await;
    let address = sidecar.address("Listening").await;
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/one").await.1, "/one");
    client.send("/held", "").await;
    sidecar.address("Reporting").await;

    // Until the held request, sent on another connection, has arrived.
    let state = loop {
        let state: serde_json::Value =
            serde_json::from_str(&page(admin, "/debug/state").await).unwrap();
        if state["in_flight"] == 1 && state["app_ready"] == true {
            break state;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(state["requests"], 2);
    assert_eq!(state["draining"], false);
    assert_eq!(state["ports"][0]["listen"], address.to_string());
    assert_eq!(
        state["aggregators"][0]["address"],
        aggregator.address.to_string()
    );
    assert_eq!(state["aggregators"][0]["connected"], true);

    let metrics = page(admin, "/metrics").await;
    for line in [
        "stillwake_sidecar_requests_in_flight 1",
        "stillwake_sidecar_requests_total 2",
        "stillwake_sidecar_app_ready 1",
        "stillwake_sidecar_draining 0",
        "stillwake_sidecar_report_connections 1",
        "stillwake_sidecar_report_connections_opened_total 1",
        "stillwake_sidecar_report_failures_total 0",
        "stillwake_build_info{component=\"sidecar\"",
    ] {
        let found = metrics.lines().any(|found| found.starts_with(line));
        assert!(found, "{line} is missing from:\n{metrics}");
    }
    app.release();
}

/// Returns the body of an admin page.
async fn page(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("a page", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
