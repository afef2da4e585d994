//! The clients of the demo: plain HTTP/1.1 with keep-alive.
//!
//! Counts every request; a request is repeated only if not a byte of it was written.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpStream, time::Instant};

/// What became of the requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

impl Tally {
    /// Requests begun.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests answered with 200 and a whole body.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests that were not.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// What was wrong with the first of them.
    pub(super) fn first_failure(&self) -> Option<String> {
        self.first_failure.lock().clone()
    }

    fn note(&self, outcome: &anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.answered.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                self.first_failure
                    .lock()
                    .get_or_insert_with(|| format!("{error:#}"));
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Sends requests one after the other over one connection, renewed when the server closes it, until the moment comes.
pub(super) async fn requests(address: SocketAddr, until: Instant, tally: Arc<Tally>) {
    let mut connection = None;
    while Instant::now() < until {
        one(address, &mut connection, &tally).await;
    }
}

/// Sends one request over a connection of its own.
pub(super) async fn request(address: SocketAddr, tally: Arc<Tally>) {
    one(address, &mut None, &tally).await;
}

type Connection = SendRequest<Empty<Bytes>>;

async fn one(address: SocketAddr, connection: &mut Option<Connection>, tally: &Tally) {
    tally.sent.fetch_add(1, Ordering::Relaxed);
    let outcome = exchange(address, connection).await;
    if outcome.is_err() {
        *connection = None;
    }
    tally.note(&outcome);
}

async fn exchange(address: SocketAddr, connection: &mut Option<Connection>) -> anyhow::Result<()> {
    let mut request = Request::get("/")
        .header(header::HOST, address.to_string())
        .body(Empty::new())
        .context("the request is malformed")?;
    let response = loop {
        let usable = match connection {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            *connection = Some(connect(address).await?);
        }
        let Some(sender) = connection else { continue };
        match sender.try_send_request(request).await {
            Ok(response) => break response,
            // The server closed the idle connection before anything was written on it.
            Err(mut unsent) => match unsent.take_message() {
                Some(again) => {
                    request = again;
                    *connection = None;
                }
                None => return Err(unsent.into_error()).context("no answer"),
            },
        }
    };
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .context("the answer was cut")?
        .to_bytes();
    let said = String::from_utf8_lossy(&body);
    ensure!(
        status == StatusCode::OK,
        "the answer was {status}: {}",
        said.trim_end()
    );
    Ok(())
}

async fn connect(address: SocketAddr) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(address)
        .await
        .context("cannot connect")?;
    stream.set_nodelay(true).context("cannot connect")?;
    let (sender, driver) = handshake(TokioIo::new(stream))
        .await
        .context("cannot connect")?;
    // Its error comes out at the sender too.
    tokio::spawn(async move { drop(driver.await) });
    Ok(sender)
}
