//! One request after a backend took it over: what its answer, or the lack of one, says about the endpoint and the wake.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Hold, Holder};
use crate::{
    event::ColdStart,
    metrics::Outcome,
    queue::{HandedOver, Queue, Refusal},
};

/// One request that a backend has. Dropping it before the answer has begun counts as the client having left.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(super) holder: Arc<Holder>,
    /// Nothing once the request is held again.
    pub(super) handed: Option<HandedOver>,
    /// The endpoint is charged with it, until the answer begins.
    pub(super) charged: bool,
    pub(super) waited: Option<Duration>,
    /// How the request counts when this drops; nothing once it is held again.
    pub(super) outcome: Option<Outcome>,
}

impl Forward {
    /// Returns how long the request waited, if no endpoint could be dialled when it came.
    pub(crate) fn waited(&self) -> Option<Duration> {
        self.waited
    }

    /// Stops charging the endpoint before the answer, for connections whose answers cannot be told.
    pub(crate) fn discharge(&mut self) {
        self.settle(|queue, handed, _| queue.end(handed));
    }

    /// The first of the answer has come.
    pub(crate) fn answered(&mut self) {
        self.settle(|queue, handed, _| queue.answered(handed));
        self.outcome = Some(Outcome::Forwarded);
        let Some(handed) = &mut self.handed else {
            return;
        };
        let first_byte = Instant::now();
        let signals = &self.holder.signals;
        let time = first_byte.saturating_duration_since(handed.released);
        signals.metrics.first_byte(time);
        if let Some(wake) = handed.wake.take() {
            let cold_start = ColdStart {
                workload: self.holder.workload.clone(),
                arrived: handed.arrived(),
                signalled: wake.signalled,
                ready: handed.released,
                first_byte,
            };
            signals.metrics.cold_start(&cold_start);
            // Fails if nobody listens, which is not this request's concern.
            let _ = signals.cold_starts.send(cold_start);
        }
    }

    /// The endpoint closed the connection before it answered, and counts as failing: the request ends as such unless it is
    /// [held again](Self::hold_again).
    pub(crate) fn unanswered(&mut self) {
        self.settle(Queue::unanswered);
        self.outcome = Some(Outcome::Failed);
    }

    /// Returns true if the request has time left to be held.
    pub(crate) fn has_time(&self) -> bool {
        let handed = self.handed.as_ref();
        handed.is_some_and(|handed| Instant::now() < handed.deadline())
    }

    /// Holds the request once more after it remained [`unanswered`](Self::unanswered), at its old place. A refusal is
    /// counted as its end.
    pub(crate) fn hold_again(mut self) -> Result<Hold, Refusal> {
        let Some(handed) = self.handed.take() else {
            // It was never released, so it has no place to come back to.
            return Err(Refusal::Requests);
        };
        self.outcome = None;
        let hold = self
            .holder
            .place(|queue, now| queue.hold_again(handed, now))?;
        self.holder.signals.metrics.retried();
        Ok(hold)
    }

    /// Counts the request as `outcome` when this drops.
    pub(crate) fn ends_as(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Takes the charge from the endpoint in the way that `act` does, unless it has been taken.
    fn settle(&mut self, act: impl FnOnce(&mut Queue, &HandedOver, Instant)) {
        if let Some(handed) = self.handed.as_ref().filter(|_| self.charged) {
            self.charged = false;
            self.holder.change(|queue, now| act(queue, handed, now));
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.discharge();
        if let Some(outcome) = self.outcome {
            self.holder.ended(outcome);
        }
    }
}
