//! A workload's load of this moment, how much of it lasts, and whether it has clearly risen.
//!
//! Knows nothing of targets and replicas. What is averaged over longer is in `history`.

use std::{collections::VecDeque, time::Duration};

use crate::history::{Moment, span};

/// A level that falls below this part of the top of its rise has ended it.
const FALL: f64 = 0.9;

/// What a clear rise exceeds earlier levels by at least: the HPA's tolerance.
const CLEAR: f64 = 1.1;

/// Least time for which earlier levels are remembered. As many 2 s sawtooths as make sure that one is recognised.
const LEAST_MEMORY: Duration = Duration::from_secs(6);

/// A rise that began earlier is none any more: the HPA has looked by itself meanwhile.
const LONGEST_RISE: Duration = Duration::from_secs(15);

/// Before everything, and far enough from the least number to subtract from.
const LONG_AGO: Moment = Moment::MIN / 2;

/// Changes within one such time are kept as one.
const GRAIN: Duration = Duration::from_millis(5);

/// How long a level has to be held to be found by a look once a rise is sure: the rest of a step is as real as its begin.
const FOUND: Duration = Duration::from_millis(50);

/// How long a rise has to be all but over, and a fall ago, for a look not to wait for more of it: three reports of a number that
/// goes on growing. A reporter tells when half is gone, and of the rest a report later.
const SETTLED: Duration = Duration::from_millis(150);

/// How much longer than until a rise is sure a look waits for one that goes on.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_millis(300);

/// How long after pods began or ceased to take requests, or began their first, those move between reporters. What is gone from
/// one may be told up to a second after it has come to another, so that what moves in a second is counted twice. Requests of up
/// to 5 s have all moved by then, and of longer ones less than a fifth moves in a second, which is hardly a clear rise.
const MOVING: Duration = Duration::from_secs(5);

/// The longest such time in a row, however many pods come.
const LONGEST_MOVING: Duration = Duration::from_secs(10);

/// A sum off by more than this part is more than requests that move, if it is too low, as who gets its first requests tells at
/// once; or if it was held for [`ALL_TOLD`]; or if it is more than twice what there was before.
const MOVED: f64 = 0.5;

/// How long it takes until all reporters have told what they have: the interval of busy ones, and a little for the way.
const ALL_TOLD: Duration = Duration::from_millis(1_100);

/// In flight and held, over the last moments.
#[derive(Debug)]
pub(crate) struct Level {
    /// How long a level has to be held to count.
    window: i64,
    /// How long earlier levels are remembered.
    memory: i64,
    now: u64,
    /// Lower levels of before, each with when it ended. Both grow from front to back.
    lower: VecDeque<(Moment, u64)>,
    /// When it clearly fell last, whether what it fell from had lasted or not.
    fell: Moment,
    rise: Rise,
    /// Tops of rises that have ended, each with when. Times grow and tops shrink from front to back.
    peaks: VecDeque<(Moment, u64)>,
    moving: Option<Moving>,
}

/// A time in which requests move between reporters.
#[derive(Clone, Copy, Debug)]
struct Moving {
    began: Moment,
    until: Moment,
    /// The lasting level before.
    level: u64,
}

impl Moving {
    /// Returns the lowest level that may come from what moves.
    fn least(self) -> f64 {
        (1.0 - MOVED) * self.level as f64
    }

    /// Returns the highest that may once all have told.
    fn most(self) -> f64 {
        (1.0 + MOVED) * self.level as f64
    }

    /// Returns the highest that may until then.
    fn all_twice(self) -> u64 {
        2 * self.level
    }
}

/// A time in which the lasting level did not clearly fall.
#[derive(Debug)]
struct Rise {
    number: u64,
    began: Moment,
    /// The lasting level at its begin.
    base: u64,
    top: u64,
}

impl Level {
    /// Creates a level of 0. It counts what has been held for `window`.
    pub(crate) fn new(window: Duration, began: Moment) -> Self {
        Self {
            window: span(window),
            memory: span(LEAST_MEMORY),
            now: 0,
            lower: VecDeque::new(),
            fell: LONG_AGO,
            rise: Rise {
                number: 0,
                began,
                base: 0,
                top: 0,
            },
            peaks: VecDeque::new(),
            moving: None,
        }
    }

