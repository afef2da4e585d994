//! What the publisher knows and what it does next. Synchronous: fed with what the listeners and the cluster say and with
//! the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use stillwake_cluster::{published::Change, replicas, services::Family};
use tokio::time::Instant;

use crate::{
    board::{Board, Desired, Listening, ServicePort},
    orphans::{Answer, Orphans, Question, Verdict},
    slice::{self, Owner, Replica, SliceName},
    writes::{Outcome, Pace, Published, Write, Writes},
};

/// How long after its start a replica leaves slices alone that an earlier container of its pod has published, and that
/// nothing is listened for yet. By then the Services are known; until then the slices may come to be right again.
const LEFTOVERS: Duration = Duration::from_secs(10);

/// Most slices that are listed for people.
const MAX_LISTED: usize = 1_000;

/// What to do.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Write a slice.
    Write(Write),
    /// Ask the API server about a pod.
    Ask(Question),
}

/// All that is known.
#[derive(Debug)]
pub(super) struct State {
    replica: Replica,
    board: Board,
    board_changed: bool,
    /// What is wanted names another owner.
    owner_changed: bool,
    /// When the board changes by itself.
    board_due: Option<Instant>,
    /// What of the board is wanted already, and the name of its slice.
    wanted: BTreeMap<(ServicePort, Family), (Desired, SliceName)>,
    writes: Writes,
    orphans: Orphans,
    /// What is published has been told.
    synced: bool,
    leftovers: Leftovers,
}

/// What becomes of slices of ours that nothing is listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leftovers {
    Wait,
    WaitUntil(Instant),
    Delete,
}

impl State {
    pub(super) fn new(replica: Replica, hold_down: Duration, pace: Pace) -> Self {
        Self {
            orphans: Orphans::new(replica.uid.clone()),
            replica,
            board: Board::new(hold_down),
            board_changed: false,
            owner_changed: false,
            board_due: None,
            wanted: BTreeMap::new(),
            writes: Writes::new(pace),
            synced: false,
            leftovers: Leftovers::Wait,
        }
    }

    pub(super) fn listen(&mut self, port: ServicePort, listening: Listening) {
        self.board.listen(port, listening);
        self.board_changed = true;
    }

    pub(super) fn withdraw(&mut self, port: &ServicePort) {
        self.board.withdraw(port);
        self.board_changed = true;
    }

    pub(super) fn set_owner(&mut self, owner: Owner) {
        self.replica.owner = Some(owner);
        self.owner_changed = true;
        self.board_changed = true;
    }

    pub(super) fn withdraw_all(&mut self, now: Instant) {
        self.board.withdraw_all();
        self.board_changed = true;
        self.leftovers = Leftovers::WaitUntil(now);
    }

    pub(super) fn backends(
        &mut self,
        port: &ServicePort,
        serving: &BTreeSet<Family>,
        now: Instant,
    ) {
        self.board.backends(port, serving, now);
        self.board_changed = true;
    }

    /// Takes in what is published.
    pub(super) fn published(&mut self, change: Change, now: Instant) {
        match change {
            Change::Slice(slice) => {
                let name = SliceName::of(&slice);
                let (uid, pod) = slice::publisher(&slice);
                // Whoever else is said to have published what we want is not believed.
                if uid == self.replica.uid || self.writes.wants(&name) {
                    self.orphans.forget(&name);
                    let unheard_of = !self.writes.knows(&name);
                    self.writes
                        .observe(name.clone(), Some(Published::own(slice)), now);
                    if unheard_of && self.leftovers == Leftovers::Delete {
                        self.writes.unwant(&name, now);
                    }
                } else if !uid.is_empty() {
                    let published = Published::foreign(&slice);
                    self.orphans.observe(name, (uid, pod), published, now);
                }
            }
            Change::Gone { namespace, name } => {
                let name = SliceName { namespace, name };
                self.orphans.forget(&name);
                if self.writes.knows(&name) {
                    self.writes.observe(name, None, now);
                }
            }
            Change::Synced => {
                self.synced = true;
                if self.leftovers == Leftovers::Wait {
                    self.leftovers = Leftovers::WaitUntil(now + LEFTOVERS);
                }
            }
        }
    }

    /// Takes in which replicas there are. Returns the UIDs of those that live.
    pub(super) fn replicas(
        &mut self,
        replicas: Vec<replicas::Replica>,
        now: Instant,
    ) -> Option<Vec<String>> {
        self.orphans.replicas(replicas, now);
        self.orphans.live()
    }

