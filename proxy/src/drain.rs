//! Says that the process is going away, so that connections end as soon as their requests allow.
//!
//! Does not count connections and does not decide when the process may exit.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// Whether to drain. Clones share it; it never goes back.
///
/// A `CancellationToken` would do but for the cost: the relay asks on every wake-up, and here that is one load.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    begun: AtomicBool,
    told: Notify,
}

impl Drain {
    /// Begins to drain. Beginning twice is the same as once.
    pub fn begin(&self) {
        self.shared.begun.store(true, Ordering::Release);
        self.shared.told.notify_waiters();
    }

    /// Whether draining has begun.
    pub fn is_draining(&self) -> bool {
        self.shared.begun.load(Ordering::Acquire)
    }

    /// Waits until draining has begun; returns at once if it has.
    ///
    /// # Cancel safety
    ///
    /// Safe: it may be dropped and called again.
    pub async fn draining(&self) {
        let told = self.shared.told.notified();
        tokio::pin!(told);
        // Enlisted before the flag is read: a `begin` in between is not missed.
        told.as_mut().enable();
        if !self.is_draining() {
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
        drain.begin();
        assert!(drain.is_draining());
        assert!(poll_once(first).is_ready());
        assert!(poll_once(second).is_ready());
        assert!(poll_once(pin!(drain.draining())).is_ready());
    }
}
