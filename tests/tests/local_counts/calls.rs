//! An HTTP/2 server whose answers are the test's: each request is handed to it, and waits.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::{anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot},
};

/// More than any conversation has under way.
const WAITING: usize = 64;

/// A body that is made while it is sent.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Sends a body piece by piece; dropped, it ends the body.
#[derive(Debug)]
pub(crate) struct Pieces(mpsc::Sender<Frame<Bytes>>);

impl Pieces {
    pub(crate) async fn send(&self, piece: &'static str) {
        let frame = Frame::data(Bytes::from_static(piece.as_bytes()));
        self.0.send(frame).await.unwrap();
    }

    /// Ends the body with `trailers`.
    pub(crate) async fn end(self, trailers: HeaderMap) {
        self.0.send(Frame::trailers(trailers)).await.unwrap();
    }
}

/// A body and who sends it.
pub(crate) fn pieces() -> (Pieces, Body) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let frames = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let frames = futures_util::StreamExt::map(frames, Ok);
    (Pieces(sender), StreamBody::new(frames).boxed())
}

/// A body of nothing.
pub(crate) fn empty() -> Body {
    http_body_util::Empty::new().boxed()
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request<Incoming>,
    answer: oneshot::Sender<Result<Response<Body>, anyhow::Error>>,
}

impl Call {
    /// Answers with a head and `body`, and leaves what was sent so far to the caller.
    pub(crate) fn answer(self, body: Body) -> Incoming {
        // Fails where the client has cancelled, which such a test sees for itself.
        let _ = self.answer.send(Ok(Response::new(body)));
        self.request.into_body()
    }

    /// Answers with a head alone.
    pub(crate) fn finish(self) {
        drop(self.answer(empty()));
    }

    /// Resets the stream.
    pub(crate) fn reset(self) {
        let _ = self
            .answer
            .send(Err(anyhow!("reset, as the test wants it")));
    }
}

/// The server.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) address: SocketAddr,
    calls: mpsc::Receiver<Call>,
}

impl Calls {
    pub(crate) async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, calls) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, sender.clone()));
            }
        });
        Self { address, calls }
    }

    pub(crate) async fn next(&mut self) -> Call {
        let call = tokio::time::timeout(stillwake_e2e::wait::PATIENCE, self.calls.recv()).await;
        call.expect("no call comes").unwrap()
    }
}

/// Serves one connection until its client leaves.
pub(crate) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    calls: mpsc::Sender<Call>,
) {
    let service = service_fn(move |request| {
        let calls = calls.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            let Ok(()) = calls.send(Call { request, answer }).await else {
                bail!("the test has ended");
            };
            answered.await?
        }
    });
    let server = http2::Builder::new(TokioExecutor::new());
    // A client that left is the test's to notice.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
