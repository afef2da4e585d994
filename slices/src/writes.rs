//! What to write next, from what should be published and what is. Synchronous: fed with both and the time; it neither knows
//! why a slice should be there nor talks to anybody.
//!
//! # What is believed
//!
//! A watch lags behind our own writes. What was written is taken for published until the watch shows that very version, or
//! for a few seconds: so that what is still shown from before does not make us write again.
//!
//! # What comes first
//!
//! What makes a slice ready, because clients are refused meanwhile; then what ends a ready one; then the rest. Among
//! equals whoever waits longest.
//!
//! # How often
//!
//! A bounded number a second, of deletions a higher one. A slice whose write failed waits before the next, and one that somebody else keeps changing
//! waits longer each time; but what is new is written at once.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Preconditions;
use tokio::time::Instant;

mod pace;
mod record;
mod trouble;

use self::{
    pace::Bucket,
    record::{Aim, Begun, Record, Urgency},
    trouble::QUIET,
};
pub(crate) use self::{pace::Pace, record::Published};
use crate::slice::SliceName;

/// What to do.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Apply the whole slice.
    Apply(SliceName, Arc<EndpointSlice>),
    /// Delete the slice; another replica's only if nobody has touched it since.
    Delete(SliceName, Option<Preconditions>),
}

impl Write {
    /// Returns which slice it is about.
    pub(crate) fn name(&self) -> &SliceName {
        match self {
            Self::Apply(name, _) | Self::Delete(name, _) => name,
        }
    }

