//! Sidecars: their connections, their reports, and the endpoints that follow from both.
//!
//! Not activators' reports; those are in `held.rs`.

use std::collections::VecDeque;

use stillwake_proto::report::{Endpoint, Hello, PodReport, Port, Role, Workload};
use tokio::time::Instant;

use super::{Activator, Connection, ConnectionId, Effect, Member, State};
use crate::{
    history::{History, Moment, Rejected, span},
    identity::Identity,
};

/// Earlier epochs of a sidecar that are kept; the kubelet waits at least 10 s between restarts.
const MAX_PAST_EPOCHS: usize = 8;

/// What one sidecar has said.
#[derive(Debug)]
pub(super) struct Sidecar {
    pub(super) pod: String,
    pub(super) connection: Option<ConnectionId>,
    epoch: u64,
    address: String,
    ports: Vec<Port>,
    /// Of this epoch; none before its first report.
    pub(super) current: Option<History>,
    /// Of earlier epochs.
    pub(super) past: VecDeque<History>,
    pub(super) in_flight: u64,
    pub(super) app_ready: bool,
    pub(super) draining: bool,
    /// When it last said anything.
    pub(super) heard: Moment,
}

impl Sidecar {
    fn new(identity: &Identity, hello: &Hello) -> Self {
        Self {
            pod: identity.pod.clone(),
            connection: None,
            epoch: hello.epoch,
            address: hello.address.clone(),
            ports: hello.ports.clone(),
            current: None,
            past: VecDeque::new(),
            in_flight: 0,
            app_ready: false,
            draining: false,
            heard: 0,
        }
    }

    /// The process is gone: nothing is in flight in it any more, and its totals say no more.
    pub(super) fn end_epoch(&mut self, now: Moment) {
        if let Some(mut history) = self.current.take() {
            history.end(now);
            if self.past.len() == MAX_PAST_EPOCHS {
                self.past.pop_front();
            }
            self.past.push_back(history);
        }
        self.in_flight = 0;
        self.app_ready = false;
        self.draining = false;
    }

    fn takes_requests(&self) -> bool {
        self.app_ready && !self.draining
    }
}

impl State {
    /// Takes in a hello that was believed. A connection that the reporter had before is to be closed.
    pub(crate) fn hello(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        hello: &Hello,
        now: Instant,
    ) {
        let now = self.advance(now);
        let uid = identity.uid.clone();
        let role = identity.role;
        let replaced = if role == Role::Activator {
            let activator = self
                .activators
                .entry(uid.clone())
                .or_insert_with(|| Activator::new(identity));
            activator.connect(connection, hello.epoch)
        } else {
            self.sidecar_hello(connection, identity, hello, now)
        };
        if let Some(old) = replaced {
            self.connections.remove(&old);
            self.effects.push(Effect::Close(old));
        }
        self.connections
            .insert(connection, Connection { role, uid });
    }

    fn sidecar_hello(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        hello: &Hello,
        now: Moment,
    ) -> Option<ConnectionId> {
        let uid = &identity.uid;
        let sidecar = self
            .sidecars
            .entry(uid.clone())
            .or_insert_with(|| Sidecar::new(identity, hello));
        let replaced = sidecar.connection.replace(connection);
        sidecar.heard = now;
        if sidecar.epoch == hello.epoch {
            return replaced;
        }
        let lost = sidecar.in_flight;
        sidecar.end_epoch(now);
        sidecar.epoch = hello.epoch;
        sidecar.address.clone_from(&hello.address);
        sidecar.ports.clone_from(&hello.ports);
        let workload = self.pods.get(uid).map(|known| known.pod.workload.clone());
        if let Some(workload) = workload
            && let Some(entry) = self.workloads.get_mut(&workload)
        {
            entry.in_flight -= lost;
            if lost > 0 {
                entry.touch(now);
            }
            self.note_level(&workload, now);
        }
        self.unpublish(uid);
        replaced
    }

