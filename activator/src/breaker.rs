//! Which routes have failed for so long that holding requests for them helps nobody. Synchronous: fed with what became of
//! requests, and with the time.
//!
//! A workload that never becomes ready would otherwise keep each of its clients for as long as a hold may last. Its
//! requests are answered at once instead, but for a probe now and then: that one is held like any other, so it is reported
//! and the workload stays woken, which is how it gets its chance to come back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{Settings, route::Route};

#[cfg(test)]
mod tests;

/// What a request is told that is not held because of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// How long the route has had no endpoint that accepted a request, as far as requests can tell.
    pub(crate) failing: Duration,
    /// When the next request is held again.
    pub(crate) next_probe: Duration,
}

/// The breaker of one route. It opens after `breaker_failures` hold deadlines in a row.
///
/// A burst whose requests came together and expire together has shown the same failure once. So only the expiry of a
/// request that came after the last one counted is one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breaker {
    /// The arrival of the first request whose expiry counted.
    since: Instant,
    /// When the last expiry counted.
    counted: Instant,
    failures: u32,
    open: Option<Open>,
}

/// What an open breaker keeps in mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    /// The pause after the next probe.
    gap: Duration,
    next_probe: Instant,
    /// When somebody came last.
    asked: Instant,
}

impl Breaker {
    /// Returns the hold deadlines in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns true while requests are answered at once.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn expired(&mut self, arrived: Instant, now: Instant, settings: &Settings) {
        if arrived < self.counted {
            return;
        }
        self.counted = now;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= settings.breaker_failures && self.open.is_none() {
            self.open = Some(Open {
                gap: settings.probe_gap,
                next_probe: now + settings.probe_gap,
                asked: now,
            });
        }
    }

    fn admit(&mut self, now: Instant, settings: &Settings) -> Result<(), Broken> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let silence = now.saturating_duration_since(open.asked);
        open.asked = now;
        if silence >= settings.hold_timeout.max(settings.probe_gap_limit) {
            // What was broken when somebody last came need not be any longer, and the first ones of a burst after a night
            // must not be turned away for it. One more failure opens the breaker again.
            self.open = None;
            self.failures = settings.breaker_failures.saturating_sub(1);
            return Ok(());
        }
        if now >= open.next_probe {
            open.gap = open.gap.saturating_mul(2).min(settings.probe_gap_limit);
            open.next_probe = now + open.gap;
            return Ok(());
        }
        Err(Broken {
            failing: now.saturating_duration_since(self.since),
            next_probe: open.next_probe - now,
        })
    }
}

/// The breakers of one workload's routes. A port that never becomes ready says nothing about the others.
#[derive(Debug)]
pub(crate) struct Breakers {
    settings: Arc<Settings>,
    /// One for each route whose last request expired.
    failing: BTreeMap<Arc<Route>, Breaker>,
}

impl Breakers {
    /// Returns breakers that are all closed.
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            failing: BTreeMap::new(),
        }
    }

    /// A request has come for a route without a usable endpoint: may it be held?
    pub(crate) fn admit(&mut self, route: &Route, now: Instant) -> Result<(), Broken> {
        match self.failing.get_mut(route) {
            Some(breaker) => breaker.admit(now, &self.settings),
            None => Ok(()),
        }
    }

    /// A request that came at `arrived` was held until its deadline.
    pub(crate) fn expired(&mut self, route: &Arc<Route>, arrived: Instant, now: Instant) {
        let breaker = self.failing.entry(Arc::clone(route)).or_insert(Breaker {
            since: arrived,
            counted: arrived,
            failures: 0,
            open: None,
        });
        breaker.expired(arrived, now, &self.settings);
    }

    /// Closes the breakers of the routes of which this is true.
    pub(crate) fn close_where(&mut self, close: impl Fn(&Route) -> bool) {
        self.failing.retain(|route, _| !close(route));
    }

    /// Returns those that have failures to tell of.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Route, &Breaker)> {
        let failing = self.failing.iter();
        failing.map(|(route, breaker)| (&**route, breaker))
    }
}
