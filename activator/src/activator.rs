//! The activator as a whole: its workloads, its listeners, and what it tells about itself.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::json;
use stillwake_proto::report::Workload;
use stillwake_reporting::Source;
use stillwake_runtime::accept::accept;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Settings,
    connection::{self, Context},
    directory::Directory,
    event::{Availability, ColdStart, EndpointEvent, ListedEndpoint},
    handover::{self, Handovers},
    holder::{Holder, Signals},
    metrics::Metrics,
    report::HeldSource,
    route::Route,
};

/// Cold starts that a slow receiver may lag behind before it misses the oldest.
const COLD_STARTS_KEPT: usize = 64;

/// Why a workload is unavailable that nobody has named.
const UNKNOWN: &str = "Stillwake does not know of a ScaledObject for it";

/// Holds requests of workloads at zero and forwards them once there are endpoints. Clones share everything.
#[derive(Clone, Debug)]
pub struct Activator(Arc<Shared>);

/// What all clones have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) started: Instant,
    pub(crate) holders: Mutex<BTreeMap<Workload, Arc<Holder>>>,
    pub(crate) signals: Signals,
    pub(crate) directory: Arc<Directory>,
}

impl Shared {
    /// Returns the requests and the bytes held over all workloads.
    pub(crate) fn held(&self) -> (usize, usize) {
        let holders = self.holders.lock();
        let each = holders.values().map(|holder| holder.held());
        each.fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
    }

    /// Returns on how many routes requests are answered at once because holding them is in vain.
    pub(crate) fn open_breakers(&self) -> usize {
        let holders = self.holders.lock();
        holders.values().map(|holder| holder.open_breakers()).sum()
    }

    fn holder(&self, workload: &Workload) -> Option<Arc<Holder>> {
        self.holders.lock().get(workload).cloned()
    }

    /// Returns the workload's holder, made with `availability` if there is none yet.
    fn holder_or(&self, workload: Workload, availability: Availability) -> Arc<Holder> {
        let mut holders = self.holders.lock();
        let holder = holders.entry(workload).or_insert_with_key(|workload| {
            let settings = Arc::clone(&self.settings);
            let holder = Holder::new(workload.clone(), settings, self.signals.clone());
            holder.set_availability(availability);
            holder
        });
        Arc::clone(holder)
    }
}

