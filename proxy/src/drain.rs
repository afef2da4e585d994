//! Says that the process is going away, so that connections end as soon as their requests allow.
//!
//! In two steps: *draining* tells clients to go, and may begin long before the end; *leaving* is the end itself, from
//! which on listeners close. Does not count connections and does not decide when the process may exit.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use tokio::{sync::Notify, time::Instant};

/// How far the process is on its way out. Clones share it; it never goes back.
///
/// A `CancellationToken` for each step would do but for the cost: the relay asks on every wake-up, and here that is one
/// load.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// When draining began.
    begun: OnceLock<Instant>,
    leaving: AtomicBool,
    told: Notify,
}

impl Drain {
    /// Begins to drain: connections are closed as soon as that costs no request, and new ones are still served. Beginning
    /// twice is the same as once.
    pub fn begin(&self) {
        self.shared.begun.get_or_init(Instant::now);
        self.shared.told.notify_waiters();
    }

    /// Begins to drain if that has not begun, and lets listeners close once nobody comes any more.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Release);
        self.begin();
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.begun().is_some()
    }

    /// Returns when draining began.
    pub fn begun(&self) -> Option<Instant> {
        self.shared.begun.get().copied()
    }

    /// Whether listeners may close.
    pub fn is_leaving(&self) -> bool {
        self.shared.leaving.load(Ordering::Acquire)
    }

    /// Waits until draining has begun; returns at once if it has.
    ///
    /// # Cancel safety
    ///
    /// Safe: it may be dropped and called again.
    pub async fn draining(&self) {
        self.until(Self::is_draining).await;
    }

    /// Waits until listeners may close; returns at once if they may.
    ///
    /// # Cancel safety
    ///
    /// Safe: it may be dropped and called again.
    pub async fn leaving(&self) {
        self.until(Self::is_leaving).await;
    }

    async fn until(&self, step: impl Fn(&Self) -> bool) {
        loop {
            let told = self.shared.told.notified();
            tokio::pin!(told);
            // Enlisted before the flag is read: a step in between is not missed.
            told.as_mut().enable();
            if step(self) {
                return;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn everyone_who_waits_is_told_and_late_comers_need_not_wait() {
        let drain = Drain::default();
        let mut first = pin!(drain.draining());
        let mut second = pin!(drain.draining());
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        assert!(!drain.is_draining());
        assert_eq!(drain.begun(), None);
        drain.begin();
        let begun = drain.begun();
        assert!(drain.is_draining() && begun.is_some());
        drain.begin();
        assert_eq!(drain.begun(), begun);
        assert!(poll_once(first).is_ready());
        assert!(poll_once(second).is_ready());
        assert!(poll_once(pin!(drain.draining())).is_ready());
    }

    #[test]
    fn leaving_comes_after_draining_and_includes_it() {
        let drain = Drain::default();
        let mut leaving = pin!(drain.leaving());
        assert!(poll_once(leaving.as_mut()).is_pending());
        drain.begin();
        assert!(poll_once(leaving.as_mut()).is_pending());
        assert!(!drain.is_leaving());
        drain.leave();
        assert!(drain.is_leaving());
        assert!(poll_once(leaving).is_ready());

        let at_once = Drain::default();
        at_once.leave();
        assert!(at_once.is_draining());
    }
}
