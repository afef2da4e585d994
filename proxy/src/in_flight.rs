//! Counts requests in flight: now, over time, and how many began.
//!
//! Keeps no windows or averages; whoever reads two snapshots can derive them for the time between.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// What a clear rise adds at least. Fewer requests more or less are how any traffic scatters.
const LEAST_RISE: u64 = 4;

/// How long the highest count is remembered at least, and twice that at most.
const HIGH_INTERVAL: Duration = Duration::from_secs(1);

/// A counter of requests in flight. Clones share it.
#[derive(Clone)]
pub struct InFlight {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    edge: Notify,
    count: Mutex<Count>,
}

struct Count {
    in_flight: u64,
    /// When `in_flight` last changed; the integral is complete up to here.
    since: Instant,
    /// Integral of `in_flight` over time, in request-nanoseconds. 64 bits would last 21 days of 10,000 requests.
    area: u128,
    requests: u64,
    /// The highest count since `high_since`, and the one in the interval before that.
    high: u64,
    high_before: u64,
    high_since: Instant,
    /// The count that is a clear rise, and afterwards the one that is its end; out of reach when there is none.
    rise: u64,
    fall: u64,
    /// The largest `requests` anyone was shown.
    shown: u64,
    /// Ignored requests that were shown already. They are taken out of the ones to come, so that the total is
    /// right in the end and never decreases for a reader.
    owed: u64,
}

/// What a counter said at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Time since the counter was made.
    pub elapsed: Duration,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Integral of the requests in flight over `elapsed`, in request-time; never decreases.
    pub in_flight_time: Duration,
    /// Requests begun; never decreases.
    pub requests: u64,
}

impl InFlight {
    /// Returns a counter at zero, whose time begins now.
    pub fn new() -> Self {
        let began = Instant::now();
        let count = Count {
            in_flight: 0,
            since: began,
            area: 0,
            requests: 0,
            high: 0,
            high_before: 0,
            high_since: began,
            rise: LEAST_RISE,
            fall: 0,
            shown: 0,
            owed: 0,
        };
        Self {
            shared: Arc::new(Shared {
                began,
                edge: Notify::new(),
                count: Mutex::new(count),
            }),
        }
    }

    /// Counts a request from now until the guard is dropped.
    #[must_use = "the request ends when the guard is dropped"]
    pub fn begin(&self) -> InFlightGuard {
        let now = Instant::now();
        let edge = {
            let mut count = self.shared.count.lock();
            count.advance(now);
            count.in_flight += 1;
            if count.owed > 0 {
                count.owed -= 1;
            } else {
                count.requests += 1;
            }
            count.high = count.high.max(count.in_flight);
            let rises = count.in_flight >= count.rise;
            if rises {
                // Once, until the next report.
                count.rise = u64::MAX;
            }
            count.in_flight == 1 || rises
        };
        if edge {
            self.shared.edge.notify_one();
        }
        InFlightGuard {
            shared: Arc::clone(&self.shared),
            ignored: false,
        }
    }

    /// Returns what the counter says now.
    pub fn snapshot(&self) -> Snapshot {
        let mut count = self.shared.count.lock();
        // Taken under the lock, so that `elapsed` and the integral of two snapshots are in the same order.
        let now = Instant::now();
        count.advance(now);
        count.shown = count.requests;
        Snapshot {
            elapsed: now.saturating_duration_since(self.shared.began),
            in_flight: count.in_flight,
            in_flight_time: request_time(count.area),
            requests: count.requests,
        }
    }

    /// Does the same for a report: from now on, a clear rise above what was seen lately is an edge, and then its end.
    ///
    /// Clear is twice the highest count of the last 1 to 2 s, and the end half of the most that was reported since. So a count
    /// that goes up and down makes no edges, other than those at 0.
    pub fn report(&self) -> Snapshot {
        let snapshot = self.snapshot();
        self.shared.count.lock().arm(Instant::now());
        snapshot
    }

    /// Waits until the count has gone from 0 to 1, from 1 to 0, or clearly up or down after a report, since the last wait
    /// ended; many edges may end one wait.
    ///
    /// For one waiter: of several, each edge wakes one. A busy client makes two edges with each request, and telling
    /// them to any number of waiters costs as much as parsing a head.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no edge.
    pub async fn edge(&self) {
        self.shared.edge.notified().await;
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.shared.count.lock();
        formatter
            .debug_struct("InFlight")
            .field("in_flight", &count.in_flight)
            .field("requests", &count.requests)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn end(&self, ignored: bool) {
        let now = Instant::now();
        let edge = {
            let mut count = self.count.lock();
            count.advance(now);
            count.in_flight -= 1;
            if ignored && count.requests > count.shown {
                count.requests -= 1;
            } else if ignored {
                count.owed += 1;
            }
            let falls = count.in_flight < count.fall;
            if falls {
                count.fall = 0;
            }
            count.in_flight == 0 || falls
        };
        if edge {
            self.edge.notify_one();
        }
    }
}

impl Count {
    fn arm(&mut self, now: Instant) {
        if (self.rise == u64::MAX || self.fall > 0) && self.in_flight >= 2 {
            // The report tells of a rise, or of more of it, so its end matters as much.
            self.fall = self.fall.max(self.in_flight.div_ceil(2));
        }
        if now.saturating_duration_since(self.high_since) >= HIGH_INTERVAL {
            self.high_before = self.high;
            self.high = self.in_flight;
            self.high_since = now;
        }
        let high = self.high.max(self.high_before);
        self.rise = (2 * high).max(high + LEAST_RISE);
    }

    fn advance(&mut self, now: Instant) {
        // Another thread may have read its clock earlier and got the lock later.
        if let Some(passed) = now.checked_duration_since(self.since) {
            self.area += passed.as_nanos() * u128::from(self.in_flight);
            self.since = now;
        }
    }
}

fn request_time(area: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(area / SECOND).unwrap_or(u64::MAX);
    let nanoseconds = u32::try_from(area % SECOND).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// One request in flight. Dropping it ends the request.
#[must_use = "the request ends when the guard is dropped"]
pub struct InFlightGuard {
    shared: Arc<Shared>,
    ignored: bool,
}

impl InFlightGuard {
    /// Ends the request and takes it back out of the requests begun: it was a probe or a scrape.
    pub fn ignore(mut self) {
        self.ignored = true;
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.shared.end(self.ignored);
    }
}

impl fmt::Debug for InFlightGuard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InFlightGuard")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