    /// Takes in what the API server says of a pod.
    pub(super) fn answered(&mut self, question: &Question, answer: Answer, now: Instant) {
        self.orphans.answered(question, answer, now);
    }

    /// Takes in what came of a write.
    pub(super) fn wrote(&mut self, name: &SliceName, outcome: Outcome, now: Instant) {
        self.writes.done(name, outcome, now);
    }

    /// Returns what to do now, and takes it for begun.
    pub(super) fn next(&mut self, now: Instant) -> Option<Work> {
        if !self.synced {
            // Before it is known what is published, there are no differences.
            return None;
        }
        if self.board_changed || self.board_due.is_some_and(|due| due <= now) {
            self.board_changed = false;
            self.compare(now);
            self.board_due = self.board.next_change(now);
        }
        if let Leftovers::WaitUntil(end) = self.leftovers
            && end <= now
        {
            self.leftovers = Leftovers::Delete;
            self.writes.unwant_leftovers(now);
        }
        if let Some(question) = self.orphans.next_question(now) {
            return Some(Work::Ask(question));
        }
        for verdict in self.orphans.verdicts(now) {
            match verdict {
                Verdict::Condemned(name, published) => self.writes.condemn(name, published, now),
                Verdict::Pardoned(name) => self.writes.pardon(&name, now),
            }
        }
        self.writes.next(now).map(Work::Write)
    }

    /// Returns when there is something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if !self.synced {
            return None;
        }
        let leftovers = match self.leftovers {
            Leftovers::WaitUntil(end) => Some(end),
            Leftovers::Wait | Leftovers::Delete => None,
        };
        let due = [
            self.board_due,
            leftovers,
            self.orphans.next_due(),
            self.writes.next_due(),
        ];
        due.into_iter().flatten().min()
    }

    /// Whether no slice of this replica is published, and none will be.
    pub(super) fn is_drained(&self, now: Instant) -> bool {
        let compared = !self.board_changed && self.leftovers == Leftovers::Delete;
        compared && !self.writes.remain(now)
    }

    /// Returns how many slices of this replica are published ready, and how many unready.
    pub(super) fn count(&self, now: Instant) -> (usize, usize) {
        let mut count = (0, 0);
        for standing in self.writes.standing(now) {
            match standing.ready {
                Some(true) => count.0 += 1,
                Some(false) => count.1 += 1,
                None => {}
            }
        }
        count
    }

    pub(super) fn debug(&self, now: Instant) -> Value {
        let mut slices: Vec<_> = self.writes.standing(now).collect();
        // What is not as it should be first, in case there are too many.
        slices.sort_by_key(|slice| slice.failures == 0 && slice.repairs == 0);
        let slices = slices.iter().take(MAX_LISTED).map(|slice| {
            json!({
                "namespace": slice.name.namespace,
                "name": slice.name.name,
                "wanted": slice.wanted,
                "published": slice.ready.is_some(),
                "ready": slice.ready,
                "failures": slice.failures,
                "repairs": slice.repairs,
            })
        });
        let suspects = self
            .orphans
            .suspects()
            .map(|(uid, end, slices)| json!({"replica": uid, "seems": end, "slices": slices}));
        let (ready, unready) = self.count(now);
        json!({
            "synced": self.synced,
            "replica": self.replica.uid,
            "replicas": self.orphans.live(),
            "ready": ready,
            "unready": unready,
            "published": slices.collect::<Vec<_>>(),
            "suspected_replicas": suspects.collect::<Vec<_>>(),
        })
    }

    /// Takes over what is different on the board.
    fn compare(&mut self, now: Instant) {
        let mut before = std::mem::take(&mut self.wanted);
        let owner_changed = std::mem::take(&mut self.owner_changed);
        let all: Vec<_> = self.board.desired(now).collect();
        for desired in all {
            let key = (desired.port.clone(), desired.family);
            let known = before.remove(&key);
            if let Some(known) = known.filter(|(known, _)| *known == desired && !owner_changed) {
                self.wanted.insert(key, known);
                continue;
            }
            let name = slice::name(&self.replica, &desired);
            // While it is not known who serves, what is published stays as it is.
            let ready = desired.ready.or_else(|| self.writes.ready(&name, now));
            let Some(slice) = slice::render(&self.replica, &desired, ready == Some(true)) else {
                continue;
            };
            self.orphans.forget(&name);
            self.writes.want(name.clone(), Arc::new(slice), now);
            self.wanted.insert(key, (desired, name));
        }
        for (_, name) in before.into_values() {
            self.writes.unwant(&name, now);
        }
    }
}

#[cfg(test)]
mod tests;
