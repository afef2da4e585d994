//! The endpoints of one workload: which may be dialled on which route, and which of them has least to do. Dials nothing
//! itself.
//!
//! Two sources tell of them: aggregators, one endpoint at a time with all its ports, and `EndpointSlice`s, all endpoints of
//! one route at a time. An endpoint is there while either has it.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    event::ListedEndpoint,
    route::{PortPair, Route},
};

/// One stay of an endpoint in the set. An endpoint that goes and comes back has a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointId(u64);

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) uid: String,
    /// Requests given to it that have not got their response head, over all routes.
    pub(crate) outstanding: usize,
    reported: Option<Reported>,
    listed: BTreeMap<Arc<Route>, Listed>,
    /// Routes on which it has failed. One port that is not ready says nothing about another.
    setbacks: BTreeMap<Arc<Route>, Setback>,
    /// When it was chosen last, as a number that grows with each choice.
    chosen: u64,
}

#[derive(Debug)]
struct Reported {
    address: IpAddr,
    ports: Vec<PortPair>,
    since: Instant,
}

#[derive(Debug)]
struct Listed {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

#[derive(Debug)]
struct Setback {
    /// It is set aside before this moment and usable from it on.
    until: Instant,
    /// Requests in a row that it did not answer, or not even accepted.
    failures: u32,
}

impl Endpoint {
    /// Returns where to dial on this route, most preferred first: what an aggregator told goes by the sidecar.
    pub(crate) fn addresses(&self, route: &Route) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.reported_address(route).into_iter().collect();
        let listed = self.listed.get(route);
        for address in listed.into_iter().flat_map(|listed| &listed.addresses) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// Returns one of its addresses, for people.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let reported = self.reported.as_ref().map(|reported| {
            let port = reported.ports.first().map_or(0, |pair| pair.listen);
            SocketAddr::new(reported.address, port)
        });
        let mut listed = self.listed.values();
        reported.or_else(|| listed.find_map(|listed| listed.addresses.first().copied()))
    }

    fn reported_address(&self, route: &Route) -> Option<SocketAddr> {
        let reported = self.reported.as_ref()?;
        let port = route.target.among(&reported.ports)?;
        Some(SocketAddr::new(reported.address, port))
    }

    /// Returns from when on it is usable on this route, or nothing if the route does not lead to it.
    fn usable_from(&self, route: &Route) -> Option<Instant> {
        let reported = self
            .reported_address(route)
            .and(self.reported.as_ref())
            .map(|reported| reported.since);
        let listed = self.listed.get(route).map(|listed| listed.since);
        let since = [reported, listed].into_iter().flatten().min()?;
        let setback = self.setbacks.get(route);
        Some(setback.map_or(since, |setback| setback.until.max(since)))
    }

    fn is_known(&self) -> bool {
        self.reported.is_some() || !self.listed.is_empty()
    }
}

impl Setback {
    fn end(&mut self, now: Instant) {
        self.until = self.until.min(now);
    }
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
    /// Returns an empty set that leaves an endpoint alone for `set_aside` after a failure, doubled for each further one up
    /// to `set_aside_limit`.
    pub(crate) fn new(set_aside: Duration, set_aside_limit: Duration) -> Self {
        Self {
            known: Vec::new(),
            set_aside,
            set_aside_limit,
            next_id: 0,
            choices: 0,
        }
    }

    /// An aggregator has the endpoint: adds it, or learns its address anew. Being told so ends its being set aside.
    pub(crate) fn reported(
        &mut self,
        uid: String,
        address: IpAddr,
        ports: Vec<PortPair>,
        now: Instant,
    ) {
        let endpoint = self.entry(uid);
        let since = endpoint
            .reported
            .as_ref()
            .map_or(now, |reported| reported.since);
        endpoint.reported = Some(Reported {
            address,
            ports,
            since,
        });
        for setback in endpoint.setbacks.values_mut() {
            setback.end(now);
        }
    }

    /// Aggregators do not have the endpoint any longer.
    pub(crate) fn gone(&mut self, uid: &str) {
        if let Some(endpoint) = self.known.iter_mut().find(|known| known.uid == uid) {
            endpoint.reported = None;
        }
        self.known.retain(Endpoint::is_known);
    }

