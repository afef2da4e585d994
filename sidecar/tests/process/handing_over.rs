//! How the sidecar hands over what comes after its app.

use std::{net::SocketAddr, sync::Arc};

use stillwake_proto::relay::{Parsed, Preamble, TAKEN};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};

use crate::harness::{Aggregator, App, Client, Sidecar, counted, reserved_port, serve_app, soon};

/// Longer than any test takes.
const ENDLESS: (&str, &str) = ("LINGER", "10m");
const GRACE: (&str, &str) = ("DRAIN_GRACE", "20m");

/// Takes connections as the activator does, and answers each GET with its path.
struct Activator {
    address: SocketAddr,
    preambles: mpsc::UnboundedReceiver<Preamble>,
}

impl Activator {
    async fn start() -> Self {
        Self::taking(true).await
    }

    /// One that takes all connections or, as it knows none of the pods, resets them.
    async fn taking(takes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, preambles) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let preamble = preamble(&mut stream).await;
                assert!(preamble.asks());
                heard.send(preamble).unwrap();
                if !takes {
                    stream.set_zero_linger().unwrap();
                    continue;
                }
                stream.write_all(&[TAKEN]).await.unwrap();
                tokio::spawn(serve_app(stream, Arc::new(Semaphore::new(0))));
            }
        });
        Self { address, preambles }
    }
}

async fn preamble(stream: &mut TcpStream) -> Preamble {
    let mut bytes = Vec::new();
    loop {
        match Preamble::parse(&bytes).unwrap() {
            Parsed::Whole(preamble) => return preamble,
            Parsed::Missing(more) => {
                let begin = bytes.len();
                bytes.resize(begin + more, 0);
                stream.read_exact(&mut bytes[begin..]).await.unwrap();
            }
        }
    }
}

/// Tells the sidecar to stop, and waits until it drains.
async fn begin_to_drain(sidecar: &mut Sidecar, aggregator: &Aggregator) {
    sidecar.terminate();
    aggregator
        .hears("that it drains", |report| report.draining)
        .await;
}

#[tokio::test]
async fn what_comes_after_the_app_goes_to_the_activator_until_the_linger_is_over() {
    let mut app = App::start();
    let port = app.port;
    let aggregator = Aggregator::start().await;
    let mut activator = Activator::start().await;
    // By a name, as in a cluster.
    let name = format!("localhost:{}", activator.address.port());
    let variables = [("ACTIVATOR", name.as_str()), ("LINGER", "1500ms")];
    let mut sidecar = Sidecar::reporting(port, aggregator.address, &variables);
    let address = sidecar.address("Listening").await;
    let mut warm = Client::connect(address).await;
    assert_eq!(warm.get("/warm").await.1, "/warm");
    app.stop_listening().await;

    sidecar.terminate();
    for path in ["/one", "/two"] {
        let mut client = Client::connect(address).await;
        let (head, body) = client.get(path).await;
        assert_eq!(body, path);
        // What the activator says, and nothing of the sidecar's.
        assert!(!head.contains("Connection: close"), "{head}");
        let preamble = soon("the preamble", activator.preambles.recv())
            .await
            .unwrap();
        assert_eq!(preamble.pod_uid(), "u-1");
        assert_eq!(preamble.destination(), ([127, 0, 0, 1], port).into());
        assert_eq!(preamble.source(), client.local_address());
    }
    // The app's own connections go on to their end.
    assert!(warm.get("/last").await.0.contains("Connection: close"));
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let last = aggregator
        .hears("the last report", |report| counted(report) == (0, 2))
        .await;
    assert!(last.draining);
}