    /// Pods began or ceased to take requests, or began their first.
    pub(crate) fn pods_changed(&mut self, now: Moment) {
        self.observe(now);
        let level = self.lasting(now);
        let moving = self.moving.get_or_insert(Moving {
            began: now,
            until: now,
            level,
        });
        moving.until = (now + span(MOVING)).min(moving.began + span(LONGEST_MOVING));
    }

    /// Remembers earlier levels for the short window of what averages are taken over.
    pub(crate) fn remember_for(&mut self, panic_window: Duration) {
        self.memory = span(panic_window.max(LEAST_MEMORY));
    }

    /// Returns the level as last told.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Returns which rise this is. A new one begins after each clear fall, and after a time.
    pub(crate) fn rise(&self) -> u64 {
        self.rise.number
    }

    /// The level changed.
    pub(crate) fn change(&mut self, level: u64, now: Moment) {
        self.observe(now);
        if level > self.now {
            self.push_lower(now);
        } else {
            while self.lower.back().is_some_and(|(_, lower)| *lower >= level) {
                self.lower.pop_back();
            }
        }
        if (level as f64) < FALL * self.now as f64 {
            self.fell = now;
        }
        self.now = level;
        if (self.believed(now) as f64) < FALL * self.rise.top as f64 {
            self.end_rise(now);
        }
    }

    /// Lets time pass. Between two changes the lasting level only grows.
    pub(crate) fn observe(&mut self, now: Moment) {
        let oldest = now - (self.window + span(SETTLE_LIMIT)).max(span(ALL_TOLD));
        while self
            .lower
            .front()
            .is_some_and(|(ended, _)| *ended <= oldest)
        {
            self.lower.pop_front();
        }
        self.rise.top = self.rise.top.max(self.believed(now));
        let forgotten = now - self.memory;
        while self.peaks.front().is_some_and(|(at, _)| *at < forgotten) {
            self.peaks.pop_front();
        }
        if now - self.rise.began > self.longest_rise() {
            self.end_rise(now);
        }
        if self.moving.is_some_and(|moving| moving.until <= now) {
            self.moving = None;
        }
    }

    /// Returns the highest level that was held for the whole window, at `now` or, if nothing changes, later.
    pub(crate) fn lasting(&self, now: Moment) -> u64 {
        self.held_for(self.window, now)
    }

    /// Returns how long a level has to be held to count.
    pub(crate) fn window(&self) -> i64 {
        self.window
    }

    /// Returns the highest level that was held for so long, which is the window at most.
    fn held_for(&self, time: i64, now: Moment) -> u64 {
        self.least_since(now - time)
    }

    /// Returns the same without what may come from requests that move between reporters.
    pub(crate) fn promised_for(&self, time: i64, now: Moment) -> u64 {
        self.held_for(time, now)
            .min(self.believed_since(now - time, now))
    }

    /// Returns the level of now if it has clearly risen and is more than `average`, and otherwise that.
    pub(crate) fn raise(&self, average: f64, now: Moment) -> f64 {
        if self.believed(now) as f64 > self.raising(average) {
            self.believed_since(now - span(FOUND), now) as f64
        } else {
            average
        }
    }

    /// Returns when it will be known what [`raise`](Self::raise) finds, if nothing changes; none if it is now.
    ///
    /// A rise is in doubt until it is sure, and then for as long as it goes on or may be about to end, but not for long.
    pub(crate) fn doubtful_until(&self, average: f64, now: Moment) -> Option<Moment> {
        let sure = self.held_above(self.raising(average))? + self.window;
        let rose = self.held_above(FALL * self.now as f64)?;
        let settled = rose.max(self.fell) + span(SETTLED);
        let known = sure.max(settled.min(sure + span(SETTLE_LIMIT)));
        (known > now).then_some(known)
    }

