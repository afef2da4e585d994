//! The load is itself under test: it must pass a right server, and must not pass a wrong one.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{app, client::request, wait};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Answers every connection's first request with `answer` and ends the connection.
async fn scripted(answer: String) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn every_kind_of_request_is_answered_by_the_app() {
    let (listener, address) = listener().await;
    let stop = CancellationToken::new();
    let served = tokio::spawn(app::serve(listener, None, stop.clone()));
    let ledger = Ledger::default();
    let mut client = Client::new(address, ledger.clone());
    for kind in [
        Kind::KeepAlive(2_000),
        Kind::KeepAlive(0),
        Kind::Close(100_000),
        Kind::Upload(300_000),
        Kind::SlowUpload(Duration::from_millis(20)),
        Kind::Slow(Duration::from_millis(20)),
        Kind::SlowClose(Duration::from_millis(20)),
        Kind::WebSocket(5),
    ] {
        client.once(kind).await;
    }
    let verdict = ledger.verdict();
    verdict.assert_nothing_lost();
    assert_eq!(verdict.answered(), 8);
    drop(client);
    stop.cancel();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_steady_load_is_in_flight_until_it_is_to_finish() {
    let (listener, address) = listener().await;
    let served = tokio::spawn(app::serve(listener, None, CancellationToken::new()));
    let ledger = Ledger::default();
    let load = Load::new(address, ledger.clone());
    load.steady(4, Duration::from_millis(200));
    let in_flight = || {
        let entries = ledger.entries().into_values();
        entries.filter(|entry| entry.outcome.is_none()).count()
    };
    wait::until("several rounds", wait::PATIENCE, async || {
        match (ledger.verdict().answered(), in_flight()) {
            (answered, 4) if answered >= 12 => Ok(()),
            seen => Err(format!("{seen:?} answered and in flight")),
        }
    })
    .await
    .unwrap();
    load.finish().await;
    assert_eq!(in_flight(), 0);
    ledger.verdict().assert_nothing_lost();
    served.abort();
}

#[tokio::test]
async fn a_load_follows_what_is_to_be_in_flight() {
    let (listener, address) = listener().await;
    let served = tokio::spawn(app::serve(listener, None, CancellationToken::new()));
    let ledger = Ledger::default();
    let load = Load::new(address, ledger.clone());
    // Enough time for a busy machine to have both levels seen.
    let (begun, period) = (Instant::now(), Duration::from_millis(500));
    load.follow(4, move |at| {
        let periods = (at - begun).as_millis() / period.as_millis();
        if periods.is_multiple_of(2) { 1 } else { 3 }
    });
    let in_flight = || {
        let entries = ledger.entries().into_values();
        entries.filter(|entry| entry.outcome.is_none()).count()
    };
    for level in [1, 3, 1, 3] {
        let what = format!("{level} in flight");
        let look = async || match in_flight() {
            seen if seen == level => Ok(()),
            seen => Err(seen),
        };
        wait::until(&what, wait::PATIENCE, look).await.unwrap();
    }
    load.finish().await;
    assert_eq!(in_flight(), 0);
    ledger.verdict().assert_nothing_lost();
    served.abort();
}

#[tokio::test]
async fn clients_make_as_many_requests_between_them_as_they_are_to() {
    let (listener, address) = listener().await;
    let served = tokio::spawn(app::serve(listener, None, CancellationToken::new()));
    let ledger = Ledger::default();
    let load = Load::new(address, ledger.clone());
    for (kind, all) in [(Kind::Close(10), 25), (Kind::KeepAlive(10), 50)] {
        load.requests(25, 4, kind).await;
        assert_eq!(ledger.verdict().answered(), all);
    }
    ledger.verdict().assert_nothing_lost();
    served.abort();
}

#[tokio::test]
async fn the_app_finishes_what_is_in_flight_before_it_ends() {
    let (listener, address) = listener().await;
    let stop = CancellationToken::new();
    let served = tokio::spawn(app::serve(listener, None, stop.clone()));
    let mut connection = Connection::open(address).await.unwrap();
    let slow = request(Method::GET, "/slow?ms=200", 1, client::whole(""));
    let answer = connection.start(slow).await.unwrap();
    stop.cancel();
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes().len(), SLOW_LENGTH);
    drop(connection);
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_to_another_request_a_changed_body_and_a_cut_one_all_fail() {
    let head = |id: u64, length: usize| {
        format!("HTTP/1.1 200 OK\r\n{REQUEST_ID}: {id}\r\ncontent-length: {length}\r\n\r\n")
    };
    for (answer, reason) in [
        (format!("{}abc", head(2, 3)), "answered as request"),
        (format!("{}abc", head(1, 3)), "changed"),
        (format!("{}ab", head(1, 3)), "cut"),
        (
            "HTTP/1.1 503 Nope\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "503",
        ),
        (String::new(), "no answer"),
    ] {
        let ledger = Ledger::default();
        let address = scripted(answer).await;
        Client::new(address, ledger.clone())
            .once(Kind::KeepAlive(3))
            .await;
        let verdict = ledger.verdict();
        assert!(verdict.failed[&1].contains(reason), "{reason}: {verdict}");
    }
}
