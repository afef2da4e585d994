//! Whether looks follow when they are asked for.
//!
//! They do not before Kubernetes 1.37 (gate `HPAGeneration`), where a changed HPA waits for its turn, nor where KEDA's HPA
//! does not carry our target or does not read from us (`scalingModifiers`, `useCachedMetrics`).

use std::time::Duration;

use crate::history::{Moment, span};

/// Doubt before the first look.
const FIRST: u32 = 1;

/// Doubt at which nothing is asked for any more.
const LOST: u32 = 4;

/// How long after that it is tried again, and then after twice as long each time.
const FIRST_RETRY: Duration = Duration::from_mins(2);
const LAST_RETRY: Duration = Duration::from_mins(10);

/// The same where most looks had followed until then, so that KEDA or the HPA controller was only busy: once it has had its
/// turn with all HPAs, which is every 15 s, it has caught up.
const SOON: Duration = Duration::from_secs(15);

/// Grows with each look that did not follow, and shrinks with each that did: on an old Kubernetes one follows by chance
/// in five, since the HPA looks every 15 s by itself.
#[derive(Debug)]
pub(crate) struct Belief {
    doubt: u32,
    /// How many followed, and how many did not, since it was lost the last time.
    followed: u32,
    missed: u32,
    retry: Moment,
    /// How long it is waited for the next trial.
    interval: Duration,
    lost_before: bool,
}

impl Default for Belief {
    fn default() -> Self {
        Self {
            doubt: FIRST,
            followed: 0,
            missed: 0,
            retry: 0,
            interval: FIRST_RETRY,
            lost_before: false,
        }
    }
}

impl Belief {
    /// Returns whether a look may be asked for.
    ///
    /// # Errors
    ///
    /// Says when it may be tried again.
    pub(crate) fn allows(&self, now: Moment) -> Result<(), Moment> {
        if self.is_lost() && now < self.retry {
            Err(self.retry)
        } else {
            Ok(())
        }
    }

    /// Whether there is no doubt.
    pub(crate) fn is_proven(&self) -> bool {
        self.doubt == 0
    }

    /// Whether nothing is asked for but for a trial.
    pub(crate) fn is_lost(&self) -> bool {
        self.doubt >= LOST
    }

    /// A look followed.
    pub(crate) fn followed(&mut self) {
        self.followed = self.followed.saturating_add(1);
        self.doubt = self.doubt.saturating_sub(1);
        if self.is_proven() {
            self.interval = FIRST_RETRY;
        }
    }

    /// No look followed. Returns true if belief was lost by that for the first time.
    pub(crate) fn disappointed(&mut self, now: Moment) -> bool {
        self.missed = self.missed.saturating_add(1);
        self.doubt = (self.doubt + 1).min(LOST);
        if !self.is_lost() {
            return false;
        }
        if self.followed > self.missed {
            self.interval = SOON;
        }
        (self.followed, self.missed) = (0, 0);
        self.retry = now + span(self.interval);
        self.interval = (2 * self.interval).min(LAST_RETRY);
        !std::mem::replace(&mut self.lost_before, true)
    }

    /// A word for people.
    pub(crate) fn name(&self) -> &'static str {
        match self.doubt {
            0 => "answered",
            LOST.. => "stopped",
            _ => "unproven",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_is_lost_by_looks_that_do_not_follow_and_told_once() {
        let mut belief = Belief::default();
        assert!(!belief.is_proven());
        assert!(!belief.disappointed(1) && !belief.disappointed(2));
        assert_eq!(belief.allows(3), Ok(()));
        assert!(belief.disappointed(3));
        let retry = 3 + span(FIRST_RETRY);
        assert_eq!(belief.allows(retry - 1), Err(retry));
        assert_eq!(belief.allows(retry), Ok(()));
        assert!(!belief.disappointed(retry), "that is no news");
        assert_eq!(belief.allows(retry + 1), Err(retry + 2 * span(FIRST_RETRY)));
        for _ in 0..10 {
            belief.disappointed(retry);
        }
        assert_eq!(belief.allows(retry), Err(retry + span(LAST_RETRY)));
    }

    #[test]
    fn where_most_had_followed_it_is_tried_again_soon() {
        let mut belief = Belief::default();
        for _ in 0..5 {
            belief.followed();
        }
        for look in 1..=3 {
            belief.disappointed(look);
        }
        assert!(belief.disappointed(4));
        assert_eq!(belief.allows(5), Err(4 + span(SOON)));
        let retry = 4 + span(SOON);
        belief.disappointed(retry);
        assert_eq!(belief.allows(retry + 1), Err(retry + 2 * span(SOON)));
    }

    #[test]
    fn one_that_follows_by_chance_does_not_keep_belief_up() {
        let mut belief = Belief::default();
        for look in 1..=44 {
            if look % 5 == 0 {
                belief.followed();
            } else {
                belief.disappointed(look);
            }
        }
        assert!(belief.is_lost());
        let last = 44;
        assert!(belief.allows(last + span(SOON)).is_err());
    }

    #[test]
    fn one_that_is_lost_now_and_then_does_no_harm() {
        let mut belief = Belief::default();
        for look in 1..=100 {
            if look % 3 == 0 {
                belief.disappointed(look);
            } else {
                belief.followed();
            }
            assert!(!belief.is_lost());
        }
    }
}
