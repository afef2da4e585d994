//! Hands connections over that come when the app has stopped listening, or is about to: to whoever takes them in its place.
//!
//! They go on as bytes, both ways, with all that the client has sent: nobody here looks into them, and they are not in
//! flight here. When to hand over, and what is tried then, is decided here; whether the successor knows what to do with
//! them is its business.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{
    Relay, RelayError, ResetOnDrop,
    flow::{self, Flow},
};
use crate::{drain::Drain, observer::Observer};

/// How long a client may be silent before it is taken for one that lets the server speak first.
const FIRST_BYTES: Duration = Duration::from_millis(200);

/// Returns what a successor is told before the client's bytes: from where the connection came, and what it was for.
type Introduce = Box<dyn Fn(SocketAddr, SocketAddr) -> Vec<u8> + Send + Sync>;

/// Who takes connections that the app does not take any more.
pub struct Successor {
    addresses: watch::Receiver<Vec<SocketAddr>>,
    taken: u8,
    introduce: Introduce,
}

impl fmt::Debug for Successor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Successor")
            .field("addresses", &*self.addresses.borrow())
            .finish_non_exhaustive()
    }
}

impl Successor {
    /// Returns a successor at the first of `addresses` that takes a connection; while there is none, connections wait
    /// for one. Each begins with what `introduce` returns for the client's address and the one it dialled, at the app's
    /// port, and the successor says by the byte `taken` that it takes it: before that it is sent nothing of the client's, so
    /// that the connection can still go elsewhere.
    pub fn new(
        addresses: watch::Receiver<Vec<SocketAddr>>,
        taken: u8,
        introduce: impl Fn(SocketAddr, SocketAddr) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self {
            addresses,
            taken,
            introduce: Box::new(introduce),
        }
    }

    /// Returns a connection to the first address that takes what is introduced within `limit`; knowing one takes no longer
    /// either.
    async fn take(&self, introduction: &[u8], limit: Duration) -> io::Result<TcpStream> {
        let mut addresses = self.addresses.clone();
        // Not being told of one in time, or by nobody, comes to the same.
        let _ = timeout(limit, addresses.wait_for(|known| !known.is_empty())).await;
        let known = addresses.borrow().clone();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no known address");
        for address in known {
            match timeout(limit, self.ask(address, introduction)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(elapsed) => failure = elapsed.into(),
            }
        }
        Err(failure)
    }

    async fn ask(&self, address: SocketAddr, introduction: &[u8]) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address).await?;
        // Fails only if the peer is gone already, which the first write will tell.
        let _ = stream.set_nodelay(true);
        stream.write_all(introduction).await?;
        let answer = stream.read_u8().await?;
        if answer == self.taken {
            Ok(stream)
        } else {
            let what = format!("it answers with {answer:#04x}");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }
}

/// What became of connections that were to be handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandoverTotals {
    /// The successor took them.
    pub taken: u64,
    /// It did not take them, and they went to the app or ended as the app did.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Handovers {
    taken: AtomicU64,
    failed: AtomicU64,
}

impl Handovers {
    pub(super) fn totals(&self) -> HandoverTotals {
        HandoverTotals {
            taken: self.taken.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// A connection of which the app has got nothing.
#[derive(Debug)]
pub(super) struct Unserved {
    pub(super) client: ResetOnDrop,
    /// What the client has sent.
    pub(super) sent: Vec<u8>,
    /// Knows what the client has sent.
    pub(super) observer: Observer,
    /// The app had accepted it.
    pub(super) accepted: bool,
}

impl Relay {
    /// Hands a connection over that the app at `address` does not take, or soon will not, if the process drains or is
    /// about to. Returns how it ended, or the connection if nobody takes it within `limit`.
    ///
    /// Not for what is ignored: a probe or a scrape of this very pod must not wake it up elsewhere. And not if the app
    /// took the connection and ended it before the client said anything: that is an answer.
    pub(super) async fn hand_over(
        &self,
        mut unserved: Unserved,
        address: SocketAddr,
        drain: &Drain,
        limit: Duration,
    ) -> Result<Result<(), RelayError>, Unserved> {
        let Some(successor) = &self.successor else {
            return Err(unserved);
        };
        match self.is_to_move(&mut unserved, drain).await {
            Ok(true) => {}
            Ok(false) => return Err(unserved),
            Err(error) => return Ok(Err(error)),
        }
        let source = match unserved.client.stream.peer_addr() {
            Ok(source) => source,
            Err(error) => return Ok(Err(RelayError::Client(error))),
        };
        let introduction = (successor.introduce)(source, address);
        let stream = match successor.take(&introduction, limit).await {
            Ok(stream) => stream,
            Err(failure) => {
                self.handovers.failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%source, %failure, "Cannot hand a connection over");
                return Err(unserved);
            }
        };
        // In flight is what it becomes where it is taken.
        unserved.observer.forget();
        self.handovers.taken.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%source, %address, "Connection handed over");
        let observer = Observer::uncounted(self.counting.clone());
        let app = ResetOnDrop::new(stream);
        let mut flow = Flow::new(unserved.client, app, observer, &self.settings);
        flow.send_first(&unserved.sent);
        Ok(self.run(&mut flow, drain).await.map(|_| ()))
    }

    /// Whether there is something to hand over.
    async fn is_to_move(&self, unserved: &mut Unserved, drain: &Drain) -> Result<bool, RelayError> {
        if unserved.sent.is_empty() {
            let client = &unserved.client.stream;
            match timeout(FIRST_BYTES, flow::read_early(client)).await {
                // Whoever looked whether somebody listens knows it now.
                Ok(Ok(bytes)) if bytes.is_empty() => return Ok(false),
                Ok(Ok(bytes)) => {
                    unserved.observer.client_bytes(&bytes);
                    unserved.sent = bytes;
                }
                Ok(Err(error)) => return Err(RelayError::Client(error)),
                Err(_) if unserved.accepted => return Ok(false),
                Err(_) => {}
            }
        }
        if unserved.observer.is_ignored() {
            return Ok(false);
        }
        // An app may be told to stop a moment before we are. One that has never listened is only starting.
        let notice = if self.has_reached_app() {
            self.settings.drain_notice
        } else {
            Duration::ZERO
        };
        Ok(drain.is_draining() || timeout(notice, drain.draining()).await.is_ok())
    }
}

impl Unserved {
    /// Ends as the app has ended.
    pub(super) fn end(mut self, error: RelayError) -> Result<(), RelayError> {
        match &error {
            RelayError::App(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.client.resets = false;
                Ok(())
            }
            _ => Err(error),
        }
    }
}
