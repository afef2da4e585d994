//! When the next report of a connection is due.
//!
//! Knows neither what is reported nor how it travels.

use std::time::Duration;

use stillwake_proto::report::Pace;
use tokio::time::Instant;

/// Intervals until the aggregator asks for others.
const DEFAULT_BUSY: Duration = Duration::from_secs(1);
const DEFAULT_IDLE: Duration = Duration::from_secs(10);

/// Bounds of what an aggregator may ask for, as in `Pace`.
const SHORTEST_BUSY: Duration = Duration::from_millis(100);
const SHORTEST_IDLE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// How often to report while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    pub(crate) busy: Duration,
    pub(crate) idle: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            busy: DEFAULT_BUSY,
            idle: DEFAULT_IDLE,
        }
    }
}

impl From<Pace> for Intervals {
    /// Takes what is asked for, brought into its bounds.
    fn from(pace: Pace) -> Self {
        let asked = |value: u32| Duration::from_millis(value.into());
        Self {
            busy: asked(pace.busy).clamp(SHORTEST_BUSY, LONGEST),
            idle: asked(pace.idle).clamp(SHORTEST_IDLE, LONGEST),
        }
    }
}

/// The timing of one connection's reports.
#[derive(Debug)]
pub(crate) struct Schedule {
    minimum_gap: Duration,
    intervals: Intervals,
    edge: bool,
    last: Option<Sent>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    busy: bool,
}

impl Schedule {
    /// Creates the schedule of a new connection, whose first report is due at once.
    pub(crate) fn new(minimum_gap: Duration) -> Self {
        Self {
            minimum_gap,
            intervals: Intervals::default(),
            edge: false,
            last: None,
        }
    }

    /// Something happened that is to be reported at once.
    pub(crate) fn edge(&mut self) {
        self.edge = true;
    }

    /// Whether an edge is still to be reported.
    pub(crate) fn awaits_edge(&self) -> bool {
        self.edge
    }

    /// The aggregator asked for other intervals.
    pub(crate) fn set_intervals(&mut self, intervals: Intervals) {
        self.intervals = intervals;
    }

    /// A report of the state at `at` goes out; edges up to then are in it.
    pub(crate) fn sent(&mut self, at: Instant, busy: bool) {
        self.last = Some(Sent { at, busy });
        self.edge = false;
    }

    /// Returns when the next report is due; `None` is at once.
    pub(crate) fn due(&self) -> Option<Instant> {
        let Sent { at, busy } = self.last?;
        let interval = match (self.edge, busy) {
            (true, _) => self.minimum_gap,
            (false, true) => self.intervals.busy,
            (false, false) => self.intervals.idle,
        };
        Some(at + interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_millis(50);

    #[test]
    fn the_first_report_is_due_at_once() {
        assert_eq!(Schedule::new(GAP).due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn reports_follow_the_busy_or_the_idle_interval() {
        let now = Instant::now();
        let mut schedule = Schedule::new(GAP);
        schedule.sent(now, true);
        assert_eq!(schedule.due(), Some(now + DEFAULT_BUSY));
        schedule.sent(now, false);
        assert_eq!(schedule.due(), Some(now + DEFAULT_IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_is_due_after_the_gap_and_only_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(GAP);
        schedule.sent(now, false);
        assert!(!schedule.awaits_edge());
        schedule.edge();
        schedule.edge();
        assert!(schedule.awaits_edge());
        assert_eq!(schedule.due(), Some(now + GAP));
        schedule.sent(now + GAP, false);
        assert!(!schedule.awaits_edge());
        assert_eq!(schedule.due(), Some(now + GAP + DEFAULT_IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_pace_holds_for_the_report_that_is_waited_for() {
        let now = Instant::now();
        let mut schedule = Schedule::new(GAP);
        schedule.sent(now, true);
        let pace = Pace {
            busy: 5000,
            idle: 30_000,
        };
        schedule.set_intervals(pace.into());
        assert_eq!(schedule.due(), Some(now + Duration::from_secs(5)));
        schedule.sent(now, false);
        assert_eq!(schedule.due(), Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn a_pace_out_of_bounds_is_brought_into_them() {
        let fastest = Intervals::from(Pace { busy: 0, idle: 0 });
        assert_eq!((fastest.busy, fastest.idle), (SHORTEST_BUSY, SHORTEST_IDLE));
        let slowest = Intervals::from(Pace {
            busy: u32::MAX,
            idle: u32::MAX,
        });
        assert_eq!((slowest.busy, slowest.idle), (LONGEST, LONGEST));
    }
}
