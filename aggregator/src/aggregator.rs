//! The aggregator as its process uses it: one lock around the state, and the connections and streams that hear of it.
//!
//! Decides nothing itself.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use stillwake_proto::report::{AggregatorFrame, aggregator_frame};
use stillwake_runtime::{readiness::Latch, tls::Acceptor};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    debug,
    identity::{Identify, TrustHello},
    ingest,
    membership::MembershipEvent,
    metrics::Metrics,
    notice::Notice,
    refusals::Refusals,
    scaler,
    settings::Settings,
    state::{ConnectionId, Effect, ScaledObjectKey, State},
};

/// How often the state is asked for notices. They follow from time as much as from events, and none is urgent.
const NOTICE_INTERVAL: Duration = Duration::from_secs(5);

/// Collects reports and answers KEDA. Clones share everything.
#[derive(Clone, Debug)]
pub struct Aggregator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    identify: Box<dyn Identify>,
    metrics: Metrics,
    refusals: Mutex<Refusals>,
    next_connection: AtomicU64,
    streams: Arc<Semaphore>,
    inner: Mutex<Inner>,
}

/// The state and whoever hears of it, under one lock so that what they hear is in order.
#[derive(Debug)]
struct Inner {
    state: State,
    outbound: HashMap<ConnectionId, Outbound>,
    wakes: HashMap<ScaledObjectKey, watch::Sender<()>>,
    latches: Vec<Latch>,
}

#[derive(Debug)]
struct Outbound {
    frames: mpsc::Sender<AggregatorFrame>,
    close: CancellationToken,
}

/// What a connection's task hears from the rest of the aggregator.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) frames: mpsc::Receiver<AggregatorFrame>,
    pub(crate) close: CancellationToken,
}

impl Aggregator {
    /// Creates an aggregator that knows nothing and believes every hello; its grace begins now.
    pub fn new(settings: Settings) -> Self {
        Self::with_identity(settings, TrustHello)
    }

    /// Creates an aggregator that knows nothing and asks `identify` about every hello; its grace begins now.
    pub fn with_identity(settings: Settings, identify: impl Identify) -> Self {
        let inner = Inner {
            state: State::new(settings.clone(), Instant::now()),
            outbound: HashMap::new(),
            wakes: HashMap::new(),
            latches: Vec::new(),
        };
        Self {
            shared: Arc::new(Shared {
                identify: Box::new(identify),
                metrics: Metrics::default(),
                refusals: Mutex::new(Refusals::new(Instant::now())),
                next_connection: AtomicU64::new(0),
                streams: Arc::new(Semaphore::new(settings.max_streams)),
                inner: Mutex::new(inner),
                settings,
            }),
        }
    }

    /// Takes in a change of what exists.
    pub fn apply(&self, event: MembershipEvent) {
        self.update(|state, now| state.apply(event, now));
        let mut inner = self.shared.inner.lock();
        if inner.state.is_synced() {
            inner.latches.clear();
        }
    }

    /// Holds the process unready until [`MembershipEvent::Synced`] has come.
    pub fn ready_when_synced(&self, latch: Latch) {
        let mut inner = self.shared.inner.lock();
        if !inner.state.is_synced() {
            inner.latches.push(latch);
        }
    }

    /// Takes reporters' connections until `stop` is cancelled, then closes them.
    pub async fn serve_ingest(
        &self,
        listener: TcpListener,
        acceptor: Acceptor,
        stop: CancellationToken,
    ) {
        ingest::serve(self, listener, acceptor, stop).await;
    }

    /// Serves KEDA's external scaler until `stop` is cancelled, then ends every stream with OK.
    pub async fn serve_scaler(
        &self,
        listener: TcpListener,
        acceptor: Acceptor,
        stop: CancellationToken,
    ) {
        scaler::serve(self, listener, acceptor, stop).await;
    }

    /// Waits for something that users should be told, as Events on their `ScaledObject`s. For one task of the process.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn notices(&self) -> Vec<Notice> {
        loop {
            let notices = self.update(State::notices);
            if !notices.is_empty() {
                return notices;
            }
            tokio::time::sleep(NOTICE_INTERVAL).await;
        }
    }

    /// Registers the metrics `stillwake_aggregator_*`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(self, registry);
    }

    /// Returns what the aggregator knows, for people.
    pub fn debug_state(&self) -> serde_json::Value {
        self.update(debug::state)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Tells whether a refusal should be a warning in the log rather than a word for whoever looks closely.
    pub(crate) fn is_news(&self, source: IpAddr, port: &'static str, reason: &'static str) -> bool {
        let mut refusals = self.shared.refusals.lock();
        refusals.is_news(source, port, reason, Instant::now())
    }

    pub(crate) fn identify(&self) -> &dyn Identify {
        &*self.shared.identify
    }

    pub(crate) fn streams(&self) -> Arc<Semaphore> {
        Arc::clone(&self.shared.streams)
    }

    /// Asks or changes the state at this moment, and tells others what follows.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut inner = self.shared.inner.lock();
        // Under the lock, so that times never go back from one change to the next.
        let answer = change(&mut inner.state, Instant::now());
        inner.deliver();
        answer
    }

    /// Makes room for what one connection will hear.
    pub(crate) fn open(&self) -> (ConnectionId, Inbound) {
        let id = ConnectionId(self.shared.next_connection.fetch_add(1, Ordering::Relaxed));
        let (sender, frames) = mpsc::channel(self.shared.settings.max_queued_endpoints.max(1));
        let close = CancellationToken::new();
        let outbound = Outbound {
            frames: sender,
            close: close.clone(),
        };
        self.shared.inner.lock().outbound.insert(id, outbound);
        (id, Inbound { frames, close })
    }

    /// Forgets a connection.
    pub(crate) fn closed(&self, connection: ConnectionId) {
        self.update(|state, now| state.disconnected(connection, now));
        self.shared.inner.lock().outbound.remove(&connection);
    }

    /// Returns a receiver that changes whenever the `ScaledObject` may have to be woken.
    pub(crate) fn watch_wakes(&self, key: &ScaledObjectKey) -> watch::Receiver<()> {
        let mut inner = self.shared.inner.lock();
        inner.wakes.entry(key.clone()).or_default().subscribe()
    }

    /// Forgets a `ScaledObject`'s wakes once nobody but `receiver` hears of them.
    pub(crate) fn unwatch_wakes(&self, key: &ScaledObjectKey, receiver: watch::Receiver<()>) {
        let mut inner = self.shared.inner.lock();
        drop(receiver);
        if inner
            .wakes
            .get(key)
            .is_some_and(|wake| wake.receiver_count() == 0)
        {
            inner.wakes.remove(key);
        }
    }
}

impl Inner {
    fn deliver(&mut self) {
        for effect in self.state.effects() {
            match effect {
                Effect::Endpoint(connection, endpoint) => {
                    let Some(outbound) = self.outbound.get(&connection) else {
                        continue;
                    };
                    let kind = Some(aggregator_frame::Kind::Endpoint(endpoint));
                    if outbound.frames.try_send(AggregatorFrame { kind }).is_err() {
                        // It connects again and is told everything.
                        outbound.close.cancel();
                    }
                }
                Effect::Close(connection) => {
                    if let Some(outbound) = self.outbound.get(&connection) {
                        outbound.close.cancel();
                    }
                }
                Effect::Wake(key) => {
                    if let Some(wake) = self.wakes.get(&key) {
                        wake.send_replace(());
                    }
                }
            }
        }
    }
}
