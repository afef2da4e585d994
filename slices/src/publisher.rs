//! Publishes slices: follows what is published and which replicas live, writes what differs, and cleans up after replicas
//! that are gone. Decides nothing; the board, the writes and the orphans do.

use std::{collections::BTreeSet, convert::Infallible, pin::pin, sync::Arc, time::Duration};

use kube::Client;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use stillwake_cluster::{published, replicas, scope::Scope, services::Family};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

mod state;
mod worker;

use self::{state::State, worker::Worker};
use crate::{
    board::{Listening, ServicePort},
    metrics::Metrics,
    slice::{Owner, Replica},
    writes::Pace,
};

/// Who publishes, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This replica.
    pub replica: Replica,
    /// Selects the pods of all replicas in this one's namespace, such as `app.kubernetes.io/component=activator`.
    pub replica_labels: String,
    /// Where slices are published.
    pub scope: Scope,
    /// How long a port stays ready after a backend has appeared, so that every node has heard of the backend.
    pub hold_down: Duration,
}

impl Default for Settings {
    /// Returns settings of a replica without an address, which publishes nothing.
    fn default() -> Self {
        Self {
            replica: Replica::default(),
            replica_labels: String::new(),
            scope: Scope::All,
            hold_down: Duration::from_secs(2),
        }
    }
}

/// Keeps the slices in the API server.
#[derive(Debug)]
pub struct Publisher {
    work: Worker,
    scope: Scope,
    installation: String,
    replica_labels: String,
    cluster: stillwake_cluster::Metrics,
}

/// Says what should be published. Clones share it; no call waits but [`drained`](Self::drained).
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

/// What the publisher, its handles and the metrics share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// For the publisher: there may be something to do.
    changed: Notify,
    /// For those who wait until all is withdrawn: something was done.
    done: Notify,
    live: watch::Sender<Option<Vec<String>>>,
}

impl Publisher {
    /// Creates a publisher, and registers its metrics. Nothing happens before it [runs](Self::run).
    pub fn new(
        client: Client,
        settings: Settings,
        cluster: stillwake_cluster::Metrics,
        registry: &mut Registry,
    ) -> Self {
        let installation = settings.replica.namespace.clone();
        let state = State::new(settings.replica, settings.hold_down, Pace::default());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
            done: Notify::new(),
            live: watch::Sender::new(None),
        });
        let metrics = Metrics::default();
        metrics.register(Arc::downgrade(&shared), registry);
        Self {
            work: Worker {
                shared,
                client,
                installation: installation.clone(),
                metrics,
            },
            scope: settings.scope,
            installation,
            replica_labels: settings.replica_labels,
            cluster,
        }
    }

    /// Returns what says what should be published.
    pub fn handle(&self) -> Handle {
        Handle(self.work.shared.clone())
    }

    /// Publishes for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves what is published as it is, for the other replicas to clean up.
    pub async fn run(self) -> Infallible {
        let Self {
            work,
            scope,
            installation,
            replica_labels,
            cluster,
        } = self;
        let client = work.client.clone();
        let shared = &work.shared;
        let slices = published::follow(
            client.clone(),
            scope,
            &installation,
            cluster.clone(),
            |change| shared.update(|state, now| state.published(change, now)),
        );
        let replicas = replicas::follow(
            client,
            installation.clone(),
            &replica_labels,
            cluster,
            |replicas| shared.replicas(replicas),
        );
        tokio::select! {
            never = slices => never,
            never = replicas => never,
            never = work.run() => never,
        }
    }
}

impl Handle {
    /// This owns all slices from now on. Nothing is published before.
    pub fn set_owner(&self, owner: Owner) {
        self.0.update(|state, _| state.set_owner(owner));
    }

    /// The port is listened for from now on, or in another way than before.
    pub fn listen(&self, port: ServicePort, listening: Listening) {
        self.0.update(|state, _| state.listen(port, listening));
    }

    /// The port is not served any longer. Whoever withdraws it goes on to listen for it until every node has heard.
    pub fn withdraw(&self, port: &ServicePort) {
        self.0.update(|state, _| state.withdraw(port));
    }

    /// No port is served any longer.
    pub fn withdraw_all(&self) {
        self.0.update(State::withdraw_all);
    }

    /// These families of the port have a backend that serves and is not terminating, and the others have none.
    pub fn backends(&self, port: &ServicePort, serving: &BTreeSet<Family>) {
        self.0
            .update(|state, now| state.backends(port, serving, now));
    }

    /// Returns the UIDs of the replicas that live, in their order, this one among them or not; nothing until they are
    /// known. For [`serves`](crate::share::serves).
    pub fn live_replicas(&self) -> watch::Receiver<Option<Vec<String>>> {
        self.0.live.subscribe()
    }

    /// Waits until nothing is published by this replica any more, after [`withdraw_all`](Self::withdraw_all). While the
    /// publisher does not run or the API server does not answer, that is for ever: a caller bounds it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn drained(&self) {
        loop {
            let mut done = pin!(self.0.done.notified());
            done.as_mut().enable();
            if self.0.state.lock().is_drained(Instant::now()) {
                return;
            }
            done.await;
        }
    }

    /// Returns what is published and what troubles it, for a person to read.
    pub fn debug_state(&self) -> serde_json::Value {
        self.0.state.lock().debug(Instant::now())
    }
}

impl Shared {
    /// Returns how many of our slices are published ready, and how many unready.
    pub(crate) fn published(&self) -> (usize, usize) {
        self.state.lock().count(Instant::now())
    }

    fn update(&self, change: impl FnOnce(&mut State, Instant)) {
        change(&mut self.state.lock(), Instant::now());
        self.changed.notify_one();
    }

    fn replicas(&self, replicas: Vec<replicas::Replica>) {
        let live = self.state.lock().replicas(replicas, Instant::now());
        self.live.send_if_modified(|known| {
            let changed = *known != live;
            *known = live;
            changed
        });
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
