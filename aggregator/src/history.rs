//! What one reporter has counted over time, placed on our clock without comparing two clocks.
//!
//! Samples stay in the reporter's own time and are mapped when they are read, so that a frame that was late, or a
//! better estimate of the delay, moves everything consistently.

use std::{collections::VecDeque, time::Duration};

use stillwake_proto::report::Count;

/// A time in microseconds since the aggregator's state began. Signed, because reporters began before.
pub(crate) type Moment = i64;

/// Thinning leaves no gap above this part of the window, and at most twice as many samples.
const SAMPLES_PER_WINDOW: i64 = 60;

/// A later arrival than this is no delay but a clock that stood still, such as a suspended machine's.
const LONGEST_DELAY: i64 = 30 * 1_000_000;

/// Two monotonic clocks drift apart by at most 200 parts in a million (NTP slews at up to 500, crystals drift by 100).
const DRIFT_DIVISOR: i64 = 5_000;

/// Converts to the unit of [`Moment`], saturating.
pub(crate) fn span(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// Reasons to ignore a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    /// A later report of the epoch has been seen.
    #[error("an older report than the last one")]
    Stale,
    /// A total went down, or a number is beyond any run of a process.
    #[error("totals that cannot follow the last ones")]
    Inconsistent,
    /// The connection was replaced by a newer one, or its pod is gone.
    #[error("a report on a connection that was replaced")]
    Replaced,
    /// The report names more workloads than an activator may.
    #[error("more workloads than one activator may name")]
    TooMany,
}

/// Estimates when the reporter's process began, on our clock.
///
/// Each frame bounds it from above: arrival minus what the reporter's clock said. The least bound is the frame that
/// travelled fastest; it may rise with the drift of two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReporterClock {
    began: Moment,
    observed: Moment,
}

impl ReporterClock {
    pub(crate) fn new(elapsed: i64, arrival: Moment) -> Self {
        Self {
            began: arrival - elapsed,
            observed: arrival,
        }
    }

    pub(crate) fn observe(&mut self, elapsed: i64, arrival: Moment) {
        let bound = arrival - elapsed;
        let drifted = self.began + (arrival - self.observed) / DRIFT_DIVISOR;
        self.began = if bound - drifted > LONGEST_DELAY {
            bound
        } else {
            bound.min(drifted)
        };
        self.observed = arrival;
    }

    /// Returns when the reporter's clock said `elapsed`, on ours.
    pub(crate) fn ours(&self, elapsed: i64) -> Moment {
        self.began + elapsed
    }

    fn theirs(&self, moment: Moment) -> i64 {
        moment - self.began
    }
}

/// Running totals at one time of the reporter's clock; they grow linearly between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    elapsed: i64,
    in_flight_time: u64,
    requests: u64,
}

/// What happened between two times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    /// Request-microseconds.
    pub(crate) in_flight_time: f64,
    /// Requests begun.
    pub(crate) requests: f64,
}

/// The totals of one epoch of one reporter, over a window.
#[derive(Clone, Debug)]
pub(crate) struct History {
    clock: ReporterClock,
    samples: VecDeque<Sample>,
    in_flight: u64,
    /// The first sample is the beginning of the process, before which there was nothing.
    from_birth: bool,
    first_arrival: Moment,
}

impl History {
    /// Starts with the first report of an epoch. With `from_birth` all it counted is taken as counted since the process
    /// began; otherwise the report is only what later ones are compared with.
    pub(crate) fn new(
        elapsed: u64,
        count: &Count,
        arrival: Moment,
        from_birth: bool,
    ) -> Result<Self, Rejected> {
        let elapsed = bounded(elapsed)?;
        bounded(count.in_flight)?;
        let mut samples = VecDeque::with_capacity(2);
        if from_birth {
            // Before the report, however early that is.
            samples.push_back(Sample {
                elapsed: 0.min(elapsed - 1),
                in_flight_time: 0,
                requests: 0,
            });
        }
        samples.push_back(Sample {
            elapsed,
            in_flight_time: count.in_flight_time,
            requests: count.requests,
        });
        Ok(Self {
            clock: ReporterClock::new(elapsed, arrival),
            samples,
            in_flight: count.in_flight,
            from_birth,
            first_arrival: arrival,
        })
    }

