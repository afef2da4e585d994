//! How often something may happen over all `ScaledObject`s: a token bucket that gives out times.

use crate::history::{Moment, span};
use std::time::Duration;

/// A bucket that holds a second's worth and is full at first.
///
/// It gives out times instead of refusals, so that hundreds that wait do not all wake for each token.
#[derive(Debug)]
pub(crate) struct Rate {
    interval: i64,
    allowance: i64,
    /// When it would be full, had everything given out been taken in order.
    full: Moment,
}

impl Rate {
    /// Creates a bucket; 0 per second is taken for 1.
    pub(crate) fn new(per_second: u32) -> Self {
        let second = span(Duration::from_secs(1));
        let interval = second / i64::from(per_second.max(1));
        Self {
            interval,
            allowance: second - interval,
            full: 0,
        }
    }

    /// Takes a token. Returns when it may be used, at `now` or later.
    pub(crate) fn reserve(&mut self, now: Moment) -> Moment {
        let at = now.max(self.full - self.allowance);
        self.full = self.full.max(now) + self.interval;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_goes_at_once_and_the_rest_at_the_rate() {
        let mut rate = Rate::new(4);
        let now = 7_000_000;
        let given: Vec<_> = (0..8).map(|_| rate.reserve(now) - now).collect();
        assert_eq!(given, [0, 0, 0, 0, 250_000, 500_000, 750_000, 1_000_000]);
        let later = now + 60_000_000;
        assert_eq!(rate.reserve(later), later);
    }
}
