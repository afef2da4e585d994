//! Draining: clients are told, idle connections close, and nothing under way is cut.

use std::time::Duration;

use proptest::prelude::*;
use stillwake_proxy::relay::RelaySettings;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    exchange::{Conversation as _, script, socket_cuts},
    rig::{Rig, block_on, eventually, expect, expect_end, expect_reset, pass, within},
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const CLOSING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

/// Settings under which a drain never closes what is idle.
fn patient() -> RelaySettings {
    RelaySettings {
        drain_idle: Duration::from_hours(1),
        ..RelaySettings::default()
    }
}

#[tokio::test]
async fn the_response_under_way_says_close_and_the_connection_ends_with_it() {
    let rig = Rig::with(patient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    rig.drain.leave();
    // Cut anywhere, a head is held until it is whole.
    for byte in RESPONSE {
        app.write_all(&[*byte]).await.unwrap();
    }
    expect(&mut client, CLOSING).await;
    expect_end(&mut client).await;
    expect_end(&mut app).await;
    drop(client);
    within("serving ends", rig.serving).await.unwrap();
}

#[tokio::test]
async fn a_port_without_connections_is_served_while_another_drains() {
    let settings = RelaySettings {
        settle: Duration::ZERO,
        ..patient()
    };
    let rig = Rig::with(settings).await;
    let (another, serving) = rig.serve_another().await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    rig.drain.leave();
    // Turns enough for a port that does not care about the other to close.
    for byte in RESPONSE {
        app.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(!serving.is_finished());
    let late = TcpStream::connect(another).await.unwrap();
    let (late_app, _) = within("the app accepts", rig.app.accept()).await.unwrap();
    drop((late, late_app));
    expect(&mut client, CLOSING).await;
    drop((client, app));
    within("serving ends", rig.serving).await.unwrap();
    within("serving the other port ends", serving)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_on_an_idle_connection_is_served_and_its_connection_closed() {
    let rig = Rig::with(patient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    pass(&mut app, &mut client, RESPONSE).await;
    rig.drain.begin();
    pass(&mut client, &mut app, REQUEST).await;
    app.write_all(RESPONSE).await.unwrap();
    expect(&mut client, CLOSING).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn only_the_last_of_pipelined_responses_says_close() {
    let rig = Rig::with(patient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, &[REQUEST, REQUEST].concat()).await;
    rig.drain.begin();
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    app.write_all(&[RESPONSE, interim, RESPONSE].concat())
        .await
        .unwrap();
    expect(&mut client, &[RESPONSE, interim, CLOSING].concat()).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn keep_alive_gives_way_to_close_and_other_options_stay() {
    let rig = Rig::with(patient()).await;
    for (connection, changed) in [
        ("connection: Keep-Alive\r\n", "connection: close\r\n"),
        (
            "Connection: x, keep-alive\r\nA: b\r\n",
            "Connection: x, close\r\nA: b\r\n",
        ),
        ("Connection: close\r\n", "Connection: close\r\n"),
        (
            "Connection: x\r\nConnection: keep-alive\r\n",
            "Connection: x, close\r\n",
        ),
    ] {
        let (mut client, mut app) = rig.connect().await;
        pass(&mut client, &mut app, REQUEST).await;
        rig.drain.begin();
        let response = format!("HTTP/1.1 200 OK\r\n{connection}Content-Length: 0\r\n\r\n");
        app.write_all(response.as_bytes()).await.unwrap();
        let expected = format!("HTTP/1.1 200 OK\r\n{changed}Content-Length: 0\r\n\r\n");
        expect(&mut client, expected.as_bytes()).await;
        expect_end(&mut client).await;
    }
}

#[tokio::test]
async fn an_upload_under_way_is_taken_to_its_end() {
    let rig = Rig::with(patient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(
        &mut client,
        &mut app,
        b"PUT / HTTP/1.1\r\nContent-Length: 8\r\n\r\nfour",
    )
    .await;
    rig.drain.begin();
    pass(&mut client, &mut app, b"more").await;
    app.write_all(RESPONSE).await.unwrap();
    expect(&mut client, CLOSING).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_response_that_the_client_has_not_read_yet_survives_the_close() {
    let rig = Rig::with(RelaySettings {
        linger: Duration::from_millis(1),
        ..patient()
    })
    .await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    rig.drain.leave();
    let body = vec![b'x'; 300_000];
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n";
    let response = [head.as_bytes(), &body].concat();
    app.write_all(&response).await.unwrap();
    within("serving ends", rig.serving).await.unwrap();
    expect(&mut client, &response).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn requests_after_the_last_response_are_not_processed() {
    let rig = Rig::with(patient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    rig.drain.begin();
    let (head, body) = CLOSING.split_at(CLOSING.len() - 1);
    pass(&mut app, &mut client, head).await;
    client.write_all(REQUEST).await.unwrap();
    // The relay looks at the client first, so it would pass the request on before it ends the response.
    pass(&mut app, &mut client, body).await;
    expect_end(&mut app).await;
    expect_end(&mut client).await;
    assert_eq!(rig.in_flight.snapshot().requests, 1);
}

#[tokio::test]
async fn idle_connections_are_closed_and_serving_ends() {
    let rig = Rig::with(RelaySettings {
        drain_idle: Duration::from_millis(20),
        ..RelaySettings::default()
    })
    .await;
    let (mut used, mut app) = rig.connect().await;
    pass(&mut used, &mut app, REQUEST).await;
    pass(&mut app, &mut used, RESPONSE).await;
    let (mut unused, _app) = rig.connect().await;
    rig.drain.leave();
    expect_end(&mut used).await;
    expect_end(&mut unused).await;
    drop((used, unused));
    within("serving ends", rig.serving).await.unwrap();
    assert!(TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn connections_that_arrive_while_draining_are_served() {
    let rig = Rig::with(patient()).await;
    let (_waiting, _app) = rig.connect().await;
    rig.drain.begin();
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    app.write_all(RESPONSE).await.unwrap();
    expect(&mut client, CLOSING).await;
    assert!(!rig.serving.is_finished());
}

#[tokio::test]
async fn listeners_stay_open_while_draining_until_the_process_leaves() {
    let settings = RelaySettings {
        settle: Duration::ZERO,
        ..patient()
    };
    let rig = Rig::with(settings).await;
    rig.drain.begin();
    for _ in 0..3 {
        let (mut client, mut app) = rig.connect().await;
        pass(&mut client, &mut app, REQUEST).await;
        app.write_all(RESPONSE).await.unwrap();
        expect(&mut client, CLOSING).await;
        drop((client, app));
        eventually("the connection is closed", || rig.open() == 0).await;
        // The moment in which a port would close that only waited for this. Too short, it would hide that, no more.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!rig.serving.is_finished());
    rig.drain.leave();
    within("serving ends", rig.serving).await.unwrap();
    assert!(TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn tunnels_and_opaque_connections_outlast_the_drain_until_the_abort() {
    let rig = Rig::with(RelaySettings {
        drain_idle: Duration::from_millis(1),
        ..RelaySettings::default()
    })
    .await;
    let (mut tunnel, mut tunnelled) = rig.connect().await;
    pass(
        &mut tunnel,
        &mut tunnelled,
        b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n",
    )
    .await;
    rig.drain.begin();
    pass(
        &mut tunnelled,
        &mut tunnel,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    )
    .await;
    let (mut opaque, mut server) = rig.connect().await;
    pass(&mut server, &mut opaque, b"220 hello\r\n").await;
    let (mut idle, _app) = rig.connect().await;
    expect_end(&mut idle).await;
    pass(&mut tunnel, &mut tunnelled, REQUEST).await;
    pass(&mut tunnelled, &mut tunnel, RESPONSE).await;
    pass(&mut opaque, &mut server, b"EHLO\r\n").await;
    assert_eq!(rig.count(), 2);
    rig.abort.cancel();
    expect_reset(&mut tunnel).await;
    expect_reset(&mut server).await;
    within("serving ends", rig.serving).await.unwrap();
    assert_eq!(rig.in_flight.snapshot().in_flight, 0);
}

#[tokio::test]
async fn leaving_without_connections_ends_at_once() {
    let rig = Rig::start().await;
    rig.drain.leave();
    within("serving ends", rig.serving).await.unwrap();
}

#[tokio::test]
async fn an_abort_resets_a_response_under_way() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    pass(&mut app, &mut client, b"HTTP/1.1 200 OK\r\n\r\npart").await;
    rig.abort.cancel();
    expect_reset(&mut client).await;
    expect_reset(&mut app).await;
    eventually("nothing is in flight", || rig.count() == 0).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_time: 30_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drain_changes_nothing_but_the_last_head(script in script(), cuts in socket_cuts()) {
        block_on(async {
            let rig = Rig::with(patient()).await;
            let (mut client, mut app) = rig.connect().await;
            // Whatever the app answers only after the tunnel has begun is left out: all of it waits on the client.
            let sent = script.client_may_send(0);
            pass(&mut client, &mut app, &script.from_client[..sent]).await;
            rig.drain.begin();
            let answer = script.from_server.clone();
            let writing = tokio::spawn(async move {
                let mut rest = &answer[..];
                for (_, size) in cuts.iter().cycle() {
                    let (piece, after) = rest.split_at((*size).min(rest.len()));
                    app.write_all(piece).await.unwrap();
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
                app
            });
            let expected = script.drained();
            expect(&mut client, &expected).await;
            let mut app = within("the app has written", writing).await.unwrap();
            let _ = app.shutdown().await;
            expect_end(&mut client).await;
            drop(client);
            drop(app);
            eventually("nothing is in flight", || rig.count() == 0).await;
        });
    }
}
