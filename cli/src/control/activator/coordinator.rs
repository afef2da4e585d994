//! Does what the plan says: sockets, slices, and what the activator knows.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use stillwake_activator::{Activator, EndpointEvent};
use stillwake_cluster::services::Change;
use stillwake_proto::report::Endpoint;
use stillwake_runtime::readiness::Latch;
use stillwake_slices::{
    Handle,
    board::{Listening, ServicePort},
};
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep_until},
};

use super::{
    listeners::Listeners,
    plan::{Listener, Notice, Plan, Step},
};

/// When a port is tried again that could not be listened on.
const AGAIN: Duration = Duration::from_secs(5);

/// Everything that is to be kept in step. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Coordinator(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    activator: Activator,
    slices: Handle,
    state: Mutex<State>,
    /// Notified when something falls due earlier than before.
    rescheduled: Notify,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    listeners: Listeners,
    /// Ports that could not be listened on, and when to try again.
    failed: BTreeMap<ServicePort, (Listener, Instant)>,
    unsynced: Option<Latch>,
    /// Nothing new is listened for.
    ending: bool,
}

impl Coordinator {
    /// Lets go of `unsynced` once everything that exists is served.
    pub(super) fn new(
        activator: Activator,
        slices: Handle,
        plan: Plan,
        listeners: Listeners,
        unsynced: Latch,
    ) -> Self {
        let state = State {
            plan,
            listeners,
            failed: BTreeMap::new(),
            unsynced: Some(unsynced),
            ending: false,
        };
        Self(Arc::new(Shared {
            activator,
            slices,
            state: Mutex::new(state),
            rescheduled: Notify::new(),
        }))
    }

    /// The cluster has changed.
    pub(super) fn changed(&self, change: Change) {
        let synced = change == Change::Synced;
        self.update(|state, now| {
            state.plan.apply(change, now);
            if synced {
                state.unsynced = None;
            }
        });
    }

    /// These replicas of the activator live.
    pub(super) fn replicas(&self, replicas: Vec<String>) {
        self.update(|state, _| state.plan.replicas(replicas));
    }

    /// An aggregator tells of an endpoint.
    pub(super) fn heard(&self, endpoint: Endpoint) {
        let event = match EndpointEvent::try_from(endpoint) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "An aggregator's word of an endpoint is of no use");
                return;
            }
        };
        // The plan first: what it takes back must not come before what it is about.
        self.update(|state, now| match &event {
            EndpointEvent::Ready { workload, uid, .. } => state.plan.reported(workload, uid, now),
            EndpointEvent::Gone { uid, .. } => state.plan.withdrawn(uid),
        });
        self.0.activator.apply(event);
    }

    /// Does what falls due as time passes, and hands on what to tell people. Never returns.
    pub(super) async fn keep_time(&self, mut tell: impl FnMut(Notice)) {
        loop {
            let rescheduled = self.0.rescheduled.notified();
            tokio::pin!(rescheduled);
            rescheduled.as_mut().enable();
            self.update(|_, _| ());
            let (notices, due) = {
                let mut state = self.0.state.lock();
                (state.plan.notices(Instant::now()), state.next_due())
            };
            notices.into_iter().for_each(&mut tell);
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = rescheduled => {}
            }
        }
    }

    /// From now on nothing new is listened for, and nothing is published.
    pub(super) fn withdraw(&self) {
        let mut state = self.0.state.lock();
        state.ending = true;
        state.failed.clear();
        self.0.slices.withdraw_all();
    }

    /// Takes no further connections, and waits until those there are have ended or `limit` is over, or until `hurry`
    /// does; what is left is answered at once.
    pub(super) async fn finish(&self, limit: Duration, hurry: impl Future<Output = ()>) {
        let (served, abort) = {
            let state = self.0.state.lock();
            let listeners = &state.listeners;
            listeners.drain.cancel();
            listeners.served.close();
            (listeners.served.clone(), listeners.abort.clone())
        };
        tokio::select! {
            () = served.wait() => return,
            () = tokio::time::sleep(limit) => {}
            () = hurry => {}
        }
        abort.cancel();
        served.wait().await;
    }

    /// Returns what is known and what is published, for a person to read.
    pub(super) fn debug_state(&self) -> serde_json::Value {
        let mut state = self.0.activator.debug_state();
        state["cluster"] = self.0.state.lock().plan.debug_state();
        state["slices"] = self.0.slices.debug_state();
        state
    }

    fn update(&self, act: impl FnOnce(&mut State, Instant)) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        let due = state.next_due();
        act(&mut state, now);
        let again = state
            .failed
            .extract_if(.., |_, (_, when)| *when <= now)
            .map(|(port, (listener, _))| Step::Listen(port, listener))
            .collect::<Vec<_>>();
        let steps = state.plan.steps(now);
        for step in again.into_iter().chain(steps) {
            self.take(&mut state, step, now);
        }
        if state.next_due() != due {
            self.0.rescheduled.notify_waiters();
        }
    }

    fn take(&self, state: &mut State, step: Step, now: Instant) {
        let activator = &self.0.activator;
        match step {
            Step::Workload(workload, availability) => {
                activator.set_workload(workload, availability);
            }
            Step::WorkloadGone(workload) => activator.remove_workload(&workload),
            Step::Listed(route, endpoints) => activator.set_listed(&route, endpoints),
            Step::Gone(workload, uid) => activator.apply(EndpointEvent::Gone { workload, uid }),
            Step::Serving(port, families) => {
                self.0.slices.backends(&port, &families);
            }
            Step::Listen(..) if state.ending => {}
            Step::Listen(port, listener) => {
                state.failed.remove(&port);
                match state.listeners.listen(&port, &listener.route) {
                    Ok(number) => self.0.slices.listen(
                        port,
                        Listening {
                            app_protocol: listener.app_protocol,
                            families: listener.families,
                            port: number,
                        },
                    ),
                    Err(error) => {
                        tracing::error!(%error, "A Service's requests are not held");
                        state.failed.insert(port, (listener, now + AGAIN));
                    }
                }
            }
            Step::Close(port) => {
                state.failed.remove(&port);
                self.0.slices.withdraw(&port);
                state.listeners.close(&port);
            }
        }
    }
}

impl State {
    fn next_due(&self) -> Option<Instant> {
        let again = self.failed.values().map(|(_, when)| *when).min();
        [self.plan.next_due(), again].into_iter().flatten().min()
    }
}
