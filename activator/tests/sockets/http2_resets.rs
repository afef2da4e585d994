//! Streams that their client or their backend gives up, and backends that give up all.

use std::future::poll_fn;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{http2::*, support::*};

/// Sends its message when it is dropped.
struct Ended(Option<oneshot::Sender<()>>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

#[tokio::test]
async fn a_reset_of_the_client_reaches_the_backend() {
    let rig = Rig::start().await;
    let (begun, mut began) = mpsc::channel(1);
    let backend = serving(move |_| {
        let (ended, end) = oneshot::channel();
        let (ended, begun) = (Ended(Some(ended)), begun.clone());
        async move {
            begun.send(end).await.unwrap();
            let _ended = ended;
            std::future::pending().await
        }
    })
    .await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let answer = client.get("/");
    let end = timeout(PATIENCE, began.recv()).await.unwrap().unwrap();
    answer.abort();
    timeout(PATIENCE, end)
        .await
        .expect("it was not told")
        .unwrap();
    eventually("counted", || rig.total("client_left") == 1).await;
    assert_eq!(rig.state()["endpoints"][0]["outstanding"], 0);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_response_ends_it_at_the_backend() {
    let rig = Rig::start().await;
    let (given, mut bodies) = mpsc::channel(1);
    let backend = serving(move |_| {
        let given = given.clone();
        async move {
            let (writing, body) = piped();
            writing.send(text("first")).await.unwrap();
            given.send(writing).await.unwrap();
            Ok(Response::new(body))
        }
    })
    .await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let mut response = head(client.get("/")).await.into_body();
    next(&mut response).await;
    let writing = timeout(PATIENCE, bodies.recv()).await.unwrap().unwrap();
    drop(response);
    timeout(PATIENCE, writing.closed())
        .await
        .expect("it was not told");
}

#[tokio::test]
async fn a_reset_of_the_backend_reaches_the_client_with_its_code() {
    let rig = Rig::start().await;
    let backend = serving(async |_| Err(Reason::ENHANCE_YOUR_CALM.into())).await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let error = client.send(call()).await.unwrap().unwrap_err();
    assert_eq!(reset(&error), Some(Reason::ENHANCE_YOUR_CALM), "{error:?}");
    assert_eq!(rig.total("forwarded"), 1);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_response_reaches_the_client_with_its_code() {
    let rig = Rig::start().await;
    let (resets, mut reset_now) = mpsc::channel::<()>(1);
    let backend = Backend::start(move |stream| {
        let resets = resets.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"first"), false).unwrap();
            tokio::select! {
                _ = connection.accept() => panic!("there is no other"),
                () = resets.closed() => {}
            }
            body.send_reset(Reason::ENHANCE_YOUR_CALM);
            let _ = connection.accept().await;
        }
    })
    .await;
    rig.ready("a", backend.address);
    let client = Client::connect(&rig).await;
    let mut body = head(client.get("/")).await.into_body();
    assert_eq!(next(&mut body).await.into_data().unwrap(), "first");
    reset_now.close();
    let frame = timeout(PATIENCE, body.frame()).await;
    let error = frame.unwrap().unwrap().unwrap_err();
    assert_eq!(reset(&error), Some(Reason::ENHANCE_YOUR_CALM), "{error:?}");
}

#[tokio::test]
async fn a_refused_stream_without_a_body_is_held_again_and_another_is_refused() {
    let rig = Rig::with(|settings| {
        settings.unanswered_pause = 3 * PATIENCE;
        settings.set_aside_limit = 3 * PATIENCE;
    })
    .await;
    let refusing = serving(async |_| Err(Reason::REFUSED_STREAM.into())).await;
    rig.ready("refusing", refusing.address);
    let client = Client::connect(&rig).await;
    let delete = Request::delete("http://cart/it")
        .body(Sent::Nothing)
        .unwrap();
    let answer = client.send(delete);
    eventually("refused and held", || {
        refusing.accepted() == 1 && rig.held() == 1
    })
    .await;
    let taking = echoing_paths().await;
    rig.ready("taking", taking.address);
    assert_eq!(read(head(answer).await).await, "/it");
    rig.gone("taking");
    rig.gone("refusing");
    rig.ready("refusing again", refusing.address);
    let client = Client::connect(&rig).await;
    let error = client.send(call()).await.unwrap().unwrap_err();
    assert_eq!(reset(&error), Some(Reason::REFUSED_STREAM), "{error:?}");
    assert_eq!((rig.total("forwarded"), rig.total("failed")), (1, 1));
}

#[tokio::test]
async fn a_backend_of_another_protocol_is_a_bad_gateway_that_says_so() {
    let answers = answering("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        .await
        .0;
    let hangs_up = Backend::start(async |_| {}).await;
    for backend in [answers, hangs_up] {
        let rig = Rig::start().await;
        rig.ready("a", backend.address);
        let client = Client::connect(&rig).await;
        let response = head(client.send(call().map(|_| Sent::Nothing))).await;
        assert_eq!(response.headers()["grpc-status"], "14");
        let response = head(client.get("/")).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let reason = read(response).await;
        assert!(reason.contains("does not speak HTTP/2"), "{reason}");
        assert_eq!((rig.held(), rig.total("failed")), (0, 2));
    }
}

#[tokio::test]
async fn a_backend_that_ends_before_its_preface_has_taken_nothing() {
    let rig = Rig::start().await;
    let ending = Backend::start(async |_| {}).await;
    rig.ready("ending", ending.address);
    let client = Client::connect(&rig).await;
    let answer = client.send(call());
    eventually("it came", || ending.accepted() > 0).await;
    let lasting = echoing_paths().await;
    rig.ready("lasting", lasting.address);
    rig.gone("ending");
    assert_eq!(read(head(answer).await).await, "/shop.Cart/Add");
    assert_eq!((rig.total("forwarded"), rig.total("failed")), (1, 0));
}

#[tokio::test]
async fn a_reset_in_the_middle_of_an_upload_reaches_a_backend_that_reads_nothing() {
    let rig = Rig::start().await;
    let (resets, mut was_reset) = mpsc::channel(1);
    let backend = Backend::start(move |stream| {
        let resets = resets.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            let handshake = builder
                .initial_window_size(1024)
                .handshake::<_, Bytes>(stream);
            let mut connection = handshake.await.unwrap();
            let (_unread, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut reset = poll_fn(|context| respond.poll_reset(context));
            let reset = tokio::select! {
                reset = &mut reset => reset,
                // The connection may end with it.
                _ = connection.accept() => reset.await,
            };
            resets.send(reset.unwrap()).await.unwrap();
        }
    })
    .await;
    rig.ready("a", backend.address);
    let stream = rig.connect().await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://cart/").body(()).unwrap();
    let (_answer, mut upload) = sender.send_request(request, false).unwrap();
    // Far more than the backend lets come, so that the rest waits here.
    let mut room = 64 * 1024;
    upload.reserve_capacity(room);
    while room > 0 {
        let some = poll_fn(|context| upload.poll_capacity(context)).await;
        let some = some.unwrap().unwrap();
        upload.send_data(vec![0; some].into(), false).unwrap();
        room -= some;
    }
    eventually("handed over", || {
        rig.state()["endpoints"][0]["outstanding"] == 1
    })
    .await;
    upload.send_reset(Reason::ENHANCE_YOUR_CALM);
    let reset = timeout(PATIENCE, was_reset.recv()).await;
    let reset = reset.expect("it was not told").unwrap();
    assert_eq!(reset, Reason::ENHANCE_YOUR_CALM);
}
