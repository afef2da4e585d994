//! What a backend says before its answer, and what becomes of bodies that wait for it.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};

use crate::support::*;

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: cart\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// Asserts that nothing has come.
fn assert_silent(client: &TcpStream) {
    let error = client.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on_when_the_backend_says_so() {
    let rig = Rig::start().await;
    let (asked, is_asked) = oneshot::channel();
    let (go, goes) = oneshot::channel::<()>();
    let once = parking_lot::Mutex::new(Some((asked, goes)));
    let backend = Backend::start(move |mut stream: TcpStream| {
        let (asked, goes) = once.lock().take().unwrap();
        async move {
            let head = read_head(&mut stream).await;
            assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
            asked.send(()).unwrap();
            goes.await.unwrap();
            assert_silent(&stream);
            stream.write_all(CONTINUE.as_bytes()).await.unwrap();
            let mut body = [0; 4];
            stream.read_exact(&mut body).await.unwrap();
            respond(&mut stream, std::str::from_utf8(&body).unwrap()).await;
        }
    })
    .await;
    let mut client = rig.send(EXPECTING).await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    is_asked.await.unwrap();
    assert_silent(&client);
    go.send(()).unwrap();
    assert_eq!(read_head(&mut client).await, CONTINUE);
    client.write_all(b"body").await.unwrap();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(response.ends_with("body"), "{response}");
}

#[tokio::test]
async fn a_client_that_expects_100_is_refused_by_the_backend_before_it_sends_a_body() {
    let rig = Rig::start().await;
    let (backend, heads) =
        answering("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    rig.ready("a", backend.address);
    let response = rig.exchange(EXPECTING).await;
    assert!(response.starts_with("HTTP/1.1 417 "), "{response}");
    assert!(response.ends_with("\r\n\r\nno"), "{response}");
    assert_eq!(heads.lock().len(), 1);
}

#[tokio::test]
async fn a_client_that_expects_100_goes_on_where_the_backend_says_nothing() {
    let rig = Rig::start().await;
    let backend = Backend::start(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        respond(&mut stream, std::str::from_utf8(&body).unwrap()).await;
    })
    .await;
    rig.ready("a", backend.address);
    let mut client = rig.send(EXPECTING).await;
    assert_eq!(read_head(&mut client).await, CONTINUE);
    client.write_all(b"body").await.unwrap();
    let response = read_all(client).await;
    assert!(response.ends_with("body"), "{response}");
}

#[tokio::test]
async fn what_a_backend_says_before_its_answer_is_passed_on_at_once() {
    let rig = Rig::start().await;
    let (go, goes) = oneshot::channel::<()>();
    let once = parking_lot::Mutex::new(Some(goes));
    let backend = Backend::start(move |mut stream: TcpStream| {
        let goes = once.lock().take().unwrap();
        async move {
            read_head(&mut stream).await;
            let hints = "HTTP/1.1 102 Processing\r\n\r\n\
                         HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n";
            stream.write_all(hints.as_bytes()).await.unwrap();
            goes.await.unwrap();
            respond(&mut stream, "hinted").await;
        }
    })
    .await;
    let mut client = rig.send("GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let first = read_head(&mut client).await;
    assert_eq!(first, "HTTP/1.1 102 Processing\r\n\r\n");
    let second = read_head(&mut client).await;
    assert_eq!(
        second,
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n"
    );
    go.send(()).unwrap();
    let response = read_all(client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("hinted"), "{response}");
}

#[tokio::test]
async fn a_client_of_http_1_0_hears_only_the_answer() {
    let rig = Rig::start().await;
    let (backend, _) = answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhot",
    )
    .await;
    rig.ready("a", backend.address);
    let response = rig.exchange("GET / HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nhot"), "{response}");
}
