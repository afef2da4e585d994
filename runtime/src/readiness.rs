//! Readiness as a latch: ready once every part that must come up has come up, and unready for good when it stops.
//!
//! A part cannot make the process unready by accident later; only shutting down does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Tells whether the process takes work. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: AtomicUsize,
    stopping: AtomicBool,
}

/// Holds the process unready until it is dropped.
#[derive(Debug)]
#[must_use = "dropping the latch at once makes it pointless"]
pub struct Latch(Arc<Shared>);

impl Readiness {
    /// Creates a part that is still to come up; it is up when the latch drops.
    pub fn latch(&self) -> Latch {
        self.0.pending.fetch_add(1, Ordering::AcqRel);
        Latch(Arc::clone(&self.0))
    }

    /// Makes the process unready from now on.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// Returns true while every latch has been dropped and `stop` has not been called.
    pub fn is_ready(&self) -> bool {
        self.0.pending.load(Ordering::Acquire) == 0 && !self.0.stopping.load(Ordering::Acquire)
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_latch_drops_and_never_after_stop() {
        let readiness = Readiness::default();
        let (first, second) = (readiness.latch(), readiness.latch());
        drop(first);
        assert!(!readiness.is_ready());
        drop(second);
        assert!(readiness.is_ready());
        readiness.stop();
        assert!(!readiness.is_ready());
    }
}
