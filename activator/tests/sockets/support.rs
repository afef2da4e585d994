//! An activator on a port of its own, backends that follow a script, and clients that write raw bytes.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use stillwake_activator::{
    Activator, Availability, EndpointEvent, ListedEndpoint, PortPair, Route, Settings,
};
use stillwake_proto::report::Workload;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The workload of every rig.
pub(crate) fn workload() -> Workload {
    Workload {
        namespace: "shop".into(),
        kind: "Deployment".into(),
        name: "cart".into(),
    }
}

/// An activator that serves one port.
pub(crate) struct Rig {
    pub(crate) activator: Activator,
    pub(crate) address: SocketAddr,
    pub(crate) drain: CancellationToken,
    pub(crate) abort: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let activator = Activator::new(settings);
        activator.set_workload(workload(), Availability::Available);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let serving = {
            let (activator, drain, abort) = (activator.clone(), drain.clone(), abort.clone());
            let route = Route::only(workload());
            tokio::spawn(async move { activator.serve(listener, route, drain, abort).await })
        };
        Self {
            activator,
            address,
            drain,
            abort,
            serving,
        }
    }

    pub(crate) fn ready(&self, uid: &str, address: SocketAddr) {
        self.activator.apply(EndpointEvent::Ready {
            workload: workload(),
            uid: uid.into(),
            address: address.ip(),
            ports: vec![PortPair {
                listen: address.port(),
                app: 8080,
            }],
        });
    }

    /// Has the activator serve one more route; returns where.
    pub(crate) async fn serve_too(&self, route: Route) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (activator, drain, abort) = (
            self.activator.clone(),
            self.drain.clone(),
            self.abort.clone(),
        );
        tokio::spawn(async move { activator.serve(listener, route, drain, abort).await });
        address
    }

    /// Lists one endpoint for a route.
    pub(crate) fn list(&self, route: &Route, uid: &str, address: SocketAddr) {
        let listed = ListedEndpoint {
            uid: uid.into(),
            addresses: vec![address],
        };
        self.activator.set_listed(route, vec![listed]);
    }

    pub(crate) fn gone(&self, uid: &str) {
        self.activator.apply(EndpointEvent::Gone {
            workload: workload(),
            uid: uid.into(),
        });
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends raw bytes on a new connection and returns it.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        stream
    }

    /// Sends raw bytes on a new connection and returns all that comes back.
    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        read_all(self.send(bytes).await).await
    }

    pub(crate) fn held(&self) -> u64 {
        self.state()["held"].as_u64().unwrap()
    }

    pub(crate) fn total(&self, outcome: &str) -> u64 {
        self.state()["totals"][outcome].as_u64().unwrap()
    }

    pub(crate) fn state(&self) -> serde_json::Value {
        self.activator.debug_state()["workloads"][0].clone()
    }

    /// Begins to drain and waits until new connections are refused.
    pub(crate) async fn drained(&self) {
        self.drain.cancel();
        let refused = async {
            while TcpStream::connect(self.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("still listens");
    }

    /// Returns what Prometheus is told.
    pub(crate) fn scrape(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.activator.register_metrics(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    pub(crate) async fn until_held(&self, held: u64) {
        eventually(&format!("{held} held"), || self.held() == held).await;
    }
}

/// A backend; each of its connections follows the script.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn start<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream));
            }
        });
        Self {
            address,
            accepted,
            accepting,
        }
    }

    /// Answers every request with 200 and its own request line.
    pub(crate) async fn echoing_lines() -> Self {
        Self::start(async |mut stream: TcpStream| {
            let head = read_head(&mut stream).await;
            let line = head.lines().next().unwrap();
            respond(&mut stream, line).await;
        })
        .await
    }

    /// Closes its port.
    pub(crate) async fn stop(mut self) {
        self.accepting.abort();
        let ended = (&mut self.accepting).await;
        assert!(ended.unwrap_err().is_cancelled());
    }

    /// Returns how many connections it has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Answers every connection with exactly this and closes; returns the heads it was sent.
pub(crate) async fn answering(response: &'static str) -> (Backend, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let backend = Backend::start(move |mut stream: TcpStream| {
        let seen = Arc::clone(&seen);
        async move {
            let head = read_head(&mut stream).await;
            seen.lock().push(head);
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    })
    .await;
    (backend, heads)
}

/// Returns an address on which nothing listens.
pub(crate) async fn refusing_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Writes a 200 with this body.
pub(crate) async fn respond(stream: &mut TcpStream, body: &str) {
    let length = body.len();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await.unwrap();
}

/// Reads up to and with the empty line that ends a head; fails if the stream ends before.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the stream ended in a head"));
        }
    };
    timeout(PATIENCE, read).await.expect("no head came");
    String::from_utf8(head).unwrap()
}

/// Reads to the end of the stream.
pub(crate) async fn read_all(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("the stream did not end").unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "never came true: {what}");
}

/// Returns the value of a header, by its name in small letters.
pub(crate) fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next().unwrap();
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
