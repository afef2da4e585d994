//! Counts a connection that nobody can look into: one in flight while bytes move.

use std::time::Duration;

use tokio::time::Instant;

use crate::in_flight::{InFlight, InFlightGuard};

/// A connection without messages. In flight from its first bytes until none have moved for the idle window.
#[derive(Debug)]
pub(crate) struct Opaque {
    in_flight: InFlight,
    idle_window: Duration,
    moved: Instant,
    guard: Option<InFlightGuard>,
}

impl Opaque {
    /// Returns a connection on which bytes move at `now`, counted by `guard` if it was counted before.
    pub(crate) fn new(
        in_flight: InFlight,
        idle_window: Duration,
        guard: Option<InFlightGuard>,
        now: Instant,
    ) -> Self {
        let guard = Some(guard.unwrap_or_else(|| in_flight.begin()));
        Self {
            in_flight,
            idle_window,
            moved: now,
            guard,
        }
    }

    /// Takes that bytes moved in either direction.
    pub(crate) fn moved(&mut self, now: Instant) {
        self.moved = now;
        if self.guard.is_none() {
            self.guard = Some(self.in_flight.begin());
        }
    }

    /// Returns when the connection becomes idle if no bytes move until then, or `None` if it is.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.guard.as_ref().map(|_| self.moved + self.idle_window)
    }

    /// Takes the connection out of the count.
    pub(crate) fn forget(self) {
        if let Some(guard) = self.guard {
            guard.ignore();
        }
    }

    /// Takes what time it is: past the deadline, the connection is not in flight any more.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.guard = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn it_is_in_flight_while_bytes_move_within_the_window() {
        let in_flight = InFlight::new();
        let count = || in_flight.snapshot().in_flight;
        let start = Instant::now();
        let mut opaque = Opaque::new(in_flight.clone(), WINDOW, None, start);
        assert_eq!(count(), 1);
        opaque.moved(start + WINDOW / 2);
        opaque.tick(start + WINDOW);
        assert_eq!(count(), 1);
        assert_eq!(opaque.deadline(), Some(start + WINDOW * 3 / 2));
        opaque.tick(start + WINDOW * 3 / 2);
        assert_eq!((count(), opaque.deadline()), (0, None));
        opaque.moved(start + WINDOW * 2);
        assert_eq!(count(), 1);
        drop(opaque);
        assert_eq!(count(), 0);
    }

    #[tokio::test]
    async fn what_was_counted_before_is_not_counted_again() {
        let in_flight = InFlight::new();
        let guard = in_flight.begin();
        let _opaque = Opaque::new(in_flight.clone(), WINDOW, Some(guard), Instant::now());
        let snapshot = in_flight.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.requests), (1, 1));
    }
}