impl Activator {
    /// Returns an activator that serves nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings: Arc::new(settings),
            started: Instant::now(),
            holders: Mutex::default(),
            signals: Signals {
                edges: watch::Sender::new(0),
                metrics: Metrics::default(),
                cold_starts: broadcast::Sender::new(COLD_STARTS_KEPT),
            },
            directory: Arc::default(),
        }))
    }

    /// Says whether a workload can be woken. From the first time on it is named in reports, which asks the aggregators
    /// for its endpoints.
    ///
    /// Making it unavailable answers what is held for it at once, unless it has endpoints.
    pub fn set_workload(&self, workload: Workload, availability: Availability) {
        let holder = self.0.holder_or(workload, availability.clone());
        holder.set_availability(availability);
        self.report_soon();
    }

    /// Says that nobody scales the workload any longer: it is unavailable until it is set again.
    ///
    /// It stays named in reports, with nothing held, because a total must never decrease within an epoch, and what
    /// still runs of it is still forwarded to. This costs about a kilobyte for each workload that ever was.
    pub fn remove_workload(&self, workload: &Workload) {
        if let Some(holder) = self.0.holder(workload) {
            holder.set_availability(unknown());
        }
    }

    /// Learns of an endpoint. Events of a workload that was not named with [`set_workload`](Self::set_workload) are
    /// ignored.
    pub fn apply(&self, event: EndpointEvent) {
        let (EndpointEvent::Ready { workload, .. } | EndpointEvent::Gone { workload, .. }) = &event;
        let Some(holder) = self.0.holder(workload) else {
            tracing::debug!(%workload, "Ignoring an endpoint of an unknown workload");
            return;
        };
        self.0.directory.apply(&event, &holder);
        match event {
            EndpointEvent::Ready {
                workload,
                uid,
                address,
                ports,
            } => {
                tracing::debug!(%workload, uid, %address, ?ports, "Endpoint is ready");
                holder.change(|queue, now| queue.endpoint_ready(uid, address, ports, now));
            }
            EndpointEvent::Gone { workload, uid } => {
                tracing::debug!(%workload, uid, "Endpoint is gone");
                holder.change(|queue, _| queue.endpoint_gone(&uid));
            }
        }
    }

    /// Learns all endpoints that are listed for a route, as `EndpointSlice`s have them. They add to those of
    /// [`apply`](Self::apply), by their UIDs; whichever source is first releases what is held. Ignored for a workload
    /// that was not named.
    pub fn set_listed(&self, route: &Route, endpoints: Vec<ListedEndpoint>) {
        let Some(holder) = self.0.holder(&route.workload) else {
            tracing::debug!(workload = %route.workload, "Ignoring listed endpoints of an unknown workload");
            return;
        };
        self.0.directory.set_listed(route, &endpoints, &holder);
        let route = Arc::new(route.clone());
        holder.change(|queue, now| queue.endpoints_listed(&route, endpoints, now));
    }

    /// Takes the connections of `listener` for `route`, whose workload should have been named before.
    ///
    /// When `drain` is cancelled no further connection is taken, and the call returns once all have ended: held ones are
    /// released or reach their deadline. When `abort` is cancelled held ones are answered at once and all are closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future acts like `abort`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        route: Route,
        drain: CancellationToken,
        abort: CancellationToken,
    ) {
        let abort = abort.child_token();
        let _abort_when_dropped = abort.clone().drop_guard();
        let connections = TaskTracker::new();
        let holder = self.0.holder_or(route.workload.clone(), unknown());
        let route = Arc::new(route);
        let take = |(stream, peer): (TcpStream, SocketAddr)| {
            tracing::trace!(workload = %route.workload, route = route.name, %peer, "Connection accepted");
            let context = Context {
                holder: Arc::clone(&holder),
                route: Arc::clone(&route),
                connections: connections.clone(),
                drain: drain.clone(),
                abort: abort.clone(),
                left: None,
            };
            connections.spawn(connection::serve(stream, context));
        };
        let _listening = self.0.directory.listening(&route);
        let serving = take_all(listener, &connections, &drain, &abort, take);
        tokio::select! {
            () = serving => {}
            () = holder.keep_time() => {}
        }
    }

    /// Takes connections of `listener` that the sidecars of leaving pods hand over, each introduced by a
    /// [`Preamble`](stillwake_proto::relay::Preamble), for the workload of the pod that it names. A pod is known while
    /// [`apply`](Self::apply) or [`set_listed`](Self::set_listed) has told of it, and for two minutes after that; the
    /// connections of others are reset. `drain` and `abort` as in [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future acts like `abort`.
    pub async fn serve_handovers(
        &self,
        listener: TcpListener,
        drain: CancellationToken,
        abort: CancellationToken,
    ) {
        let abort = abort.child_token();
        let _abort_when_dropped = abort.clone().drop_guard();
        let connections = TaskTracker::new();
        let handovers = Handovers {
            directory: Arc::clone(&self.0.directory),
            metrics: self.0.signals.metrics.clone(),
            connections: connections.clone(),
            drain: drain.clone(),
            abort: abort.clone(),
        };
        let take = |(stream, peer): (TcpStream, SocketAddr)| {
            connections.spawn(handover::serve(stream, peer, handovers.clone()));
        };
        take_all(listener, &connections, &drain, &abort, take).await;
    }

    /// Returns what to report to the aggregators.
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::new(HeldSource(Arc::clone(&self.0)))
    }

    /// Returns the workloads, what is held for them and their endpoints, for a person to read.
    pub fn debug_state(&self) -> serde_json::Value {
        let holders = self.0.holders.lock();
        let workloads: Vec<_> = holders
            .values()
            .map(|holder| holder.debug_state())
            .collect();
        json!({ "workloads": workloads })
    }

    /// Registers `stillwake_activator_*`. To be called once for each registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        let shared = Arc::downgrade(&self.0);
        self.0.signals.metrics.register(shared, registry);
    }

    /// Returns the cold starts from now on, each when its first request is answered. A receiver that lags misses the
    /// oldest ones.
    pub fn cold_starts(&self) -> broadcast::Receiver<ColdStart> {
        self.0.signals.cold_starts.subscribe()
    }

    fn report_soon(&self) {
        self.0.signals.edges.send_modify(|edges| *edges += 1);
    }
}

/// Takes the connections of `listener` until `drain` or `abort`, then waits for the end of all.
async fn take_all(
    listener: TcpListener,
    connections: &TaskTracker,
    drain: &CancellationToken,
    abort: &CancellationToken,
    take: impl Fn((TcpStream, SocketAddr)),
) {
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            () = abort.cancelled() => break,
            accepted = accept(&listener) => take(accepted),
        }
    }
    // Closing the listener would reset the connections that the kernel has accepted for it.
    loop {
        tokio::select! {
            biased;
            accepted = accept(&listener) => take(accepted),
            () = tokio::task::yield_now() => break,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn unknown() -> Availability {
    Availability::Unavailable {
        reason: UNKNOWN.to_owned(),
    }
}
