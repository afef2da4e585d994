//! What becomes of streams on their way through.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Frame, Incoming},
    ext::Protocol,
    upgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use crate::{http2::*, support::*};

fn trailers(status: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    Frame::trailers(trailers)
}

#[tokio::test]
async fn heads_and_trailers_arrive_as_they_were_sent() {
    let rig = Rig::start().await;
    let backend = serving(async |request: Request<Incoming>| {
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "http://cart/shop.Cart/Add");
        let headers = request.headers();
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["grpc-timeout"], "1H");
        let body = request.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["sent"], "all");
        assert_eq!(body.to_bytes(), "message");
        let mut response = Response::new(whole(vec![text("reply"), trailers("7")]));
        response
            .headers_mut()
            .insert("x-tea", "green".parse().unwrap());
        Ok(response)
    })
    .await;
    let client = Client::connect(&rig).await;
    let mut sent = HeaderMap::new();
    sent.insert("sent", "all".parse().unwrap());
    let mut call = call().map(|_| whole(vec![text("message"), Frame::trailers(sent)]));
    call.headers_mut()
        .insert("grpc-timeout", "1H".parse().unwrap());
    let answer = client.send(call);
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let response = head(answer).await;
    assert_eq!(response.headers()["x-tea"], "green");
    assert!(!response.headers().contains_key("date"));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "7");
    assert_eq!(body.to_bytes(), "reply");
}

#[tokio::test]
async fn a_request_without_an_authority_keeps_its_host() {
    let rig = Rig::start().await;
    let backend = serving(async |request: Request<Incoming>| {
        assert_eq!(request.uri().authority(), None);
        assert_eq!(request.headers()["host"], "cart");
        Ok(Response::new(Sent::Nothing))
    })
    .await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let request = Request::get("/")
        .version(Version::HTTP_11)
        .header("host", "cart");
    let response = head(client.send(request.body(Sent::Nothing).unwrap())).await;
    assert_eq!(response.status(), StatusCode::OK);
}

/// A backend that sends back what it gets as it gets it, and then trailers.
async fn echoing() -> Backend {
    serving(async |request: Request<Incoming>| {
        let (writing, body) = piped();
        tokio::spawn(async move {
            let mut received = request.into_body();
            while let Some(Ok(frame)) = received.frame().await {
                writing.send(frame).await.unwrap();
            }
            writing.send(trailers("0")).await.unwrap();
        });
        Ok(Response::new(body))
    })
    .await
}

#[tokio::test]
async fn both_ways_are_streamed_at_once_and_streams_outlive_goaway() {
    let rig = Rig::start().await;
    let backend = echoing().await;
    let client = Client::connect(&rig).await;
    let (writing, body) = piped();
    let answer = client.send(Request::post("http://cart/").body(body).unwrap());
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let mut received = head(answer).await.into_body();
    // Opens no more streams once it has been told to go.
    let told = async { while client.get("/").await.unwrap().is_ok() {} };
    timeout(PATIENCE, told).await.expect("was not told to go");
    for message in ["one", "two", "three"] {
        writing.send(text(message)).await.unwrap();
        assert_eq!(next(&mut received).await.into_data().unwrap(), message);
    }
    drop(writing);
    let trailers = next(&mut received).await.into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    client.ended().await;
}

/// Sends `TOTAL` bytes and counts them; ends with the reader.
fn send_much(writing: mpsc::Sender<Frame<Bytes>>) -> Arc<AtomicU64> {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    tokio::spawn(async move {
        for _ in 0..TOTAL / CHUNK {
            let chunk = Bytes::from_static(&[b'x'; CHUNK]);
            if writing.send(Frame::data(chunk)).await.is_err() {
                return;
            }
            count.fetch_add(CHUNK as u64, SeqCst);
        }
    });
    sent
}

const CHUNK: usize = 16 * 1024;
const TOTAL: usize = 16 * 1024 * 1024;

/// What windows, sockets and the libraries at either end may have in transit, well below `TOTAL`.
const IN_TRANSIT: u64 = 1024 * 1024;

