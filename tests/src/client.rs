//! A plain HTTP/1.1 client: one connection at a time, nothing retried, nothing pooled.
//!
//! Retrying would hide exactly the losses that the suites look for. A request of which a connection has taken nothing is
//! given back, since that connection ended before: the caller knows whether it had served others.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
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
    pub async fn start(&mut self, request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        self.start_unless_closed(request)
            .await?
            .map_err(|_unsent| anyhow!("the connection was closed before the request"))
    }

    /// The same, but gives the request back if the connection was closed before a byte of it was written.
    async fn start_unless_closed(
        &mut self,
        mut request: Request<Body>,
    ) -> anyhow::Result<Result<Response<Incoming>, Request<Body>>> {
        let host = self.address.to_string().parse()?;
        request.headers_mut().entry(header::HOST).or_insert(host);
        match self.sender.try_send_request(request).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => Ok(Err(unsent)),
                None => Err(error.into_error()).context("no answer's head came"),
            },
        }
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    ///
    /// Fails when the connection ends first; the message says whether the head had come.
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Answer> {
        Answer::read(self.start(request).await?).await
    }

    /// The same, but gives the request back if the connection was closed before a byte of it was written.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub async fn send_unless_closed(
        &mut self,
        request: Request<Body>,
    ) -> anyhow::Result<Result<Answer, Request<Body>>> {
        Ok(match self.start_unless_closed(request).await? {
            Ok(answer) => Ok(Answer::read(answer).await?),
            Err(unsent) => Err(unsent),
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
    async fn read(answer: Response<Incoming>) -> anyhow::Result<Self> {
        let (head, body) = answer.into_parts();
        let body = body.collect().await.context("the answer's body was cut")?;
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn what_a_closed_connection_did_not_take_comes_back_and_what_it_took_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            drop(stream);
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut head).await.unwrap();
        });
        let get = |id| request(Method::GET, "/", id, whole(""));
        let mut connection = Connection::open(address).await.unwrap();
        assert!(connection.send(get(1)).await.is_ok());
        while connection.is_reusable().await {
            tokio::task::yield_now().await;
        }
        let unsent = connection.send_unless_closed(get(2)).await.unwrap();
        assert_eq!(unsent.unwrap_err().headers()[REQUEST_ID], "2");

        let mut connection = Connection::open(address).await.unwrap();
        let taken = connection.send_unless_closed(get(3)).await;
        assert!(taken.is_err(), "{taken:?}");
        server.await.unwrap();
    }
}
