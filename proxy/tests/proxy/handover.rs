//! Handing over: what comes after the app has stopped listening goes to the successor, and nothing else does.

use std::{net::SocketAddr, time::Duration};

use stillwake_proxy::relay::{HandoverTotals, Relay, RelaySettings, Successor};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::yield_now,
    time::sleep,
};

use crate::rig::{
    Rig, eventually, expect, expect_end, expect_reset, local_listener, pass, reserved_port, within,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PROBE: &[u8] = b"GET / HTTP/1.1\r\nUser-Agent: kube-probe/1.33\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the successor says to what it takes.
const TAKEN: u8 = b'+';

/// Settings under which a drain is not waited for, and does not close what is idle.
fn impatient() -> RelaySettings {
    RelaySettings {
        drain_notice: Duration::ZERO,
        drain_idle: Duration::from_hours(1),
        ..RelaySettings::default()
    }
}

fn introduction(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    format!("{source} to {destination}\n").into_bytes()
}

/// A relay with a successor, and that successor.
async fn start(settings: RelaySettings) -> (Rig, TcpListener) {
    let successor = local_listener().await;
    let known = watch::Sender::new(vec![successor.local_addr().unwrap()]);
    let rig = with_successor(settings, known.subscribe()).await;
    (rig, successor)
}

async fn with_successor(
    settings: RelaySettings,
    addresses: watch::Receiver<Vec<SocketAddr>>,
) -> Rig {
    let successor = Successor::new(addresses, TAKEN, introduction);
    let relay = |settings, in_flight| Relay::new(settings, in_flight).with_successor(successor);
    Rig::of(relay, settings).await
}

/// Has the app refuse connections from here on; returns where it was.
fn stop_listening(rig: &mut Rig) -> SocketAddr {
    let address = rig.app.local_addr().unwrap();
    // Another port's listener takes its place, which nobody dials.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    rig.app = TcpListener::from_std(other).unwrap();
    address
}

/// Returns the successor's end of the next connection, introduced as one of `client` that dialled `app`.
async fn taken(successor: &TcpListener, client: &TcpStream, app: SocketAddr) -> TcpStream {
    let (mut stream, _) = within("the successor accepts", successor.accept())
        .await
        .unwrap();
    let client = client.local_addr().unwrap();
    expect(&mut stream, &introduction(client, app)).await;
    stream.write_all(&[TAKEN]).await.unwrap();
    stream
}

async fn send(rig: &Rig, bytes: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(bytes).await.unwrap();
    client
}

/// Nobody has come to the successor, and nothing has been counted as handed over.
async fn nobody_came(rig: &Rig, successor: &TcpListener) {
    assert_eq!(rig.handovers(), HandoverTotals::default());
    tokio::select! {
        biased;
        came = successor.accept() => panic!("{came:?}"),
        () = yield_now() => {}
    }
}

#[tokio::test]
async fn a_connection_that_the_app_refuses_goes_to_the_successor_and_is_not_in_flight() {
    let (mut rig, successor) = start(impatient()).await;
    let app = stop_listening(&mut rig);
    rig.drain.begin();
    let mut client = send(&rig, REQUEST).await;
    let mut other = taken(&successor, &client, app).await;
    expect(&mut other, REQUEST).await;
    assert_eq!((rig.count(), rig.open()), (0, 1));
    assert_eq!(rig.in_flight.snapshot().requests, 0);
    // What drains elsewhere is not told to close here.
    pass(&mut other, &mut client, RESPONSE).await;
    pass(&mut client, &mut other, REQUEST).await;
    assert_eq!((rig.count(), rig.handovers().taken), (0, 1));

    // Each end goes its own way.
    client.shutdown().await.unwrap();
    expect_end(&mut other).await;
    pass(&mut other, &mut client, b"rest").await;
    drop(other);
    expect_end(&mut client).await;
    eventually("the connection ends", || rig.open() == 0).await;
}

#[tokio::test]
async fn more_than_fits_anywhere_is_handed_over_whole() {
    let (mut rig, successor) = start(impatient()).await;
    let app = stop_listening(&mut rig);
    rig.drain.begin();
    let body: Vec<u8> = (0..=u8::MAX).cycle().take(4 << 20).collect();
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    let address = client.local_addr().unwrap();
    let sent = body.clone();
    let sending = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client
    });
    let (mut other, _) = within("the successor accepts", successor.accept())
        .await
        .unwrap();
    expect(&mut other, &introduction(address, app)).await;
    other.write_all(&[TAKEN]).await.unwrap();
    expect(&mut other, &body).await;
    drop(sending.await.unwrap());
    expect_end(&mut other).await;
}

