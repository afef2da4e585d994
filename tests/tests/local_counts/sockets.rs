//! WebSocket: each socket counts one for as long as it is open, whatever passes on it or doesn't.

use std::time::Duration;

use anyhow::ensure;
use futures_util::{SinkExt as _, StreamExt as _};
use stillwake_e2e::{
    app, binaries,
    local::{Options, Stillwake},
    settings::setting,
    sidecar::Sidecar,
    wait::{self, PATIENCE},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async, tungstenite::protocol::Message,
};
use tokio_util::sync::CancellationToken;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(address: std::net::SocketAddr) -> Socket {
    connect_async(format!("ws://{address}/ws")).await.unwrap().0
}

/// Sends a message and waits until it comes back.
async fn echo(socket: &mut Socket, message: Message) {
    let expected = match &message {
        Message::Ping(data) => Message::Pong(data.clone()),
        other => other.clone(),
    };
    socket.send(message).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await;
    let answer = answer.expect("no answer comes").expect("it was closed");
    assert_eq!(answer.unwrap(), expected);
}

/// Says good bye, waits until the app has done so as well, and closes the connection.
async fn close(mut socket: Socket) {
    socket.close(None).await.unwrap();
    while let Some(message) = socket.next().await {
        message.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_socket_counts_one_until_it_is_closed_or_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let app = tokio::spawn(app::serve(listener, None, stop.clone()));
    let sidecar = Sidecar::start(address).await.unwrap();
    let mut sockets = Vec::new();
    for number in 1..=3 {
        let mut socket = open(sidecar.address).await;
        sidecar.wait_for_in_flight(number).await.unwrap();
        echo(&mut socket, Message::text("hello")).await;
        echo(&mut socket, Message::Ping("are you there".into())).await;
        sidecar.wait_for_in_flight(number).await.unwrap();
        sockets.push(socket);
    }
    close(sockets.pop().unwrap()).await;
    sidecar.wait_for_in_flight(2).await.unwrap();
    // Without a close frame.
    sockets.pop();
    sidecar.wait_for_in_flight(1).await.unwrap();
    echo(&mut sockets[0], Message::text("still here")).await;
    sockets.pop();
    sidecar.wait_for_in_flight(0).await.unwrap();
    assert_eq!(sidecar.requests().await.unwrap(), 3);
    stop.cancel();
    app.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_opened_at_zero_stays_open_counts_one_and_keeps_its_replica() {
    // Longer than the run takes to sleep, which it does after three seconds: its window, and its cooldown.
    let idle = setting::<humantime::Duration>("STILLWAKE_IDLE", Duration::from_secs(6).into());
    let app = binaries::app().unwrap();
    let command = [app.to_str().unwrap(), "--port={port}"];
    let stillwake = Stillwake::run(Options::quick(), &command).await.unwrap();
    assert_eq!(stillwake.state().await.unwrap().started(), 0);
    let mut socket = open(stillwake.address).await;
    let in_flight = async || {
        let metrics = stillwake.metrics().await?;
        metrics.count("stillwake_aggregator_in_flight_requests", &[])
    };
    wait::until("the socket to be counted", PATIENCE, || async {
        let count = in_flight().await?;
        ensure!(count == 1, "{count} are in flight");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let end = Instant::now() + *idle.unwrap();
    while Instant::now() < end {
        echo(&mut socket, Message::Ping("are you there".into())).await;
        assert_eq!(in_flight().await.unwrap(), 1);
        let state = stillwake.state().await.unwrap();
        let seen = (state.started(), state.ready().count());
        assert_eq!(seen, (1, 1), "{state}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    echo(&mut socket, Message::text("hello")).await;
    close(socket).await;
    stillwake.wait_for_zero(PATIENCE).await.unwrap();
    stillwake.stop().await.unwrap();
}
