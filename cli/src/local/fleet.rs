//! Which replicas to start, to drain and to give up: the supervisor's decisions.
//!
//! No processes and no clock: fed with events and times. What a `ReplicaSet` and the kubelet do for a Deployment.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Pause before a replacement after the second crash in a row; doubles with each further one. The first replacement is
/// immediate. The kubelet's begins at 10 s, which is long for somebody who watches.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Longest pause before a replacement; the kubelet's is 5 min.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A replica that was ready for as long ends a row of crashes; the kubelet asks for 10 min.
const SETTLED: Duration = Duration::from_secs(10);

/// Names a replica; later ones are greater, and none is used twice.
pub type Id = u64;

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its app has not been heard to be ready, or not since it failed.
    Starting,
    /// Takes requests.
    Ready,
    /// Takes no new requests and ends once it has finished those it has.
    Draining,
}

impl Phase {
    /// Returns the name that `/debug/state` and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// What the fleet knows of one replica.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Where it is in its life.
    pub phase: Phase,
    /// When its processes were started.
    pub started: Instant,
    /// When it was ready first.
    pub ready: Option<Instant>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a replica under this name.
    Start(Id),
    /// Let it finish its requests, then stop it.
    Drain(Id),
    /// It did not become ready in time: stop it.
    GiveUp(Id),
}

/// The replicas of one workload.
#[derive(Debug)]
pub struct Fleet {
    startup_timeout: Duration,
    desired: u32,
    members: BTreeMap<Id, Member>,
    started: Id,
    crashes_in_a_row: u32,
    paused_until: Option<Instant>,
}

impl Fleet {
    /// Creates an empty fleet whose replicas must be ready `startup_timeout` after their start.
    pub fn new(startup_timeout: Duration) -> Self {
        Self {
            startup_timeout,
            desired: 0,
            members: BTreeMap::new(),
            started: 0,
            crashes_in_a_row: 0,
            paused_until: None,
        }
    }

    /// Sets how many replicas there should be.
    pub fn set_desired(&mut self, desired: u32) {
        self.desired = desired;
    }

    /// Takes in that the replica became ready or ceased to be. Returns true if that changed anything: a replica that
    /// drains is not made ready by news from before.
    pub fn heard_ready(&mut self, id: Id, ready: bool, now: Instant) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        let (from, to) = if ready {
            (Phase::Starting, Phase::Ready)
        } else {
            (Phase::Ready, Phase::Starting)
        };
        if member.phase != from {
            return false;
        }
        member.phase = to;
        if ready {
            member.ready.get_or_insert(now);
        }
        true
    }

    /// Takes in that the replica fell over. Returns true if it was not to end anyhow, so that this is a crash.
    pub fn fell(&mut self, id: Id, now: Instant) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        if member.phase == Phase::Draining {
            return false;
        }
        member.phase = Phase::Draining;
        let settled = member
            .ready
            .is_some_and(|ready| now.saturating_duration_since(ready) >= SETTLED);
        self.crashed(settled, now);
        true
    }

    /// Forgets a replica of which nothing is left.
    pub fn ended(&mut self, id: Id) {
        self.members.remove(&id);
    }

    /// Returns what must be done so that there are as many replicas as desired, and takes it as done at `now`.
    pub fn decide(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for (&id, member) in &mut self.members {
            let late = member.started + self.startup_timeout <= now;
            if member.phase == Phase::Starting && member.ready.is_none() && late {
                member.phase = Phase::Draining;
                actions.push(Action::GiveUp(id));
            }
        }
        for _ in &actions {
            self.crashed(false, now);
        }
        let live = self.live();
        let desired = self.desired as usize;
        if live < desired && self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = None;
            for _ in live..desired {
                self.started += 1;
                let member = Member {
                    phase: Phase::Starting,
                    started: now,
                    ready: None,
                };
                self.members.insert(self.started, member);
                actions.push(Action::Start(self.started));
            }
        }
        // As a ReplicaSet does: first those that are not ready, then the youngest.
        let mut leaving: Vec<_> = self
            .members
            .iter_mut()
            .filter(|(_, member)| member.phase != Phase::Draining)
            .collect();
        leaving.sort_by_key(|(id, member)| (member.phase == Phase::Ready, Reverse(**id)));
        for (&id, member) in leaving.into_iter().take(live.saturating_sub(desired)) {
            member.phase = Phase::Draining;
            actions.push(Action::Drain(id));
        }
        actions
    }

    /// Returns when to decide again if nothing happens before.
    pub fn next_decision(&self) -> Option<Instant> {
        let pause = self
            .paused_until
            .filter(|_| self.live() < self.desired as usize);
        let late = self
            .members
            .values()
            .filter(|member| member.phase == Phase::Starting && member.ready.is_none())
            .map(|member| member.started + self.startup_timeout);
        late.chain(pause).min()
    }

    /// Returns the replicas, oldest first.
    pub fn members(&self) -> &BTreeMap<Id, Member> {
        &self.members
    }

    /// Returns how many replicas there are, without those that drain (the scale's `status.replicas`).
    pub fn live(&self) -> usize {
        let live = self.members.values();
        live.filter(|member| member.phase != Phase::Draining)
            .count()
    }

    /// Returns how many replicas were ever started.
    pub fn started(&self) -> u64 {
        self.started
    }

    fn crashed(&mut self, settled: bool, now: Instant) {
        self.crashes_in_a_row = if settled {
            1
        } else {
            self.crashes_in_a_row + 1
        };
        if let Some(doublings) = self.crashes_in_a_row.checked_sub(2) {
            let factor = 2_u32.saturating_pow(doublings);
            self.paused_until = Some(now + FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE));
        }
    }
}

#[cfg(test)]
mod tests;
