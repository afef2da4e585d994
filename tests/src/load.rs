//! Load of mixed kinds: every request numbered, checked and entered in the [`Ledger`].
//!
//! Closed loops: each client has one request in flight, as many clients as concurrency is wanted.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite::{
    Error as WebSocketError, Message, client::IntoClientRequest, error::ProtocolError,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    REQUEST_ID,
    app::SLOW_LENGTH,
    client::{self, Answer, Body, Connection},
    ledger::{Ledger, Outcome},
    payload::Payload,
};

/// A request that takes longer hangs. Far above the hold's and the slow answers' time.
const REQUEST_DEADLINE: Duration = Duration::from_mins(1);

/// Length of a body that takes its time.
const SLOW_UPLOAD: usize = 100;

/// Pause between the messages of a WebSocket.
const MESSAGE_GAP: Duration = Duration::from_millis(20);

/// How long before a moment [`Load::follow`] may ask what is to be in flight then, and how long its requests take at most.
pub const AHEAD: Duration = Duration::from_secs(5);

/// How exactly it follows.
const GRAIN: Duration = Duration::from_millis(10);

/// What a client does over and over.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `GET` of so many bytes, on a connection that is kept while the server lets it.
    KeepAlive(usize),
    /// `GET` of so many bytes, each on its own connection and with `Connection: close`.
    Close(usize),
    /// `POST` of so many bytes in chunks, each on its own connection.
    Upload(usize),
    /// `POST` whose body takes so long, each on its own connection: how long it is in flight is up to the client.
    SlowUpload(Duration),
    /// `GET` that takes so long, half of it before the head, on a connection that is kept.
    Slow(Duration),
    /// The same, each on its own connection and with `Connection: close`.
    SlowClose(Duration),
    /// A WebSocket that echoes so many messages, then closes.
    WebSocket(usize),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::KeepAlive(_) => "keep-alive",
            Self::Close(_) => "close",
            Self::Upload(_) => "upload",
            Self::SlowUpload(_) => "slow-upload",
            Self::Slow(_) => "slow",
            Self::SlowClose(_) => "slow-close",
            Self::WebSocket(_) => "websocket",
        }
    }
}

/// Clients that run until they are told to stop.
#[derive(Debug)]
pub struct Load {
    target: SocketAddr,
    host: Option<HeaderValue>,
    ledger: Ledger,
    clients: TaskTracker,
    stop: CancellationToken,
}

