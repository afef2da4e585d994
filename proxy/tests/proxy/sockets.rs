//! The relay between real sockets: what it counts, what it passes on, and how it ends.

use std::{sync::Arc, time::Duration};

use socket2::SockRef;
use stillwake_proxy::{
    drain::Drain,
    in_flight::InFlight,
    listener::serve,
    relay::{Relay, RelaySettings, Upstream},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, eventually, expect, expect_end, expect_reset, local_listener, pass, within};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_keep_alive_connection_counts_only_while_a_request_is_under_way() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    assert_eq!(rig.count(), 0);
    for served in 1..=3 {
        pass(&mut client, &mut app, REQUEST).await;
        assert_eq!(rig.count(), 1);
        pass(&mut app, &mut client, RESPONSE).await;
        eventually("the request has ended", || rig.count() == 0).await;
        assert_eq!(rig.in_flight.snapshot().requests, served);
    }
}

#[tokio::test]
async fn an_upgraded_connection_counts_one_until_both_sides_close() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(
        &mut client,
        &mut app,
        b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    pass(
        &mut app,
        &mut client,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    )
    .await;
    for _ in 0..3 {
        pass(&mut client, &mut app, REQUEST).await;
        pass(&mut app, &mut client, RESPONSE).await;
        assert_eq!(rig.count(), 1);
    }
    client.shutdown().await.unwrap();
    expect_end(&mut app).await;
    pass(&mut app, &mut client, b"the last words").await;
    assert_eq!(rig.count(), 1);
    drop(app);
    expect_end(&mut client).await;
    eventually("the tunnel has ended", || rig.count() == 0).await;
    assert_eq!(rig.in_flight.snapshot().requests, 1);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_and_its_connection_counts_while_bytes_move() {
    let window = Duration::from_millis(50);
    let rig = Rig::with(RelaySettings {
        opaque_idle_window: window,
        ..RelaySettings::default()
    })
    .await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut app, &mut client, b"220 mail.example.com ESMTP\r\n").await;
    eventually("the connection counts", || {
        rig.in_flight.snapshot().requests == 1
    })
    .await;
    eventually("it is idle", || rig.count() == 0).await;
    pass(&mut client, &mut app, b"EHLO client.example.com\r\n").await;
    assert_eq!(rig.in_flight.snapshot().requests, 2);
}

#[tokio::test]
async fn tls_counts_as_one_connection() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    let record = b"\x16\x03\x01\x02\0\x01\0";
    pass(&mut client, &mut app, record).await;
    pass(&mut app, &mut client, record).await;
    pass(&mut client, &mut app, record).await;
    assert_eq!(rig.count(), 1);
    drop((client, app));
    eventually("it has ended", || rig.count() == 0).await;
    assert_eq!(rig.in_flight.snapshot().requests, 1);
}

#[tokio::test]
async fn the_first_byte_of_a_request_is_passed_on_and_counted_at_once() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    for byte in REQUEST {
        pass(&mut client, &mut app, &[*byte]).await;
        assert_eq!(rig.count(), 1);
    }
}

#[tokio::test]
async fn a_probe_is_relayed_and_never_seen_in_the_count() {
    let rig = Rig::start().await;
    let edge = async || timeout(Duration::ZERO, rig.in_flight.edge()).await.is_ok();
    let (mut client, mut app) = rig.connect().await;
    let probe = b"GET /healthz HTTP/1.1\r\nUser-Agent: kube-probe/1.33\r\n\r\n";
    pass(&mut client, &mut app, probe).await;
    pass(&mut app, &mut client, RESPONSE).await;
    assert!(!edge().await);
    pass(&mut client, &mut app, REQUEST).await;
    assert_eq!(rig.in_flight.snapshot().requests, 1);
    assert!(edge().await);
}

#[tokio::test]
async fn a_client_that_has_sent_all_still_gets_its_answer() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    client.write_all(REQUEST).await.unwrap();
    client.shutdown().await.unwrap();
    expect(&mut app, REQUEST).await;
    expect_end(&mut app).await;
    assert_eq!(rig.count(), 1);
    pass(&mut app, &mut client, RESPONSE).await;
    drop(app);
    expect_end(&mut client).await;
    eventually("the request has ended", || rig.count() == 0).await;
}

