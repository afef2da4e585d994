//! Relays a connection to its upstream: settings, dialling, and the life of one connection.
//!
//! The moving of bytes is in `flow`; what the bytes mean is in [`crate::observer`]; what becomes of connections that the
//! app does not take any more is in `handover`.

mod flow;
mod handover;
mod pending;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, sync::watch, time::timeout};

pub use self::handover::{HandoverTotals, Successor};
use self::{
    flow::{Ended, Flow},
    handover::{Handovers, Unserved},
};
use crate::{
    drain::Drain,
    ignore::IgnoreRules,
    in_flight::InFlight,
    observer::{Counting, Observer},
};

/// How long before the app is told to stop what is new goes to the successor: the kubelet may have told us of the drain
/// half a second after it began to count.
const BEFORE_STOP: Duration = Duration::from_secs(1);

/// How long the successor may take to take a connection that the app would still serve.
const WHILE_SERVED: Duration = Duration::from_millis(250);

/// How connections are relayed.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// How long the upstream may take to accept a connection. Default 10 s: three SYNs when its backlog is full.
    pub connect_timeout: Duration,
    /// How long a connection that cannot be looked into counts as in flight after its last byte. Default 60 s.
    pub opaque_idle_window: Duration,
    /// While draining: how long a keep-alive connection may stay open without a request. Default 5 s.
    pub drain_idle: Duration,
    /// While leaving: how long there must have been no connection before the listener is closed. Default 100 ms.
    pub settle: Duration,
    /// With a successor: how long a connection that the app refuses waits for the process to begin to drain. Default
    /// 1 s: the app and its sidecar are told to stop at the same time, and the one may be faster.
    pub drain_notice: Duration,
    /// With a successor: how long after the drain began the app is told to stop, if that is known. Default: it is not.
    ///
    /// New connections, and the next request of a kept one, go to the successor a second before that already: an app that
    /// stops resets what waits in its backlog and closes what is idle, and who asks just then would lose a request.
    pub stop_delay: Option<Duration>,
    /// How long a closed connection waits for the client's own close, discarding what it still sends. Closing at
    /// once would reset it, and the client could lose the end of the response. Default 1 s.
    pub linger: Duration,
    /// After how much silence a client is probed by TCP, and how far apart the probes are. Default 30 s, and 9
    /// probes are Linux' default: without them, a client whose machine died would be in flight for ever.
    pub keepalive: Duration,
    /// Requests that are not counted. Default: probes and scrapes.
    pub ignore: IgnoreRules,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            opaque_idle_window: Duration::from_mins(1),
            drain_idle: Duration::from_secs(5),
            settle: Duration::from_millis(100),
            drain_notice: Duration::from_secs(1),
            stop_delay: None,
            linger: Duration::from_secs(1),
            keepalive: Duration::from_secs(30),
            ignore: IgnoreRules::default(),
        }
    }
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The address that the client dialled, at the app's port: an app that does not listen there stays unreachable,
    /// as it was.
    SameAddress {
        /// The app's port.
        port: u16,
    },
    /// This address.
    Fixed(SocketAddr),
}

