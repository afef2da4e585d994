//! One workload's queue, shared between the tasks of its connections: hands out places and delivers decisions.
//!
//! Does no I/O. What to decide is [`crate::queue`]'s business.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::json;
use stillwake_proto::report::Workload;
use tokio::{
    sync::{Notify, broadcast, oneshot, watch},
    time::Instant,
};

use crate::{
    Settings,
    answer::Rejection,
    endpoints::EndpointId,
    event::{Availability, ColdStart},
    metrics::{Metrics, Outcome, Totals},
    queue::{Decision, HandedOver, HeldCount, Queue, Refusal, Ticket},
    route::Route,
};

mod forward;

pub(crate) use forward::Forward;

/// What the holders of one activator have in common.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// Changes at each 0→1 and 1→0 of a workload.
    pub(crate) edges: watch::Sender<u64>,
    pub(crate) metrics: Metrics,
    pub(crate) cold_starts: broadcast::Sender<ColdStart>,
}

/// One workload's queue.
#[derive(Debug)]
pub(crate) struct Holder {
    workload: Workload,
    settings: Arc<Settings>,
    signals: Signals,
    inner: Mutex<Inner>,
    /// Notified when the time of the next decision has changed.
    rescheduled: Notify,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    waiters: HashMap<Ticket, oneshot::Sender<Decision>>,
    totals: Totals,
}

impl Holder {
    /// Returns an empty holder of an available workload without endpoints.
    pub(crate) fn new(workload: Workload, settings: Arc<Settings>, signals: Signals) -> Arc<Self> {
        let inner = Inner {
            queue: Queue::new(Arc::clone(&settings), Instant::now()),
            waiters: HashMap::new(),
            totals: Totals::default(),
        };
        Arc::new(Self {
            workload,
            settings,
            signals,
            inner: Mutex::new(inner),
            rescheduled: Notify::new(),
        })
    }

    /// Returns whose queue it is.
    pub(crate) fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Returns the bounds it keeps.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Gives a request of `bytes` a place, or says why there is none; a refusal is counted as the request's end.
    pub(crate) fn hold(
        self: &Arc<Self>,
        route: &Arc<Route>,
        bytes: usize,
    ) -> Result<Hold, Refusal> {
        self.place(|queue, now| queue.admit(route, bytes, now))
    }

    /// Makes a hold of the place that the queue gives; a refusal is counted as the request's end.
    fn place(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut Queue, Instant) -> Result<Ticket, Refusal>,
    ) -> Result<Hold, Refusal> {
        let admitted = self.update(|inner, now| {
            let ticket = ask(&mut inner.queue, now)?;
            let (sender, decision) = oneshot::channel();
            inner.waiters.insert(ticket, sender);
            Ok((ticket, decision))
        });
        let (ticket, decision) = admitted.inspect_err(|refusal: &Refusal| {
            self.ended(Rejection::Refused(refusal.clone()).outcome());
        })?;
        Ok(Hold {
            holder: Arc::clone(self),
            ticket,
            decision,
            decided: None,
            outcome: Some(Outcome::ClientLeft),
        })
    }

    /// Applies a change of the endpoints or of the availability.
    pub(crate) fn change(&self, act: impl FnOnce(&mut Queue, Instant)) {
        self.update(|inner, now| act(&mut inner.queue, now));
    }

    /// Whether the workload can be woken has changed.
    pub(crate) fn set_availability(&self, availability: Availability) {
        self.change(|queue, _| queue.set_availability(availability));
    }

    /// Decides what falls due as time passes. Never returns; while nobody polls it, deadlines do not fall.
    pub(crate) async fn keep_time(&self) {
        loop {
            let rescheduled = self.rescheduled.notified();
            tokio::pin!(rescheduled);
            rescheduled.as_mut().enable();
            // What has fallen due by now is decided first: the next time is told from this moment on only.
            let ((), due) = self.apply(|_, _| ());
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = rescheduled => {}
            }
        }
    }

    /// Returns what a report says of the workload that goes out now.
    pub(crate) fn report(&self) -> HeldCount {
        self.inner.lock().queue.report(Instant::now())
    }

    /// Returns on how many routes requests are answered at once because holding them is in vain.
    pub(crate) fn open_breakers(&self) -> usize {
        let inner = self.inner.lock();
        let breakers = inner.queue.breakers().iter();
        breakers.filter(|(_, breaker)| breaker.is_open()).count()
    }

    /// Whether the endpoint has this UID.
    pub(crate) fn is_named(&self, endpoint: EndpointId, uid: &str) -> bool {
        let inner = self.inner.lock();
        let mut endpoints = inner.queue.endpoints().iter();
        endpoints.any(|known| known.id == endpoint && known.uid == uid)
    }

    /// Returns the requests and the bytes held now.
    pub(crate) fn held(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.queue.held(), inner.queue.held_bytes())
    }

    /// Returns the workload's part of the debug state.
    pub(crate) fn debug_state(&self) -> serde_json::Value {
        let inner = self.inner.lock();
        let availability = match inner.queue.unavailable() {
            None => json!("available"),
            Some(reason) => json!({ "unavailable": reason }),
        };
        let endpoints = inner.queue.endpoints().iter().map(|endpoint| {
            json!({
                "uid": endpoint.uid,
                "address": endpoint.address(),
                "outstanding": endpoint.outstanding,
            })
        });
        let endpoints: Vec<_> = endpoints.collect();
        let breakers = inner.queue.breakers().iter().map(|(route, breaker)| {
            json!({
                "route": route.name,
                "failures": breaker.failures(),
                "open": breaker.is_open(),
            })
        });
        let breakers: Vec<_> = breakers.collect();
        let totals: serde_json::Map<_, _> = inner
            .totals
            .named()
            .map(|(name, total)| (name.to_owned(), total.into()))
            .collect();
        json!({
            "workload": self.workload.to_string(),
            "availability": availability,
            "held": inner.queue.held(),
            "held_bytes": inner.queue.held_bytes(),
            "endpoints": endpoints,
            "breakers": breakers,
            "totals": totals,
        })
    }

    fn ended(&self, outcome: Outcome) {
        self.inner.lock().totals.add(outcome);
        self.signals.metrics.ended(outcome);
    }

    /// Applies an event, delivers what it decides, and tells those who wait for edges and for the time.
    fn update<R>(&self, act: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        self.apply(act).0
    }

    /// Does so, and returns when the next decision falls due as well.
    fn apply<R>(&self, act: impl FnOnce(&mut Inner, Instant) -> R) -> (R, Option<Instant>) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        let counted = inner.queue.counted();
        let due = inner.queue.next_wakeup(now);
        let result = act(&mut inner, now);
        while let Some((ticket, decision)) = inner.queue.next_decision(now) {
            if let Some(waiter) = inner.waiters.remove(&ticket) {
                // A receiver that is gone gives its place back right after, when its `Hold` drops.
                let _ = waiter.send(decision);
            }
        }
        // Not only the first and the last: what is held and what is in flight at a replica add up to one number, which
        // would count a request twice, or a burst as one, until both have been told.
        let edge = counted != inner.queue.counted();
        let next = inner.queue.next_wakeup(now);
        let rescheduled = due != next;
        drop(inner);
        if edge {
            self.signals.edges.send_modify(|edges| *edges += 1);
        }
        if rescheduled {
            self.rescheduled.notify_waiters();
        }
        (result, next)
    }
}

