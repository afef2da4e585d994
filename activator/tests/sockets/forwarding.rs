//! What becomes of requests and responses on their way through.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";

#[tokio::test]
async fn a_request_head_arrives_as_it_was_sent() {
    let rig = Rig::start().await;
    let (backend, heads) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    rig.ready("a", backend.address);
    let head = "GET /a//b?c=%20d HTTP/1.1\r\nHost: Cart.Shop\r\nX-ODD-Case: 1\r\naccept: */*\r\nConnection: keep-alive\r\n\r\n";
    rig.exchange(head).await;
    assert_eq!(*heads.lock(), [head]);
}

#[tokio::test]
async fn a_response_head_arrives_as_it_was_sent_but_closes() {
    let rig = Rig::start().await;
    let (backend, _) = answering(
        "HTTP/1.1 418 Short and stout\r\nX-Tea: Green\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\n\r\nhot",
    )
    .await;
    rig.ready("a", backend.address);
    let response = rig.exchange(GET).await;
    assert_eq!(
        response,
        "HTTP/1.1 418 Short and stout\r\nX-Tea: Green\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhot"
    );
}

#[tokio::test]
async fn a_chunked_upload_through_a_hold_arrives_whole() {
    const CHUNK: usize = 50_000;
    let rig = Rig::start().await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let mut hash = Sha256::new();
        loop {
            let mut size = String::new();
            while !size.ends_with("\r\n") {
                size.push(char::from(stream.read_u8().await.unwrap()));
            }
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await.unwrap();
            if size == 0 {
                break;
            }
            hash.update(&chunk[..size]);
        }
        respond(&mut stream, &hex(&hash.finalize())).await;
    })
    .await;
    let client = rig
        .send("PUT / HTTP/1.1\r\nHost: cart\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    rig.until_held(1).await;
    let (mut reading, mut writing) = client.into_split();
    let sending = tokio::spawn(async move {
        let mut hash = Sha256::new();
        for round in 0..100_u8 {
            let chunk: Vec<u8> = (0..CHUNK)
                .map(|index| index.to_le_bytes()[0] ^ round)
                .collect();
            hash.update(&chunk);
            let size = format!("{CHUNK:x}\r\n");
            writing.write_all(size.as_bytes()).await.unwrap();
            writing.write_all(&chunk).await.unwrap();
            writing.write_all(b"\r\n").await.unwrap();
        }
        writing.write_all(b"0\r\n\r\n").await.unwrap();
        (hex(&hash.finalize()), writing)
    });
    rig.ready("a", backend.address);
    let (sent, _writing) = timeout(PATIENCE, sending).await.unwrap().unwrap();
    let mut response = String::new();
    let read = reading.read_to_string(&mut response);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert!(response.ends_with(&sent), "{sent} was not: {response}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn a_chunked_response_keeps_its_trailers_for_who_asked() {
    let rig = Rig::start().await;
    let (backend, _) = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n3\r\nhot\r\n0\r\nChecksum: 7\r\n\r\n",
    )
    .await;
    rig.ready("a", backend.address);
    let response = rig
        .exchange("GET / HTTP/1.1\r\nHost: cart\r\nTE: trailers\r\n\r\n")
        .await;
    assert!(response.contains("3\r\nhot\r\n0\r\n"), "{response}");
    let trailers = response.split("0\r\n").last().unwrap();
    assert!(
        trailers.eq_ignore_ascii_case("checksum: 7\r\n\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn a_websocket_goes_both_ways_through_a_hold() {
    let rig = Rig::start().await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        let head = read_head(&mut stream).await;
        assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("Connection: Upgrade\r\n"), "{head}");
        let response = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(response.as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
    })
    .await;
    let mut client = rig
        .send("GET /ws HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(header(&head, "x-stillwake-cold-start").is_some(), "{head}");
    assert_eq!(header(&head, "connection"), Some("Upgrade"));
    let mut hello = [0; 5];
    timeout(PATIENCE, client.read_exact(&mut hello))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&hello, b"hello");
    client.write_all(b"and back").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(client).await, "and back");
}

#[tokio::test]
async fn connect_opens_a_tunnel() {
    let rig = Rig::start().await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("CONNECT db:5432 HTTP/1.1\r\n"), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let (mut reading, mut writing) = stream.split();
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
    })
    .await;
    rig.ready("a", backend.address);
    let mut client = rig
        .send("CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")
        .await;
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.write_all(b"through").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(client).await, "through");
}

#[tokio::test]
async fn http_1_0_is_served() {
    let rig = Rig::start().await;
    let (backend, heads) =
        answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhot\r\n0\r\n\r\n")
            .await;
    rig.ready("a", backend.address);
    let response = rig.exchange("GET /old HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nhot"), "{response}");
    assert_eq!(heads.lock().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_takes_a_request_and_closes_is_a_bad_gateway_and_not_tried_again() {
    let rig = Rig::start().await;
    let (backend, heads) = answering("").await;
    rig.ready("a", backend.address);
    let response = rig
        .exchange("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    assert!(response.contains("shop/Deployment/cart"), "{response}");
    assert_eq!(heads.lock().len(), 1);
    assert_eq!(rig.total("failed"), 1);
    assert_eq!(rig.state()["endpoints"][0]["outstanding"], 0);
}