/// Reads slowly to the end; never may the sender be far ahead.
async fn read_slowly(mut body: Incoming, sent: &AtomicU64) {
    let mut received = 0;
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.unwrap() {
        received += frame.unwrap().into_data().unwrap().len() as u64;
        // Gives the sender as much time as it wants.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let ahead = sent.load(SeqCst) - received.min(sent.load(SeqCst));
        assert!(ahead <= IN_TRANSIT, "{ahead} bytes are held up");
    }
    assert_eq!(received, TOTAL as u64);
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_its_backend() {
    let rig = Rig::start().await;
    let (told, mut counts) = mpsc::channel(1);
    let backend = serving(move |_| {
        let told = told.clone();
        async move {
            let (writing, body) = piped();
            told.send(send_much(writing)).await.unwrap();
            Ok(Response::new(body))
        }
    })
    .await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let response = head(client.get("/")).await;
    let sent = timeout(PATIENCE, counts.recv()).await.unwrap().unwrap();
    read_slowly(response.into_body(), &sent).await;
}

#[tokio::test]
async fn a_backend_that_reads_slowly_slows_its_client_and_so_does_a_hold() {
    let rig = Rig::start().await;
    let (given, receive) = mpsc::channel::<Arc<AtomicU64>>(1);
    let receive = Arc::new(tokio::sync::Mutex::new(receive));
    let backend = serving(move |request: Request<Incoming>| {
        let receive = Arc::clone(&receive);
        async move {
            let sent = receive.lock().await.recv().await.unwrap();
            read_slowly(request.into_body(), &sent).await;
            Ok(Response::new(Sent::Nothing))
        }
    })
    .await;
    let client = Client::connect(&rig).await;
    let (writing, body) = piped();
    let answer = client.send(Request::post("http://cart/").body(body).unwrap());
    rig.until_held(1).await;
    let sent = send_much(writing);
    eventually("as much as may", || sent.load(SeqCst) >= CHUNK as u64).await;
    assert!(sent.load(SeqCst) <= IN_TRANSIT);
    given.send(sent).await.unwrap();
    rig.ready("a", backend.address);
    assert_eq!(head(answer).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_streams_leave_unread_keeps_no_other_waiting() {
    let rig = Rig::start().await;
    let (keep, mut kept) = mpsc::channel(1);
    let backend = serving(move |request: Request<Incoming>| {
        let keep = keep.clone();
        async move {
            let is_stuck = request.uri().path() == "/stuck";
            let mut received = request.into_body();
            if is_stuck {
                keep.send(received).await.unwrap();
                return std::future::pending().await;
            }
            let (writing, body) = piped();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = received.frame().await {
                    writing.send(frame).await.unwrap();
                }
            });
            Ok(Response::new(body))
        }
    })
    .await;
    let client = Client::connect(&rig).await;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let (writing, body) = piped();
        let upload = Request::post("http://cart/stuck").body(body).unwrap();
        stuck.push((client.send(upload), send_much(writing)));
    }
    let (writing, body) = piped();
    let echo = client.send(Request::post("http://cart/echo").body(body).unwrap());
    rig.until_held(9).await;
    rig.ready("a", backend.address);
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(timeout(PATIENCE, kept.recv()).await.unwrap().unwrap());
    }
    let mut received = head(echo).await.into_body();
    // What the windows of both connections take, and nearly all that is in the senders.
    let is_stuck = |sent: &AtomicU64| sent.load(SeqCst) >= 160 * 1024;
    eventually("stuck", || stuck.iter().all(|(_, sent)| is_stuck(sent))).await;
    for _ in 0..10 {
        let message = Bytes::from_static(&[b'y'; CHUNK]);
        writing.send(Frame::data(message)).await.unwrap();
        let mut echoed = 0;
        while echoed < CHUNK {
            echoed += next(&mut received).await.into_data().unwrap().len();
        }
    }
}

#[tokio::test]
async fn extended_connect_opens_a_tunnel() {
    let rig = Rig::start().await;
    let backend = serving(async |mut request: Request<Incoming>| {
        assert_eq!(request.method(), Method::CONNECT);
        let protocol = request.extensions().get::<Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
        assert_eq!(request.uri().path(), "/chat");
        let tunnel = upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut reading, mut writing) = tokio::io::split(TokioIo::new(tunnel.await.unwrap()));
            tokio::io::copy(&mut reading, &mut writing).await.unwrap();
            writing.shutdown().await.unwrap();
        });
        Ok(Response::new(Sent::Nothing))
    })
    .await;
    let client = Client::connect(&rig).await;
    let connect =
        Request::connect("http://cart/chat").extension(Protocol::from_static("websocket"));
    let answer = client.send(connect.body(Sent::Nothing).unwrap());
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let mut response = head(answer).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("x-stillwake-cold-start"));
    let mut tunnel = TokioIo::new(upgrade::on(&mut response).await.unwrap());
    for message in [&b"one"[..], b"more"] {
        tunnel.write_all(message).await.unwrap();
        let mut echoed = vec![0; message.len()];
        let read = tunnel.read_exact(&mut echoed);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!(echoed, message);
    }
    tunnel.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let read = tunnel.read_to_end(&mut rest);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(rest, b"");
}
