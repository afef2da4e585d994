//! HTTP/2 between a real client and a real server: what is in flight at each moment, and that neither notices.

use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    pair::{GET, OK, PREFACE, Pair, SETTINGS, get},
    rig::{Rig, eventually, expect_end, expect_reset, pass, within},
};

/// Waits for the next part of a body and checks it.
async fn part(body: &mut RecvStream, expected: &[u8]) {
    let part = within("a part arrives", body.data())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(part, expected);
    body.flow_control().release_capacity(part.len()).unwrap();
}

#[tokio::test]
async fn a_unary_call_counts_from_its_head_to_the_end_of_its_answer() {
    let mut pair = Pair::start().await;
    pair.count_is(0).await;
    for served in 1..=3 {
        let mut exchange = pair.request(get(), false).await;
        pair.count_is(1).await;
        exchange.upload.send_data("ask".into(), true).unwrap();
        part(exchange.request.body_mut(), b"ask").await;
        pair.count_is(1).await;
        let (mut stream, mut response) = exchange.respond(false).await;
        pair.count_is(1).await;
        stream.send_data("tell".into(), true).unwrap();
        part(response.body_mut(), b"tell").await;
        pair.count_is(0).await;
        assert_eq!(pair.rig.in_flight.snapshot().requests, served);
    }
}

