//! Watches the app become ready, and notices when it no longer is.
//!
//! Checks go straight to the app, past the relay, and are counted nowhere.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use crate::env::ReadinessCheck;

/// First and last pause between checks until the app is ready.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// What the pause grows by from check to check: a twentieth, so that it stays near a twentieth of the time waited so far
/// and the wait is prolonged by no more than that.
const GROWTH: u32 = 20;

/// Pause between checks of an app that is ready.
const CALM_PAUSE: Duration = Duration::from_secs(5);

/// Pause after a failed check of an app that was ready.
const DOUBT_PAUSE: Duration = Duration::from_secs(1);

/// Failed checks in a row after which an app that was ready is not any more; the kubelet's default as well.
const FAILURES: u32 = 3;

/// How long one check may take; the kubelet's default as well.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

/// When to check, and what the results so far amount to.
#[derive(Debug)]
struct Judgement {
    ready: bool,
    failures: u32,
    pause: Duration,
}

impl Judgement {
    fn new() -> Self {
        Self {
            ready: false,
            failures: 0,
            pause: FIRST_PAUSE,
        }
    }

    /// Takes the result of a check and returns how long to wait before the next.
    fn checked(&mut self, succeeded: bool) -> Duration {
        if succeeded {
            self.ready = true;
            self.failures = 0;
            return CALM_PAUSE;
        }
        if self.ready {
            self.failures += 1;
            if self.failures < FAILURES {
                return DOUBT_PAUSE;
            }
            *self = Self::new();
        }
        let pause = self.pause;
        self.pause = (pause + pause / GROWTH).min(LAST_PAUSE);
        pause
    }
}

/// Checks the app at `address` for ever and keeps `ready` to what comes of it. Returns only if there is no check.
pub(crate) async fn watch_app(check: ReadinessCheck, address: IpAddr, ready: watch::Sender<bool>) {
    let mut judgement = Judgement::new();
    loop {
        let result = match &check {
            ReadinessCheck::None => return,
            ReadinessCheck::Tcp { port } => within_limit(connects((address, *port).into())).await,
            ReadinessCheck::Http { port, path } => {
                within_limit(answers((address, *port).into(), path)).await
            }
        };
        let pause = judgement.checked(result.is_ok());
        let changed = ready.send_if_modified(|ready| {
            let changed = *ready != judgement.ready;
            *ready = judgement.ready;
            changed
        });
        match result {
            Ok(()) if changed => tracing::info!("App is ready"),
            Err(error) if changed => tracing::warn!(%error, "App is not ready any more"),
            Err(error) if judgement.ready => tracing::warn!(%error, "Ready app failed a check"),
            Err(error) => tracing::trace!(%error, "App is not ready yet"),
            Ok(()) => {}
        }
        sleep(pause).await;
    }
}

async fn within_limit(check: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(CHECK_LIMIT, check).await?
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Nobody listens, but the kernel chose the very port as our own and connected us to ourselves.
    if stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

async fn connects(address: SocketAddr) -> io::Result<()> {
    connect(address).await.map(drop)
}

/// Succeeds when a GET of `path` is answered with a status from 200 to 399, as for the kubelet's `httpGet`.
async fn answers(address: SocketAddr, path: &str) -> io::Result<()> {
    let mut stream = connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: stillwake-sidecar/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = *b"HTTP/1.1 200";
    stream.read_exact(&mut line).await?;
    if line.starts_with(b"HTTP/1.") && matches!(line[9], b'2' | b'3') {
        Ok(())
    } else {
        let line = line.escape_ascii();
        Err(io::Error::other(format!(
            "the answer begins with \"{line}\""
        )))
    }
}

#[cfg(test)]
mod tests;
