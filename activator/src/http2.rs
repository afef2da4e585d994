//! HTTP/2 connections without TLS: each stream is a request of its own, and while it is held, the connection lives. What
//! becomes of requests is [`crate::request`]'s business.
//!
//! Once a stream is handed to a backend the client is told with GOAWAY to open a connection for its next ones, which then
//! finds its way to an endpoint without us. Streams that still come are forwarded, and all of them end in their own time.
//!
//! Not passed on are 1xx responses, which hyper's server has no way to send, priorities and pushes, and what a client resets
//! with, once it has sent all of its request: the backend then sees CANCEL.

use std::{
    error::Error as _,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use h2::Reason;
use http::{HeaderMap, Method, Response, StatusCode, Version};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::http2 as server_http2,
    service::service_fn,
    upgrade::{OnUpgrade, on as upgrade_of},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::Context,
    holder::Hold,
    http2::upstream::{Sender, Upstreams},
    queue::{Refusal, Release},
    release::{Reach, Unreached},
    request::{self, Client, Unanswered, Upload, tunnel},
    stream::ClientStream,
};

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

/// Runs what hyper spawns, until all is to stop.
#[derive(Clone, Debug)]
struct Tasks(Context);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
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
        context,
        moving: CancellationToken::new(),
        open: AtomicUsize::new(0),
        streams: AtomicU64::new(0),
    });
    let service = {
        let served = Arc::clone(&served);
        service_fn(move |request| {
            let open = Open::new(&served);
            async move {
                let may_tunnel = *request.method() == Method::CONNECT;
                request::answer(&*open.0, request, may_tunnel).await
            }
        })
    };
    let patience = served.context.holder.settings().head_timeout;
    let connection = server_http2::Builder::new(tasks)
        .timer(TokioTimer::new())
        .keep_alive_interval(patience)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD)
        .enable_connect_protocol()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(client.clone()), service);
    let mut connection = std::pin::pin!(connection);
    let told_to_leave = tokio::select! {
        ended = &mut connection => Some(ended),
        () = served.is_to_leave(patience) => None,
    };
    let ended = if let Some(ended) = told_to_leave {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => ended,
            () = served.context.aborted() => return,
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "Client connection ended early");
    }
    tokio::select! {
        () = client.linger() => {}
        () = served.context.aborted() => {}
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
            tokio::time::sleep(patience).await;
        }
    }
}

/// A stream that has no answer yet.
struct Open(Arc<Served>);

impl Open {
    fn new(served: &Arc<Served>) -> Self {
        served.streams.fetch_add(1, Ordering::Relaxed);
        served.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(served))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reach for Served {
    type Backend = Sender;

    async fn connect(&self, release: &Release, limit: Duration) -> Result<Sender, Unreached> {
        self.upstreams.reach(release, limit).await
    }

    /// Never returns: a stream whose client leaves is dropped with all that waits for it.
    async fn departure(&self, _: Duration) {
        std::future::pending::<()>().await;
    }
}

impl Client for Served {
    fn context(&self) -> &Context {
        &self.context
    }

    fn hold(&self, bytes: usize) -> Result<Hold, Refusal> {
        self.context.hold(bytes)
    }

    fn has_left(&self) -> bool {
        false
    }

    fn complete(&self, _: &mut HeaderMap) {}

    async fn exchange(
        &self,
        mut backend: Sender,
        mut upload: Upload,
        client_side: Option<OnUpgrade>,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.moving.cancel();
        if upload.uri().scheme().is_none() && client_side.is_none() {
            // It has no `:authority`, which HTTP/2 leaves to the client where it sends `Host` (RFC 9113 §8.3.1). Only of
            // requests that came over HTTP/1.1 does the library believe that this can be.
            *upload.version_mut() = Version::HTTP_11;
        }
        let mut response = match backend.try_send_request(upload).await {
            Ok(response) => response,
            Err(mut failed) => {
                let unsent = failed.take_message();
                let error = failed.into_error();
                let reset = reset_of(&error);
                return Err(Unanswered {
                    error,
                    unsent,
                    reset,
                });
            }
        };
        if let Some(client_side) = client_side
            && response.status() == StatusCode::OK
        {
            let backend_side = upgrade_of(&mut response);
            tunnel(&self.context, client_side, backend_side);
        }
        Ok(response)
    }
}

/// Returns with what the backend ended the stream, if it did. A stream that it will not look at any more, as its GOAWAY
/// says, is as good as refused (RFC 9113 §6.8).
fn reset_of(error: &hyper::Error) -> Option<Reason> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    if !error.is_remote() {
        return None;
    }
    if error.is_reset() {
        return error.reason();
    }
    let unseen = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    unseen.then_some(Reason::REFUSED_STREAM)
}
