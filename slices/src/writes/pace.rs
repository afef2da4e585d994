//! How many writes a second there may be.

use std::time::Duration;

use tokio::time::Instant;

/// A bound on the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Time from one write to the next, in the long run.
    pub(crate) interval: Duration,
    /// How many may come at once after a rest. At least one.
    pub(crate) burst: u32,
}

impl Default for Pace {
    /// Returns 40 a second, and 100 at once: several Services go to zero in the same moment, and their clients are refused
    /// until they are written; below what the API server's client allows this process.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(25),
            burst: 100,
        }
    }
}

impl Pace {
    /// Returns that of deletions, six times as high: whatever a slice said that is to go is wrong already. A replica that ends
    /// has to be through before it stops to listen, and one that was killed refuses connections for as long as its slices are
    /// there.
    pub(crate) fn of_deletions(self) -> Self {
        Self {
            interval: self.interval / 6,
            burst: self.burst.saturating_mul(6),
        }
    }
}

/// What of it is used up.
#[derive(Debug)]
pub(super) struct Bucket {
    pace: Pace,
    /// When as many writes as were made would have been made at the interval.
    caught_up: Option<Instant>,
    /// When the next may be made.
    next_free: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            caught_up: None,
            next_free: None,
        }
    }

    /// Takes one write, if there is one left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.next_free.is_some_and(|free| now < free) {
            return false;
        }
        let caught_up = self.caught_up.map_or(now, |caught_up| caught_up.max(now));
        let caught_up = caught_up + self.pace.interval;
        self.caught_up = Some(caught_up);
        let ahead = self.pace.interval * (self.pace.burst.max(1) - 1);
        self.next_free = caught_up.checked_sub(ahead);
        true
    }

    /// Returns when there is one, or nothing if there always is.
    pub(super) fn next_free(&self) -> Option<Instant> {
        self.next_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_they_come_at_the_interval() {
        let pace = Pace {
            interval: Duration::from_millis(100),
            burst: 3,
        };
        let mut bucket = Bucket::new(pace);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut taken = Vec::new();
        for milliseconds in (0..1000).step_by(10) {
            while bucket.take(at(milliseconds)) {
                taken.push(milliseconds);
            }
        }
        assert_eq!(taken[..6], [0, 0, 0, 100, 200, 300]);
        assert_eq!(taken.len(), 12);
        assert_eq!(bucket.next_free(), Some(at(1000)));
        assert!([(); 3].iter().all(|()| bucket.take(at(5000))));
        assert!(!bucket.take(at(5000)));
    }
}
