//! Clients that write one request each on connections of their own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

/// What each writes.
const REQUEST: &[u8] =
    b"GET /1024 HTTP/1.1\r\nHost: web.bench\r\nUser-Agent: bench/1\r\nAccept: */*\r\nConnection: close\r\n\r\n";

/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Connects and writes a request.
pub(in crate::parts) async fn request(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)
        .await
        .context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.write_all(REQUEST).await?;
    Ok(stream)
}

/// Clients that wait for the first byte of their answer.
#[derive(Debug)]
pub(in crate::parts) struct Crowd(JoinSet<anyhow::Result<Instant>>);

impl Crowd {
    /// Connects so many one after the other, each of which writes its request at once.
    pub(in crate::parts) async fn asking(
        address: SocketAddr,
        count: usize,
    ) -> anyhow::Result<Self> {
        let mut crowd = JoinSet::new();
        for _ in 0..count {
            let stream = request(address).await?;
            crowd.spawn(first_byte(stream));
        }
        Ok(Self(crowd))
    }

    /// Connects so many that all write when the returned sender says so.
    pub(in crate::parts) async fn ready(
        address: SocketAddr,
        count: usize,
    ) -> anyhow::Result<(Self, watch::Sender<bool>)> {
        let go = watch::Sender::new(false);
        let mut crowd = JoinSet::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut begun = go.subscribe();
            crowd.spawn(async move {
                begun.wait_for(|begun| *begun).await?;
                stream.write_all(REQUEST).await?;
                first_byte(stream).await
            });
        }
        Ok((Self(crowd), go))
    }

    /// Waits for all, and returns when the last first byte came.
    pub(in crate::parts) async fn answered(mut self) -> anyhow::Result<Instant> {
        let mut last = None;
        while let Some(answered) = self.0.join_next().await {
            last = last.max(Some(answered??));
        }
        last.context("nobody asked")
    }
}

/// Reads an answer, and returns when its first byte came.
async fn first_byte(mut stream: TcpStream) -> anyhow::Result<Instant> {
    let mut buffer = vec![0; 2048];
    let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
    let length = read.context("no answer")??;
    let came = Instant::now();
    ensure!(
        buffer[..length].starts_with(b"HTTP/1.1 200"),
        "answered {:?}",
        String::from_utf8_lossy(&buffer[..length.min(100)])
    );
    while stream.read(&mut buffer).await? > 0 {}
    Ok(came)
}

/// Sends one request after the other from so many clients for so long, each on a new connection. Returns how many were
/// answered.
pub(in crate::parts) async fn load(
    address: SocketAddr,
    clients: usize,
    time: Duration,
) -> anyhow::Result<u64> {
    let end = Arc::new(Instant::now() + time);
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let end = Arc::clone(&end);
        all.spawn(async move {
            let mut answered = 0;
            while Instant::now() < *end {
                first_byte(request(address).await?).await?;
                answered += 1;
            }
            anyhow::Ok(answered)
        });
    }
    let mut sum = 0;
    while let Some(answered) = all.join_next().await {
        sum += answered??;
    }
    Ok(sum)
}
