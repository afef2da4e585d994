//! The connections to backends that the streams of one client connection share, one for each endpoint.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context as TaskContext, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{oneshot, watch},
    time::timeout,
};

use super::{CONNECTION_WINDOW, MAX_HEAD, SEND_BUFFER, STREAM_WINDOW, Tasks};
use crate::{
    answer::Rejection,
    endpoints::EndpointId,
    queue::Release,
    release::{Unreached, dial},
};

/// Sends requests on a connection to a backend.
pub(super) type Sender = SendRequest<Bytes>;

/// Most streams before the backend has said how many it allows. It may be unknown still when the first are sent.
const FIRST_STREAMS: usize = 100;

/// How long a backend that has accepted a connection may take to send its SETTINGS.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// Connections in a row that backends may close without a byte before they are believed not to speak HTTP/2. Some servers
/// do so for a protocol that they do not know; one that has just ended, behind a proxy of its own, looks the same.
const SILENT_ENDS: u32 = 5;

#[derive(Clone, Debug)]
enum Failure {
    NotAccepted(Arc<io::Error>),
    NotHttp2,
}

type Opened = Result<Sender, Failure>;

/// The connections of one client connection's streams.
#[derive(Debug)]
pub(super) struct Upstreams {
    tasks: Tasks,
    /// Nothing while one is being opened.
    known: Mutex<HashMap<EndpointId, watch::Receiver<Option<Opened>>>>,
    silent_ends: Arc<AtomicU32>,
}

impl Upstreams {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            known: Mutex::default(),
            silent_ends: Arc::default(),
        }
    }

    /// Returns the connection to the endpoint of the release, opened if there is none. Those who wait for it together share
    /// its failure as well.
    pub(super) async fn reach(
        &self,
        release: &Release,
        limit: Duration,
    ) -> Result<Sender, Unreached> {
        let mut opening = self.connection(release, limit);
        let opened = match opening.wait_for(Option::is_some).await {
            Ok(opened) => opened.clone(),
            Err(_) => None,
        };
        match opened {
            Some(Ok(sender)) => Ok(sender),
            Some(Err(Failure::NotHttp2)) => Err(Unreached::Useless(Rejection::NotHttp2)),
            Some(Err(Failure::NotAccepted(error))) => {
                Err(Unreached::NotAccepted(io::Error::other(error)))
            }
            None => Err(Unreached::NotAccepted(io::ErrorKind::Interrupted.into())),
        }
    }

    fn connection(&self, release: &Release, limit: Duration) -> watch::Receiver<Option<Opened>> {
        let mut known = self.known.lock();
        known.retain(|_, opening| match &*opening.borrow() {
            None => opening.has_changed().is_ok(),
            Some(Ok(sender)) => !is_closed(sender),
            Some(Err(_)) => false,
        });
        let opening = known.entry(release.endpoint).or_insert_with(|| {
            let (opened, opening) = watch::channel(None);
            let addresses = Arc::clone(&release.addresses);
            let (tasks, silent_ends) = (self.tasks.clone(), Arc::clone(&self.silent_ends));
            self.tasks.spawn(async move {
                let outcome = open(&addresses, limit, tasks, &silent_ends).await;
                opened.send_replace(Some(outcome));
            });
            opening
        });
        opening.clone()
    }
}

/// Whether no request can be sent any more.
fn is_closed(sender: &Sender) -> bool {
    let mut context = TaskContext::from_waker(Waker::noop());
    matches!(sender.clone().poll_ready(&mut context), Poll::Ready(Err(_)))
}

/// Connects to the first address that accepts, and waits for the server to greet: until then nothing is given to it that
/// could be lost.
async fn open(
    addresses: &[SocketAddr],
    limit: Duration,
    tasks: Tasks,
    silent_ends: &AtomicU32,
) -> Opened {
    let not_accepted = |error| Failure::NotAccepted(Arc::new(error));
    let stream = dial(addresses, limit).await.map_err(not_accepted)?;
    let (stream, greeted) = Greeting::new(stream);
    let connected = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD)
        .enable_push(false)
        .handshake(stream)
        .await;
    let (sender, connection) = connected.map_err(|error| not_accepted(io::Error::other(error)))?;
    tasks.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "Backend connection ended early");
        }
    });
    match timeout(GREETING_LIMIT, greeted).await {
        Ok(Ok(true)) => {
            silent_ends.store(0, Ordering::Relaxed);
            Ok(sender)
        }
        Ok(Ok(false)) => Err(Failure::NotHttp2),
        Ok(Err(_)) if silent_ends.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_ENDS => {
            Err(Failure::NotHttp2)
        }
        Ok(Err(_)) => Err(not_accepted(io::ErrorKind::UnexpectedEof.into())),
        Err(elapsed) => Err(not_accepted(elapsed.into())),
    }
}

/// A backend's connection that tells whether its first bytes are an HTTP/2 server's.
struct Greeting {
    stream: TcpStream,
    first: Vec<u8>,
    /// Nothing once it is told. Dropped if the connection ends before.
    told: Option<oneshot::Sender<bool>>,
}

impl Greeting {
    /// The head of a frame, which is a SETTINGS frame of the connection (RFC 9113 §3.4, §4.1).
    const LENGTH: usize = 9;
    const SETTINGS: u8 = 4;

    fn new(stream: TcpStream) -> (Self, oneshot::Receiver<bool>) {
        let (told, greeted) = oneshot::channel();
        let greeting = Self {
            stream,
            first: Vec::new(),
            told: Some(told),
        };
        (greeting, greeted)
    }

    fn look(&mut self, read: &[u8]) {
        if self.told.is_none() {
            return;
        }
        let missing = Self::LENGTH - self.first.len();
        self.first.extend(read.iter().take(missing));
        let is_whole = self.first.len() == Self::LENGTH;
        if (is_whole || read.is_empty())
            && let Some(told) = self.told.take()
            && !self.first.is_empty()
        {
            let greets = is_whole && self.first[3] == Self::SETTINGS && self.first[5..] == [0; 4];
            // Nobody waits any longer if it took too long.
            let _ = told.send(greets);
        }
    }
}

impl AsyncRead for Greeting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.look(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