    /// Adds a report and forgets what is older than `window`.
    pub(crate) fn record(
        &mut self,
        elapsed: u64,
        count: &Count,
        arrival: Moment,
        window: Duration,
    ) -> Result<(), Rejected> {
        let elapsed = bounded(elapsed)?;
        bounded(count.in_flight)?;
        let last = self.last();
        if elapsed <= last.elapsed {
            return Err(Rejected::Stale);
        }
        if count.in_flight_time < last.in_flight_time || count.requests < last.requests {
            return Err(Rejected::Inconsistent);
        }
        self.clock.observe(elapsed, arrival);
        self.in_flight = count.in_flight;
        let window = span(window);
        let newest = self.samples.len() - 1;
        // A sample goes only if its neighbours are near each other; the last one before a silence stays.
        let crowded =
            newest > 0 && elapsed - self.samples[newest - 1].elapsed < window / SAMPLES_PER_WINDOW;
        if crowded {
            self.samples.pop_back();
        }
        self.samples.push_back(Sample {
            elapsed,
            in_flight_time: count.in_flight_time,
            requests: count.requests,
        });
        // One sample before the window stays, to read the totals at the window's edge.
        while self.samples.len() > 2 && self.samples[1].elapsed <= elapsed - window {
            self.samples.pop_front();
            self.from_birth = false;
        }
        Ok(())
    }

    /// Stops the count at `moment`: the process is gone and what it served with it.
    pub(crate) fn end(&mut self, moment: Moment) {
        let elapsed = self.clock.theirs(moment);
        let last = self.last();
        if self.in_flight > 0 && elapsed > last.elapsed {
            let served = u64::try_from(elapsed - last.elapsed).unwrap_or(0);
            let added = served.saturating_mul(self.in_flight);
            self.samples.push_back(Sample {
                elapsed,
                in_flight_time: last.in_flight_time.saturating_add(added),
                requests: last.requests,
            });
        }
        self.in_flight = 0;
    }

    /// Returns what was counted between two times. After the last report the requests in flight go on as they were.
    pub(crate) fn between(&self, from: Moment, to: Moment) -> Totals {
        let start = self.at(self.clock.theirs(from));
        let end = self.at(self.clock.theirs(to));
        Totals {
            in_flight_time: (end.in_flight_time - start.in_flight_time).max(0.0),
            requests: (end.requests - start.requests).max(0.0),
        }
    }

    /// Returns since when this history knows everything; with `known` from then on if it knows all since its birth.
    pub(crate) fn covered_since(&self, known: Moment) -> Moment {
        let first = self.clock.ours(self.samples[0].elapsed);
        if self.from_birth {
            first.min(known)
        } else {
            first
        }
    }

    /// Returns whether it knows all that the process has counted.
    pub(crate) fn is_from_birth(&self) -> bool {
        self.from_birth
    }

    /// Returns whether what it says can be taken for the whole picture.
    ///
    /// A reporter that was there before us says nothing of its rate with one frame, and little with a second one that comes
    /// at once. If requests flow, one comes `least` later, within a busy interval; if none comes in `patience`, none flow.
    pub(crate) fn is_settled(&self, now: Moment, least: Duration, patience: Duration) -> bool {
        self.from_birth
            || self.last().elapsed - self.samples[0].elapsed >= span(least)
            || now - self.first_arrival >= span(patience)
    }

    /// Returns the requests in flight, as last reported.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Returns when the last report was made.
    pub(crate) fn last_moment(&self) -> Moment {
        self.clock.ours(self.last().elapsed)
    }

    /// Returns the requests begun in this epoch, as last reported.
    pub(crate) fn requests(&self) -> u64 {
        self.last().requests
    }

    fn last(&self) -> Sample {
        *self
            .samples
            .back()
            .expect("a history is created with a sample and keeps at least one")
    }

    fn at(&self, elapsed: i64) -> Totals {
        let after = self
            .samples
            .partition_point(|sample| sample.elapsed <= elapsed);
        let totals = |sample: Sample| Totals {
            in_flight_time: sample.in_flight_time as f64,
            requests: sample.requests as f64,
        };
        let Some(before) = after.checked_sub(1).map(|index| self.samples[index]) else {
            return totals(self.samples[0]);
        };
        let mut reached = totals(before);
        let passed = (elapsed - before.elapsed) as f64;
        if let Some(next) = self.samples.get(after) {
            let share = passed / (next.elapsed - before.elapsed) as f64;
            let end = totals(*next);
            reached.in_flight_time += (end.in_flight_time - reached.in_flight_time) * share;
            reached.requests += (end.requests - reached.requests) * share;
        } else {
            reached.in_flight_time += self.in_flight as f64 * passed;
        }
        reached
    }
}

/// Refuses numbers that no process reaches, so that arithmetic cannot overflow: 2^53 µs are 285 years.
pub(crate) fn bounded(number: u64) -> Result<i64, Rejected> {
    if number < 1 << 53 {
        i64::try_from(number).map_err(|_| Rejected::Inconsistent)
    } else {
        Err(Rejected::Inconsistent)
    }
}

#[cfg(test)]
mod tests;
