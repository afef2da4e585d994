//! A WebSocket that is opened at zero: it waits, goes on while all around it changes, and keeps its workload awake.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use stillwake_e2e::{
    COLD_START,
    cluster::{
        self, Failure, Namespace,
        history::History,
        scaling,
        scene::WEB,
        stillwake::Stillwake,
        watching::{self, PATIENCE},
        zero,
    },
    wait,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

/// Longer than it takes to sleep.
const SILENCE: Duration = Duration::from_secs(12);

#[test]
fn a_websocket_that_is_opened_at_zero_wakes_the_workload_and_keeps_it_awake() -> Result<(), Failure>
{
    cluster::run("WebSocket at zero", async |namespace| {
        let stillwake = Stillwake::with_defaults(namespace).await?;
        let scaling = zero::scaling(WEB, &[("targetConcurrency", "10")]);
        let web = zero::app(WEB);
        let service = zero::put_to_sleep(namespace, &stillwake, &web, &scaling).await?;
        let replicas = History::of_replicas(namespace, WEB).await?;
        let (mut cold, waited) = open(service).await.context("at zero")?;
        ensure!(waited, "it did not wait");
        echo(&mut cold, "at zero").await?;
        until_in_flight(namespace, &stillwake, 1).await?;
        // The slices turn while it is open.
        zero::until_served(namespace, WEB, false).await?;
        let (mut warm, waited) = open(service).await.context("warm")?;
        ensure!(!waited, "one waited while a replica was ready");
        echo(&mut warm, "warm").await?;
        until_in_flight(namespace, &stillwake, 2).await?;
        stays_awake(&replicas).await?;
        echo(&mut warm, "after a silence").await?;
        close(warm).await?;
        until_in_flight(namespace, &stillwake, 1).await?;
        stays_awake(&replicas).await?;
        echo(&mut cold, "after two").await?;
        close(cold).await?;
        zero::until_asleep(namespace, WEB).await?;
        ensure!(
            replicas.values() == [0, 1, 0],
            "{:?} replicas",
            replicas.values()
        );
        Ok(())
    })
}

type Socket = WebSocketStream<TcpStream>;

/// Opens one, and returns whether it had to wait.
async fn open(service: SocketAddr) -> anyhow::Result<(Socket, bool)> {
    let stream = TcpStream::connect(service).await?;
    let handshake = format!("ws://{service}/ws").into_client_request()?;
    let opened = tokio_tungstenite::client_async(handshake, stream);
    let opened = timeout(PATIENCE, opened).await;
    let (socket, answer) = opened.context("the handshake hangs")??;
    Ok((socket, answer.headers().contains_key(COLD_START)))
}

/// Closes one, and returns once the other side has done so, too.
async fn close(mut socket: Socket) -> anyhow::Result<()> {
    socket.close(None).await?;
    let ended = timeout(PATIENCE, async {
        while let Some(Ok(_)) = socket.next().await {}
    });
    ended.await.context("it was not closed")
}

/// Sees to it that nothing is scaled while nothing passes.
async fn stays_awake(replicas: &History<i32>) -> anyhow::Result<()> {
    // Nothing is waited for: it is to stay as it is.
    tokio::time::sleep(SILENCE).await;
    let values = replicas.values();
    ensure!(values == [0, 1], "{values:?} replicas");
    Ok(())
}

async fn echo(socket: &mut Socket, text: &str) -> anyhow::Result<()> {
    let sent = Message::text(text);
    socket.send(sent.clone()).await.context("cannot send")?;
    let came = timeout(PATIENCE, socket.next()).await;
    let came = came.context("no echo")?.context("closed")??;
    ensure!(came == sent, "sent {sent}, {came} came back");
    Ok(())
}

/// Waits until all aggregators know of so many requests in flight, and of none that is held besides.
async fn until_in_flight(
    namespace: &Namespace,
    stillwake: &Stillwake,
    count: u64,
) -> anyhow::Result<()> {
    let what = format!("{count} in flight");
    wait::until(&what, watching::PATIENCE, async || {
        let seen = scaling::seen(stillwake, namespace, WEB).await?;
        let is_so =
            |object: &serde_json::Value| object["in_flight"] == count && object["held"] == 0;
        ensure!(seen.iter().all(is_so), "{seen:?}");
        anyhow::Ok(())
    })
    .await
}
