//! The sidecar process and everything around it.

use std::{
    io,
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use stillwake_proto::{
    frame::FrameCodec,
    report::{
        AggregatorFrame, Hello, Pace, PodReport, ReporterFrame, aggregator_frame,
        reporter_frame::Kind,
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, Command},
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::codec::Framed;

/// Far longer than anything here takes; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A sidecar process; killed when dropped.
pub(crate) struct Sidecar {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    log: Vec<String>,
}

impl Sidecar {
    /// Starts a sidecar on loopback with `variables`, named without their common prefix, and nothing else in its
    /// environment.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        Self::command(&[], variables)
    }

    /// As `start`, with arguments.
    pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillwake-sidecar"));
        command
            .args(arguments)
            .env_clear()
            .env("STILLWAKE_SIDECAR_ADDRESS", "127.0.0.1");
        for (name, value) in variables {
            command.env(format!("STILLWAKE_SIDECAR_{name}"), value);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            log: Vec::new(),
        }
    }

    /// Starts a sidecar for an app on `port` that reports to `aggregator`.
    pub(crate) fn reporting(port: u16, aggregator: SocketAddr, more: &[(&str, &str)]) -> Self {
        let ports = format!("0:{port}");
        let aggregator = aggregator.to_string();
        let mut variables = vec![
            ("PORTS", ports.as_str()),
            ("AGGREGATORS", &aggregator),
            ("POD_NAMESPACE", "shop"),
            ("POD_NAME", "web-1"),
            ("POD_UID", "u-1"),
        ];
        variables.extend(more);
        Self::start(&variables)
    }

    /// Returns the address in the first log line that says `message`.
    pub(crate) async fn address(&mut self, message: &str) -> SocketAddr {
        loop {
            let Some(line) = soon(message, self.lines.recv()).await else {
                panic!(
                    "the sidecar ended without {message:?}:\n{}",
                    self.log.join("\n")
                );
            };
            self.log.push(line);
            let line = self.log.last().unwrap();
            if line.contains(message) {
                let (_, rest) = line.split_once("address=").unwrap();
                return rest.split(' ').next().unwrap().parse().unwrap();
            }
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().expect("ended already");
        let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
    }

    /// Waits for the end and returns it with everything that was logged.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let status = soon("the end of the sidecar", self.child.wait())
            .await
            .unwrap();
        while let Some(line) = soon("the end of the log", self.lines.recv()).await {
            self.log.push(line);
        }
        (status, self.log.join("\n"))
    }

    /// Whether the process still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// Returns a socket at a port of its own on which nobody listens; what connects there is refused.
pub(crate) fn reserved_port() -> TcpSocket {
    let socket = unconnected();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket
}

/// Returns a socket that may share its port with another of these, of which only one listens.
fn unconnected() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket
}

/// An HTTP/1.1 server that answers every GET with its path. Paths under `/held` wait for a release.
pub(crate) struct App {
    pub(crate) port: u16,
    releases: Arc<Semaphore>,
    accepting: JoinHandle<()>,
    /// Keeps others from getting the port when the app does not listen any more.
    reserved: Option<TcpSocket>,
}

impl App {
    pub(crate) fn start() -> Self {
        let reserved = reserved_port();
        let listener = unconnected();
        listener.bind(reserved.local_addr().unwrap()).unwrap();
        let mut app = Self::start_on(listener.listen(128).unwrap());
        app.reserved = Some(reserved);
        app
    }

    pub(crate) fn start_on(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let releases = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&releases);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve_app(stream, Arc::clone(&held)));
            }
        });
        Self {
            port,
            releases,
            accepting,
            reserved: None,
        }
    }

    /// Closes the listener; what has been accepted goes on.
    pub(crate) async fn stop_listening(&mut self) {
        self.accepting.abort();
        let ended = soon("the end of the listener", &mut self.accepting).await;
        assert!(ended.unwrap_err().is_cancelled());
    }

    /// Lets one held request be answered.
    pub(crate) fn release(&self) {
        self.releases.add_permits(1);
    }
}