#[tokio::test]
async fn a_server_that_has_sent_all_still_hears_the_client() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(
        &mut client,
        &mut app,
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n",
    )
    .await;
    pass(&mut app, &mut client, b"HTTP/1.1 200 OK\r\n\r\nuntil close").await;
    assert_eq!(rig.count(), 1);
    app.shutdown().await.unwrap();
    expect_end(&mut client).await;
    eventually("the response has ended", || rig.count() == 0).await;
    pass(&mut client, &mut app, b"body").await;
    drop(client);
    expect_end(&mut app).await;
}

#[tokio::test]
async fn large_chunked_bodies_pass_unchanged_both_ways() {
    let rig = Rig::start().await;
    let (client, app) = rig.connect().await;
    let mut message = b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for body in [&mut message, &mut response] {
        while body.len() < 5_000_000 {
            let chunk: [u8; 4099] = rand::random();
            body.extend_from_slice(b"1003;x=y\r\n");
            body.extend_from_slice(&chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\nDigest: none\r\n\r\n");
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_app, mut to_app) = app.into_split();
    let (mut at_app, mut at_client) = (vec![0; message.len()], vec![0; response.len()]);
    let all = async {
        tokio::try_join!(
            to_client.write_all(&message),
            from_app.read_exact(&mut at_app),
            to_app.write_all(&response),
            from_client.read_exact(&mut at_client),
        )
    };
    within("all has passed", all).await.unwrap();
    assert!(at_app == message, "the app got other bytes");
    assert!(at_client == response, "the client got other bytes");
    eventually("the request has ended", || rig.count() == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_app_and_later_gets_everything() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    SockRef::from(&app).set_send_buffer_size(64 * 1024).unwrap();
    pass(&mut client, &mut app, REQUEST).await;
    app.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let chunk = [b'x'; 16 * 1024];
    let mut sent = 0;
    // Far below what a relay that buffers would take, far above all socket buffers in between.
    while let Ok(written) = timeout(Duration::from_millis(300), app.write(&chunk)).await {
        sent += written.unwrap();
        assert!(sent < 64 * 1024 * 1024, "the relay buffers without bound");
    }
    assert_eq!(rig.count(), 1);
    drop(app);
    let mut received = Vec::new();
    within("the rest arrives", client.read_to_end(&mut received))
        .await
        .unwrap();
    assert_eq!(received.len(), b"HTTP/1.1 200 OK\r\n\r\n".len() + sent);
    eventually("the response has ended", || rig.count() == 0).await;
}

#[tokio::test]
async fn a_client_that_cancels_is_a_reset_for_the_app() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    client.set_zero_linger().unwrap();
    drop(client);
    expect_reset(&mut app).await;
    eventually("the request has ended", || rig.count() == 0).await;
}

#[tokio::test]
async fn a_client_that_cancels_an_upload_nobody_takes_is_noticed() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(
        &mut client,
        &mut app,
        b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    )
    .await;
    let chunk = vec![b'x'; 256 * 1024];
    while timeout(Duration::from_millis(300), client.write(&chunk))
        .await
        .is_ok()
    {}
    assert_eq!(rig.count(), 1);
    client.set_zero_linger().unwrap();
    drop(client);
    eventually("the request has ended", || rig.count() == 0).await;
}

#[tokio::test]
async fn an_app_that_dies_in_a_body_is_a_reset_for_the_client() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    pass(&mut client, &mut app, REQUEST).await;
    pass(&mut app, &mut client, b"HTTP/1.1 200 OK\r\n\r\ncut").await;
    app.set_zero_linger().unwrap();
    drop(app);
    expect_reset(&mut client).await;
    eventually("the request has ended", || rig.count() == 0).await;
}

