//! The app behind the suites' replicas: answers that can be checked, and a journal of what reached it.
//!
//! Knows nothing of Stillwake. Paths: `/bytes?length=N` (the id's [`Payload`]), `/echo-hash` (hash and length of the
//! body it was sent), `/slow?ms=N` (head after half the time, body in pieces over the other half), `/ws` (echoes),
//! `/probed` (how many of a kubelet's probes came so far: over HTTP, and over gRPC), `/busiest` (how many `/slow` requests
//! waited for their heads at once, at most so far). Over HTTP/2 as well, and there gRPC's health check too.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    REQUEST_ID, SERVED_BY,
    journal::{Event, Writer},
    payload::{Payload, hex},
};

/// Pieces of a slow answer's body.
const SLOW_PIECES: u32 = 4;

/// The method that gRPC's health checks call.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Length of a slow answer's body.
pub const SLOW_LENGTH: usize = 40_000;

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// How the app is to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen.
    pub address: SocketAddr,
    /// How long to wait before listening, as a slow start does.
    pub startup_delay: Duration,
    /// Listens only once this file exists, so that a suite decides when a start ends.
    pub wait_for: Option<PathBuf>,
    /// How long to go on after SIGTERM as if nothing had happened, as an app does that knows of Services.
    pub linger: Duration,
    /// Where to note what arrives.
    pub journal: Option<PathBuf>,
}

/// Serves until SIGTERM, and for as long as it is to linger, then finishes what is in flight, tunnels included.
///
/// # Errors
///
/// When the port or the journal cannot be had.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    // Before anything slow: a SIGTERM during the start must end the process as well.
    let mut terminate = signal(SignalKind::terminate())?;
    let journal = settings.journal.as_deref().map(Writer::open).transpose();
    let journal = journal.context("cannot open the journal")?;
    if let Some(journal) = &journal {
        journal.write(Event::Started)?;
    }
    tokio::select! {
        () = start_slowly(&settings) => {}
        _ = terminate.recv() => return Ok(()),
    }
    let listener = TcpListener::bind(settings.address).await?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        tokio::time::sleep(settings.linger).await;
        stopped.cancel();
    });
    serve(listener, journal, stop).await
}

/// Serves until `stop`, then finishes what is in flight, tunnels included.
///
/// # Errors
///
/// When no more connections can be accepted.
pub async fn serve(
    listener: TcpListener,
    journal: Option<Writer>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let app = Arc::new(App {
        journal,
        tunnels: TaskTracker::new(),
        probed: Probed::default(),
        waiting: AtomicU64::new(0),
        busiest: AtomicU64::new(0),
    });
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(serve_connection(Arc::clone(&app), stream, stop.clone()));
            }
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    app.tunnels.close();
    app.tunnels.wait().await;
    Ok(())
}

