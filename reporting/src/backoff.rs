//! How long to wait before connecting again: exponential with full jitter.
//!
//! Only counts failures; what counts as a success is told by the caller.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// No attempt follows a failure sooner.
pub(crate) const MINIMUM: Duration = Duration::from_millis(100);

/// No attempt follows a failure later.
pub(crate) const MAXIMUM: Duration = Duration::from_secs(5);

/// The delays of one address.
#[derive(Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            ceiling: MINIMUM * 2,
        }
    }
}

impl Backoff {
    /// Returns the delay before the next attempt, anywhere between [`MINIMUM`] and a ceiling that doubles from call to
    /// call until it is [`MAXIMUM`]. Spread over the whole range, so that reporters which lost the same aggregator at
    /// the same moment do not come back together.
    pub(crate) fn next_delay(&mut self, random: &mut impl Rng) -> Duration {
        let delay = random.random_range(MINIMUM..=self.ceiling);
        self.ceiling = (self.ceiling * 2).min(MAXIMUM);
        delay
    }

    /// Begins anew, after a connection that lived.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    #[test]
    fn delays_stay_in_bounds_and_their_ceiling_doubles_up_to_the_maximum() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut longest = [Duration::ZERO; 10];
        let mut shortest = [MAXIMUM; 10];
        for _ in 0..1000 {
            let mut backoff = Backoff::default();
            for (longest, shortest) in longest.iter_mut().zip(&mut shortest) {
                let delay = backoff.next_delay(&mut random);
                *longest = delay.max(*longest);
                *shortest = delay.min(*shortest);
            }
        }
        let mut ceiling = MINIMUM * 2;
        for (longest, shortest) in longest.into_iter().zip(shortest) {
            assert!(
                longest <= ceiling && longest > ceiling.mul_f64(0.9),
                "{longest:?}"
            );
            assert!(
                shortest >= MINIMUM && shortest < MINIMUM + ceiling.mul_f64(0.1),
                "{shortest:?}"
            );
            ceiling = (ceiling * 2).min(MAXIMUM);
        }
    }

    #[test]
    fn a_reset_begins_with_short_delays_again() {
        let mut random = SmallRng::seed_from_u64(2);
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.next_delay(&mut random);
        }
        backoff.reset();
        assert!(backoff.next_delay(&mut random) <= MINIMUM * 2);
    }
}
