//! What a backend says before its answer, to clients that speak HTTP/2.

use std::{future::poll_fn, pin::pin, task::Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::ResponseFuture, server::SendResponse};
use http::{Request, Response, StatusCode};
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use crate::support::*;

/// Returns a backend whose first stream follows the script.
async fn telling<F>(
    script: impl FnOnce(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    let once = parking_lot::Mutex::new(Some(script));
    Backend::start(move |stream: TcpStream| {
        let script = once.lock().take().unwrap();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, respond) = connection.accept().await.unwrap().unwrap();
            let mut script = pin!(script(request, respond));
            let mut is_told = false;
            loop {
                tokio::select! {
                    () = &mut script, if !is_told => is_told = true,
                    other = connection.accept() => return assert!(!matches!(other, Some(Ok(_)))),
                }
            }
        }
    })
    .await
}

fn interim(status: StatusCode, links: &[&'static str]) -> Response<()> {
    let mut interim = Response::builder().status(status);
    for link in links {
        interim = interim.header("link", *link);
    }
    interim.body(()).unwrap()
}

/// Sends a request on a connection of its own.
async fn send(rig: &Rig, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
    let (mut sender, connection) = h2::client::handshake(rig.connect().await).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request, ends).unwrap()
}

/// Waits for the next interim answer.
async fn informed(response: &mut ResponseFuture) -> Response<()> {
    let informed = poll_fn(|context| match response.poll_informational(context) {
        Poll::Ready(Some(interim)) => Poll::Ready(interim.unwrap()),
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    });
    timeout(PATIENCE, informed).await.expect("nothing came")
}

#[tokio::test]
async fn what_a_backend_says_before_its_answer_is_passed_on_at_once() {
    let rig = Rig::start().await;
    let (go, goes) = oneshot::channel::<()>();
    let backend = telling(async |_, mut respond| {
        for (status, links) in [
            (StatusCode::PROCESSING, &[][..]),
            (StatusCode::EARLY_HINTS, &["</a>", "</b>"]),
        ] {
            respond.send_informational(interim(status, links)).unwrap();
        }
        goes.await.unwrap();
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let (mut response, _) = send(&rig, Request::get("http://cart/").body(()).unwrap(), true).await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    let first = informed(&mut response).await;
    assert_eq!(first.status(), StatusCode::PROCESSING);
    let second = informed(&mut response).await;
    assert_eq!(second.status(), StatusCode::EARLY_HINTS);
    let links = second.headers().get_all("link").iter();
    assert!(links.eq(["</a>", "</b>"]), "{second:?}");
    go.send(()).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("x-stillwake-cold-start"));
}

#[tokio::test]
async fn what_comes_with_the_answer_comes_before_it() {
    let rig = Rig::start().await;
    let backend = telling(async |_, mut respond| {
        let hints = interim(StatusCode::EARLY_HINTS, &["</a>"]);
        respond.send_informational(hints).unwrap();
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    rig.ready("a", backend.address);
    let (mut response, _) = send(&rig, Request::get("http://cart/").body(()).unwrap(), true).await;
    let hints = informed(&mut response).await;
    assert_eq!(hints.status(), StatusCode::EARLY_HINTS);
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on_when_the_backend_says_so() {
    let rig = Rig::start().await;
    let (asked, is_asked) = oneshot::channel();
    let (go, goes) = oneshot::channel::<()>();
    let backend = telling(async |request: Request<RecvStream>, mut respond| {
        assert_eq!(request.headers()["expect"], "100-continue");
        asked.send(()).unwrap();
        goes.await.unwrap();
        let goes_on = interim(StatusCode::CONTINUE, &[]);
        respond.send_informational(goes_on).unwrap();
        let body = request.into_body().data().await.unwrap().unwrap();
        let mut echo = respond.send_response(Response::new(()), false).unwrap();
        echo.send_data(body, true).unwrap();
    })
    .await;
    let request = Request::post("http://cart/").header("expect", "100-continue");
    let (mut response, mut body) = send(&rig, request.body(()).unwrap(), false).await;
    rig.until_held(1).await;
    rig.ready("a", backend.address);
    is_asked.await.unwrap();
    let early = poll_fn(|context| Poll::Ready(response.poll_informational(context)));
    assert!(early.await.is_pending());
    go.send(()).unwrap();
    assert_eq!(informed(&mut response).await.status(), StatusCode::CONTINUE);
    body.send_data(Bytes::from_static(b"body"), true).unwrap();
    let mut echo = timeout(PATIENCE, response)
        .await
        .unwrap()
        .unwrap()
        .into_body();
    assert_eq!(echo.data().await.unwrap().unwrap(), "body");
}
