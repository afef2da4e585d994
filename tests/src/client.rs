//! A plain HTTP/1.1 client: one connection at a time, nothing retried, nothing pooled.
//!
//! Retrying would hide exactly the losses that the suites look for.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{COLD_START, REQUEST_ID, SERVED_BY};

/// A request's body.
pub type Body = BoxBody<Bytes, Infallible>;

/// A body that is there at once.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// One connection to a server.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Body>,
    address: SocketAddr,
}

impl Connection {
    /// Dials `address`.
    ///
    /// # Errors
    ///
    /// Fails when nobody accepts.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; what goes wrong on it reaches the request that is on it.
        tokio::spawn(connection.with_upgrades());
        Ok(Self { sender, address })
    }

    /// Whether the server lets another request follow on this connection.
    pub async fn is_reusable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and returns the answer once its head is there.
    ///
    /// # Errors
    ///
    /// Fails when the connection ends first.
    pub async fn start(
        &mut self,
        mut request: Request<Body>,
    ) -> anyhow::Result<http::Response<hyper::body::Incoming>> {
        let host = self.address.to_string().parse()?;
        request.headers_mut().entry(header::HOST).or_insert(host);
        let answer = self.sender.send_request(request).await;
        answer.context("no answer's head came")
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    ///
    /// Fails when the connection ends first; the message says whether the head had come.
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Answer> {
        let (head, body) = self.start(request).await?.into_parts();
        let body = body.collect().await.context("the answer's body was cut")?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status of the answer.
    pub status: StatusCode,
    /// Header fields of the answer.
    pub headers: HeaderMap,
    /// Whole body.
    pub body: Bytes,
}

impl Answer {
    /// Value of a header, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the request waited at the activator, if it did.
    pub fn cold_start(&self) -> Option<Duration> {
        self.header(COLD_START)?
            .parse()
            .ok()
            .map(Duration::from_millis)
    }

    /// The id of the request that the app answered with this.
    pub fn request_id(&self) -> Option<u64> {
        self.header(REQUEST_ID)?.parse().ok()
    }

    /// Process id of the app that answered.
    pub fn served_by(&self) -> Option<i32> {
        self.header(SERVED_BY)?.parse().ok()
    }

    /// Body as text, with what isn't UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request with its id.
///
/// # Panics
///
/// If `path` is no path.
pub fn request(method: Method, path: &str, id: u64, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(REQUEST_ID, id)
        .body(body)
        .expect("the suites' paths are valid")
}

/// Fetches `path` on a connection of its own.
///
/// # Errors
///
/// As [`Connection::open`] and [`Connection::send`].
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    get_as(address, path, 0).await
}

/// Fetches `path` on a connection of its own, as the request `id`.
///
/// # Errors
///
/// As [`Connection::open`] and [`Connection::send`].
pub async fn get_as(address: SocketAddr, path: &str, id: u64) -> anyhow::Result<Answer> {
    let mut request = request(Method::GET, path, id, whole(""));
    let close = header::HeaderValue::from_static("close");
    request.headers_mut().insert(header::CONNECTION, close);
    Connection::open(address).await?.send(request).await
}