impl Upstream {
    fn address(self, client: &TcpStream) -> io::Result<SocketAddr> {
        match self {
            Self::SameAddress { port } => {
                let dialled = client.local_addr()?;
                // A listener for both families sees IPv4 as mapped into IPv6.
                Ok(SocketAddr::new(dialled.ip().to_canonical(), port))
            }
            Self::Fixed(address) => Ok(address),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Relay {
    settings: RelaySettings,
    counting: Counting,
    /// Connections that listeners have taken and that have not ended.
    open: watch::Sender<usize>,
    successor: Option<Successor>,
    /// The app has accepted a connection.
    reached_app: AtomicBool,
    handovers: Handovers,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(watch::Sender<usize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Relay {
    /// Returns a relay that counts with `in_flight`.
    pub fn new(settings: RelaySettings, in_flight: InFlight) -> Self {
        let counting = Counting {
            in_flight,
            ignore: Arc::new(settings.ignore.clone()),
            opaque_idle_window: settings.opaque_idle_window,
        };
        Self {
            settings,
            counting,
            open: watch::Sender::new(0),
            successor: None,
            reached_app: AtomicBool::new(false),
            handovers: Handovers::default(),
        }
    }

    /// Hands connections over to `successor`, while draining, that the app does not take any more.
    #[must_use]
    pub fn with_successor(mut self, successor: Successor) -> Self {
        self.successor = Some(successor);
        self
    }

    /// Returns what became of connections that were to be handed over.
    pub fn handovers(&self) -> HandoverTotals {
        self.handovers.totals()
    }

    /// Returns the settings.
    pub fn settings(&self) -> &RelaySettings {
        &self.settings
    }

    /// Counts a connection, of whichever listener, until what is returned is dropped.
    pub(crate) fn open_connection(&self) -> OpenConnection {
        self.open.send_modify(|open| *open += 1);
        OpenConnection(self.open.clone())
    }

    /// Returns how many connections are open over all listeners, and follows it.
    pub fn open_connections(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Returns the counter.
    pub fn in_flight(&self) -> &InFlight {
        &self.counting.in_flight
    }

    /// Relays `client` to `upstream` until both are closed.
    ///
    /// # Errors
    ///
    /// Says which side broke, and has then reset the other.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets both sides, so that neither takes what it has for complete.
    pub async fn relay(
        &self,
        client: TcpStream,
        upstream: Upstream,
        drain: &Drain,
    ) -> Result<(), RelayError> {
        self.probe_silent(&client);
        let address = upstream.address(&client).map_err(RelayError::Client)?;
        let mut unserved = Unserved {
            client: ResetOnDrop::new(client),
            sent: Vec::new(),
            observer: Observer::new(self.counting.clone()),
            accepted: false,
        };
        let error = loop {
            if self.app_soon_stops(drain) {
                // In memory of its own: it is rare, and every connection would have to make room for it.
                match Box::pin(self.hand_over(unserved, address, drain, WHILE_SERVED)).await {
                    Ok(ended) => return ended,
                    Err(left) => unserved = left,
                }
            }
            let app = match self.dial(&mut unserved, address).await {
                Ok(app) => ResetOnDrop::new(app),
                Err(error @ RelayError::Dial { .. }) => break error,
                Err(error) => return Err(error),
            };
            let mut flow = Flow::new(unserved.client, app, unserved.observer, &self.settings);
            flow.send_first(&unserved.sent);
            if self.successor.is_some() {
                flow.with_successor();
            }
            match self.run(&mut flow, drain).await {
                Ok(Ended::Unserved) => unserved = flow.into_unserved(),
                Err(error @ RelayError::App(_)) if flow.is_unserved() => {
                    unserved = flow.into_unserved();
                    break error;
                }
                ended => return ended.map(|_| ()),
            }
        };
        let limit = self.settings.connect_timeout;
        match Box::pin(self.hand_over(unserved, address, drain, limit)).await {
            Ok(ended) => ended,
            Err(unserved) => unserved.end(error),
        }
    }

    /// Whether the app is told to stop within [`BEFORE_STOP`], or has been.
    fn app_soon_stops(&self, drain: &Drain) -> bool {
        let (Some(delay), Some(begun)) = (self.settings.stop_delay, drain.begun()) else {
            return false;
        };
        self.successor.is_some() && begun.elapsed() + BEFORE_STOP >= delay
    }

    /// Moves bytes until both sides are closed, or what the client sends next is not for this app.
    async fn run(&self, flow: &mut Flow, drain: &Drain) -> Result<Ended, RelayError> {
        let mut draining = pin!(drain.draining());
        let mut listens = false;
        poll_fn(|context| {
            if !flow.is_draining() && (!listens || drain.is_draining()) {
                listens = true;
                if draining.as_mut().poll(context).is_ready() {
                    flow.begin_drain();
                }
            }
            if flow.is_draining() && self.app_soon_stops(drain) {
                flow.app_stops();
            }
            flow.poll(context)
        })
        .await
    }

    /// Connects to the app. What the client sends in the meantime is counted as it comes, and kept.
    async fn dial(
        &self,
        unserved: &mut Unserved,
        address: SocketAddr,
    ) -> Result<TcpStream, RelayError> {
        let failed = |source| RelayError::Dial { address, source };
        let mut connect = pin!(timeout(
            self.settings.connect_timeout,
            TcpStream::connect(address)
        ));
        let connected = loop {
            tokio::select! {
                biased;
                connected = &mut connect => break connected,
                read = flow::read_early(&unserved.client.stream), if unserved.sent.is_empty() => {
                    unserved.sent = read.map_err(RelayError::Client)?;
                    if unserved.sent.is_empty() {
                        // The client has closed its side already; the flow will see it again.
                        break connect.await;
                    }
                    unserved.observer.client_bytes(&unserved.sent);
                }
            }
        };
        let app = connected
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        app.set_nodelay(true).map_err(failed)?;
        // Read first: all connections share it, and would otherwise take it from each other.
        if !self.has_reached_app() {
            self.reached_app.store(true, Ordering::Relaxed);
        }
        Ok(app)
    }

    /// Whether the app has ever accepted a connection.
    fn has_reached_app(&self) -> bool {
        self.reached_app.load(Ordering::Relaxed)
    }

    fn probe_silent(&self, client: &TcpStream) {
        let keepalive = TcpKeepalive::new()
            .with_time(self.settings.keepalive)
            .with_interval(self.settings.keepalive);
        if let Err(error) = SockRef::from(client).set_tcp_keepalive(&keepalive) {
            tracing::debug!(%error, "Cannot probe a silent client");
        }
    }
}

/// Why a connection did not end by both sides closing it.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The client broke the connection.
    #[error("the client broke the connection: {0}")]
    Client(#[source] io::Error),
    /// The app broke the connection.
    #[error("the app broke the connection: {0}")]
    App(#[source] io::Error),
    /// The app cannot be reached.
    #[error("cannot connect to the app at {address}: {source}")]
    Dial {
        /// Where it should be.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A stream that is reset when it is dropped, unless it was told to close: a body that is delimited by the close
/// must not look complete when it was cut.
#[derive(Debug)]
struct ResetOnDrop {
    stream: TcpStream,
    resets: bool,
}

impl ResetOnDrop {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            resets: true,
        }
    }
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if self.resets {
            // Fails only if the connection is gone, which is as good.
            let _ = self.stream.set_zero_linger();
        }
    }
}
