//! The Service and kube-proxy of local mode: sends each connection to a ready replica, or to the activator.
//!
//! Knows connections only, not requests, and relays what it gets. Not part of the product: in a cluster, kube-proxy
//! or what stands in for it does this.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::seq::IndexedRandom as _;
use stillwake_runtime::accept;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::local::metrics::Metrics;

/// Connections at a time; further ones wait in the listener's backlog. Each takes two file descriptors.
const MOST_CONNECTIONS: usize = 10_000;

/// How long a replica that cut a connection is left alone while there are others. One that has died resets whoever
/// comes, has the fewest connections for it, and would draw all of them in the moment before its end is noticed.
const SUSPICION: Duration = Duration::from_millis(250);

/// Loopback connects at once, or after the kernel's first retries (1 s and 3 s) if the backlog was full.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the workload's connections can go. Clones share it.
#[derive(Clone, Debug)]
pub struct Service(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    activator: SocketAddr,
    ready: Mutex<Vec<Backend>>,
    suspicion: Duration,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct Backend {
    uid: String,
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    suspicion: Duration,
    suspect_until: Arc<Mutex<Option<Instant>>>,
}

impl Backend {
    fn is_suspect(&self, now: Instant) -> bool {
        self.suspect_until.lock().is_some_and(|until| now < until)
    }
}

impl Service {
    /// Creates a Service without replicas: everything goes to `activator`.
    pub fn new(activator: SocketAddr, metrics: Metrics) -> Self {
        Self::with_suspicion(activator, metrics, SUSPICION)
    }

    fn with_suspicion(activator: SocketAddr, metrics: Metrics, suspicion: Duration) -> Self {
        Self(Arc::new(Shared {
            activator,
            ready: Mutex::default(),
            suspicion,
            metrics,
        }))
    }

    /// Sends connections to the replica too, from now on.
    pub fn add(&self, uid: &str, address: SocketAddr) {
        let mut ready = self.0.ready.lock();
        if !ready.iter().any(|backend| backend.uid == uid) {
            ready.push(Backend {
                uid: uid.to_owned(),
                address,
                open: Arc::default(),
                suspicion: self.0.suspicion,
                suspect_until: Arc::default(),
            });
        }
    }

    /// Sends no further connection to the replica; those it has stay.
    pub fn remove(&self, uid: &str) {
        self.0.ready.lock().retain(|backend| backend.uid != uid);
    }

    /// Takes connections until `drain` is cancelled, then waits for those that are open; `abort` resets them. Cancels
    /// `settled` once it will connect to nobody any more.
    pub async fn serve(
        &self,
        listener: TcpListener,
        drain: CancellationToken,
        settled: CancellationToken,
        abort: CancellationToken,
    ) {
        let (connections, dialling) = (TaskTracker::new(), TaskTracker::new());
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, accept::accept(&listener).await.0)
            };
            let (place, client) = tokio::select! {
                next = next => next,
                () = drain.cancelled() => break,
            };
            let (service, abort, dialling) = (self.clone(), abort.clone(), dialling.token());
            connections.spawn(async move {
                let _place = place;
                let dialled = service.dial().await;
                drop(dialling);
                relay(client, dialled, &abort).await;
            });
        }
        drop(listener);
        dialling.close();
        dialling.wait().await;
        settled.cancel();
        connections.close();
        connections.wait().await;
    }

    /// Connects to the replica with the fewest connections, to another one if that refuses, and at last to the
    /// activator.
    async fn dial(&self) -> Option<Dialled> {
        let mut refused = Vec::new();
        while let Some((backend, open)) = self.choose(&refused) {
            if let Some(stream) = connect(backend.address).await {
                self.0.metrics.connection("replica");
                return Some((stream, Some(open)));
            }
            open.suspect();
            refused.push(backend.address);
        }
        let stream = connect(self.0.activator).await;
        self.0.metrics.connection(if stream.is_some() {
            "activator"
        } else {
            "none"
        });
        Some((stream?, None))
    }

    fn choose(&self, refused: &[SocketAddr]) -> Option<(Backend, Open)> {
        let ready = self.0.ready.lock();
        let now = Instant::now();
        let load = |backend: &Backend| {
            (
                backend.is_suspect(now),
                backend.open.load(Ordering::Relaxed),
            )
        };
        let eligible = || {
            ready
                .iter()
                .filter(|backend| !refused.contains(&backend.address))
        };
        let least = eligible().map(load).min()?;
        let idlest: Vec<_> = eligible()
            .filter(|backend| load(backend) == least)
            .collect();
        let chosen = Backend::clone(idlest.choose(&mut rand::rng())?);
        let open = Open::new(&chosen);
        Some((chosen, open))
    }
}

/// A connection, and its place at the replica unless it goes to the activator.
type Dialled = (TcpStream, Option<Open>);

/// Counts a connection of a backend while it is open.
#[derive(Debug)]
struct Open(Backend);

impl Open {
    fn new(backend: &Backend) -> Self {
        backend.open.fetch_add(1, Ordering::Relaxed);
        Self(backend.clone())
    }

    /// Takes in that the connection was refused or cut, by whichever side.
    fn suspect(&self) {
        *self.0.suspect_until.lock() = Some(Instant::now() + self.0.suspicion);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Relays between `client` and what was dialled for it until both ends have ended, or either is cut.
async fn relay(mut client: TcpStream, dialled: Option<Dialled>, abort: &CancellationToken) {
    let Some((mut backend, open)) = dialled else {
        reset(&client);
        return;
    };
    let relayed = tokio::select! {
        relayed = tokio::io::copy_bidirectional(&mut client, &mut backend) => relayed.is_ok(),
        () = abort.cancelled() => false,
    };
    if !relayed {
        if let Some(open) = open {
            open.suspect();
        }
        // A cut connection must not look like one that ended.
        reset(&client);
        reset(&backend);
    }
}

async fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address))
        .await
        .ok()?
        .ok()?;
    // Fails only if the peer is gone already, which the first read will tell.
    let _ = stream.set_nodelay(true);
    Some(stream)
}

/// Makes closing `stream` a reset.
fn reset(stream: &TcpStream) {
    // Fails only if the connection is gone already.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests;