    /// Returns the highest lasting level that is remembered from before this rise.
    pub(crate) fn earlier(&self) -> u64 {
        let peak = self.peaks.front().map_or(0, |(_, top)| *top);
        self.rise.base.max(peak)
    }

    /// Returns when something earlier will be forgotten.
    pub(crate) fn forgets_at(&self) -> Moment {
        let rise = self.rise.began + self.longest_rise();
        let peak = self.peaks.front().map(|(at, _)| *at + self.memory);
        // Past the moment, not at it.
        peak.map_or(rise, |peak| peak.min(rise)) + 1
    }

    /// Returns since when more than `threshold` has been [promised](Self::promised_for) for so long, or when it will have been if
    /// nothing changes; none if not then.
    pub(crate) fn exceeds_at(&self, threshold: f64, held: i64) -> Option<Moment> {
        let at = self.held_above(threshold)? + held;
        let Some(moving) = self
            .moving
            .filter(|moving| moving.level as f64 <= threshold)
        else {
            return Some(at);
        };
        let settled = at.max(moving.until);
        let further = |most: f64, held| Some(self.held_above(threshold.max(most))? + held);
        let told = further(moving.most(), held.max(span(ALL_TOLD)));
        let more = further(moving.all_twice() as f64, held);
        [told, more].into_iter().flatten().chain([settled]).min()
    }

    /// Returns since when the level is above `threshold`; none if it is not. What is longer ago than anybody asks is as long ago
    /// as anything.
    fn held_above(&self, threshold: f64) -> Option<Moment> {
        if self.now as f64 <= threshold {
            return None;
        }
        let mut below = self.lower.iter().rev();
        let last = below.find(|(_, level)| *level as f64 <= threshold);
        Some(last.map_or(LONG_AGO, |(ended, _)| *ended))
    }

    /// Returns what a lasting level has to exceed to be found instead of `average`.
    fn raising(&self, average: f64) -> f64 {
        clear(self.earlier() as f64).max(average * CLEAR)
    }

    /// Returns what lasts, or what did before requests began to move between reporters.
    fn believed(&self, now: Moment) -> u64 {
        self.believed_since(now - self.window, now)
    }

    /// Returns the lowest level after `oldest`, or what lasted before requests began to move, if it may come from that.
    fn believed_since(&self, oldest: Moment, now: Moment) -> u64 {
        let least = self.least_since(oldest);
        let Some(moving) = self.moving.filter(|moving| now < moving.until) else {
            return least;
        };
        let told = self.least_since(oldest.min(now - span(ALL_TOLD)));
        if (least as f64) < moving.least() || least > moving.all_twice() {
            least
        } else if told as f64 > moving.most() {
            told
        } else {
            moving.level
        }
    }

    /// Returns the lowest level after `oldest`.
    fn least_since(&self, oldest: Moment) -> u64 {
        let lower = self.lower.iter().find(|(ended, _)| *ended > oldest);
        lower.map_or(self.now, |(_, level)| *level)
    }

    fn longest_rise(&self) -> i64 {
        self.memory.max(span(LONGEST_RISE))
    }

    fn push_lower(&mut self, now: Moment) {
        let grain = span(GRAIN);
        match self.lower.back_mut() {
            // Bounds what is kept, by letting the lower one end a little later.
            Some((ended, _)) if *ended / grain == now / grain => *ended = now,
            _ => self.lower.push_back((now, self.now)),
        }
    }

    fn end_rise(&mut self, now: Moment) {
        let top = self.rise.top;
        while self.peaks.back().is_some_and(|(_, lower)| *lower <= top) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now, top));
        let lasting = self.lasting(now);
        self.rise = Rise {
            number: self.rise.number + 1,
            began: now,
            base: lasting,
            top: lasting,
        };
    }
}

/// Returns what a clear rise above `earlier` exceeds.
///
/// By more than the HPA's tolerance, and by more than independent arrivals add by chance to the highest of a few
/// moments: in flight they scatter by the square root of their mean.
pub(crate) fn clear(earlier: f64) -> f64 {
    earlier * CLEAR + earlier.sqrt()
}

#[cfg(test)]
mod tests;