#[tokio::test]
async fn it_stays_though_nothing_is_left_and_a_second_signal_ends_it_at_once() {
    let app = App::start();
    let aggregator = Aggregator::start().await;
    let activator = Activator::start().await;
    let name = activator.address.to_string();
    let variables = [("ACTIVATOR", name.as_str()), ENDLESS, GRACE];
    let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &variables);
    let address = sidecar.address("Listening").await;
    begin_to_drain(&mut sidecar, &aggregator).await;
    // An app that still listens is not passed by. Between two of these the port is without any connection.
    for path in ["/one", "/two", "/three"] {
        let mut late = Client::connect(address).await;
        assert_eq!(late.get(path).await.1, path);
        late.closed().await;
    }
    assert!(sidecar.runs());
    sidecar.terminate();
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("Stopping at once"), "{log}");
}

#[tokio::test]
async fn what_comes_shortly_before_the_app_is_told_to_stop_goes_to_the_activator() {
    for (delay, goes) in [("10m", false), ("1s", true)] {
        let app = App::start();
        let aggregator = Aggregator::start().await;
        let mut activator = Activator::start().await;
        let name = activator.address.to_string();
        let variables = [
            ("ACTIVATOR", name.as_str()),
            ("STOP_DELAY", delay),
            ENDLESS,
            GRACE,
        ];
        let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &variables);
        let address = sidecar.address("Listening").await;
        let mut warm = Client::connect(address).await;
        assert_eq!(warm.get("/warm").await.1, "/warm");
        begin_to_drain(&mut sidecar, &aggregator).await;
        let mut late = Client::connect(address).await;
        assert_eq!(late.get("/late").await.1, "/late");
        assert_eq!(activator.preambles.try_recv().is_ok(), goes, "{delay}");
        // So does what is asked next on a connection that is kept; what the app answers is the last on it.
        let (head, body) = warm.get("/next").await;
        assert_eq!(body, "/next");
        assert_eq!(activator.preambles.try_recv().is_ok(), goes, "{delay}");
        assert_eq!(head.contains("Connection: close"), !goes, "{delay}");
    }
}

#[tokio::test]
async fn an_app_that_still_listens_serves_what_no_activator_takes() {
    let mut knows_nobody = Activator::taking(false).await;
    let nowhere = reserved_port();
    for activator in [knows_nobody.address, nowhere.local_addr().unwrap()] {
        let app = App::start();
        let aggregator = Aggregator::start().await;
        let name = activator.to_string();
        let variables = [
            ("ACTIVATOR", name.as_str()),
            ("STOP_DELAY", "1s"),
            ENDLESS,
            GRACE,
        ];
        let mut sidecar = Sidecar::reporting(app.port, aggregator.address, &variables);
        let address = sidecar.address("Listening").await;
        begin_to_drain(&mut sidecar, &aggregator).await;
        let mut late = Client::connect(address).await;
        assert_eq!(late.get("/late").await.1, "/late");
        // Counted once, as any other.
        aggregator
            .hears("the request", |report| counted(report) == (0, 1))
            .await;
    }
    assert!(knows_nobody.preambles.try_recv().is_ok());
}

#[tokio::test]
async fn no_linger_outlasts_the_grace() {
    let activator = Activator::start().await;
    let name = activator.address.to_string();
    let variables = [
        ("PORTS", "0:9"),
        ("POD_UID", "u-1"),
        ("ACTIVATOR", name.as_str()),
        ("DRAIN_GRACE", "100ms"),
        ENDLESS,
    ];
    let mut sidecar = Sidecar::start(&variables);
    sidecar.address("Listening").await;
    sidecar.terminate();
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn without_anybody_who_takes_them_connections_end_as_they_did() {
    let nowhere = reserved_port();
    let name = nowhere.local_addr().unwrap().to_string();
    let aggregator = Aggregator::start().await;
    let variables = [("ACTIVATOR", name.as_str()), ENDLESS, GRACE];
    let mut sidecar = Sidecar::reporting(9, aggregator.address, &variables);
    let address = sidecar.address("Listening").await;
    begin_to_drain(&mut sidecar, &aggregator).await;
    let mut client = Client::connect(address).await;
    client.send("/lost", "").await;
    client.closed().await;
    assert!(sidecar.runs());
    sidecar.terminate();
    let (status, log) = sidecar.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
}
