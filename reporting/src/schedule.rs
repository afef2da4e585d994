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
    /// Requests were in flight; holds the interval until the next report.
    busy: Option<Duration>,
    /// The most requests that were reported since the last edge.
    highest: u64,
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
        let before = std::mem::replace(&mut self.intervals, intervals);
        let last = self.last.as_mut();
        if let Some(interval) = last.and_then(|last| last.busy.as_mut()) {
            let steady = *interval == before.busy;
            *interval = if steady {
                intervals.busy
            } else {
                intervals.busy.min(*interval)
            };
        }
    }

    /// A report of the state at `at`, of so many requests, goes out; edges up to then are in it.
    ///
    /// The first one of a busy time says little, since the edge is its first request: a burst that follows would look
    /// like one request for a whole interval. So does one on another edge, such as a clear rise: how far it goes, and
    /// whether it lasts, is only known afterwards. So the next ones follow sooner, each after twice the time of the last, or
    /// after the same time while it goes on clearly above all that was reported.
    pub(crate) fn sent(&mut self, at: Instant, requests: u64) {
        let before = self.last.filter(|_| !self.edge);
        let highest = before.map_or(0, |last| last.highest);
        let grows = requests * 10 > highest * 11;
        let interval = match before.and_then(|last| last.busy) {
            _ if self.edge => self.minimum_gap,
            Some(interval) if grows => interval,
            interval => interval.unwrap_or(self.minimum_gap) * 2,
        };
        self.last = Some(Sent {
            at,
            busy: (requests > 0).then_some(interval.min(self.intervals.busy)),
            highest: highest.max(requests),
        });
        self.edge = false;
    }

    /// Returns when the next report is due; `None` is at once.
    pub(crate) fn due(&self) -> Option<Instant> {
        let Sent { at, busy, .. } = self.last?;
        let interval = match (self.edge, busy) {
            (true, _) => self.minimum_gap,
            (false, Some(interval)) => interval,
            (false, None) => self.intervals.idle,
        };
        Some(at + interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_millis(50);

    /// Returns the schedule of a reporter that has been busy for long.
    fn steadily_busy(now: Instant) -> Schedule {
        let mut schedule = Schedule::new(GAP);
        for _ in 0..10 {
            schedule.sent(now, 1);
        }
        schedule
    }

    #[test]
    fn the_first_report_is_due_at_once() {
        assert_eq!(Schedule::new(GAP).due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn reports_follow_the_busy_or_the_idle_interval() {
        let now = Instant::now();
        let mut schedule = steadily_busy(now);
        schedule.sent(now, 1);
        assert_eq!(schedule.due(), Some(now + DEFAULT_BUSY));
        schedule.sent(now, 0);
        assert_eq!(schedule.due(), Some(now + DEFAULT_IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn reports_follow_faster_at_the_beginning_of_a_busy_time() {
        let now = Instant::now();
        let mut schedule = Schedule::new(GAP);
        for _ in 0..2 {
            schedule.sent(now, 0);
            for milliseconds in [100, 200, 400, 800, 1000, 1000] {
                schedule.sent(now, 1);
                let due = now + Duration::from_millis(milliseconds);
                assert_eq!(schedule.due(), Some(due));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reports_follow_faster_after_an_edge_too() {
        let now = Instant::now();
        let mut schedule = steadily_busy(now);
        schedule.edge();
        for milliseconds in [50, 100, 200, 400, 800, 1000] {
            schedule.sent(now, 1);
            let due = now + Duration::from_millis(milliseconds);
            assert_eq!(schedule.due(), Some(due));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reports_follow_as_fast_for_as_long_as_the_number_goes_on_growing() {
        let now = Instant::now();
        let mut schedule = steadily_busy(now);
        schedule.edge();
        let told = [
            (10, 50),
            (30, 50),
            (60, 50),
            (80, 50),
            (85, 100),
            (70, 200),
            (88, 400),
            (100, 400),
            (100, 800),
            (150, 800),
            (160, 1000),
        ];
        for (requests, milliseconds) in told {
            schedule.sent(now, requests);
            let due = now + Duration::from_millis(milliseconds);
            assert_eq!(schedule.due(), Some(due), "{requests}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_is_due_after_the_gap_and_only_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(GAP);
        schedule.sent(now, 0);
        assert!(!schedule.awaits_edge());
        schedule.edge();
        schedule.edge();
        assert!(schedule.awaits_edge());
        assert_eq!(schedule.due(), Some(now + GAP));
        schedule.sent(now + GAP, 0);
        assert!(!schedule.awaits_edge());
        assert_eq!(schedule.due(), Some(now + GAP + DEFAULT_IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_pace_holds_for_the_report_that_is_waited_for() {
        let now = Instant::now();
        let mut schedule = steadily_busy(now);
        for milliseconds in [5000, 500] {
            let pace = Pace {
                busy: milliseconds,
                idle: 30_000,
            };
            schedule.set_intervals(pace.into());
            let due = now + Duration::from_millis(milliseconds.into());
            assert_eq!(schedule.due(), Some(due));
        }
        schedule.sent(now, 0);
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
