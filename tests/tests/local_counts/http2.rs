//! HTTP/2, and with it gRPC: each stream counts from its head until both sides have ended it.

use std::net::Shutdown;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stillwake_e2e::sidecar::Sidecar;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};

use crate::calls::{Body, Calls, empty, pieces};

/// A client's connection; dropped, it breaks off.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request that is under way.
type Pending = JoinHandle<hyper::Result<Response<Incoming>>>;

impl Connection {
    pub(crate) async fn open(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        Self {
            sender,
            driver: tokio::spawn(connection),
        }
    }

    pub(crate) fn call(&self, request: Request<Body>) -> Pending {
        tokio::spawn(self.sender.clone().send_request(request))
    }

    pub(crate) fn get(&self) -> Pending {
        self.call(request(empty()))
    }
}

fn request(body: Body) -> Request<Body> {
    Request::post("http://a.test/package.Service/Method")
        .body(body)
        .unwrap()
}

async fn answered(pending: Pending) -> Incoming {
    pending.await.unwrap().unwrap().into_body()
}

async fn piece(body: &mut Incoming) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

fn grpc_status() -> HeaderMap {
    let name = HeaderName::from_static("grpc-status");
    HeaderMap::from_iter([(name, HeaderValue::from_static("0"))])
}

struct Scene {
    calls: Calls,
    sidecar: Sidecar,
    client: Connection,
    /// The client's own.
    socket: std::net::TcpStream,
}

async fn scene() -> Scene {
    let calls = Calls::serve().await;
    let sidecar = Sidecar::start(calls.address).await.unwrap();
    let stream = std::net::TcpStream::connect(sidecar.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let socket = stream.try_clone().unwrap();
    let client = Connection::open(TcpStream::from_std(stream).unwrap()).await;
    Scene {
        calls,
        sidecar,
        client,
        socket,
    }
}

#[tokio::test]
async fn unary_calls_count_until_they_are_answered_cancelled_or_reset() {
    let Scene {
        mut calls,
        sidecar,
        client,
        socket,
    } = scene().await;
    sidecar.wait_for_in_flight(0).await.unwrap();
    let mut asked = Vec::new();
    let mut held = Vec::new();
    for number in 1..=4 {
        asked.push(client.get());
        held.push(calls.next().await);
        sidecar.wait_for_in_flight(number).await.unwrap();
    }
    held.remove(0).finish();
    answered(asked.remove(0)).await.collect().await.unwrap();
    sidecar.wait_for_in_flight(3).await.unwrap();

    asked.remove(0).abort();
    sidecar.wait_for_in_flight(2).await.unwrap();

    held.remove(1).reset();
    assert!(asked.remove(0).await.unwrap().is_err(), "it was reset");
    sidecar.wait_for_in_flight(1).await.unwrap();

    socket.shutdown(Shutdown::Both).unwrap();
    sidecar.wait_for_in_flight(0).await.unwrap();
    assert_eq!(sidecar.requests().await.unwrap(), 4);
}

#[tokio::test]
async fn streams_count_until_both_sides_have_ended_them() {
    let Scene {
        mut calls,
        sidecar,
        client,
        ..
    } = scene().await;
    // The server streams, and ends with trailers.
    let asked = client.get();
    let (server, body) = pieces();
    let _upload = calls.next().await.answer(body);
    let mut received = answered(asked).await;
    sidecar.wait_for_in_flight(1).await.unwrap();
    for word in ["one", "two"] {
        server.send(word).await;
        assert_eq!(piece(&mut received).await, word);
        sidecar.wait_for_in_flight(1).await.unwrap();
    }
    server.end(grpc_status()).await;
    let trailers = received.frame().await.unwrap().unwrap().into_trailers();
    assert_eq!(trailers.unwrap(), grpc_status());
    sidecar.wait_for_in_flight(0).await.unwrap();

    // Both stream, and the server ends first.
    let (client_side, upload) = pieces();
    let asked = client.call(request(upload));
    let (server, download) = pieces();
    let mut uploaded = calls.next().await.answer(download);
    let mut downloaded = answered(asked).await;
    sidecar.wait_for_in_flight(1).await.unwrap();
    client_side.send("up").await;
    assert_eq!(piece(&mut uploaded).await, "up");
    server.send("down").await;
    assert_eq!(piece(&mut downloaded).await, "down");
    sidecar.wait_for_in_flight(1).await.unwrap();
    server.end(grpc_status()).await;
    downloaded.frame().await.unwrap().unwrap();
    sidecar.wait_for_in_flight(1).await.unwrap();
    client_side.send("more").await;
    assert_eq!(piece(&mut uploaded).await, "more");
    sidecar.wait_for_in_flight(1).await.unwrap();
    drop(client_side);
    let rest = uploaded.collect().await.unwrap().to_bytes();
    assert_eq!(rest, "", "the client has ended");
    sidecar.wait_for_in_flight(0).await.unwrap();
    assert_eq!(sidecar.requests().await.unwrap(), 2);
}

#[tokio::test]
async fn probes_of_a_kubelet_are_answered_and_never_counted() {
    let Scene {
        mut calls,
        sidecar,
        client,
        ..
    } = scene().await;
    for (path, agent) in [
        ("/ready", "kube-probe/1.37"),
        (
            "/grpc.health.v1.Health/Check",
            "kube-probe/1.37 grpc-go/1.85.0",
        ),
    ] {
        let probe = Request::post(format!("http://a.test{path}"))
            .header(header::USER_AGENT, agent)
            .body(empty())
            .unwrap();
        let probed = client.call(probe);
        let probe = calls.next().await;
        assert_eq!(probe.request.uri().path(), path);
        assert_eq!(sidecar.in_flight().await.unwrap(), 0, "{agent}");
        // A call of somebody else on the same connection counts meanwhile.
        let asked = client.get();
        let call = calls.next().await;
        sidecar.wait_for_in_flight(1).await.unwrap();
        probe.finish();
        answered(probed).await.collect().await.unwrap();
        assert_eq!(sidecar.in_flight().await.unwrap(), 1, "{agent}");
        call.finish();
        answered(asked).await.collect().await.unwrap();
        sidecar.wait_for_in_flight(0).await.unwrap();
    }
    assert_eq!(sidecar.requests().await.unwrap(), 2);
}
