//! Clients and backends that speak HTTP/2 without TLS, and a client of raw frames.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2::{Builder, SendRequest},
    server::conn::http2 as server_http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use crate::support::*;

/// A window small enough that what is in transit can be told from what is buffered.
const WINDOW: u32 = 64 * 1024;

/// A body that is written while it is sent.
pub(crate) enum Sent {
    Nothing,
    Piped(mpsc::Receiver<Frame<Bytes>>),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Nothing => Poll::Ready(None),
            Self::Piped(frames) => frames.poll_recv(context).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// Returns a body and where to write it.
pub(crate) fn piped() -> (mpsc::Sender<Frame<Bytes>>, Sent) {
    let (writing, frames) = mpsc::channel(1);
    (writing, Sent::Piped(frames))
}

/// Returns a body of these frames.
pub(crate) fn whole(frames: Vec<Frame<Bytes>>) -> Sent {
    let (writing, body) = mpsc::channel(frames.len().max(1));
    for frame in frames {
        writing.try_send(frame).unwrap();
    }
    Sent::Piped(body)
}

pub(crate) fn text(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// A client's connection.
pub(crate) struct Client {
    pub(crate) sender: SendRequest<Sent>,
    pub(crate) connection: JoinHandle<hyper::Result<()>>,
}

impl Client {
    pub(crate) async fn connect(rig: &Rig) -> Self {
        Self::on(rig.connect().await).await
    }

    pub(crate) async fn on(stream: TcpStream) -> Self {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    /// Sends the request and returns what becomes of it.
    pub(crate) fn send(&self, request: Request<Sent>) -> Answer {
        let answer = self.sender.clone().send_request(request);
        tokio::spawn(async { timeout(PATIENCE, answer).await.expect("no answer came") })
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(get(path))
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(self) {
        let ended = timeout(PATIENCE, self.connection).await;
        ended.expect("the connection stayed").unwrap().unwrap();
    }
}

pub(crate) type Answer = JoinHandle<hyper::Result<Response<Incoming>>>;

pub(crate) fn get(path: &str) -> Request<Sent> {
    let request = Request::get(format!("http://cart{path}"));
    request.body(Sent::Nothing).unwrap()
}

/// Returns a gRPC call with one message.
pub(crate) fn call() -> Request<Sent> {
    Request::post("http://cart/shop.Cart/Add")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(whole(vec![text("message")]))
        .unwrap()
}

/// Returns the answer, whose body is still to come.
pub(crate) async fn head(answer: Answer) -> Response<Incoming> {
    answer.await.unwrap().unwrap()
}

/// Returns with what the stream was reset.
pub(crate) fn reset(error: &hyper::Error) -> Option<h2::Reason> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    error
        .reason()
        .filter(|_| error.is_remote() && error.is_reset())
}

/// Reads a body as text.
pub(crate) async fn read(response: Response<Incoming>) -> String {
    let body = timeout(PATIENCE, response.into_body().collect()).await;
    let body = body.expect("the body did not end").unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// Reads one frame of a body.
pub(crate) async fn next(body: &mut Incoming) -> Frame<Bytes> {
    let frame = timeout(PATIENCE, body.frame())
        .await
        .expect("no frame came");
    frame.expect("the body ended").unwrap()
}

/// Returns a backend that answers as `service` does; an error resets the stream.
pub(crate) async fn serving<F>(
    service: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> Backend
where
    F: Future<Output = Result<Response<Sent>, h2::Error>> + Send + 'static,
{
    Backend::start(move |stream| {
        let service = service_fn(service.clone());
        async move {
            let served = server_http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(WINDOW)
                .enable_connect_protocol()
                .auto_date_header(false)
                .serve_connection(TokioIo::new(stream), service);
            // Tests end in the middle of it.
            let _ = served.await;
        }
    })
    .await
}

/// A backend that answers with the path.
pub(crate) async fn echoing_paths() -> Backend {
    serving(async |request: Request<Incoming>| {
        let path = Bytes::from(request.uri().path().to_owned());
        Ok(Response::new(whole(vec![Frame::data(path)])))
    })
    .await
}

/// A client that writes and reads frames.
pub(crate) struct Frames(TcpStream);

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const ACK: u8 = 1;

impl Frames {
    pub(crate) async fn begin(rig: &Rig) -> Self {
        let stream = rig.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut frames = Self(stream);
        frames.write(SETTINGS, 0, 0, &[]).await;
        frames
    }

    pub(crate) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// Sends `GET /` without a body.
    pub(crate) async fn get(&mut self, stream: u32) {
        // Indexes of `:method: GET`, `:scheme: http` and `:path: /`, then `:authority` with its value (RFC 7541, A, C.2).
        let block = [&[0x82, 0x86, 0x84, 0x41, 4][..], b"cart"].concat();
        self.write(HEADERS, 0x5, stream, &block).await;
    }

    /// Skips to the next frame of this kind, answering SETTINGS and PINGs as it goes; returns its flags and payload.
    pub(crate) async fn next(&mut self, wanted: u8) -> (u8, Vec<u8>) {
        let reading = async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.unwrap();
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                self.0.read_exact(&mut payload).await.unwrap();
                let (kind, flags) = (head[3], head[4]);
                match kind {
                    SETTINGS if flags != ACK => self.write(SETTINGS, ACK, 0, &[]).await,
                    PING if flags != ACK => self.write(PING, ACK, 0, &payload).await,
                    _ => {}
                }
                if kind == wanted {
                    return (flags, payload);
                }
            }
        };
        timeout(PATIENCE, reading)
            .await
            .expect("no such frame came")
    }

    /// Fails unless the connection ends.
    pub(crate) async fn end(mut self) {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        read.expect("the connection stayed").unwrap();
    }
}
