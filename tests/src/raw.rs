//! HTTP as bytes: what exactly a server sends back to what exactly a client sent.
//!
//! Understands nothing of it but where a `date` header is, which is another each second.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A server that keeps a connection open for longer than this was not asked to close it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends the parts, each once something has come back to the one before, and returns everything that came back until the
/// server closed. The last part has to make it do that.
///
/// # Errors
///
/// When nobody accepts, or the connection breaks or hangs.
pub async fn exchange(address: SocketAddr, parts: &[&[u8]]) -> anyhow::Result<Vec<u8>> {
    let exchanged = async {
        let mut stream = TcpStream::connect(address)
            .await
            .context("cannot connect")?;
        let mut answer = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                let read = stream.read_buf(&mut answer).await?;
                anyhow::ensure!(read > 0, "closed before part {index} was sent");
            }
            stream.write_all(part).await.context("cannot send")?;
        }
        stream.read_to_end(&mut answer).await?;
        Ok(without_dates(&answer))
    };
    let exchanged = timeout(PATIENCE, exchanged).await;
    let exchanged = exchanged.with_context(|| format!("not closed within {PATIENCE:?}"));
    exchanged
        .and_then(std::convert::identity)
        .with_context(|| format!("{address} was sent {}", shown(&parts.concat())))
}

/// Returns bytes as far as a person can read them.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Replaces the values of `date` headers, which all have the same length.
fn without_dates(answer: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\r\ndate: ";
    let mut answer = answer.to_vec();
    let mut at = 0;
    while let Some(found) = find(&answer[at..], NAME) {
        let value = at + found + NAME.len();
        let length = find(&answer[value..], b"\r\n").unwrap_or(0);
        answer[value..value + length].fill(b'-');
        at = value + length;
    }
    answer
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn everything_that_comes_back_is_returned_with_dates_made_alike() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            stream.read_buf(&mut received).await.unwrap();
            stream.write_all(b"go on").await.unwrap();
            while !received.ends_with(b"two") {
                stream.read_buf(&mut received).await.unwrap();
            }
            let end = b"\r\ndate: Tue\r\nx: 1\r\ndate: Wed\r\n";
            stream.write_all(end).await.unwrap();
            received
        });
        let answer = exchange(address, &[b"one ", b"two"]).await.unwrap();
        assert_eq!(
            shown(&answer),
            shown(b"go on\r\ndate: ---\r\nx: 1\r\ndate: ---\r\n")
        );
        assert_eq!(server.await.unwrap(), b"one two");
    }
}
