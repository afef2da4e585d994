//! HTTP/2 connections without TLS: each stream is a request of its own, and while it is held, the connection lives. What
//! becomes of requests is [`crate::request`]'s business.
//!
//! Once a stream is handed to a backend the client is told with GOAWAY to open a connection for its next ones, which then
//! finds its way to an endpoint without us. Streams that still come are forwarded, and all of them end in their own time.
//!
//! Not passed on are priorities, pushes, and what a client resets with, once it has sent all of its request: the backend then
//! sees CANCEL.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, server};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::{stream::Open, upstream::Upstreams};
use crate::{connection::Context, stream::ClientStream};

mod body;
mod stream;
mod upstream;

/// Most streams of one connection at once; a client keeps further ones to itself. Backends often allow fewer, but those do
/// not have to hold any.
const MAX_STREAMS: u32 = 1000;

/// Bytes of a body that may be on their way, or here, before the other side has read them; in both directions, for each
/// stream.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same for all streams of a connection: so much that what one leaves unread, because it is held or its reader is slow,
/// keeps no other waiting.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Most bytes of a body that wait to be written, for each stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Most bytes of one head, as RFC 9113 §6.5.2 counts them. A longer one is answered with 431.
const MAX_HEAD: u32 = 64 * 1024;

/// How long a client may take to answer a PING.
const PONG_LIMIT: Duration = Duration::from_secs(20);

/// Runs what a connection consists of, until all is to stop.
#[derive(Clone, Debug)]
struct Tasks(Context);

impl Tasks {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let context = self.0.clone();
        self.0.connections.spawn(async move {
            tokio::select! {
                () = future => {}
                () = context.aborted() => {}
            }
        });
    }
}

/// One client connection.
#[derive(Debug)]
struct Served {
    context: Context,
    tasks: Tasks,
    upstreams: Upstreams,
    /// A backend has taken a stream: others would be better off there.
    moving: CancellationToken,
    /// Streams that have no answer yet.
    open: AtomicUsize,
    /// Streams that ever were.
    streams: AtomicU64,
}

/// Serves the streams of one connection.
pub(crate) async fn serve(client: ClientStream, context: Context) {
    let tasks = Tasks(context.clone());
    let served = Arc::new(Served {
        upstreams: Upstreams::new(tasks.clone()),
        tasks,
        context,
        moving: CancellationToken::new(),
        open: AtomicUsize::new(0),
        streams: AtomicU64::new(0),
    });
    tokio::select! {
        ended = accept(client.clone(), &served) => if let Err(error) = ended {
            tracing::debug!(%error, "Client connection ended early");
        },
        () = served.context.aborted() => return,
    }
    tokio::select! {
        () = client.linger() => {}
        () = served.context.aborted() => {}
    }
}

/// Accepts streams until the client opens no more and all have ended.
async fn accept(client: ClientStream, served: &Arc<Served>) -> Result<(), h2::Error> {
    let patience = served.context.holder.settings().head_timeout;
    let mut leaving = pin!(served.is_to_leave(patience));
    let handshake = server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(client);
    let mut connection = tokio::select! {
        connection = handshake => connection?,
        () = &mut leaving => return Ok(()),
    };
    let mut silence = pin!(silence(connection.ping_pong(), patience));
    let mut told_to_leave = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = &mut leaving, if !told_to_leave => {
                told_to_leave = true;
                connection.graceful_shutdown();
                continue;
            }
            error = &mut silence => return Err(error),
        };
        let Some(accepted) = accepted else {
            return Ok(());
        };
        let (request, respond) = accepted?;
        let open = Open::new(served);
        served.tasks.spawn(stream::serve(open, request, respond));
    }
}

/// Returns when the client has not answered a PING, sent every `interval`.
async fn silence(pings: Option<PingPong>, interval: Duration) -> h2::Error {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        sleep(interval).await;
        match timeout(PONG_LIMIT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error,
            Err(_) => return h2::Reason::NO_ERROR.into(),
        }
    }
}

impl Served {
    /// Returns when the client should open another connection for its next streams: this one has led to a backend, or had
    /// nothing to do for as long as `patience`, or everything is to end.
    async fn is_to_leave(&self, patience: Duration) {
        tokio::select! {
            () = self.moving.cancelled() => {}
            () = self.idle(patience) => {}
            () = self.context.drain.cancelled() => {}
            () = self.context.abort.cancelled() => {}
        }
    }

    async fn idle(&self, patience: Duration) {
        let mut before = u64::MAX;
        loop {
            let streams = self.streams.load(Ordering::Relaxed);
            if streams == before && self.open.load(Ordering::Relaxed) == 0 {
                return;
            }
            before = streams;
            sleep(patience).await;
        }
    }
}
