//! Activators and what they hold.
//!
//! Which Services an activator serves is its own affair; naming a workload is what asks for its endpoints.

use std::collections::HashMap;

use stillwake_proto::report::{Count, Endpoint, HeldReport, Role, Workload};
use tokio::time::Instant;

use super::{Connection, ConnectionId, State};
use crate::{
    history::{Moment, Rejected, ReporterClock, bounded, span},
    identity::Identity,
};

/// How many busy intervals what an activator held outlives its connection.
///
/// Two wrong answers are possible once it is gone. Forgetting at once would call a workload idle when only the
/// connection broke, and a reconnect takes a moment. Keeping for ever would hold a workload up because an activator was
/// killed, as nobody tells us that it is gone; its requests died with it. So it is kept for as long as a reconnect
/// takes and then dropped. Dropping says nothing about running pods: their requests are counted by their own sidecars,
/// and the workload stays active for two more polling intervals (the third law: not knowing is not zero).
const HELD_INTERVALS: u32 = 3;

/// What one activator has said.
#[derive(Debug)]
pub(super) struct Activator {
    pub(super) pod: String,
    pub(super) connection: Option<ConnectionId>,
    epoch: u64,
    clock: Option<(ReporterClock, i64)>,
    held: HashMap<Workload, Count>,
    /// The next report is the first of its connection, which names everything.
    begins: bool,
    left: Moment,
}

impl Activator {
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            pod: identity.pod.clone(),
            connection: None,
            epoch: 0,
            clock: None,
            held: HashMap::new(),
            begins: true,
            left: 0,
        }
    }

    /// Returns the connection that this one replaces.
    pub(super) fn connect(&mut self, connection: ConnectionId, epoch: u64) -> Option<ConnectionId> {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.clock = None;
            self.held.clear();
        }
        self.begins = true;
        self.connection.replace(connection)
    }

    pub(super) fn disconnect(&mut self, now: Moment) {
        self.connection = None;
        self.left = now;
    }

    pub(super) fn names(&self, workload: &Workload) -> bool {
        self.held.contains_key(workload)
    }

    fn holds(&self, workload: &Workload) -> u64 {
        self.held.get(workload).map_or(0, |count| count.in_flight)
    }
}

impl State {
    /// Takes in an activator's report. Returns the endpoints of the workloads it names for the first time, which are to
    /// be sent to it before anything that is queued for it later.
    ///
    /// # Errors
    ///
    /// Says why the report was ignored; the connection may go on, but not after [`Rejected::TooMany`].
    pub(crate) fn held_report(
        &mut self,
        connection: ConnectionId,
        report: &HeldReport,
        now: Instant,
    ) -> Result<Vec<Endpoint>, Rejected> {
        let now = self.advance(now);
        let Some(Connection {
            role: Role::Activator,
            uid,
        }) = self.connections.get(&connection).cloned()
        else {
            return Err(Rejected::Replaced);
        };
        let Some(activator) = self.activators.get_mut(&uid) else {
            return Err(Rejected::Replaced);
        };
        let elapsed = bounded(report.elapsed)?;
        for held in &report.held {
            bounded(held.count.unwrap_or_default().in_flight)?;
        }
        let clock = match &mut activator.clock {
            Some((_, last)) if elapsed <= *last => return Err(Rejected::Stale),
            Some((clock, last)) => {
                clock.observe(elapsed, now);
                *last = elapsed;
                *clock
            }
            None => {
                let clock = ReporterClock::new(elapsed, now);
                activator.clock = Some((clock, elapsed));
                clock
            }
        };
        let at = clock.ours(elapsed);
        // What was named on the last connection is compared with, and forgotten where it is not named again.
        let earlier = if std::mem::take(&mut activator.begins) {
            std::mem::take(&mut activator.held)
        } else {
            HashMap::new()
        };
        if activator.held.len() + report.held.len() > self.settings.max_held_workloads {
            let names = report.held.iter().filter_map(|held| held.workload.as_ref());
            let added = names
                .filter(|name| !activator.held.contains_key(*name))
                .count();
            if activator.held.len() + added > self.settings.max_held_workloads {
                return Err(Rejected::TooMany);
            }
        }
        let mut named = Vec::new();
        for held in &report.held {
            let (Some(workload), count) = (&held.workload, held.count.unwrap_or_default()) else {
                continue;
            };
            named.extend(self.hold(&uid, workload, count, earlier.get(workload), at, now));
        }
        for (workload, count) in earlier {
            let forgotten = !self
                .activators
                .get(&uid)
                .is_some_and(|left| left.names(&workload));
            if forgotten && count.in_flight > 0 {
                self.note_activity(&workload, true, now, now);
                self.note_level(&workload, now);
            }
        }
        Ok(named)
    }

    /// Notes what one activator holds for one workload; returns its endpoints if it is newly named.
    fn hold(
        &mut self,
        uid: &str,
        workload: &Workload,
        count: Count,
        earlier: Option<&Count>,
        at: Moment,
        now: Moment,
    ) -> Vec<Endpoint> {
        let was_busy = self.is_busy(workload) || earlier.is_some_and(|count| count.in_flight > 0);
        let held_before = self.held(workload);
        let Some(activator) = self.activators.get_mut(uid) else {
            return Vec::new();
        };
        let last = activator.held.insert(workload.clone(), count);
        let is_new = last.is_none();
        let compared = last.as_ref().or(earlier).copied().unwrap_or_default();
        if count.in_flight > 0 || compared.in_flight > 0 || count.requests > compared.requests {
            self.note_activity(workload, was_busy, at, now);
        }
        if held_before == 0 && count.in_flight > 0 {
            self.wake(workload);
        }
        self.note_level(workload, now);
        if is_new {
            self.endpoints(workload)
        } else {
            Vec::new()
        }
    }

    /// Returns the requests that all activators hold for a workload.
    pub(super) fn held(&self, workload: &Workload) -> u64 {
        let activators = self.activators.values();
        activators.map(|activator| activator.holds(workload)).sum()
    }

    /// Returns whether a request of the workload is in flight or held.
    pub(super) fn is_busy(&self, workload: &Workload) -> bool {
        let in_flight = self
            .workloads
            .get(workload)
            .map_or(0, |entry| entry.in_flight);
        in_flight > 0 || self.held(workload) > 0
    }

    /// Drops what activators held whose connection has been gone for too long.
    pub(super) fn expire_held(&mut self, now: Moment) {
        let patience = span(self.settings.busy_interval * HELD_INTERVALS);
        let runs_out = |activator: &Activator| {
            activator.connection.is_none() && now - activator.left > patience
        };
        if !self.activators.values().any(runs_out) {
            return;
        }
        let mut dropped = Vec::new();
        let kept = std::mem::take(&mut self.activators);
        for (uid, activator) in kept {
            if !runs_out(&activator) {
                self.activators.insert(uid, activator);
                continue;
            }
            let ended = activator.left + patience;
            for (workload, count) in activator.held {
                if count.in_flight > 0
                    && let Some(entry) = self.workloads.get_mut(&workload)
                {
                    entry.touch(ended);
                    dropped.push(workload);
                }
            }
        }
        for workload in dropped {
            self.note_level(&workload, now);
        }
    }
}