    /// Whether it is a slice of another replica.
    pub(crate) fn is_of_another(&self) -> bool {
        matches!(self, Self::Delete(_, Some(_)))
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was applied, and has this version now.
    Applied(Option<String>),
    /// It is not there any more.
    Deleted,
    /// It was refused, or it is not known what came of it.
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Task {
    urgency: Urgency,
    due: Instant,
    /// Since when there is something to do.
    since: Instant,
    /// Whether it is to be deleted.
    ends: bool,
}

/// A slice as it stands, for a person to read.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) name: &'a SliceName,
    pub(crate) wanted: bool,
    pub(crate) ready: Option<bool>,
    pub(crate) failures: u32,
    pub(crate) repairs: u32,
}

/// All slices that concern us.
#[derive(Debug)]
pub(crate) struct Writes {
    applications: Bucket,
    deletions: Bucket,
    records: BTreeMap<SliceName, Record>,
    /// Those with something to do, now or later.
    tasks: BTreeMap<SliceName, Task>,
    swept: Option<Instant>,
}

impl Writes {
    /// Returns what has nothing to do.
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            applications: Bucket::new(pace),
            deletions: Bucket::new(pace.of_deletions()),
            records: BTreeMap::new(),
            tasks: BTreeMap::new(),
            swept: None,
        }
    }

    /// A slice of this replica should say this.
    pub(crate) fn want(&mut self, name: SliceName, slice: Arc<EndpointSlice>, now: Instant) {
        let record = self.records.entry(name.clone()).or_default();
        record.aim = Aim::Say(slice);
        record.foreign = false;
        self.assess(name, now);
    }

    /// A slice of this replica should not be there.
    pub(crate) fn unwant(&mut self, name: &SliceName, now: Instant) {
        self.records.entry(name.clone()).or_default().aim = Aim::Absent;
        self.assess(name.clone(), now);
    }

    /// No slice of this replica should be there.
    pub(crate) fn unwant_leftovers(&mut self, now: Instant) {
        let leftovers: Vec<_> = self
            .own(|record| matches!(record.aim, Aim::Leave))
            .collect();
        for name in leftovers {
            self.unwant(&name, now);
        }
    }

    /// A slice of another replica should not be there.
    pub(crate) fn condemn(&mut self, name: SliceName, published: Published, now: Instant) {
        let record = self.records.entry(name.clone()).or_default();
        record.aim = Aim::Absent;
        record.foreign = true;
        record.published = Some(published);
        self.assess(name, now);
    }

    /// After [`condemn`](Self::condemn): the slice is gone, or none of our business any more.
    pub(crate) fn pardon(&mut self, name: &SliceName, now: Instant) {
        if let Entry::Occupied(mut record) = self.records.entry(name.clone()) {
            record.get_mut().aim = Aim::Leave;
            record.get_mut().published = None;
            if !record.get().is_in_flight() {
                record.remove();
            }
        }
        self.assess(name.clone(), now);
    }

    /// A slice of this replica is published like this, or not at all, as the watch says.
    pub(crate) fn observe(&mut self, name: SliceName, published: Option<Published>, now: Instant) {
        let record = self.records.entry(name.clone()).or_default();
        record.observe(published);
        self.assess(name, now);
    }

    /// Whether a slice of this replica draws connections, or nothing if there is none.
    pub(crate) fn ready(&self, name: &SliceName, now: Instant) -> Option<bool> {
        self.records.get(name)?.ready(now)
    }

    /// Whether the slice should say something.
    pub(crate) fn wants(&self, name: &SliceName) -> bool {
        let record = self.records.get(name);
        record.is_some_and(|record| matches!(record.aim, Aim::Say(_)))
    }

    /// Whether a slice of this replica is known.
    pub(crate) fn knows(&self, name: &SliceName) -> bool {
        self.records.get(name).is_some_and(|record| !record.foreign)
    }

    /// Whether a slice of this replica is there, or may come to be.
    pub(crate) fn remain(&self, now: Instant) -> bool {
        let mut own = self.records.values().filter(|record| !record.foreign);
        own.any(|record| record.remains(now))
    }

    /// Returns what to write now, and takes it for begun.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Write> {
        self.sweep(now);
        let due = self
            .tasks
            .iter()
            .filter(|(_, task)| self.start(task) <= now);
        let (name, task) = due.min_by_key(|(_, task)| (task.urgency, task.since))?;
        let (name, ends) = (name.clone(), task.ends);
        let bucket = if ends {
            &mut self.deletions
        } else {
            &mut self.applications
        };
        if !bucket.take(now) {
            return None;
        }
        self.tasks.remove(&name);
        let record = self.records.get_mut(&name)?;
        let write = match record.begin(now)? {
            Begun::Apply(slice) => Write::Apply(name, slice),
            Begun::Delete(untouched) => Write::Delete(name, untouched),
        };
        Some(write)
    }

    /// A write has ended.
    pub(crate) fn done(&mut self, name: &SliceName, outcome: Outcome, now: Instant) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        record.done(outcome, now);
        if record.foreign && matches!(record.aim, Aim::Leave) {
            self.records.remove(name);
        }
        self.assess(name.clone(), now);
    }

    /// Returns when there is something to write.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.tasks.values().map(|task| self.start(task)).min()
    }

    /// Returns when there is something to do and it may be done.
    fn start(&self, task: &Task) -> Instant {
        let bucket = if task.ends {
            &self.deletions
        } else {
            &self.applications
        };
        let free = bucket.next_free();
        free.map_or(task.due, |free| free.max(task.due))
    }

    /// Returns how the slices of this replica stand.
    pub(crate) fn standing(&self, now: Instant) -> impl Iterator<Item = Standing<'_>> {
        let own = self.records.iter().filter(|(_, record)| !record.foreign);
        own.map(move |(name, record)| Standing {
            name,
            wanted: matches!(record.aim, Aim::Say(_)),
            ready: record.ready(now),
            failures: record.trouble.failures(),
            repairs: record.trouble.repairs(),
        })
    }

    fn own(&self, which: impl Fn(&Record) -> bool) -> impl Iterator<Item = SliceName> {
        let own = self
            .records
            .iter()
            .filter(move |(_, record)| !record.foreign && which(record));
        own.map(|(name, _)| name.clone())
    }

    /// Works out whether there is something to do.
    fn assess(&mut self, name: SliceName, now: Instant) {
        let record = self.records.get(&name);
        let due = record.and_then(|record| Some((record, record.due(now)?)));
        let Some((record, due)) = due else {
            self.tasks.remove(&name);
            return;
        };
        let urgency = record.urgency(now);
        let ends = matches!(record.aim, Aim::Absent);
        let task = self.tasks.entry(name).or_insert(Task {
            urgency,
            due,
            since: now,
            ends,
        });
        (task.urgency, task.due, task.ends) = (urgency, due, ends);
    }

    /// Forgets slices that are long gone, which are kept to know whether somebody brings them back.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now < swept + QUIET) {
            return;
        }
        let first = self.swept.replace(now).is_none();
        if !first {
            self.records
                .retain(|_, record| record.is_needed() || record.trouble.is_recent(now));
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
