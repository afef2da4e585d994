//! Connections that have asked once and are kept.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Open until dropped.
#[derive(Debug, Default)]
pub struct Idle(Vec<TcpStream>);

impl Idle {
    /// Opens more, until there are so many; each gets one answer.
    ///
    /// # Errors
    ///
    /// When one is refused or not answered.
    pub async fn open(&mut self, address: SocketAddr, count: usize) -> anyhow::Result<()> {
        while self.0.len() < count {
            let number = self.0.len();
            let stream = ask(address).await;
            self.0
                .push(stream.with_context(|| format!("connection {number}"))?);
        }
        Ok(())
    }
}

async fn ask(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /10 HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Its body has ten zeros, which are no part of a head.
    while !answer.ends_with(b"0000000000") {
        ensure!(
            stream.read_buf(&mut answer).await? > 0,
            "closed without an answer"
        );
    }
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(stream)
}