#[tokio::test]
async fn without_a_drain_a_refused_connection_is_reset() {
    let (mut rig, successor) = start(impatient()).await;
    stop_listening(&mut rig);
    let mut client = send(&rig, REQUEST).await;
    expect_reset(&mut client).await;
    nobody_came(&rig, &successor).await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_stops_before_the_drain_begins_loses_nothing() {
    let settings = RelaySettings {
        drain_notice: Duration::from_hours(1),
        ..impatient()
    };
    let (mut rig, successor) = start(settings).await;
    // It has to have listened: one that starts is refused at once.
    let (mut early, mut reached) = rig.connect().await;
    pass(&mut early, &mut reached, REQUEST).await;
    reached.set_zero_linger().unwrap();
    drop(reached);
    expect_reset(&mut early).await;
    let app = stop_listening(&mut rig);
    let client = send(&rig, REQUEST).await;
    // The clock jumps as soon as all else waits.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.count(), 1);
    let before = rig.in_flight.snapshot().requests;
    rig.drain.begin();
    let mut other = taken(&successor, &client, app).await;
    expect(&mut other, REQUEST).await;
    assert_eq!(rig.count(), 0);
    // It is taken back out of the next one, since a reader has seen it.
    drop(rig.in_flight.begin());
    assert_eq!(rig.in_flight.snapshot().requests, before);
}

#[tokio::test]
async fn an_app_that_has_never_listened_is_not_waited_for() {
    let settings = RelaySettings {
        drain_notice: Duration::from_hours(1),
        ..impatient()
    };
    let (mut rig, successor) = start(settings).await;
    stop_listening(&mut rig);
    let mut client = send(&rig, REQUEST).await;
    expect_reset(&mut client).await;
    nobody_came(&rig, &successor).await;
}

#[tokio::test]
async fn probes_and_scrapes_are_not_handed_over() {
    let (mut rig, successor) = start(impatient()).await;
    stop_listening(&mut rig);
    rig.drain.begin();
    let mut client = send(&rig, PROBE).await;
    expect_reset(&mut client).await;
    let mut looks = TcpStream::connect(rig.address).await.unwrap();
    looks.shutdown().await.unwrap();
    expect_reset(&mut looks).await;
    nobody_came(&rig, &successor).await;
    // One that counts behind one that does not is enough.
    let _both = send(&rig, &[PROBE, REQUEST].concat()).await;
    within("the successor accepts", successor.accept())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_waits_for_the_server_to_speak_is_handed_over() {
    let (mut rig, successor) = start(impatient()).await;
    let app = stop_listening(&mut rig);
    rig.drain.begin();
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    let mut other = taken(&successor, &client, app).await;
    pass(&mut other, &mut client, b"220 ready\r\n").await;
}

#[tokio::test]
async fn without_anybody_who_takes_it_a_connection_is_reset() {
    let nowhere = reserved_port();
    let known = watch::Sender::new(vec![nowhere.local_addr().unwrap()]);
    let mut rig = with_successor(impatient(), known.subscribe()).await;
    stop_listening(&mut rig);
    rig.drain.begin();
    let mut client = send(&rig, REQUEST).await;
    expect_reset(&mut client).await;
    assert_eq!(
        rig.handovers(),
        HandoverTotals {
            taken: 0,
            failed: 1
        }
    );
    assert_eq!(rig.count(), 0);
}

#[tokio::test]
async fn a_successor_that_is_found_late_is_waited_for_and_the_next_address_is_tried() {
    let successor = local_listener().await;
    let nowhere = reserved_port();
    let known = watch::Sender::new(Vec::new());
    let mut rig = with_successor(impatient(), known.subscribe()).await;
    let app = stop_listening(&mut rig);
    rig.drain.begin();
    let client = send(&rig, REQUEST).await;
    eventually("it is accepted", || rig.open() == 1).await;
    let both = [nowhere.local_addr(), successor.local_addr()];
    known.send_replace(both.map(Result::unwrap).to_vec());
    let mut other = taken(&successor, &client, app).await;
    expect(&mut other, REQUEST).await;
}

#[tokio::test]
async fn only_a_successor_that_takes_a_connection_is_sent_its_bytes() {
    let knows_nobody = local_listener().await;
    let successor = local_listener().await;
    let both = [&knows_nobody, &successor].map(|listener| listener.local_addr().unwrap());
    let known = watch::Sender::new(both.to_vec());
    let mut rig = with_successor(impatient(), known.subscribe()).await;
    let app = stop_listening(&mut rig);
    rig.drain.begin();
    let client = send(&rig, REQUEST).await;
    let (mut asked, _) = within("the first is asked", knows_nobody.accept())
        .await
        .unwrap();
    let introduced = introduction(client.local_addr().unwrap(), app);
    expect(&mut asked, &introduced).await;
    asked.write_all(b"-").await.unwrap();
    expect_end(&mut asked).await;
    let mut other = taken(&successor, &client, app).await;
    expect(&mut other, REQUEST).await;
    assert_eq!(rig.handovers().taken, 1);
}

/// Settings under which the app is told to stop so long after the drain began.
fn stopping(delay: Duration) -> RelaySettings {
    RelaySettings {
        stop_delay: Some(delay),
        ..impatient()
    }
}

#[tokio::test]
async fn what_comes_in_the_last_second_before_the_app_is_told_to_stop_goes_to_the_successor() {
    let (rig, successor) = start(stopping(Duration::from_secs(1))).await;
    let (mut before, mut served) = rig.connect().await;
    pass(&mut before, &mut served, &REQUEST[..9]).await;
    rig.drain.begin();
    let client = send(&rig, REQUEST).await;
    let mut other = taken(&successor, &client, rig.app.local_addr().unwrap()).await;
    expect(&mut other, REQUEST).await;
    assert_eq!((rig.count(), rig.open()), (1, 2));
    // What the app has begun, and what asks about this very pod, is not touched.
    pass(&mut before, &mut served, &REQUEST[9..]).await;
    served.write_all(RESPONSE).await.unwrap();
    expect(&mut before, b"HTTP/1.1 200 OK\r\n").await;
    let _probe = send(&rig, PROBE).await;
    let (mut probed, _) = within("the app accepts", rig.app.accept()).await.unwrap();
    expect(&mut probed, PROBE).await;
    assert_eq!(rig.handovers().taken, 1);
}

#[tokio::test]
async fn a_silent_connection_of_before_goes_to_the_successor_with_its_first_bytes_in_that_second() {
    let (rig, successor) = start(stopping(Duration::from_secs(1))).await;
    let (mut client, mut app) = rig.connect().await;
    rig.drain.begin();
    client.write_all(REQUEST).await.unwrap();
    let mut other = taken(&successor, &client, rig.app.local_addr().unwrap()).await;
    expect(&mut other, REQUEST).await;
    expect_end(&mut app).await;
}

/// A kept connection whose first request has been answered before the drain began.
async fn kept(settings: RelaySettings) -> (Rig, TcpListener, TcpStream, TcpStream) {
    let (rig, successor) = start(settings).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    pass(&mut app, &mut client, RESPONSE).await;
    rig.drain.begin();
    (rig, successor, client, app)
}

#[tokio::test]
async fn the_next_request_of_a_kept_connection_goes_to_the_successor_in_that_second() {
    let (rig, successor, mut client, mut app) = kept(stopping(Duration::from_secs(1))).await;
    // In two parts: what tells that somebody asks is its first byte.
    client.write_all(&REQUEST[..1]).await.unwrap();
    let mut other = taken(&successor, &client, rig.app.local_addr().unwrap()).await;
    expect(&mut other, &REQUEST[..1]).await;
    pass(&mut client, &mut other, &REQUEST[1..]).await;
    pass(&mut other, &mut client, RESPONSE).await;
    assert_eq!((rig.count(), rig.handovers().taken), (0, 1));
    // The app has got nothing of it, and is told by a close and not by a reset.
    expect_end(&mut app).await;
}

#[tokio::test]
async fn until_then_the_next_request_of_a_kept_connection_is_the_apps() {
    let (rig, successor, mut client, mut app) = kept(stopping(Duration::from_hours(1))).await;
    pass(&mut client, &mut app, REQUEST).await;
    app.write_all(RESPONSE).await.unwrap();
    expect(
        &mut client,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n",
    )
    .await;
    nobody_came(&rig, &successor).await;
}

#[tokio::test]
async fn a_next_request_that_no_successor_takes_goes_to_the_app_anew() {
    let (rig, successor, mut client, mut app) = kept(stopping(Duration::from_secs(1))).await;
    client.write_all(REQUEST).await.unwrap();
    drop(within("the successor accepts", successor.accept()).await);
    expect_end(&mut app).await;
    let (mut anew, _) = within("the app accepts", rig.app.accept()).await.unwrap();
    expect(&mut anew, REQUEST).await;
    assert_eq!((rig.count(), rig.handovers().failed), (1, 1));
    anew.write_all(RESPONSE).await.unwrap();
    expect(&mut client, b"HTTP/1.1 200 OK\r\n").await;
}

/// As [`kept`], where the app has then ended the connection, with a close or by a reset.
async fn kept_and_ended(by_reset: bool) -> (Rig, TcpListener, TcpStream) {
    let (rig, successor, client, app) = kept(impatient()).await;
    if by_reset {
        app.set_zero_linger().unwrap();
    }
    drop(app);
    (rig, successor, client)
}

#[tokio::test]
async fn a_kept_connection_that_the_app_ends_goes_on_with_the_next_request() {
    for by_reset in [true, false] {
        let (mut rig, successor, mut client) = kept_and_ended(by_reset).await;
        let app = stop_listening(&mut rig);
        client.write_all(REQUEST).await.unwrap();
        let mut other = taken(&successor, &client, app).await;
        expect(&mut other, REQUEST).await;
        assert_eq!(rig.count(), 0);
        pass(&mut other, &mut client, RESPONSE).await;
    }
}

#[tokio::test]
async fn at_an_app_that_listens_it_goes_on_there() {
    let (rig, successor, mut client) = kept_and_ended(false).await;
    client.write_all(REQUEST).await.unwrap();
    let (mut anew, _) = within("the app accepts", rig.app.accept()).await.unwrap();
    expect(&mut anew, REQUEST).await;
    assert_eq!(rig.count(), 1);
    nobody_came(&rig, &successor).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_idle_is_not_told_that_the_app_has_ended() {
    for by_reset in [true, false] {
        let (rig, _successor, mut client) = kept_and_ended(by_reset).await;
        // The clock jumps as soon as all else waits.
        sleep(Duration::from_secs(1)).await;
        let ended = client.try_read(&mut [0]).unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::WouldBlock);
        client.write_all(REQUEST).await.unwrap();
        let (mut anew, _) = within("the app accepts", rig.app.accept()).await.unwrap();
        expect(&mut anew, REQUEST).await;
        anew.write_all(RESPONSE).await.unwrap();
        expect(&mut client, b"HTTP/1.1 200 OK\r\n").await;
    }
}

#[tokio::test]
async fn a_client_that_ends_a_kept_connection_after_the_app_is_not_waited_for() {
    let (rig, successor, client) = kept_and_ended(false).await;
    drop(client);
    eventually("the connection ends", || rig.open() == 0).await;
    nobody_came(&rig, &successor).await;
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_the_app_ended_is_closed_when_it_has_been_idle_for_long() {
    let settings = RelaySettings {
        drain_idle: Duration::from_secs(5),
        ..impatient()
    };
    for by_reset in [true, false] {
        let (rig, successor, mut client, app) = kept(settings.clone()).await;
        if by_reset {
            app.set_zero_linger().unwrap();
        }
        drop(app);
        expect_end(&mut client).await;
        nobody_came(&rig, &successor).await;
    }
}

#[tokio::test]
async fn without_a_successor_the_apps_end_is_passed_on_at_once() {
    let rig = Rig::with(impatient()).await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    pass(&mut app, &mut client, RESPONSE).await;
    rig.drain.begin();
    drop(app);
    expect_end(&mut client).await;
}

#[tokio::test]
async fn until_then_it_goes_to_the_app() {
    let (rig, successor) = start(stopping(Duration::from_hours(1))).await;
    rig.drain.begin();
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    nobody_came(&rig, &successor).await;
}

#[tokio::test]
async fn what_no_successor_takes_is_the_apps_as_long_as_it_listens() {
    let nowhere = reserved_port();
    let known = watch::Sender::new(vec![nowhere.local_addr().unwrap()]);
    let settings = stopping(Duration::from_secs(1));
    let rig = with_successor(settings, known.subscribe()).await;
    rig.drain.begin();
    let _client = send(&rig, REQUEST).await;
    let (mut app, _) = within("the app accepts", rig.app.accept()).await.unwrap();
    expect(&mut app, REQUEST).await;
    assert_eq!((rig.count(), rig.handovers().failed), (1, 1));
}

/// A connection that the app, or the kernel for it, accepted and ended without having got anything.
async fn ended_unserved(by_reset: bool) -> (Rig, TcpListener, TcpStream) {
    let (rig, successor) = start(impatient()).await;
    let (client, app) = rig.connect().await;
    rig.drain.begin();
    if by_reset {
        app.set_zero_linger().unwrap();
    }
    drop(app);
    (rig, successor, client)
}

#[tokio::test]
async fn a_connection_that_ends_in_the_apps_backlog_goes_on_if_the_app_has_got_nothing() {
    for by_reset in [true, false] {
        let (rig, successor, mut client) = ended_unserved(by_reset).await;
        client.write_all(REQUEST).await.unwrap();
        let mut other = taken(&successor, &client, rig.app.local_addr().unwrap()).await;
        expect(&mut other, REQUEST).await;
        assert_eq!(rig.count(), 0);
    }
}

#[tokio::test]
async fn a_silent_connection_that_the_app_ends_has_ended() {
    let (rig, successor, mut client) = ended_unserved(false).await;
    expect_end(&mut client).await;
    nobody_came(&rig, &successor).await;
}

#[tokio::test]
async fn what_the_app_has_begun_it_has_to_end() {
    let (rig, successor) = start(impatient()).await;
    let (mut client, mut app) = rig.connect().await;
    rig.drain.begin();
    pass(&mut app, &mut client, b"220 ready\r\n").await;
    app.set_zero_linger().unwrap();
    drop(app);
    let _ = client.write_all(b"EHLO a\r\n").await;
    expect_reset(&mut client).await;
    nobody_came(&rig, &successor).await;
}

#[tokio::test]
async fn what_the_app_has_got_is_never_sent_again() {
    let (rig, successor) = start(impatient()).await;
    let (mut client, mut app) = rig.connect().await;
    rig.drain.begin();
    pass(&mut client, &mut app, b"G").await;
    app.set_zero_linger().unwrap();
    drop(app);
    let _ = client.write_all(&REQUEST[1..]).await;
    expect_reset(&mut client).await;
    nobody_came(&rig, &successor).await;
}