    /// Takes in a sidecar's report.
    ///
    /// # Errors
    ///
    /// Says why the report was ignored; the connection may go on.
    pub(crate) fn pod_report(
        &mut self,
        connection: ConnectionId,
        report: &PodReport,
        now: Instant,
    ) -> Result<(), Rejected> {
        let now = self.advance(now);
        let Some(Connection {
            role: Role::Sidecar,
            uid,
        }) = self.connections.get(&connection).cloned()
        else {
            return Err(Rejected::Replaced);
        };
        let workload = self.pods.get(&uid).map(|known| known.pod.workload.clone());
        let window = workload
            .as_ref()
            .and_then(|workload| self.workloads.get(workload))
            .map_or(crate::trigger::DEFAULT_WINDOW, |entry| entry.window);
        let was_busy = workload
            .as_ref()
            .is_some_and(|workload| self.is_busy(workload));
        let Some(sidecar) = self.sidecars.get_mut(&uid) else {
            return Err(Rejected::Replaced);
        };
        let count = report.count.unwrap_or_default();
        let before = sidecar.current.as_ref().map_or(0, History::requests);
        let mut is_base = false;
        if let Some(history) = &mut sidecar.current {
            history.record(report.elapsed, &count, now, window)?;
        } else {
            // Its whole life is known if an earlier epoch was heard, or if all of it lies within the window.
            let young = i64::try_from(report.elapsed).is_ok_and(|elapsed| elapsed <= span(window));
            let from_birth = young || !sidecar.past.is_empty();
            is_base = !from_birth;
            sidecar.current = Some(History::new(report.elapsed, &count, now, from_birth)?);
        }
        let at = sidecar.current.as_ref().map_or(now, History::last_moment);
        let had = std::mem::replace(&mut sidecar.in_flight, count.in_flight);
        sidecar.heard = now;
        let took = sidecar.takes_requests();
        sidecar.app_ready = report.app_ready;
        sidecar.draining = report.draining;
        let changed = took != sidecar.takes_requests();
        if let Some(workload) = workload {
            if let Some(entry) = self.workloads.get_mut(&workload) {
                if before == 0 && count.requests > 0 && !is_base {
                    // Whoever balances load may know of a pod seconds after us.
                    entry.level.pods_changed(now);
                }
                entry.in_flight = entry.in_flight - had + count.in_flight;
            }
            self.note_level(&workload, now);
            if had > 0 || count.in_flight > 0 || (count.requests > before && !is_base) {
                self.note_activity(&workload, was_busy, at, now);
            } else if count.requests > before
                && let Some(entry) = self.workloads.get_mut(&workload)
            {
                // A process that was there before us may have served a moment ago: taken for recent work, but nothing
                // to wake anybody for.
                entry.touch(at);
            }
        }
        if changed {
            self.publish(&uid);
        }
        Ok(())
    }

    /// The pod of a sidecar that had reported became known: what it said counts from now on.
    pub(super) fn adopt_reports(&mut self, uid: &str, workload: &Workload, now: Moment) {
        let Some(history) = self
            .sidecars
            .get(uid)
            .and_then(|sidecar| sidecar.current.as_ref())
        else {
            return;
        };
        let (at, in_flight) = (history.last_moment(), history.in_flight());
        if in_flight > 0 {
            self.note_activity(workload, false, at, now);
        } else if history.requests() > 0
            && let Some(entry) = self.workloads.get_mut(workload)
        {
            entry.touch(at);
        }
    }

    /// A connection ended. What its reporter said last stays until membership or time says otherwise.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId, now: Instant) {
        let now = self.advance(now);
        let Some(Connection { role, uid }) = self.connections.remove(&connection) else {
            return;
        };
        if role == Role::Activator {
            if let Some(activator) = self.activators.get_mut(&uid) {
                activator.disconnect(now);
            }
            return;
        }
        let known = self.pods.contains_key(&uid);
        if let Some(sidecar) = self.sidecars.get_mut(&uid) {
            sidecar.connection = None;
            if !known {
                // Keeps what strangers can make us remember to what is connected, and connections are bounded.
                self.sidecars.remove(&uid);
            }
        }
    }

    /// Tells activators whether a pod takes requests, if that changed.
    pub(super) fn publish(&mut self, uid: &str) {
        let (Some(sidecar), Some(Member { pod, .. })) =
            (self.sidecars.get(uid), self.pods.get(uid))
        else {
            return;
        };
        if !sidecar.takes_requests() {
            self.unpublish(uid);
            return;
        }
        let Some(entry) = self.workloads.get_mut(&pod.workload) else {
            return;
        };
        let target = (sidecar.address.clone(), sidecar.ports.clone());
        if entry.endpoints.get(uid) == Some(&target) {
            return;
        }
        entry.endpoints.insert(uid.to_owned(), target.clone());
        entry.level.pods_changed(self.latest);
        let workload = pod.workload.clone();
        self.tell(&endpoint(&workload, uid, target, true));
    }

    pub(super) fn unpublish(&mut self, uid: &str) {
        let Some(workload) = self.pods.get(uid).map(|known| known.pod.workload.clone()) else {
            return;
        };
        let Some(entry) = self.workloads.get_mut(&workload) else {
            return;
        };
        let Some(target) = entry.endpoints.remove(uid) else {
            return;
        };
        entry.level.pods_changed(self.latest);
        let was_last = entry.endpoints.is_empty();
        self.tell(&endpoint(&workload, uid, target, false));
        if was_last {
            self.wake(&workload);
        }
    }

    fn tell(&mut self, endpoint: &Endpoint) {
        let Some(workload) = &endpoint.workload else {
            return;
        };
        let listeners = self.activators.values().filter_map(|activator| {
            let named = activator.names(workload);
            activator.connection.filter(|_| named)
        });
        let effects = listeners.map(|connection| Effect::Endpoint(connection, endpoint.clone()));
        self.effects.extend(effects.collect::<Vec<_>>());
    }

    /// Returns the pods of a workload that take requests, as an activator hears them.
    pub(super) fn endpoints(&self, workload: &Workload) -> Vec<Endpoint> {
        let entry = self.workloads.get(workload);
        let targets = entry.into_iter().flat_map(|entry| &entry.endpoints);
        targets
            .map(|(uid, target)| endpoint(workload, uid, target.clone(), true))
            .collect()
    }
}

fn endpoint(
    workload: &Workload,
    uid: &str,
    (address, ports): (String, Vec<Port>),
    ready: bool,
) -> Endpoint {
    Endpoint {
        workload: Some(workload.clone()),
        uid: uid.to_owned(),
        address,
        ports,
        ready,
    }
}