#[tokio::test]
async fn a_stream_of_both_sides_counts_until_both_have_ended_it() {
    let mut pair = Pair::start().await;
    let mut exchange = pair.request(get(), false).await;
    let (mut stream, mut response) = exchange.respond(false).await;
    for _ in 0..5 {
        exchange.upload.send_data("ping".into(), false).unwrap();
        part(exchange.request.body_mut(), b"ping").await;
        stream.send_data("pong".into(), false).unwrap();
        part(response.body_mut(), b"pong").await;
        assert_eq!(pair.rig.count(), 1);
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert!(
        within("the answer ends", response.body_mut().data())
            .await
            .is_none_or(|end| end.unwrap().is_empty())
    );
    assert_eq!(pair.rig.count(), 1);
    exchange.upload.send_data(Bytes::new(), true).unwrap();
    pair.count_is(0).await;
}

#[tokio::test]
async fn trailers_of_either_side_end_it_as_well() {
    let mut pair = Pair::start().await;
    let trailers =
        || HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let mut exchange = pair.request(get(), false).await;
    exchange.upload.send_trailers(trailers()).unwrap();
    let (mut stream, mut response) = exchange.respond(false).await;
    pair.count_is(1).await;
    stream.send_trailers(trailers()).unwrap();
    let arrived = within("trailers arrive", response.body_mut().trailers()).await;
    assert_eq!(arrived.unwrap(), Some(trailers()));
    pair.count_is(0).await;
}

#[tokio::test]
async fn an_interim_answer_is_not_the_end() {
    let mut pair = Pair::start().await;
    let mut exchange = pair.request(get(), true).await;
    let early = Response::builder().status(103).body(()).unwrap();
    exchange.answer.send_informational(early).unwrap();
    let (_, response) = {
        pair.count_is(1).await;
        exchange.respond(true).await
    };
    assert_eq!(response.status(), 200);
    pair.count_is(0).await;
}

#[tokio::test]
async fn a_reset_by_either_side_ends_it() {
    let mut pair = Pair::start().await;
    let mut exchange = pair.request(get(), false).await;
    exchange.upload.send_reset(Reason::CANCEL);
    let reset = within("the reset arrives", exchange.request.body_mut().data()).await;
    assert_eq!(reset.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
    pair.count_is(0).await;

    let mut exchange = pair.request(get(), false).await;
    pair.count_is(1).await;
    exchange.answer.send_reset(Reason::REFUSED_STREAM);
    let reset = within("the reset arrives", exchange.response).await;
    assert_eq!(reset.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
    pair.count_is(0).await;
}

#[tokio::test]
async fn many_streams_count_each_for_itself() {
    let mut pair = Pair::start().await;
    let mut exchanges = Vec::new();
    for number in 1..=100 {
        exchanges.push(pair.request(get(), number % 2 == 0).await);
        pair.count_is(number).await;
    }
    // In an order of its own.
    let mut left = 100;
    while !exchanges.is_empty() {
        let mut exchange = exchanges.swap_remove(exchanges.len() / 3);
        if left % 3 == 0 {
            exchange.answer.send_reset(Reason::INTERNAL_ERROR);
        } else {
            exchange.respond(true).await;
            let _ = exchange.upload.send_data(Bytes::new(), true);
        }
        left -= 1;
        pair.count_is(left).await;
    }
    assert_eq!(pair.rig.in_flight.snapshot().requests, 100);
}

#[tokio::test]
async fn a_server_that_goes_away_finishes_what_is_in_flight() {
    let mut pair = Pair::start().await;
    let mut exchange = pair.request(get(), true).await;
    pair.server.goes_away.send(()).unwrap();
    within("the client hears of it", async {
        while pair.requests.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(pair.rig.count(), 1);
    exchange.respond(true).await;
    eventually("nothing is in flight", || pair.rig.count() == 0).await;
    drop((exchange, pair.requests));
    within("the client ends", pair.client)
        .await
        .unwrap()
        .unwrap();
    within("the server ends", pair.server.ended)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_client_that_is_gone_has_nothing_in_flight() {
    let mut pair = Pair::start().await;
    let mut exchange = pair.request(get(), false).await;
    let _another = pair.request(get(), true).await;
    pair.count_is(2).await;
    pair.client.abort();
    let gone = within("the end arrives", exchange.request.body_mut().data()).await;
    assert!(gone.is_none_or(|part| part.is_err()));
    pair.count_is(0).await;
}

#[tokio::test]
async fn an_app_that_breaks_the_connection_is_a_reset_only_while_something_is_asked_of_it() {
    let rig = Rig::start().await;
    for (answer, is_answered) in [(&b""[..], false), (&OK[..5], false), (OK, true)] {
        let (mut client, mut app) = rig.connect().await;
        pass(&mut client, &mut app, &[PREFACE, SETTINGS, GET].concat()).await;
        pass(&mut app, &mut client, &[SETTINGS, answer].concat()).await;
        app.set_zero_linger().unwrap();
        drop(app);
        if is_answered {
            expect_end(&mut client).await;
        } else {
            expect_reset(&mut client).await;
        }
        eventually("nothing is in flight", || rig.count() == 0).await;
    }
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_once() {
    const SIZE: usize = 5_000_000;
    let mut pair = Pair::start().await;
    let mut exchange = pair.request(get(), false).await;
    let (stream, response) = exchange.respond(false).await;
    let contents: Bytes = (0..SIZE / 4)
        .flat_map(|number: usize| number.to_le_bytes()[..4].to_vec())
        .collect();
    let receive = async |mut body: RecvStream| {
        let mut received = Vec::new();
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            body.flow_control().release_capacity(part.len()).unwrap();
            received.extend_from_slice(&part);
        }
        received
    };
    let send = async |mut stream: SendStream<Bytes>| {
        let mut rest = contents.clone();
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len().min(100_000));
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
            let room = room.unwrap().unwrap().min(rest.len());
            stream
                .send_data(rest.split_to(room), rest.is_empty())
                .unwrap();
        }
    };
    let all = async {
        tokio::join!(
            send(exchange.upload),
            receive(exchange.request.into_body()),
            send(stream),
            receive(response.into_body()),
        )
    };
    let ((), at_server, (), at_client) = within("all has passed", all).await;
    assert!(at_server == contents, "the server got other bytes");
    assert!(at_client == contents, "the client got other bytes");
    pair.count_is(0).await;
}

#[tokio::test]
async fn probes_are_relayed_and_never_seen_in_the_count() {
    let mut pair = Pair::start().await;
    let edge = async |pair: &Pair| {
        timeout(Duration::ZERO, pair.rig.in_flight.edge())
            .await
            .is_ok()
    };
    let probe = || {
        Request::post("http://10.0.0.1:8080/grpc.health.v1.Health/Check")
            .header("user-agent", "kube-probe/1.35 grpc-go/1.76.0")
            .body(())
            .unwrap()
    };
    // The first one spells it out, the others refer to the first.
    for _ in 0..3 {
        let mut exchange = pair.request(probe(), false).await;
        exchange
            .upload
            .send_data("\0\0\0\0\0".into(), true)
            .unwrap();
        exchange.respond(true).await;
        assert!(!edge(&pair).await);
    }
    let other = Request::get("http://10.0.0.1:8080/").header("user-agent", "grpc-go/1.76.0");
    let _exchange = pair.request(other.body(()).unwrap(), true).await;
    pair.count_is(1).await;
    assert_eq!(pair.rig.in_flight.snapshot().requests, 1);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_counted_by_stream_all_the_same() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut app, &mut client, &SETTINGS[..2]).await;
    pass(&mut app, &mut client, &SETTINGS[2..]).await;
    assert_eq!(rig.count(), 0);
    pass(&mut client, &mut app, PREFACE).await;
    pass(&mut client, &mut app, SETTINGS).await;
    assert_eq!(rig.count(), 0);
    pass(&mut client, &mut app, GET).await;
    assert_eq!(rig.count(), 1);
    pass(&mut app, &mut client, OK).await;
    eventually("the request has ended", || rig.count() == 0).await;
    assert_eq!(rig.in_flight.snapshot().requests, 1);
}

#[tokio::test]
async fn what_only_began_like_http2_counts_as_one_connection() {
    let rig = Rig::start().await;
    for (greeting, up, down) in [
        // Settings, and then a request of HTTP/1.
        (SETTINGS, &b"GET / HTTP/1.1\r\n\r\n"[..], &b""[..]),
        // An app that knows no HTTP/2.
        (
            b"",
            &[PREFACE, SETTINGS].concat(),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ),
        // A frame on a stream that a client may not open.
        (
            b"",
            &[PREFACE, SETTINGS, b"\0\0\x01\x01\x05\0\0\0\x02\x82"].concat(),
            SETTINGS,
        ),
    ] {
        let (mut client, mut app) = rig.connect().await;
        pass(&mut app, &mut client, greeting).await;
        pass(&mut client, &mut app, up).await;
        pass(&mut app, &mut client, down).await;
        pass(&mut client, &mut app, b"anything").await;
        eventually("the connection counts", || rig.count() == 1).await;
        drop((client, app));
        eventually("it has ended", || rig.count() == 0).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_upgraded_counts_by_stream_from_there_on() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    let request = b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\nContent-Length: 2\r\n\r\nhi";
    pass(&mut client, &mut app, request).await;
    assert_eq!(rig.count(), 1);
    let switching =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    pass(&mut app, &mut client, &[switching, SETTINGS].concat()).await;
    pass(&mut client, &mut app, &[PREFACE, SETTINGS].concat()).await;
    assert_eq!(rig.count(), 1);
    pass(&mut app, &mut client, OK).await;
    eventually("the request has ended", || rig.count() == 0).await;
    let mut third = GET.to_vec();
    third[8] = 3;
    pass(&mut client, &mut app, &third).await;
    assert_eq!(rig.count(), 1);
    client.shutdown().await.unwrap();
    expect_end(&mut app).await;
    drop(app);
    expect_end(&mut client).await;
    eventually("nothing is in flight", || rig.count() == 0).await;
    assert_eq!(rig.in_flight.snapshot().requests, 2);
}

#[tokio::test]
async fn an_upgrade_to_something_else_is_still_a_tunnel() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(
        &mut client,
        &mut app,
        b"GET / HTTP/1.1\r\nUpgrade: h2c, websocket\r\n\r\n",
    )
    .await;
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    pass(&mut app, &mut client, switching).await;
    pass(&mut app, &mut client, SETTINGS).await;
    pass(&mut client, &mut app, PREFACE).await;
    assert_eq!(rig.count(), 1);
}
