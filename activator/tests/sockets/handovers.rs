//! Connections that sidecars of leaving pods hand over.

use std::{net::SocketAddr, time::Duration};

use prometheus_client::{encoding::text, registry::Registry};
use stillwake_activator::{Route, TargetPort};
use stillwake_proto::relay::{Preamble, TAKEN};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::*;

const GET: &str = "GET /late HTTP/1.1\r\nHost: cart\r\n\r\n";

/// A rig whose activator takes handed-over connections too.
struct Relayed {
    rig: Rig,
    relay: SocketAddr,
    registry: Registry,
}

impl Relayed {
    async fn start() -> Self {
        Self::of(Rig::start().await).await
    }

    async fn of(rig: Rig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = listener.local_addr().unwrap();
        let activator = rig.activator.clone();
        let (drain, abort) = (rig.drain.clone(), rig.abort.clone());
        tokio::spawn(async move { activator.serve_handovers(listener, drain, abort).await });
        let mut registry = Registry::default();
        rig.activator.register_metrics(&mut registry);
        Self {
            rig,
            relay,
            registry,
        }
    }

    /// Sends raw bytes to the relay port.
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.relay).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Hands a request over that was for a pod's app port.
    async fn hand_over(&self, uid: &str, port: u16) -> TcpStream {
        self.send(&[preamble(uid, port), GET.into()].concat()).await
    }

    fn count(&self, outcome: &str) -> u64 {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).unwrap();
        let name = format!("stillwake_activator_handovers_total{{outcome=\"{outcome}\"}} ");
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(&name));
        value.unwrap().parse().unwrap()
    }

    /// The connection has been reset, and is counted so.
    async fn is_refused(&self, mut stream: TcpStream, outcome: &str) {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        let error = read.expect("no reset came").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!((self.count(outcome), self.count("taken")), (1, 0));
    }
}

fn preamble(uid: &str, port: u16) -> Vec<u8> {
    introduction(uid, port).encode()
}

fn asking(uid: &str) -> Vec<u8> {
    introduction(uid, 8080).asking().encode()
}

fn introduction(uid: &str, port: u16) -> Preamble {
    let client = ([10, 1, 0, 1], 40000).into();
    let pod = ([10, 1, 0, 2], port).into();
    Preamble::new(client, pod, uid).unwrap()
}

/// A pod was ready and takes no more.
fn has_left(rig: &Rig, uid: &str) {
    rig.ready(uid, ([127, 0, 0, 1], 9).into());
    rig.gone(uid);
}

#[tokio::test]
async fn a_request_of_a_pod_that_has_left_is_held_and_answered_by_the_next_one() {
    let relayed = Relayed::start().await;
    has_left(&relayed.rig, "old");
    let stream = relayed.hand_over("old", 8080).await;
    relayed.rig.until_held(1).await;
    assert_eq!(relayed.count("taken"), 1);
    let backend = Backend::echoing_lines().await;
    relayed.rig.ready("new", backend.address);
    let response = read_all(stream).await;
    assert!(response.ends_with("GET /late HTTP/1.1"), "{response}");
    // It closes, as any connection here does once there is an endpoint.
    assert_eq!(header(&response, "connection"), Some("close"));
    assert!(header(&response, "x-stillwake-cold-start").is_some());
}

#[tokio::test]
async fn who_asks_is_told_that_a_connection_is_taken_before_sending_the_clients_bytes() {
    let relayed = Relayed::start().await;
    has_left(&relayed.rig, "old");
    let mut stream = relayed.send(&asking("old")).await;
    let taken = timeout(PATIENCE, stream.read_u8()).await;
    assert_eq!(taken.expect("no answer came").unwrap(), TAKEN);
    let backend = Backend::echoing_lines().await;
    relayed.rig.ready("new", backend.address);
    stream.write_all(GET.as_bytes()).await.unwrap();
    let response = read_all(stream).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");

    let mut unknown = relayed.send(&asking("nobody")).await;
    let taken = timeout(PATIENCE, unknown.read_u8()).await;
    taken.expect("no reset came").unwrap_err();
}

#[tokio::test]
async fn cut_anywhere_nothing_is_lost() {
    let relayed = Relayed::start().await;
    has_left(&relayed.rig, "old");
    let backend = Backend::echoing_lines().await;
    relayed.rig.ready("new", backend.address);
    let bytes = [preamble("old", 8080), GET.into()].concat();
    let mut stream = relayed.send(&[]).await;
    stream.set_nodelay(true).unwrap();
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let response = read_all(stream).await;
    assert!(response.ends_with("GET /late HTTP/1.1"), "{response}");
}