async fn start_slowly(settings: &Settings) {
    tokio::time::sleep(settings.startup_delay).await;
    if let Some(file) = &settings.wait_for {
        while !tokio::fs::try_exists(file).await.unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn serve_connection(app: Arc<App>, stream: TcpStream, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| Arc::clone(&app).answer(request));
    let server = auto::Builder::new(TokioExecutor::new());
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that left is the client's to notice.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// One process of the app.
#[derive(Debug)]
struct App {
    journal: Option<Writer>,
    tunnels: TaskTracker,
    probed: Probed,
    /// Requests whose answer takes its time and has not begun.
    waiting: AtomicU64,
    /// The most of them there have been.
    busiest: AtomicU64,
}

/// How many probes of a kubelet came.
#[derive(Debug, Default)]
struct Probed {
    http: AtomicU64,
    grpc: AtomicU64,
}

impl App {
    fn note(&self, event: Event) -> anyhow::Result<()> {
        match &self.journal {
            Some(journal) => journal.write(event).context("cannot write the journal"),
            None => Ok(()),
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Answer> {
        let id = request
            .headers()
            .get(REQUEST_ID)
            .and_then(|id| id.to_str().ok()?.parse().ok());
        let id = id.unwrap_or(0);
        self.note(Event::Began(id))?;
        let agent = request.headers().get(header::USER_AGENT);
        if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"kube-probe/")) {
            let probed = match request.uri().path() {
                HEALTH_CHECK => &self.probed.grpc,
                _ => &self.probed.http,
            };
            probed.fetch_add(1, Ordering::Relaxed);
        }
        let mut answer = match request.uri().path() {
            "/echo-hash" => self.echo_hash(id, request).await?,
            "/bytes" => self.bytes(id, number(&request, "length"))?,
            "/slow" => Arc::clone(&self).slow(id, number(&request, "ms")).await,
            "/ws" => Arc::clone(&self).web_socket(id, request),
            "/probed" => {
                let [http, grpc] = [&self.probed.http, &self.probed.grpc]
                    .map(|probed| probed.load(Ordering::Relaxed));
                whole(format!("{http} {grpc}"))
            }
            "/busiest" => whole(self.busiest.load(Ordering::Relaxed).to_string()),
            HEALTH_CHECK => healthy(),
            _ => self.bytes(id, 0)?,
        };
        let headers = answer.headers_mut();
        headers.insert(REQUEST_ID, id.into());
        headers.insert(SERVED_BY, std::process::id().into());
        Ok(answer)
    }

    async fn echo_hash(&self, id: u64, request: Request<Incoming>) -> anyhow::Result<Answer> {
        let mut body = request.into_body();
        let mut hasher = Sha256::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            if let Some(piece) = frame?.data_ref() {
                hasher.update(piece);
                length += piece.len();
            }
        }
        self.note(Event::Ended(id))?;
        Ok(whole(format!("{} {length}", hex(&hasher.finalize()))))
    }

    fn bytes(&self, id: u64, length: u64) -> anyhow::Result<Answer> {
        let length = usize::try_from(length)?;
        self.note(Event::Ended(id))?;
        Ok(whole(
            Payload::new(id, length).flatten().collect::<Vec<u8>>(),
        ))
    }

    async fn slow(self: Arc<Self>, id: u64, milliseconds: u64) -> Answer {
        let half = Duration::from_millis(milliseconds) / 2;
        {
            let _waiting = Waiting::begin(&self);
            tokio::time::sleep(half).await;
        }
        let body: Vec<u8> = Payload::new(id, SLOW_LENGTH).flatten().collect();
        let body = Bytes::from(body);
        let length = SLOW_LENGTH / SLOW_PIECES as usize;
        let pieces = stream::iter(0..SLOW_PIECES).then(move |index| {
            let (app, body) = (Arc::clone(&self), body.clone());
            async move {
                tokio::time::sleep(half / SLOW_PIECES).await;
                if index == SLOW_PIECES - 1 {
                    app.note(Event::Ended(id)).map_err(std::io::Error::other)?;
                }
                let start = index as usize * length;
                Ok(Frame::data(body.slice(start..start + length)))
            }
        });
        Response::new(BodyExt::boxed(StreamBody::new(pieces)))
    }

    fn web_socket(self: Arc<Self>, id: u64, mut request: Request<Incoming>) -> Answer {
        let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
            let mut refusal = whole("a WebSocket handshake carries sec-websocket-key");
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            return refusal;
        };
        let accept = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        let app = Arc::clone(&self);
        self.tunnels.spawn(async move {
            let upgraded = TokioIo::new(upgrade.await?);
            let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
            while let Some(message) = socket.next().await {
                let message = message?;
                if message.is_text() || message.is_binary() {
                    socket.send(message).await?;
                }
            }
            app.note(Event::Ended(id))
        });
        let mut answer = whole("");
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&accept).expect("base64 is a header's value");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        answer
    }
}

/// Is counted while it lives, also where its client leaves.
struct Waiting<'a>(&'a App);

impl<'a> Waiting<'a> {
    fn begin(app: &'a App) -> Self {
        let waiting = app.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        app.busiest.fetch_max(waiting, Ordering::Relaxed);
        Self(app)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn whole(body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {});
    Response::new(BodyExt::boxed(body))
}

/// Says that all is well, as a whole gRPC answer: one message, `status: SERVING`, and the status in trailers.
fn healthy() -> Answer {
    let message = Bytes::from_static(b"\0\0\0\0\x02\x08\x01");
    let status = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let frames = [Frame::data(message), Frame::trailers(status)];
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(stream::iter(
        frames.map(Ok),
    ))));
    let grpc = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(header::CONTENT_TYPE, grpc);
    answer
}

/// A number from the query, 0 when it isn't there.
fn number(request: &Request<Incoming>, name: &str) -> u64 {
    let mut pairs = request.uri().query().unwrap_or_default().split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
