//! How many looks may be waited for at a time: as many as follow.
//!
//! KEDA reconciles 5 `ScaledObject`s at once and sends 20 requests a second to the API server, whatever they are for; the HPA
//! controller as many, and of its own each look takes one and each step another. More would wait there, and look as if they
//! did not follow.

use crate::history::Moment;

/// As many as KEDA reconciles at once by default.
pub(super) const MOST: usize = 5;

/// One at first and while nobody knows whether it is of any use; one more with each that follows, half as many with each
/// that does not.
#[derive(Debug)]
pub(super) struct Pace {
    allowed: usize,
    slowed: Option<Moment>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            allowed: 1,
            slowed: None,
        }
    }
}

impl Pace {
    /// Returns how many looks may be waited for at a time, between 1 and [`MOST`].
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// A look followed.
    pub(super) fn followed(&mut self) {
        self.allowed = (self.allowed + 1).min(MOST);
    }

    /// One that was asked for at `asked` did not follow. Returns whether that is news: those that were waited for together
    /// were lost for the same reason, and count once.
    pub(super) fn missed(&mut self, asked: Moment, now: Moment) -> bool {
        let news = self.slowed.is_none_or(|slowed| slowed <= asked);
        if news {
            self.allowed = (self.allowed / 2).max(1);
            self.slowed = Some(now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_are_waited_for_with_each_that_follows_and_half_as_many_after_one_that_does_not() {
        let mut pace = Pace::default();
        assert_eq!(pace.allowed(), 1);
        for allowed in [2, 3, 4, 5, 5] {
            pace.followed();
            assert_eq!(pace.allowed(), allowed);
        }
        for (asked, allowed) in [(10, 2), (20, 1), (30, 1)] {
            assert!(pace.missed(asked, asked + 5));
            assert_eq!(pace.allowed(), allowed);
        }
    }

    #[test]
    fn those_that_were_waited_for_together_slow_it_once() {
        let mut pace = Pace::default();
        for _ in 0..MOST {
            pace.followed();
        }
        assert!(pace.missed(0, 30));
        for asked in [1, 10, 29] {
            assert!(!pace.missed(asked, asked + 30));
        }
        assert_eq!(pace.allowed(), 2);
        assert!(pace.missed(30, 60));
        assert_eq!(pace.allowed(), 1);
    }
}
