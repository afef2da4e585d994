//! Draining connections of HTTP/2: clients are told by GOAWAY, and nothing under way is cut.

use std::time::Duration;

use proptest::prelude::*;
use stillwake_proxy::relay::RelaySettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    exchange::{Conversation as _, socket_cuts},
    pair::{GET, OK, PREFACE, Pair, SETTINGS, get},
    rig::{Rig, block_on, eventually, expect, expect_end, pass, within},
    streams::streams,
};

/// Open no more streams; none that were opened is refused.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0";
/// The first stream was the last that was served.
const LAST: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0";

/// Settings under which a drain never closes what is idle.
fn patient() -> RelaySettings {
    RelaySettings {
        drain_idle: Duration::from_hours(1),
        ..RelaySettings::default()
    }
}

/// Settings under which a drain closes what is idle at once.
fn hasty() -> RelaySettings {
    RelaySettings {
        drain_idle: Duration::from_millis(1),
        ..RelaySettings::default()
    }
}

#[tokio::test]
async fn a_client_is_told_while_its_call_is_under_way_and_leaves_after_it() {
    let mut pair = Pair::with(patient()).await;
    let mut exchange = pair.request(get(), false).await;
    pair.rig.drain.leave();
    within("the client hears of it", async {
        while pair.requests.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(pair.rig.count(), 1);
    exchange.upload.send_data("ask".into(), true).unwrap();
    let (mut stream, response) = exchange.respond(false).await;
    stream.send_data("tell".into(), true).unwrap();
    let mut body = response.into_body();
    assert_eq!(
        within("the answer arrives", body.data())
            .await
            .unwrap()
            .unwrap(),
        "tell"
    );
    drop((exchange, body, stream, pair.requests));
    // It closes by itself: what is idle would stay for an hour.
    within("the client ends", pair.client)
        .await
        .unwrap()
        .unwrap();
    within("the server ends", pair.server.ended)
        .await
        .unwrap()
        .unwrap();
    within("serving ends", pair.rig.serving).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_told_and_closed() {
    let pair = Pair::with(hasty()).await;
    pair.rig.drain.leave();
    within("the client ends", pair.client)
        .await
        .unwrap()
        .unwrap();
    within("the server ends", pair.server.ended)
        .await
        .unwrap()
        .unwrap();
    within("serving ends", pair.rig.serving).await.unwrap();
}

#[tokio::test]
async fn streams_that_are_opened_after_it_are_served_and_the_last_one_is_named_at_the_end() {
    let rig = Rig::with(RelaySettings {
        drain_idle: Duration::from_millis(50),
        ..RelaySettings::default()
    })
    .await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, &[PREFACE, SETTINGS].concat()).await;
    pass(&mut app, &mut client, SETTINGS).await;
    rig.drain.begin();
    expect(&mut client, GOAWAY).await;
    pass(&mut client, &mut app, GET).await;
    assert_eq!(rig.count(), 1);
    // Longer than what is idle may stay.
    tokio::time::sleep(Duration::from_millis(100)).await;
    pass(&mut app, &mut client, OK).await;
    expect(&mut client, LAST).await;
    expect_end(&mut client).await;
    expect_end(&mut app).await;
}

#[tokio::test]
async fn the_settings_of_the_server_come_first() {
    let rig = Rig::with(patient()).await;
    rig.drain.begin();
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, &[PREFACE, SETTINGS, GET].concat()).await;
    app.write_all(&[SETTINGS, OK].concat()).await.unwrap();
    expect(&mut client, &[SETTINGS, GOAWAY, OK].concat()).await;
    assert!(!rig.serving.is_finished());
}

#[tokio::test]
async fn an_upgraded_connection_is_told_as_well() {
    let rig = Rig::with(patient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(
        &mut client,
        &mut app,
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
    )
    .await;
    rig.drain.begin();
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n";
    app.write_all(&[switching, SETTINGS, OK].concat())
        .await
        .unwrap();
    expect(&mut client, &[switching, SETTINGS, GOAWAY, OK].concat()).await;
}

#[tokio::test]
async fn a_server_that_says_it_itself_is_not_interrupted() {
    let rig = Rig::with(hasty()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, &[PREFACE, SETTINGS, GET].concat()).await;
    pass(&mut app, &mut client, &[SETTINGS, LAST].concat()).await;
    rig.drain.begin();
    pass(&mut app, &mut client, OK).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_told_when_it_does() {
    let rig = Rig::with(patient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, &[PREFACE, SETTINGS, GET].concat()).await;
    pass(&mut app, &mut client, SETTINGS).await;
    let frame = [&b"\0\x40\0\0\0\0\0\0\x01"[..], &[0; 16 * 1024]].concat();
    let mut sent = 0;
    while let Ok(written) = tokio::time::timeout(
        Duration::from_millis(300),
        app.write(&frame[sent % frame.len()..]),
    )
    .await
    {
        sent += written.unwrap();
    }
    rig.drain.begin();
    // The frame in the middle of which the app was stopped is followed by the notice.
    let rest = frame[sent % frame.len()..].to_vec();
    let writing = tokio::spawn(async move {
        app.write_all(&[&rest, OK].concat()).await.unwrap();
        app
    });
    let mut at = 0;
    let mut told = 0;
    loop {
        let mut head = [0; 9];
        within("a frame arrives", client.read_exact(&mut head))
            .await
            .unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        within("all of it arrives", client.read_exact(&mut payload))
            .await
            .unwrap();
        match head[3] {
            0 => at += head.len() + payload.len(),
            7 => told += 1,
            _ => break,
        }
    }
    assert_eq!(at, sent.div_ceil(frame.len()) * frame.len());
    assert_eq!(told, 1);
    drop(within("the app has written", writing).await.unwrap());
    eventually("nothing is in flight", || rig.count() == 0).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_time: 30_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drain_changes_nothing_but_one_frame_between_others(
        script in streams(),
        cuts in socket_cuts(),
        begins in any::<prop::sample::Index>(),
    ) {
        block_on(async {
            let rig = Rig::with(patient()).await;
            let (mut client, mut app) = rig.connect().await;
            pass(&mut client, &mut app, script.by_client()).await;
            let answer = script.by_server().to_vec();
            let begins = begins.index(answer.len());
            let drain = rig.drain.clone();
            let writing = tokio::spawn(async move {
                let mut at = 0;
                for (_, size) in cuts.iter().cycle() {
                    if at >= begins {
                        drain.begin();
                    }
                    let end = answer.len().min(at + size);
                    app.write_all(&answer[at..end]).await.unwrap();
                    at = end;
                    if at == answer.len() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                app.shutdown().await.unwrap();
                app
            });
            let mut received = Vec::new();
            let all = client.read_to_end(&mut received);
            within("all arrives", all).await.unwrap();
            within("the app has written", writing).await.unwrap();
            let told = script.boundaries().into_iter().find(|at| {
                received.get(*at..at + GOAWAY.len()) == Some(GOAWAY)
                    && received[..*at] == script.by_server()[..*at]
                    && received[at + GOAWAY.len()..] == script.by_server()[*at..]
            });
            let untouched = received == script.by_server();
            assert!(told.is_some() || untouched, "something else has changed");
            drop(client);
            eventually("nothing is in flight", || rig.count() == 0).await;
        });
    }
}
