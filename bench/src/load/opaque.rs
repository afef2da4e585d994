//! Round trips of bytes that are no HTTP.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

/// Neither a method nor HTTP/2's preface begins with a zero.
const MESSAGE: [u8; 1024] = [0; 1024];

/// Sends a kilobyte and waits for it to come back, over and over on so many connections, and returns how often that was.
///
/// # Errors
///
/// When a connection ends.
pub async fn round_trips(
    address: SocketAddr,
    connections: u32,
    time: Duration,
) -> anyhow::Result<u64> {
    let end = Instant::now() + time;
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = MESSAGE;
            let mut trips = 0;
            while Instant::now() < end {
                stream.write_all(&MESSAGE).await?;
                stream.read_exact(&mut buffer).await?;
                trips += 1;
            }
            std::io::Result::Ok(trips)
        });
    }
    let mut all = 0;
    while let Some(trips) = clients.join_next().await {
        all += trips?.context("a connection ended")?;
    }
    Ok(all)
}
