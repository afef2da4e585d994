//! A gigabyte each way, alone and at once: what arrives is compared with what was sent, byte by byte.
//!
//! Both sides know what comes, which says more than a hash and costs less.

use std::{io, net::SocketAddr};

use stillwake_e2e::{payload::Payload, sidecar::Sidecar};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Bytes of a body.
const GIGABYTE: usize = 1 << 30;

/// What a sidecar may need at most, in bytes, whatever passes. Far above what it does need, and far below a body.
const MEMORY: u64 = 32 << 20;

/// A prime number: what is lost, doubled or swapped in whole pages no longer fits.
const PATTERN: usize = 1_048_573;

fn pattern(id: u64) -> Vec<u8> {
    Payload::new(id, PATTERN).flatten().collect()
}

/// Sends `pattern` again and again, up to `length` bytes.
async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    pattern: &[u8],
    length: usize,
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let piece = &pattern[..left.min(pattern.len())];
        stream.write_all(piece).await?;
        left -= piece.len();
    }
    stream.flush().await
}

/// Reads `length` bytes, which have to be `pattern` again and again.
async fn receive(stream: &mut (impl AsyncRead + Unpin), pattern: &[u8], length: usize) {
    let mut buffer = vec![0; pattern.len()];
    let mut left = length;
    while left > 0 {
        let piece = &mut buffer[..left.min(pattern.len())];
        stream.read_exact(piece).await.unwrap();
        let at = length - left;
        // Not assert_eq!, which would print megabytes.
        assert!(*piece == pattern[..piece.len()], "differs after {at} bytes");
        left -= piece.len();
    }
}

/// A connection from a client through a sidecar, as both sides have it.
struct Pair {
    client: TcpStream,
    app: TcpStream,
    sidecar: Sidecar,
}

impl Pair {
    async fn connect() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let sidecar = Sidecar::start(address).await.unwrap();
        let client = TcpStream::connect(sidecar.address).await.unwrap();
        let (app, _) = listener.accept().await.unwrap();
        Self {
            client,
            app,
            sidecar,
        }
    }

    /// Nothing is in flight any more, and nothing was kept meanwhile.
    async fn end(&self) {
        self.sidecar.wait_for_in_flight(0).await.unwrap();
        let peak = self.sidecar.peak_memory().unwrap();
        assert!(peak < MEMORY, "the sidecar had {peak} bytes in use");
    }

    /// Both sides send at once, and receive what the other has sent.
    async fn exchange(&mut self, from_client: Sent<'_>, from_app: Sent<'_>) {
        let (mut client_read, mut client_write) = self.client.split();
        let (mut app_read, mut app_write) = self.app.split();
        let (up, down, (), ()) = tokio::join!(
            from_client.send(&mut client_write),
            from_app.send(&mut app_write),
            from_client.receive(&mut app_read),
            from_app.receive(&mut client_read),
        );
        up.unwrap();
        down.unwrap();
    }
}

/// A head, a body of so many times a pattern, and what ends it.
#[derive(Clone, Copy)]
struct Sent<'a> {
    head: &'a str,
    pattern: &'a [u8],
    length: usize,
    end: &'a str,
}

impl Sent<'_> {
    async fn send(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        stream.write_all(self.head.as_bytes()).await?;
        send(stream, self.pattern, self.length).await?;
        stream.write_all(self.end.as_bytes()).await
    }

    async fn receive(self, stream: &mut (impl AsyncRead + Unpin)) {
        receive(stream, self.head.as_bytes(), self.head.len()).await;
        receive(stream, self.pattern, self.length).await;
        receive(stream, self.end.as_bytes(), self.end.len()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_up_and_one_down() {
    let mut pair = Pair::connect().await;
    let body = pattern(1);
    let nothing = Sent {
        head: "",
        pattern: &body,
        length: 0,
        end: "",
    };
    let length = format!("Content-Length: {GIGABYTE}\r\n\r\n");
    let upload = Sent {
        head: &format!("PUT /up HTTP/1.1\r\nHost: a\r\n{length}"),
        length: GIGABYTE,
        ..nothing
    };
    let no_content = Sent {
        head: "HTTP/1.1 204 No Content\r\n\r\n",
        ..nothing
    };
    pair.exchange(upload, nothing).await;
    pair.sidecar.wait_for_in_flight(1).await.unwrap();
    pair.exchange(nothing, no_content).await;
    pair.sidecar.wait_for_in_flight(0).await.unwrap();

    let ask = Sent {
        head: "GET /down HTTP/1.1\r\nHost: a\r\n\r\n",
        ..nothing
    };
    let download = Sent {
        head: &format!("HTTP/1.1 200 OK\r\n{length}"),
        length: GIGABYTE,
        ..nothing
    };
    pair.exchange(ask, nothing).await;
    pair.sidecar.wait_for_in_flight(1).await.unwrap();
    pair.exchange(nothing, download).await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_in_chunks_both_ways_at_once() {
    let mut pair = Pair::connect().await;
    // Each is one chunk of its own, with its size before it.
    let chunk = |id, size: usize| {
        let data: Vec<u8> = Payload::new(id, size).flatten().collect();
        [format!("{size:x}\r\n").as_bytes(), &data, b"\r\n"].concat()
    };
    let (up, down) = (chunk(1, 65_521), chunk(2, 1_021));
    let whole = |chunk: &[u8]| GIGABYTE / 2 / chunk.len() * chunk.len();
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let from_client = Sent {
        head: &format!("POST / HTTP/1.1\r\nHost: a\r\n{chunked}"),
        length: whole(&up),
        pattern: &up,
        end: "0\r\n\r\n",
    };
    let from_app = Sent {
        head: &format!("HTTP/1.1 200 OK\r\n{chunked}"),
        length: whole(&down),
        pattern: &down,
        end: "0\r\n\r\n",
    };
    pair.exchange(from_client, from_app).await;
    pair.end().await;
    assert_eq!(pair.sidecar.requests().await.unwrap(), 1);
}