#[tokio::test]
async fn other_protocols_are_handed_over_as_they_are() {
    let relayed = Relayed::start().await;
    has_left(&relayed.rig, "old");
    let sent = b"\x16\x03\x01 not for us";
    let stream = relayed
        .send(&[preamble("old", 8080), sent.to_vec()].concat())
        .await;
    relayed.rig.until_held(1).await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        let mut got = [0; 14];
        stream.read_exact(&mut got).await.unwrap();
        stream.write_all(&got[3..]).await.unwrap();
    })
    .await;
    relayed.rig.ready("new", backend.address);
    assert_eq!(read_all(stream).await, " not for us");
}

#[tokio::test]
async fn the_pod_that_hands_over_gets_nothing_back_though_it_looks_ready() {
    let relayed = Relayed::start().await;
    let leaving = Backend::echoing_lines().await;
    relayed.rig.ready("old", leaving.address);
    let stream = relayed.hand_over("old", 8080).await;
    relayed.rig.until_held(1).await;
    let backend = Backend::echoing_lines().await;
    relayed.rig.ready("new", backend.address);
    let response = read_all(stream).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert_eq!((leaving.accepted(), backend.accepted()), (0, 1));
}

#[tokio::test]
async fn the_port_says_where_a_connection_leads() {
    let relayed = Relayed::start().await;
    let metrics = Route {
        workload: workload(),
        name: "cart/metrics".into(),
        target: TargetPort::App(9100),
    };
    relayed.rig.serve_too(metrics.clone()).await;
    has_left(&relayed.rig, "old");
    // Known from a list alone, as where no aggregator is reached.
    let backend = Backend::echoing_lines().await;
    relayed.rig.list(&metrics, "new", backend.address);
    let response = read_all(relayed.hand_over("old", 9100).await).await;
    assert!(response.ends_with("GET /late HTTP/1.1"), "{response}");
    let _held = relayed.hand_over("old", 8080).await;
    relayed.rig.until_held(1).await;
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn a_workload_that_nobody_listens_for_here_is_served_and_its_time_is_kept() {
    let rig = Rig::with(|settings| settings.hold_timeout = Duration::from_millis(50)).await;
    // Its own port ends, and with it the one who kept the time.
    rig.drain.cancel();
    rig.serving.await.unwrap();
    let rig = Rig {
        drain: tokio_util::sync::CancellationToken::new(),
        serving: tokio::spawn(async {}),
        ..rig
    };
    let relayed = Relayed::of(rig).await;
    has_left(&relayed.rig, "old");
    let response = read_all(relayed.hand_over("old", 8080).await).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    let backend = Backend::echoing_lines().await;
    relayed.rig.ready("new", backend.address);
    let response = read_all(relayed.hand_over("old", 8080).await).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    // A port that no pod has told is none that anybody can make up.
    let unknown = relayed.hand_over("old", 8081).await;
    assert_eq!(
        read_to_error(unknown).await,
        std::io::ErrorKind::ConnectionReset
    );
}

async fn read_to_error(mut stream: TcpStream) -> std::io::ErrorKind {
    let read = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    read.expect("no end came").unwrap_err().kind()
}

#[tokio::test]
async fn a_pod_that_nobody_knows_is_refused() {
    let relayed = Relayed::start().await;
    has_left(&relayed.rig, "old");
    let stream = relayed.hand_over("other", 8080).await;
    relayed.is_refused(stream, "unknown").await;
    assert_eq!(relayed.rig.held(), 0);
}

#[tokio::test]
async fn what_is_no_preamble_is_refused() {
    let relayed = Relayed::start().await;
    let stream = relayed.send(GET.as_bytes()).await;
    relayed.is_refused(stream, "malformed").await;
}

#[tokio::test(start_paused = true)]
async fn a_preamble_that_does_not_come_in_time_is_not_waited_for() {
    let relayed = Relayed::start().await;
    let whole = preamble("old", 8080);
    let stream = relayed.send(&whole[..whole.len() - 1]).await;
    relayed.is_refused(stream, "incomplete").await;
}

#[tokio::test]
async fn what_is_held_is_answered_when_all_is_to_stop() {
    let relayed = Relayed::start().await;
    has_left(&relayed.rig, "old");
    let stream = relayed.hand_over("old", 8080).await;
    relayed.rig.until_held(1).await;
    relayed.rig.abort.cancel();
    let response = read_all(stream).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
}
