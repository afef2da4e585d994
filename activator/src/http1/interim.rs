//! What a backend says before its answer, and the bodies that wait for it. Which requests there are is not its concern.
//!
//! The library that speaks with the client sends no interim answers but a `100`, and that one by itself, when it is asked for
//! the body of a request with `Expect: 100-continue`. So the body is asked for when the backend's own `100` has come, and
//! all others are written to the socket beside it: while a request has no answer, it writes nothing else there.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header::EXPECT};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    ext::on_informational,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    request::{Upload, UploadBody},
    stream::ClientStream,
};

/// How long a body waits for a `100`. Not every server sends one, and clients do not wait for ever either (RFC 9110,
/// section 10.1.1).
const PATIENCE: Duration = Duration::from_secs(1);

/// Most bytes that wait for a client that does not read. Interim answers beyond that are lost, as they may be.
const MOST_WAITING: usize = 64 * 1024;

/// A client's connection on which interim answers can be written beside whoever else writes there. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Interjecting {
    client: ClientStream,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Interim answers that the socket has not taken.
    bytes: Vec<u8>,
    /// The other writer is in the midst of something.
    is_cut: bool,
}

impl Interjecting {
    pub(super) fn new(client: ClientStream) -> Self {
        Self {
            client,
            waiting: Arc::default(),
        }
    }

    /// Writes an interim answer at once, or before the other writer's next bytes.
    fn interject(&self, status: StatusCode, headers: &HeaderMap) {
        let mut waiting = self.waiting.lock();
        let head = head(status, headers);
        if waiting.is_cut || waiting.bytes.len() + head.len() > MOST_WAITING {
            tracing::debug!(%status, "Interim answer lost: the client does not read");
            return;
        }
        waiting.bytes.extend(head);
        if let Ok(written) = self.client.try_write(&waiting.bytes) {
            waiting.bytes.drain(..written);
        }
    }

    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting.lock();
        while !waiting.bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.client).poll_write(context, &waiting.bytes))?;
            waiting.bytes.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes that `written` of `length` bytes of the other writer were.
    fn wrote(&self, written: usize, length: usize) {
        self.waiting.lock().is_cut = written < length;
    }
}

impl AsyncRead for Interjecting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_read(context, buffer)
    }
}

impl AsyncWrite for Interjecting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_waiting(context))?;
        let written = ready!(Pin::new(&mut self.client).poll_write(context, bytes))?;
        self.wrote(written, bytes.len());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_waiting(context))?;
        let written = ready!(Pin::new(&mut self.client).poll_write_vectored(context, parts))?;
        self.wrote(written, parts.iter().map(|part| part.len()).sum());
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.client.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.client).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(context))?;
        Pin::new(&mut self.client).poll_shutdown(context)
    }
}

/// Returns an interim answer as it is written.
fn head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in headers {
        head.extend(name.as_str().as_bytes());
        head.extend(b": ");
        head.extend(value.as_bytes());
        head.extend(b"\r\n");
    }
    head.extend(b"\r\n");
    head
}

/// A body that is not asked for before its backend wants it.
pub(super) struct Awaiting {
    body: UploadBody<Incoming>,
    /// Nothing once it may be asked for.
    wanted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Awaiting {
    pub(super) fn into_inner(self) -> UploadBody<Incoming> {
        self.body
    }
}

impl Body for Awaiting {
    type Data = Bytes;
    type Error = <UploadBody<Incoming> as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(wanted) = &mut self.wanted {
            ready!(wanted.as_mut().poll(context));
            self.wanted = None;
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Has the interim answers to `upload` passed on to `client`, and its body wait if the client does so as well.
pub(super) fn passing_on(upload: Upload<Incoming>, client: &Interjecting) -> Request<Awaiting> {
    // A client of HTTP/1.0 knows no interim answers (RFC 9110, section 15.2).
    let knows = upload.version() > Version::HTTP_10;
    let waits = knows && !upload.body().is_end_stream() && expects(upload.headers());
    let wanted = CancellationToken::new();
    let want = wanted.clone();
    let mut upload = upload.map(|body| Awaiting {
        body,
        wanted: waits.then(|| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                // Either will do.
                let _ = timeout(PATIENCE, wanted.cancelled_owned()).await;
            })
        }),
    });
    if knows {
        let client = client.clone();
        on_informational(&mut upload, move |interim| {
            if waits && interim.status() == StatusCode::CONTINUE {
                // The client's connection says so itself, once the body is asked for.
                want.cancel();
            } else {
                client.interject(interim.status(), interim.headers());
            }
        });
    }
    upload
}

/// Whether the client sends its body only when it is told to.
fn expects(headers: &HeaderMap) -> bool {
    let is_100 = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    headers.get(EXPECT).is_some_and(is_100)
}