#[tokio::test]
async fn a_body_cut_by_the_app_is_a_reset_also_when_writing_finds_out_first() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    let head = b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n";
    pass(&mut client, &mut app, head).await;
    pass(&mut app, &mut client, b"HTTP/1.1 200 OK\r\n\r\ncut").await;
    app.set_zero_linger().unwrap();
    // Nothing is awaited in between, so the relay finds both at once, and takes the client's bytes first.
    drop(app);
    client.try_write(b"more").unwrap();
    expect_reset(&mut client).await;
}

#[tokio::test]
async fn a_request_to_a_server_that_has_closed_is_not_in_flight() {
    let rig = Rig::start().await;
    let (mut client, mut app) = rig.connect().await;
    app.shutdown().await.unwrap();
    expect_end(&mut client).await;
    pass(&mut client, &mut app, REQUEST).await;
    assert_eq!(rig.count(), 0);
}

#[tokio::test]
async fn a_client_that_goes_on_after_the_app_is_gone_is_closed() {
    let rig = Rig::with(RelaySettings {
        linger: Duration::from_millis(1),
        ..RelaySettings::default()
    })
    .await;
    let (mut client, app) = rig.connect().await;
    drop(app);
    expect_end(&mut client).await;
    eventually("writing fails", || {
        let written = client.try_write(b"x");
        written.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_arrives_though_the_app_closes_without_reading_the_upload() {
    // Little is written when the app resets, and reading finds out; much is still being written, and that does.
    for upload in [10, 1_000_000] {
        let rig = Rig::start().await;
        let (mut client, mut app) = rig.connect().await;
        let head = b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n";
        pass(&mut client, &mut app, head).await;
        let upload = vec![b'x'; upload];
        assert!(client.try_write(&upload).unwrap() > 0);
        within("the upload has come", app.peek(&mut [0]))
            .await
            .unwrap();
        let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
        app.write_all(refusal).await.unwrap();
        // Closed with bytes unread: the kernel resets.
        drop(app);
        expect(&mut client, refusal).await;
        expect_end(&mut client).await;
        eventually("the request has ended", || rig.count() == 0).await;
    }
}

#[tokio::test]
async fn an_app_that_cannot_be_reached_is_a_reset_for_the_client() {
    let gone = local_listener().await;
    let upstream = Upstream::Fixed(gone.local_addr().unwrap());
    drop(gone);
    let listener = local_listener().await;
    let address = listener.local_addr().unwrap();
    let in_flight = InFlight::new();
    let relay = Arc::new(Relay::new(RelaySettings::default(), in_flight.clone()));
    let serving = serve(
        listener,
        upstream,
        relay,
        Drain::default(),
        CancellationToken::new(),
    );
    let serving = tokio::spawn(serving);
    let mut client = TcpStream::connect(address).await.unwrap();
    expect_reset(&mut client).await;
    eventually("nothing is in flight", || {
        in_flight.snapshot().in_flight == 0
    })
    .await;
    serving.abort();
}

#[tokio::test]
async fn what_arrives_while_the_app_is_dialled_is_counted_and_passed_on() {
    // A backlog that is full leaves the connection in the middle of its handshake until the app accepts.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let app = socket.listen(1).unwrap();
    let app_address = app.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(filler) =
        timeout(Duration::from_millis(200), TcpStream::connect(app_address)).await
    {
        filling.push(filler.unwrap());
    }
    let listener = local_listener().await;
    let address = listener.local_addr().unwrap();
    let in_flight = InFlight::new();
    let relay = Arc::new(Relay::new(RelaySettings::default(), in_flight.clone()));
    let upstream = Upstream::Fixed(app_address);
    let serving = serve(
        listener,
        upstream,
        relay,
        Drain::default(),
        CancellationToken::new(),
    );
    let serving = tokio::spawn(serving);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    eventually("the request counts", || in_flight.snapshot().in_flight == 1).await;
    for _ in &filling {
        drop(app.accept().await.unwrap());
    }
    drop(filling);
    let (mut app, _) = within("the relay is accepted", app.accept()).await.unwrap();
    expect(&mut app, REQUEST).await;
    pass(&mut app, &mut client, RESPONSE).await;
    eventually("the request has ended", || {
        in_flight.snapshot().in_flight == 0
    })
    .await;
    serving.abort();
}