    /// These and no others are listed for the route. Being listed anew, or elsewhere, ends an endpoint's being set aside.
    pub(crate) fn listed(
        &mut self,
        route: &Arc<Route>,
        endpoints: Vec<ListedEndpoint>,
        now: Instant,
    ) {
        let uids: HashSet<_> = endpoints.iter().map(|listed| listed.uid.clone()).collect();
        for ListedEndpoint { uid, addresses } in endpoints {
            let endpoint = self.entry(uid);
            let before = endpoint.listed.get(route);
            if before.is_none_or(|before| before.addresses != addresses)
                && let Some(setback) = endpoint.setbacks.get_mut(route)
            {
                setback.end(now);
            }
            let since = before.map_or(now, |before| before.since);
            let listed = Listed { addresses, since };
            endpoint.listed.insert(Arc::clone(route), listed);
        }
        for endpoint in &mut self.known {
            if !uids.contains(&endpoint.uid) {
                endpoint.listed.remove(route);
            }
        }
        self.known.retain(Endpoint::is_known);
    }

    /// Returns true if there is none on any route, not even one that is set aside.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns true if the route leads to one, be it set aside.
    pub(crate) fn are_on(&self, route: &Route) -> bool {
        let mut known = self.known.iter();
        known.any(|known| known.usable_from(route).is_some())
    }

    /// Returns all of them, in the order they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.known.iter()
    }

    /// Returns the route's usable endpoint with the fewest outstanding requests; among equals the one not chosen for
    /// longest.
    pub(crate) fn best(&self, route: &Route, now: Instant) -> Option<&Endpoint> {
        let usable = |known: &&Endpoint| known.usable_from(route).is_some_and(|from| from <= now);
        let usable = self.known.iter().filter(usable);
        usable.min_by_key(|known| (known.outstanding, known.chosen))
    }

    /// Returns since when the route has had one to dial, or nothing if it has none.
    pub(crate) fn usable_since(&self, route: &Route, now: Instant) -> Option<Instant> {
        self.moments(route).filter(|&from| from <= now).min()
    }

    /// Returns when the next of the route's endpoints that is set aside becomes usable again.
    pub(crate) fn next_return(&self, route: &Route, now: Instant) -> Option<Instant> {
        self.moments(route).filter(|&from| from > now).min()
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

    /// The endpoint answered a request of this route.
    pub(crate) fn answered(&mut self, id: EndpointId, route: &Route) {
        let endpoint = self.find(id);
        if let Some(setback) = endpoint.and_then(|endpoint| endpoint.setbacks.get_mut(route)) {
            setback.failures = 0;
        }
    }

    /// The endpoint did not accept a connection, or closed it without an answer: sets it aside on this route, for `least`
    /// or longer as far as the limit allows. Failures that ran side by side count once.
    pub(crate) fn failed(
        &mut self,
        id: EndpointId,
        route: &Arc<Route>,
        least: Duration,
        now: Instant,
    ) {
        let (first, limit) = (self.set_aside, self.set_aside_limit);
        if let Some(endpoint) = self.find(id)
            && endpoint.usable_from(route).is_some_and(|from| from <= now)
        {
            let setback = endpoint
                .setbacks
                .entry(Arc::clone(route))
                .or_insert(Setback {
                    until: now,
                    failures: 0,
                });
            let doubled = first.saturating_mul(2_u32.saturating_pow(setback.failures));
            setback.failures = setback.failures.saturating_add(1);
            setback.until = now + doubled.max(least).min(limit);
        }
    }

    fn moments(&self, route: &Route) -> impl Iterator<Item = Instant> {
        self.known
            .iter()
            .filter_map(|known| known.usable_from(route))
    }

    fn entry(&mut self, uid: String) -> &mut Endpoint {
        let at = self.known.iter().position(|known| known.uid == uid);
        let at = at.unwrap_or_else(|| {
            self.next_id += 1;
            self.known.push(Endpoint {
                id: EndpointId(self.next_id),
                uid,
                outstanding: 0,
                reported: None,
                listed: BTreeMap::new(),
                setbacks: BTreeMap::new(),
                chosen: 0,
            });
            self.known.len() - 1
        });
        &mut self.known[at]
    }

    fn find(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.known.iter_mut().find(|known| known.id == id)
    }
}