/// Ends with the connection, in whichever way that ends.
pub(crate) async fn serve_app(stream: TcpStream, held: Arc<Semaphore>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream).await? {
        let path = head.split(' ').nth(1).unwrap();
        if path.starts_with("/held") {
            held.acquire().await.unwrap().forget();
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
            path.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// Returns the next message head, `None` at the end of the connection.
async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

/// A keep-alive connection of a client.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await;
        Self(BufReader::new(stream.unwrap()))
    }

    /// Returns from where it is connected.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.0.get_ref().local_addr().unwrap()
    }

    /// Sends a GET with more header lines, each with its line end.
    pub(crate) async fn send(&mut self, path: &str, headers: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: tests\r\n{headers}\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// Returns the head and the body of the next answer.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let head = soon("an answer", read_head(&mut self.0))
            .await
            .unwrap()
            .expect("no answer");
        let mut lines = head.lines();
        let length = lines
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        soon("a body", self.0.read_exact(&mut body)).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Sends a GET and returns the answer.
    pub(crate) async fn get(&mut self, path: &str) -> (String, String) {
        self.send(path, "").await;
        self.answer().await
    }

    /// Waits until the other side has closed the connection, in order or by a reset.
    pub(crate) async fn closed(mut self) {
        let mut scrap = Vec::new();
        let _ = soon("the end of the connection", self.0.read_to_end(&mut scrap)).await;
        assert!(scrap.is_empty(), "more was sent: {}", scrap.escape_ascii());
    }
}

/// Listens to one reporter at a time and remembers what it said.
///
/// Asks for the slowest pace: what is heard within the patience of the tests was sent at once.
pub(crate) struct Aggregator {
    pub(crate) address: SocketAddr,
    hellos: mpsc::UnboundedReceiver<Hello>,
    heard: watch::Receiver<Vec<PodReport>>,
}

impl Aggregator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hello, hellos) = mpsc::unbounded_channel();
        let (reports, heard) = watch::channel(Vec::new());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let codec = FrameCodec::<AggregatorFrame, ReporterFrame>::default();
                let mut frames = Framed::new(stream, codec);
                let pace = Pace {
                    busy: 60_000,
                    idle: 60_000,
                };
                let kind = Some(aggregator_frame::Kind::Pace(pace));
                if frames.send(AggregatorFrame { kind }).await.is_err() {
                    continue;
                }
                while let Some(Ok(frame)) = frames.next().await {
                    match frame.kind.unwrap() {
                        Kind::Hello(said) => hello.send(said).unwrap_or_default(),
                        Kind::Pod(said) => reports.send_modify(|reports| reports.push(said)),
                        Kind::Held(_) => panic!("a sidecar holds nothing"),
                    }
                }
            }
        });
        Self {
            address,
            hellos,
            heard,
        }
    }

    /// Whether anybody has said hello so far that was not asked for.
    pub(crate) fn was_greeted(&mut self) -> bool {
        self.hellos.try_recv().is_ok()
    }

    /// Returns the hello of the next connection.
    pub(crate) async fn hello(&mut self) -> Hello {
        soon("a hello", self.hellos.recv()).await.unwrap()
    }

    /// Waits until the last report satisfies `holds`.
    pub(crate) async fn hears(&self, what: &str, holds: impl Fn(&PodReport) -> bool) -> PodReport {
        let reports = self
            .hears_all(what, |reports| reports.last().is_some_and(&holds))
            .await;
        *reports.last().unwrap()
    }

    /// Waits until all reports so far satisfy `hold`.
    pub(crate) async fn hears_all(
        &self,
        what: &str,
        hold: impl Fn(&[PodReport]) -> bool,
    ) -> Vec<PodReport> {
        let mut heard = self.heard.clone();
        let reports = timeout(PATIENCE, heard.wait_for(|reports| hold(reports))).await;
        let Ok(reports) = reports else {
            panic!("never heard {what}, only {:#?}", *self.heard.borrow());
        };
        reports.unwrap().clone()
    }
}

/// Returns the requests in flight and those begun.
pub(crate) fn counted(report: &PodReport) -> (u64, u64) {
    let count = report.count.unwrap_or_default();
    (count.in_flight, count.requests)
}
