//! When a `StreamIsActive` stream says `true`.
//!
//! It never says `false`: KEDA ≤ 2.17 takes that for a reason to scale to zero, later ones ignore it.

use std::time::Duration;

use tokio::time::Instant;

use crate::state::Wake;

/// One stream's memory.
#[derive(Debug)]
pub(crate) struct Push {
    resend: Duration,
    activations: u64,
    sent: Option<Instant>,
}

/// What a stream does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Say `true` now, and look again.
    Send,
    /// Look again at this time, or before if something changes.
    WaitUntil(Instant),
    /// Look again when something changes.
    Wait,
}

impl Push {
    /// Begins a stream. What was active before it is left to KEDA's polls, unless requests starve.
    pub(crate) fn new(resend: Duration, opened: Wake) -> Self {
        Self {
            resend,
            activations: opened.activations,
            sent: None,
        }
    }

    /// Decides what to do now. `Send` counts as sent.
    ///
    /// A transition is told once. While requests starve it is told again and again, because KEDA drops a `true` that
    /// comes before its HPA exists or that meets a stale replica count.
    pub(crate) fn step(&mut self, wake: Wake, now: Instant) -> Step {
        // Counts begin anew when a workload is forgotten and created again, which is nothing to wake it for.
        let transition = wake.activations > self.activations;
        self.activations = wake.activations;
        let due = self.sent.map(|sent| sent + self.resend);
        if transition {
            self.sent = Some(now);
            return Step::Send;
        }
        if !wake.starved {
            return Step::Wait;
        }
        match due {
            Some(due) if now < due => Step::WaitUntil(due),
            _ => {
                self.sent = Some(now);
                Step::Send
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESEND: Duration = Duration::from_secs(1);

    fn wake(activations: u64, starved: bool) -> Wake {
        Wake {
            activations,
            starved,
        }
    }

    #[test]
    fn a_transition_is_told_once_and_then_the_stream_is_quiet() {
        let now = Instant::now();
        let mut push = Push::new(RESEND, wake(3, false));
        assert_eq!(push.step(wake(3, false), now), Step::Wait);
        assert_eq!(push.step(wake(4, false), now), Step::Send);
        assert_eq!(push.step(wake(4, false), now + 10 * RESEND), Step::Wait);
    }

    #[test]
    fn a_scaled_object_that_is_deleted_and_created_again_is_not_woken_by_that() {
        let now = Instant::now();
        let mut push = Push::new(RESEND, wake(3, false));
        assert_eq!(push.step(wake(0, false), now), Step::Wait);
        assert_eq!(push.step(wake(1, false), now), Step::Send);
    }

    #[test]
    fn held_requests_without_a_pod_are_told_at_once_and_again_until_one_takes_them() {
        let now = Instant::now();
        let mut push = Push::new(RESEND, wake(3, true));
        assert_eq!(push.step(wake(3, true), now), Step::Send);
        assert_eq!(push.step(wake(3, true), now), Step::WaitUntil(now + RESEND));
        assert_eq!(push.step(wake(3, true), now + RESEND), Step::Send);
        assert_eq!(push.step(wake(3, false), now + RESEND), Step::Wait);
    }

    #[test]
    fn a_transition_that_starves_is_not_told_twice_at_once() {
        let now = Instant::now();
        let mut push = Push::new(RESEND, wake(0, false));
        assert_eq!(push.step(wake(1, true), now), Step::Send);
        assert_eq!(push.step(wake(1, true), now), Step::WaitUntil(now + RESEND));
    }
}
