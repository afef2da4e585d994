//! How long to wait before a slice is written again that could not be written, or that somebody else keeps changing.

use std::time::Duration;

use tokio::time::Instant;

/// Without a repair for so long, whoever changed it has stopped. Longer than the longest wait for a repair.
pub(super) const QUIET: Duration = Duration::from_mins(10);

/// How long to wait after the first failure; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(15);

/// How long to wait after the first repair, which comes at once; twice as long after each further one.
const FIRST_REPAIR: Duration = Duration::from_secs(1);
const LONGEST_REPAIR: Duration = Duration::from_mins(5);

/// One slice's trouble, if it has any.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
    retry_at: Option<Instant>,
    repairs: u32,
    repaired_at: Option<Instant>,
    repair_at: Option<Instant>,
}

impl Trouble {
    /// A write has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + doubled(FIRST_RETRY, self.failures, LONGEST_RETRY));
    }

    /// A write was done.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// What was written is to be written again, because it is not there.
    pub(super) fn undone(&mut self, now: Instant) {
        if self.failures > 0 {
            // The same once more.
            return;
        }
        if !self.is_recent(now) {
            self.repairs = 0;
        }
        self.repairs = self.repairs.saturating_add(1);
        self.repaired_at = Some(now);
        self.repair_at = Some(now + doubled(FIRST_REPAIR, self.repairs, LONGEST_REPAIR));
    }

    /// Returns when a write may be made that would be made at `due`.
    pub(super) fn not_before(&self, due: Instant, repair: bool) -> Instant {
        let due = self.retry_at.map_or(due, |retry| retry.max(due));
        // What is written for the first time is no repair, however often another was needed.
        let repair_at = self.repair_at.filter(|_| repair);
        repair_at.map_or(due, |repair| repair.max(due))
    }

    /// Returns how often in a row it has failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns how often it was repaired, since it was quiet last.
    pub(super) fn repairs(&self) -> u32 {
        self.repairs
    }

    /// Whether a repair was needed not long ago.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        self.repaired_at
            .is_some_and(|repaired| now < repaired + QUIET)
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 1 << times.saturating_sub(1).min(16);
    (first * factor).min(longest)
}