/// One held request. Dropping it frees the place: the client left.
#[derive(Debug)]
#[must_use = "dropping the hold gives the place away"]
pub(crate) struct Hold {
    holder: Arc<Holder>,
    ticket: Ticket,
    decision: oneshot::Receiver<Decision>,
    /// The decision, once it has come and while nobody has taken it.
    decided: Option<Decision>,
    /// How the request counts when this drops; nothing once a backend has it.
    outcome: Option<Outcome>,
}

impl Hold {
    /// Waits until [`decision`](Self::decision) would not. Cancel safe.
    pub(crate) async fn decided(&mut self) {
        if self.decided.is_none() {
            match (&mut self.decision).await {
                Ok(decision) => self.decided = Some(decision),
                // The sender lives in the holder, which `self` keeps, until it has sent.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Waits for the decision on the request. Cancel safe. Not to be called again until [`dial_failed`](Self::dial_failed).
    pub(crate) async fn decision(&mut self) -> Decision {
        loop {
            if let Some(decision) = self.decided.take() {
                return decision;
            }
            self.decided().await;
        }
    }

    /// The request takes this many more bytes, if they fit.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.holder
            .update(|inner, _| inner.queue.charge(self.ticket, bytes))
    }

    /// The endpoint of the release did not accept a connection: waits again.
    pub(crate) fn dial_failed(&mut self) {
        let (sender, decision) = oneshot::channel();
        self.decision = decision;
        self.holder.update(|inner, now| {
            inner.waiters.insert(self.ticket, sender);
            inner.queue.dial_failed(self.ticket, now);
        });
    }

    /// The request is about to be written to a connection that the endpoint accepted.
    pub(crate) fn hand_over(mut self) -> Forward {
        let handed = self
            .holder
            .update(|inner, now| inner.queue.hand_over(self.ticket, now));
        self.outcome = None;
        let now = Instant::now();
        let waited = handed
            .as_ref()
            .map(|handed| now.saturating_duration_since(handed.arrived()));
        if let Some(waited) = waited {
            self.holder.signals.metrics.waited(waited);
        }
        let cold = handed.as_ref().is_some_and(HandedOver::is_cold);
        Forward {
            holder: Arc::clone(&self.holder),
            charged: handed.is_some(),
            handed,
            waited: waited.filter(|_| cold),
            outcome: Some(Outcome::ClientLeft),
        }
    }

    fn free(&self) {
        self.holder.update(|inner, now| {
            inner.waiters.remove(&self.ticket);
            inner.queue.leave(self.ticket, now);
        });
    }

    /// Frees the place, which turned out not to be a request's.
    pub(crate) fn forget(mut self) {
        self.free();
        self.outcome = None;
    }

    /// Frees the place of a request that is answered without a backend.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome {
            self.free();
            self.holder.ended(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;
    use crate::route::PortPair;

    #[tokio::test(start_paused = true)]
    async fn what_falls_due_before_the_time_is_kept_is_decided_at_once() {
        let workload = Workload {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            name: "cart".into(),
        };
        let signals = Signals {
            edges: watch::Sender::new(0),
            metrics: Metrics::default(),
            cold_starts: broadcast::Sender::new(1),
        };
        let settings = Arc::new(Settings::default());
        let holder = Holder::new(workload.clone(), Arc::clone(&settings), signals);
        let ports = vec![PortPair {
            listen: 15080,
            app: 8080,
        }];
        let address = [10, 0, 0, 1].into();
        holder.change(|queue, now| queue.endpoint_ready("a".into(), address, ports, now));
        let mut hold = holder.hold(&Arc::new(Route::only(workload)), 0).unwrap();
        assert!(matches!(hold.decision().await, Decision::Release(_)));
        hold.dial_failed();
        advance(2 * settings.set_aside).await;
        let decision = async {
            tokio::select! {
                decision = hold.decision() => decision,
                () = holder.keep_time() => unreachable!("it never returns"),
            }
        };
        let decision = timeout(Duration::from_secs(1), decision).await;
        assert!(matches!(decision, Ok(Decision::Release(_))), "{decision:?}");
    }
}
