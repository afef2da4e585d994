//! Which replica leads: the only one that rotates and publishes, as long as it renews its lease in time.
//!
//! Two leaders for a moment do no harm, because the shared state is compared and swapped; the lease only keeps replicas
//! from working against each other. A lease's age is measured by when this replica saw it change, never by comparing
//! another machine's clock with ours.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    rotation::elapsed,
    store::{Register, StoreError},
};

/// Who leads, and for how long unless renewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseRecord {
    /// The leader's name; empty once it has stepped down.
    pub holder: String,
    /// How long the record is good for after it was written.
    pub duration: Duration,
    /// When it was first written by this holder, by the holder's clock.
    pub acquired: Timestamp,
    /// When it was last written, by the holder's clock.
    pub renewed: Timestamp,
    /// How often the leader has changed.
    pub transitions: u32,
}

/// One replica's part in the contest for a lease.
#[derive(Debug)]
pub struct Contender<R> {
    register: R,
    name: String,
    duration: Duration,
    seen: Option<(LeaseRecord, Timestamp)>,
}

impl<R: Register<LeaseRecord>> Contender<R> {
    /// Takes part as `name`, which no other replica has, and leads for `duration` without renewal.
    pub fn new(register: R, name: String, duration: Duration) -> Self {
        Self {
            register,
            name,
            duration,
            seen: None,
        }
    }

    /// Renews or takes the lease if it is ours or over, and returns whether this replica leads.
    ///
    /// Call it at least three times per lease duration.
    ///
    /// # Errors
    ///
    /// Fails if the lease cannot be read or written; this replica then does not lead.
    pub async fn lead(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let (found, version) = self.register.read().await?;
        if let Some(record) = &found
            && record.holder != self.name
            && !self.is_over(record, now)
        {
            return Ok(false);
        }
        let ours = found.as_ref().filter(|record| record.holder == self.name);
        let record = LeaseRecord {
            holder: self.name.clone(),
            duration: self.duration,
            acquired: ours.map_or(now, |record| record.acquired),
            renewed: now,
            transitions: match (&found, ours) {
                (None, _) => 0,
                (Some(_), Some(record)) => record.transitions,
                (Some(record), None) => record.transitions.saturating_add(1),
            },
        };
        Ok(self.register.write(&record, &version).await?.is_some())
    }

    /// Gives the lease up if it is ours, so that the next leader need not wait for its end.
    ///
    /// # Errors
    ///
    /// Fails if the lease cannot be read or written; it then ends by itself.
    pub async fn step_down(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let (found, version) = self.register.read().await?;
        if let Some(record) = found.filter(|record| record.holder == self.name) {
            let record = LeaseRecord {
                holder: String::new(),
                renewed: now,
                ..record
            };
            self.register.write(&record, &version).await?;
        }
        Ok(())
    }

    fn is_over(&mut self, record: &LeaseRecord, now: Timestamp) -> bool {
        let since = match &self.seen {
            Some((seen, since)) if seen == record => *since,
            _ => {
                self.seen = Some((record.clone(), now));
                now
            }
        };
        record.holder.is_empty() || elapsed(since, now) > record.duration
    }
}

#[cfg(test)]
mod tests;