impl Load {
    /// A load without clients yet.
    pub fn new(target: SocketAddr, ledger: Ledger) -> Self {
        Self {
            target,
            host: None,
            ledger,
            clients: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// The same for a host that answers by its name among others.
    #[must_use]
    pub fn of_host(mut self, host: &'static str) -> Self {
        self.host = Some(HeaderValue::from_static(host));
        self
    }

    fn client(&self) -> Client {
        Client {
            host: self.host.clone(),
            ..Client::new(self.target, self.ledger.clone())
        }
    }

    /// Starts `count` clients of a kind.
    pub fn clients(&self, count: usize, kind: Kind) {
        for _ in 0..count {
            let client = self.client();
            self.clients.spawn(client.run(kind, self.stop.clone()));
        }
    }

    /// Keeps `count` slow requests in flight, each on its own connection and so on whichever replica there is. Their ends
    /// are spread over `time`, which each of them takes; between two of a client is only the moment to send the next.
    pub fn steady(&self, count: u32, time: Duration) {
        for index in 1..=count {
            let mut client = self.client();
            let stop = self.stop.clone();
            self.clients.spawn(async move {
                client.once(Kind::SlowClose(time * index / count)).await;
                client.run(Kind::SlowClose(time), stop).await;
            });
        }
    }

    /// Has `clients` make `count` requests of a kind between them, and returns when all have ended.
    pub async fn requests(&self, count: usize, clients: usize, kind: Kind) {
        let begun = Arc::new(AtomicUsize::new(0));
        let tasks = TaskTracker::new();
        for _ in 0..clients {
            let (mut client, begun) = (self.client(), Arc::clone(&begun));
            tasks.spawn(async move {
                while begun.fetch_add(1, Ordering::Relaxed) < count {
                    client.once(kind).await;
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Keeps as many requests in flight as `level` says of each moment, but no more than `most`, each on its own connection.
    /// It is asked up to [`AHEAD`] before that moment.
    pub fn follow(&self, most: u32, level: impl Fn(Instant) -> u32 + Clone + Send + 'static) {
        for place in 0..most {
            let (client, stop, level) = (self.client(), self.stop.clone(), level.clone());
            let is_busy = move |at| level(at) > place;
            // Spreads the ends of those that go on.
            let first = AHEAD * (place + 1) / most;
            self.clients.spawn(client.follow(is_busy, first, stop));
        }
    }

    /// Lets every client finish the request it is on, and returns when all have.
    pub async fn finish(self) {
        self.stop.cancel();
        self.clients.close();
        self.clients.wait().await;
    }
}

/// One client.
#[derive(Debug)]
pub struct Client {
    target: SocketAddr,
    host: Option<HeaderValue>,
    ledger: Ledger,
    kept: Option<Connection>,
}

impl Client {
    /// A client without a connection yet.
    pub fn new(target: SocketAddr, ledger: Ledger) -> Self {
        Self {
            target,
            host: None,
            ledger,
            kept: None,
        }
    }

    async fn run(mut self, kind: Kind, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.once(kind).await;
        }
    }

    /// Has a request in flight whenever `is_busy` says so; the first one for no longer than `longest`.
    async fn follow(
        mut self,
        is_busy: impl Fn(Instant) -> bool,
        mut longest: Duration,
        stop: CancellationToken,
    ) {
        while !stop.is_cancelled() {
            let (busy, lasting) = outlook(&is_busy, longest);
            if busy {
                self.once(Kind::SlowUpload(lasting)).await;
                longest = AHEAD;
            } else {
                stop.run_until_cancelled(sleep(lasting)).await;
            }
        }
    }

    /// Makes one request of a kind and enters it in the ledger; returns its id.
    pub async fn once(&mut self, kind: Kind) -> u64 {
        let id = self.ledger.open(kind.name());
        let outcome = match timeout(REQUEST_DEADLINE, self.perform(kind, id)).await {
            Ok(Ok(answer)) => Outcome::Answered(answer),
            Ok(Err(error)) => {
                self.kept = None;
                Outcome::Failed(format!("{error:#}"))
            }
            Err(_) => {
                self.kept = None;
                Outcome::Failed(format!("no end within {REQUEST_DEADLINE:?}"))
            }
        };
        self.ledger.close(id, outcome);
        id
    }

    async fn perform(&mut self, kind: Kind, id: u64) -> anyhow::Result<Option<Answer>> {
        let request = |method, path: &str, body| {
            let mut request = client::request(method, path, id, body);
            if let Some(host) = &self.host {
                request.headers_mut().insert(header::HOST, host.clone());
            }
            request
        };
        let get = |path: &str| request(Method::GET, path, client::whole(""));
        let answer = match kind {
            Kind::KeepAlive(length) => {
                let answer = self
                    .send_kept(id, get(&format!("/bytes?length={length}")))
                    .await?;
                check_body(&answer, id, length)?;
                answer
            }
            Kind::Slow(time) => {
                let answer = self.send_kept(id, get(&slow_path(time))).await?;
                check_body(&answer, id, SLOW_LENGTH)?;
                answer
            }
            Kind::SlowClose(time) => {
                let answer = self.send_once(get(&slow_path(time))).await?;
                check_body(&answer, id, SLOW_LENGTH)?;
                answer
            }
            Kind::Close(length) => {
                let answer = self
                    .send_once(get(&format!("/bytes?length={length}")))
                    .await?;
                check_body(&answer, id, length)?;
                answer
            }
            Kind::Upload(length) => {
                // A body of unknown length, which HTTP/1.1 sends in chunks.
                let pieces =
                    stream::iter(Payload::new(id, length)).map(|piece| Ok(Frame::data(piece)));
                let body = BodyExt::boxed(StreamBody::new(pieces));
                let answer = self
                    .send_once(request(Method::POST, "/echo-hash", body))
                    .await?;
                check_echo(&answer, id, length)?;
                answer
            }
            Kind::SlowUpload(time) => {
                // The last piece is the end of the body.
                let pieces = [(Duration::ZERO, SLOW_UPLOAD), (time, 0)];
                let pieces = stream::iter(pieces).then(move |(pause, length)| async move {
                    sleep(pause).await;
                    let piece = Payload::new(id, length).flatten().collect();
                    Ok(Frame::data(piece))
                });
                let body = BodyExt::boxed(StreamBody::new(pieces));
                let answer = self
                    .send_once(request(Method::POST, "/echo-hash", body))
                    .await?;
                check_echo(&answer, id, SLOW_UPLOAD)?;
                answer
            }
            Kind::WebSocket(messages) => {
                self.web_socket(id, messages).await?;
                return Ok(None);
            }
        };
        Ok(Some(answer))
    }

    /// Sends on the connection that was kept, or on a new one where that was closed between two requests: a server may do
    /// that at any time (RFC 9112, section 9.3.1), and clients know by themselves that nothing of theirs was taken.
    async fn send_kept(&mut self, id: u64, mut request: Request<Body>) -> anyhow::Result<Answer> {
        if let Some(mut kept) = self.kept.take()
            && kept.is_reusable().await
        {
            let sent = kept.send_unless_closed(request).await;
            match sent.context("on a connection that was kept")? {
                Ok(answer) => {
                    self.kept = Some(kept);
                    return Ok(answer);
                }
                Err(unsent) => request = unsent,
            }
            self.ledger.note_closed_before(id);
        }
        let mut connection = Connection::open(self.target).await?;
        let answer = connection.send(request).await?;
        self.kept = Some(connection);
        Ok(answer)
    }

    async fn send_once(&self, mut request: Request<Body>) -> anyhow::Result<Answer> {
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(header::CONNECTION, close);
        Connection::open(self.target).await?.send(request).await
    }

    async fn web_socket(&self, id: u64, messages: usize) -> anyhow::Result<()> {
        let stream = TcpStream::connect(self.target)
            .await
            .context("cannot connect")?;
        let mut handshake = format!("ws://{}/ws", self.target).into_client_request()?;
        handshake.headers_mut().insert(REQUEST_ID, id.into());
        let (mut socket, _) = tokio_tungstenite::client_async(handshake, stream)
            .await
            .context("the WebSocket's handshake failed")?;
        for number in 0..messages {
            let sent = Message::text(format!("request {id}, message {number}"));
            socket
                .send(sent.clone())
                .await
                .with_context(|| format!("cannot send message {number}"))?;
            let echo = socket.next().await.context("closed before the echo")?;
            let echo =
                echo.with_context(|| format!("no echo of message {number} of {messages}"))?;
            ensure!(echo == sent, "sent {sent}, {echo} came back");
            tokio::time::sleep(MESSAGE_GAP).await;
        }
        socket.close(None).await.context("cannot close")?;
        loop {
            match socket.next().await {
                // The server answers the close and then ends the connection, with or without waiting for us.
                None
                | Some(Err(
                    WebSocketError::ConnectionClosed
                    | WebSocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                )) => return Ok(()),
                Some(Ok(message)) if message.is_close() => {}
                Some(Ok(message)) => bail!("{message} came after the last echo"),
                Some(Err(error)) => bail!("the close was not answered: {error}"),
            }
        }
    }
}

/// Returns what `is_busy` says of now, and for how long that is so, `longest` at most.
fn outlook(is_busy: impl Fn(Instant) -> bool, longest: Duration) -> (bool, Duration) {
    let now = Instant::now();
    let busy = is_busy(now);
    let mut grains = (1..)
        .map(|count| GRAIN * count)
        .take_while(|ahead| *ahead < longest);
    let change = grains.find(|ahead| is_busy(now + *ahead) != busy);
    (busy, change.unwrap_or(longest))
}

fn slow_path(time: Duration) -> String {
    format!("/slow?ms={}", time.as_millis())
}

fn check_head(answer: &Answer, id: u64) -> anyhow::Result<()> {
    ensure!(
        answer.status == StatusCode::OK,
        "status {}: {}",
        answer.status,
        answer.text()
    );
    ensure!(
        answer.request_id() == Some(id),
        "answered as request {:?}",
        answer.request_id()
    );
    Ok(())
}

fn check_body(answer: &Answer, id: u64, length: usize) -> anyhow::Result<()> {
    check_head(answer, id)?;
    let arrived = answer.body.len();
    ensure!(arrived == length, "{arrived} of {length} bytes arrived");
    let hash = crate::payload::hash(&answer.body);
    ensure!(
        hash == Payload::new(id, length).hash(),
        "the body arrived changed"
    );
    Ok(())
}

fn check_echo(answer: &Answer, id: u64, length: usize) -> anyhow::Result<()> {
    check_head(answer, id)?;
    let expected = format!("{} {length}", Payload::new(id, length).hash());
    ensure!(
        answer.text() == expected,
        "sent {expected}, {} arrived",
        answer.text()
    );
    Ok(())
}

#[cfg(test)]
mod tests;
