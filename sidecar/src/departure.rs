//! When a sidecar that goes away takes which step: it closes its listeners, and later cuts what is left.
//!
//! Synchronous: told what happened and what time it is. Who sends connections here needs a moment to learn of the drain, so
//! listeners outlast it by the linger, whatever else has ended by then.

use std::time::Duration;

use tokio::time::Instant;

/// One step on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Close listeners once nobody comes any more.
    Leave,
    /// Cut what has not ended.
    Cut,
}

/// A sidecar's way out.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    linger: Duration,
    grace: Duration,
    draining: Option<Instant>,
    told: Option<Instant>,
    taken: Option<Step>,
}

impl Departure {
    /// Returns the way out of a sidecar that stays: it will leave no sooner than `linger` after its drain began, and cut
    /// what is left `grace` after it was told to stop. A linger counts only as far as the grace goes.
    pub(crate) fn new(linger: Duration, grace: Duration) -> Self {
        Self {
            linger: linger.min(grace),
            grace,
            draining: None,
            told: None,
            taken: None,
        }
    }

    /// Takes that the drain has begun; only the first time counts.
    pub(crate) fn drain(&mut self, now: Instant) {
        self.draining.get_or_insert(now);
    }

    /// Takes that it has been told to stop, which begins the drain if nothing else has; only the first time counts.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.drain(now);
        self.told.get_or_insert(now);
    }

    /// Whether the drain has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Whether it has been told to stop.
    pub(crate) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Returns how long what is in flight gets after it was told to stop.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// Returns when the next step is due, or `None` if there is none that time would bring.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let (draining, told) = (self.draining?, self.told?);
        match self.taken {
            None => draining
                .checked_add(self.linger)
                .map(|lingered| lingered.max(told)),
            Some(Step::Leave) => told.checked_add(self.grace),
            Some(Step::Cut) => None,
        }
    }

    /// Returns the step to be taken, once; there may be another one right after it.
    pub(crate) fn next_step(&mut self, now: Instant) -> Option<Step> {
        self.next_due().filter(|due| *due <= now)?;
        self.taken = Some(match self.taken {
            None => Step::Leave,
            Some(_) => Step::Cut,
        });
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(5);
    const GRACE: Duration = Duration::from_secs(30);

    /// Returns all steps with the time since `start` at which each is due.
    fn steps(departure: &mut Departure, start: Instant) -> Vec<(Duration, Step)> {
        let mut steps = Vec::new();
        while let Some(due) = departure.next_due() {
            assert_eq!(departure.next_step(due - Duration::from_nanos(1)), None);
            steps.push((due - start, departure.next_step(due).unwrap()));
        }
        steps
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_ends_before_it_is_told_to_stop() {
        let start = Instant::now();
        let mut departure = Departure::new(LINGER, GRACE);
        assert!(!departure.is_draining() && departure.next_due().is_none());
        departure.drain(start);
        assert!(departure.is_draining() && !departure.is_told());
        assert_eq!(departure.next_step(start + seconds(3600)), None);
    }

    #[test]
    fn it_stays_for_the_linger_after_its_drain_began() {
        let start = Instant::now();
        for (told, leaves) in [(0, 5), (2, 5), (5, 5), (9, 9)] {
            let mut departure = Departure::new(LINGER, GRACE);
            departure.drain(start);
            departure.stop(start + seconds(told));
            // Neither begins anew.
            departure.drain(start + seconds(told));
            departure.stop(start + seconds(100));
            let expected = [
                (seconds(leaves), Step::Leave),
                (seconds(told) + GRACE, Step::Cut),
            ];
            assert_eq!(steps(&mut departure, start), expected);
        }
    }

    #[test]
    fn a_signal_alone_begins_the_drain() {
        let start = Instant::now();
        let mut departure = Departure::new(LINGER, GRACE);
        departure.stop(start);
        assert!(departure.is_draining() && departure.is_told());
        let expected = [(LINGER, Step::Leave), (GRACE, Step::Cut)];
        assert_eq!(steps(&mut departure, start), expected);
    }

    #[test]
    fn without_a_linger_it_leaves_when_told() {
        let start = Instant::now();
        let mut departure = Departure::new(Duration::ZERO, GRACE);
        departure.drain(start);
        departure.stop(start + seconds(2));
        let expected = [(seconds(2), Step::Leave), (seconds(32), Step::Cut)];
        assert_eq!(steps(&mut departure, start), expected);
    }

    #[test]
    fn no_linger_outlasts_the_grace_and_none_is_too_long() {
        let start = Instant::now();
        let mut departure = Departure::new(LINGER, seconds(1));
        departure.stop(start);
        let expected = [(seconds(1), Step::Leave), (seconds(1), Step::Cut)];
        assert_eq!(steps(&mut departure, start), expected);
        let mut endless = Departure::new(Duration::MAX, Duration::MAX);
        endless.stop(start);
        assert_eq!(endless.next_due(), None);
    }
}
