//! What all `ScaledObject`s' bursts have in common: the limits, whether looks follow, and what came of them.

use std::time::Duration;

use super::{belief::Belief, pace::Pace, rate::Rate};
use crate::history::span;

/// What came of a clear rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A look was asked for and followed.
    Read,
    /// A look was asked for and did not follow in time.
    Unread,
    /// It had to wait for other `ScaledObject`s' looks.
    Limited,
    /// None was asked for, since none followed earlier.
    Stopped,
}

impl Outcome {
    /// Every outcome, with its name in metrics.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Read, "read"),
        (Self::Unread, "unread"),
        (Self::Limited, "limited"),
        (Self::Stopped, "stopped"),
    ];
}

/// What all `ScaledObject`s share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) interval: i64,
    pub(crate) belief: Belief,
    pub(super) pace: Pace,
    pub(super) rate: Rate,
    /// Looks that have been asked for and are waited for.
    pub(super) asked: usize,
    outcomes: [u64; Outcome::ALL.len()],
}

impl Shared {
    /// Allows each `ScaledObject` one look in `interval`, and all of them so many a second.
    pub(crate) fn new(interval: Duration, per_second: u32) -> Self {
        Self {
            interval: span(interval),
            belief: Belief::default(),
            pace: Pace::default(),
            rate: Rate::new(per_second),
            asked: 0,
            outcomes: [0; Outcome::ALL.len()],
        }
    }

    /// Returns how often each outcome came about, by its name.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = Outcome::ALL.into_iter().map(|(_, name)| name);
        names.zip(self.outcomes)
    }

    /// Returns how many more looks may be asked for before one of those that are waited for is settled.
    pub(crate) fn free(&self) -> usize {
        self.pace.allowed().saturating_sub(self.asked)
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
    }
}
