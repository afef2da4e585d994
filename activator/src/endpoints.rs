//! The endpoints of one workload: which may be dialled, and which of them has least to do. Dials nothing itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

/// One stay of an endpoint in the set. An endpoint that goes and comes back has a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointId(u64);

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) uid: String,
    pub(crate) addresses: Arc<[SocketAddr]>,
    /// Requests given to it that have not got their response head.
    pub(crate) outstanding: usize,
    /// It is set aside before this moment and usable from it on.
    usable_from: Instant,
    /// Dials failed in a row.
    failures: u32,
    /// When it was chosen last, as a number that grows with each choice.
    chosen: u64,
}

/// The endpoints of one workload.
#[derive(Debug)]
pub(crate) struct Endpoints {
    known: Vec<Endpoint>,
    set_aside: Duration,
    set_aside_limit: Duration,
    next_id: u64,
    choices: u64,
}

impl Endpoints {
    /// Returns an empty set that leaves an endpoint alone for `set_aside` after a failed dial, doubled for each further
    /// one up to `set_aside_limit`.
    pub(crate) fn new(set_aside: Duration, set_aside_limit: Duration) -> Self {
        Self {
            known: Vec::new(),
            set_aside,
            set_aside_limit,
            next_id: 0,
            choices: 0,
        }
    }

    /// Adds the endpoint, or learns its addresses anew. Being told that it is ready ends its being set aside.
    pub(crate) fn ready(&mut self, uid: String, addresses: Vec<SocketAddr>, now: Instant) {
        if let Some(endpoint) = self.known.iter_mut().find(|known| known.uid == uid) {
            endpoint.addresses = addresses.into();
            endpoint.usable_from = endpoint.usable_from.min(now);
            return;
        }
        self.next_id += 1;
        self.known.push(Endpoint {
            id: EndpointId(self.next_id),
            uid,
            addresses: addresses.into(),
            outstanding: 0,
            usable_from: now,
            failures: 0,
            chosen: 0,
        });
    }

    /// Forgets the endpoint.
    pub(crate) fn gone(&mut self, uid: &str) {
        self.known.retain(|known| known.uid != uid);
    }

    /// Returns true if there is none, not even one that is set aside.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns all of them, in the order they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.known.iter()
    }

    /// Returns the usable endpoint with the fewest outstanding requests; among equals the one not chosen for longest.
    pub(crate) fn best(&self, now: Instant) -> Option<&Endpoint> {
        self.known
            .iter()
            .filter(|known| known.usable_from <= now)
            .min_by_key(|known| (known.outstanding, known.chosen))
    }

    /// Returns since when there has been one to dial, or nothing if there is none.
    pub(crate) fn usable_since(&self, now: Instant) -> Option<Instant> {
        let usable = self.known.iter().map(|known| known.usable_from);
        usable.filter(|&from| from <= now).min()
    }

    /// Returns when the next endpoint that is set aside becomes usable again.
    pub(crate) fn next_return(&self, now: Instant) -> Option<Instant> {
        let returns = self.known.iter().map(|known| known.usable_from);
        returns.filter(|&from| from > now).min()
    }

    /// Gives the endpoint one request.
    pub(crate) fn begin(&mut self, id: EndpointId) {
        self.choices += 1;
        let choices = self.choices;
        if let Some(endpoint) = self.find(id) {
            endpoint.outstanding += 1;
            endpoint.chosen = choices;
        }
    }

    /// Takes back one request: it got its response head, or came to nothing.
    pub(crate) fn end(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.find(id) {
            endpoint.outstanding = endpoint.outstanding.saturating_sub(1);
        }
    }

    /// The endpoint accepted a connection.
    pub(crate) fn accepted(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.find(id) {
            endpoint.failures = 0;
        }
    }

    /// The endpoint did not accept a connection: sets it aside. Failures of dials that ran side by side count once.
    pub(crate) fn failed(&mut self, id: EndpointId, now: Instant) {
        let (first, limit) = (self.set_aside, self.set_aside_limit);
        if let Some(endpoint) = self.find(id)
            && endpoint.usable_from <= now
        {
            let doubled = first.saturating_mul(2_u32.saturating_pow(endpoint.failures));
            endpoint.failures = endpoint.failures.saturating_add(1);
            endpoint.usable_from = now + doubled.min(limit);
        }
    }

    fn find(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.known.iter_mut().find(|known| known.id == id)
    }
}
