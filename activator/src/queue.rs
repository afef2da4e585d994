//! Who is held for one workload, and who goes when and where. Synchronous: fed with events and the time.
//!
//! Nothing here waits, dials or answers; [`crate::holder`] does so on this type's decisions.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    Settings,
    breaker::Breakers,
    endpoints::{EndpointId, Endpoints},
    event::{Availability, ListedEndpoint},
    route::{PortPair, Route},
};

mod line;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
mod values;

pub(crate) use line::Ticket;
use line::{Line, Lines, Place};
pub(crate) use values::{Decision, HandedOver, HeldCount, Refusal, Release, Wake};

/// How far pacing may carry a queue past its bounds, as a factor.
const PACED_ROOM: usize = 2;

#[derive(Clone, Debug)]
struct Leaving {
    route: Arc<Route>,
    place: Place,
    endpoint: EndpointId,
    released: Instant,
    wake: Option<Wake>,
}

impl Leaving {
    /// Whether it has not waited: it was released as it came.
    fn is_passing(&self) -> bool {
        self.released == self.place.arrived
    }
}

/// The queue of one workload.
///
/// A request is *waiting* from [`admit`](Self::admit) until a decision, *leaving* from its release until its backend
/// takes over or refuses, and *held* while it is either. One that is released as it comes is *passing*: its backend has it in
/// a moment and counts it, so that reports do not. Waiting ones of one route are released in the order of their arrival; a
/// route that leads to no endpoint keeps no other waiting.
#[derive(Debug)]
pub(crate) struct Queue {
    settings: Arc<Settings>,
    unavailable: Option<Arc<str>>,
    endpoints: Endpoints,
    breakers: Breakers,
    lines: Lines,
    leaving: HashMap<Ticket, Leaving>,
    /// How many of them are passing.
    passing: usize,
    held_bytes: usize,
    next_ticket: u64,
    /// A request came for which there was no endpoint, and none has been released since.
    wake: Option<Wake>,
    /// Integral of the requests that reports count, in request-nanoseconds, up to `integrated`.
    held_time: u128,
    integrated: Instant,
}

impl Queue {
    /// Returns an empty queue of an available workload without endpoints.
    pub(crate) fn new(settings: Arc<Settings>, now: Instant) -> Self {
        Self {
            unavailable: None,
            endpoints: Endpoints::new(settings.set_aside, settings.set_aside_limit),
            breakers: Breakers::new(Arc::clone(&settings)),
            lines: Lines::default(),
            leaving: HashMap::new(),
            passing: 0,
            held_bytes: 0,
            next_ticket: 0,
            wake: None,
            held_time: 0,
            integrated: now,
            settings,
        }
    }

    /// Gives a request a place at the end of its route's line.
    ///
    /// The bounds hold for what waits for an endpoint. Where only pacing keeps requests, a further one does not fail
    /// for it, nor for those that wait on another route: it sends the longest waiting one of its own off instead.
    pub(crate) fn admit(
        &mut self,
        route: &Arc<Route>,
        bytes: usize,
        now: Instant,
    ) -> Result<Ticket, Refusal> {
        if let Some(reason) = self.refusing(route) {
            return Err(Refusal::Unavailable(reason));
        }
        let usable = self.endpoints.best(route, now).is_some();
        let held_bytes = self.held_bytes.saturating_add(bytes);
        let over = self.over_bounds(held_bytes, 1);
        if let Some(refusal) = &over
            && (!usable || self.over_bounds(held_bytes, PACED_ROOM).is_some())
        {
            return Err(refusal.clone());
        }
        if !usable {
            let admitted = self.breakers.admit(route, now);
            admitted.map_err(Refusal::Broken)?;
        }
        self.integrate(now);
        self.held_bytes = held_bytes;
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        if self.endpoints.is_empty() {
            self.wake.get_or_insert_default();
        }
        let place = Place {
            arrived: now,
            deadline: now + self.settings.hold_timeout,
            bytes,
            cold: !usable,
            spent: false,
        };
        let line = self.lines.put(Arc::clone(route), ticket, place);
        line.hurried += usize::from(over.is_some());
        Ok(ticket)
    }

    /// A held request turned out to take more bytes; it keeps its place even if they do not fit, for the caller to end.
    pub(crate) fn charge(&mut self, ticket: Ticket, bytes: usize) -> Result<(), Refusal> {
        let leaving = self.leaving.get_mut(&ticket);
        let place = leaving.map(|leaving| &mut leaving.place);
        let Some(place) = place.or_else(|| self.lines.place_mut(ticket)) else {
            return Ok(());
        };
        if self.held_bytes.saturating_add(bytes) > self.settings.max_held_bytes {
            return Err(Refusal::Bytes);
        }
        place.bytes += bytes;
        self.held_bytes += bytes;
        Ok(())
    }

    /// Returns the next decision that is due, and carries it out. To be called until there is none, after every event
    /// and at [`next_wakeup`](Self::next_wakeup).
    pub(crate) fn next_decision(&mut self, now: Instant) -> Option<(Ticket, Decision)> {
        let due = self.lines.iter().filter_map(|(route, line)| {
            let (ticket, place, decision) = self.decision(route, line, now)?;
            Some((ticket, place, decision, route))
        });
        let (ticket, place, decision, route) = due.min_by_key(|(ticket, ..)| *ticket)?;
        match &decision {
            Decision::Release(release) => self.release(ticket, release.endpoint, now),
            Decision::Refuse(_) => self.remove(ticket, now),
            Decision::Expire(_) => {
                self.breakers.expired(route, place.arrived, now);
                self.remove(ticket, now);
            }
        }
        Some((ticket, decision))
    }

    /// Returns what is due for the first in a line.
    fn decision(
        &self,
        route: &Route,
        line: &Line,
        now: Instant,
    ) -> Option<(Ticket, Place, Decision)> {
        let (ticket, place) = line.first()?;
        if let Some(reason) = self.refusing(route) {
            return Some((ticket, place, Decision::Refuse(reason)));
        }
        let decision = match self.endpoints.best(route, now) {
            Some(endpoint) if !place.spent => {
                let crowded = endpoint.outstanding >= self.settings.endpoint_concurrency;
                if crowded && line.hurried == 0 && now < self.paced_until(route, place, now)? {
                    return None;
                }
                let release = Release {
                    endpoint: endpoint.id,
                    addresses: endpoint.addresses(route).into(),
                };
                Decision::Release(release)
            }
            _ if now >= place.deadline => {
                let waited = now.saturating_duration_since(place.arrived);
                Decision::Expire(waited)
            }
            _ => return None,
        };
        Some((ticket, place, decision))
    }

    /// Returns when a decision may be due without any event.
    pub(crate) fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        let lines = self.lines.iter();
        let due = lines.filter_map(|(route, line)| {
            let (_, place) = line.first()?;
            let paced = self.paced_until(route, place, now);
            let back = self.endpoints.next_return(route, now);
            [paced, back, Some(place.deadline)]
                .into_iter()
                .flatten()
                .min()
        });
        due.min()
    }

    /// The client left, or its request came to nothing: frees its place, wherever it is.
    pub(crate) fn leave(&mut self, ticket: Ticket, now: Instant) {
        self.remove(ticket, now);
    }

    /// The endpoint of a released request did not accept a connection: the request waits again, at its old place.
    pub(crate) fn dial_failed(&mut self, ticket: Ticket, now: Instant) {
        self.integrate(now);
        if let Some(leaving) = self.take_leaving(ticket) {
            self.endpoints.end(leaving.endpoint);
            self.endpoints
                .failed(leaving.endpoint, &leaving.route, Duration::ZERO, now);
            self.wait_again(ticket, leaving.route, leaving.place, leaving.wake, now);
        }
    }

    /// The endpoint accepted a connection and the request is about to be written to it: it is no longer held.
    ///
    /// Returns nothing if the ticket was not released. The endpoint stays charged until [`answered`](Self::answered),
    /// [`unanswered`](Self::unanswered) or [`end`](Self::end).
    pub(crate) fn hand_over(&mut self, ticket: Ticket, now: Instant) -> Option<HandedOver> {
        if !self.leaving.contains_key(&ticket) {
            return None;
        }
        self.integrate(now);
        let leaving = self.take_leaving(ticket)?;
        self.held_bytes -= leaving.place.bytes;
        self.breakers.close_where(|route| *route == *leaving.route);
        Some(HandedOver {
            endpoint: leaving.endpoint,
            released: leaving.released,
            wake: leaving.wake,
            ticket,
            route: leaving.route,
            place: leaving.place,
        })
    }

    /// A request that was handed over got its response head.
    pub(crate) fn answered(&mut self, handed: &HandedOver) {
        self.endpoints.end(handed.endpoint);
        self.endpoints.answered(handed.endpoint, &handed.route);
    }

    /// The endpoint closed the connection of a request that was handed over before it answered.
    pub(crate) fn unanswered(&mut self, handed: &HandedOver, now: Instant) {
        self.endpoints.end(handed.endpoint);
        let pause = self.settings.unanswered_pause;
        self.endpoints
            .failed(handed.endpoint, &handed.route, pause, now);
    }

    /// A request that was handed over ended, and how does not speak for or against its endpoint.
    pub(crate) fn end(&mut self, handed: &HandedOver) {
        self.endpoints.end(handed.endpoint);
    }

    /// Holds a request once more that was handed over and remained [`unanswered`](Self::unanswered): at its old place, until
    /// its old deadline, and without counting as one more. The bounds hold for it as for any other.
    pub(crate) fn hold_again(
        &mut self,
        handed: HandedOver,
        now: Instant,
    ) -> Result<Ticket, Refusal> {
        if let Some(reason) = self.refusing(&handed.route) {
            return Err(Refusal::Unavailable(reason));
        }
        let held_bytes = self.held_bytes.saturating_add(handed.place.bytes);
        if let Some(refusal) = self.over_bounds(held_bytes, 1) {
            return Err(refusal);
        }
        self.integrate(now);
        self.held_bytes = held_bytes;
        self.wait_again(handed.ticket, handed.route, handed.place, handed.wake, now);
        Ok(handed.ticket)
    }

    fn wait_again(
        &mut self,
        ticket: Ticket,
        route: Arc<Route>,
        place: Place,
        wake: Option<Wake>,
        now: Instant,
    ) {
        self.wake = self.wake.or(wake);
        let spent = now >= place.deadline;
        self.lines.put(route, ticket, Place { spent, ..place });
    }

    /// An aggregator says that an endpoint takes requests.
    pub(crate) fn endpoint_ready(
        &mut self,
        uid: String,
        address: IpAddr,
        ports: Vec<PortPair>,
        now: Instant,
    ) {
        self.endpoints.reported(uid, address, ports, now);
        self.close_breakers(now);
    }

    /// An aggregator says that an endpoint takes none any longer.
    pub(crate) fn endpoint_gone(&mut self, uid: &str) {
        self.endpoints.gone(uid);
    }

    /// These are all the endpoints that are listed for a route.
    pub(crate) fn endpoints_listed(
        &mut self,
        route: &Arc<Route>,
        endpoints: Vec<ListedEndpoint>,
        now: Instant,
    ) {
        self.endpoints.listed(route, endpoints, now);
        self.close_breakers(now);
    }

    /// Whether the workload can be woken has changed, or is told again.
    pub(crate) fn set_availability(&mut self, availability: Availability) {
        self.unavailable = match availability {
            Availability::Available => None,
            Availability::Unavailable { reason } => {
                // When it is available again, somebody has done something about it.
                self.breakers.close_where(|_| true);
                Some(reason.into())
            }
        };
    }

    /// Returns why the workload cannot be woken, if it cannot.
    pub(crate) fn unavailable(&self) -> Option<&str> {
        self.unavailable.as_deref()
    }

    /// Returns the endpoints.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Returns the breakers of the routes that fail.
    pub(crate) fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Returns how many requests are held.
    pub(crate) fn held(&self) -> usize {
        self.lines.waiting() + self.leaving.len()
    }

    /// Returns how many of them a report counts.
    pub(crate) fn counted(&self) -> usize {
        self.held() - self.passing
    }

    /// Returns the bytes of the requests that are held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Returns the counts as they are at `now`, for a report that goes out now.
    pub(crate) fn report(&mut self, now: Instant) -> HeldCount {
        let count = self.count(now);
        if let Some(wake) = self.wake.as_mut().filter(|_| count.held > 0) {
            wake.signalled.get_or_insert(now);
        }
        count
    }

    fn count(&mut self, now: Instant) -> HeldCount {
        self.integrate(now);
        let nanoseconds = u64::try_from(self.held_time).unwrap_or(u64::MAX);
        HeldCount {
            held: self.counted(),
            held_time: Duration::from_nanos(nanoseconds),
            requests: self.next_ticket,
        }
    }

    /// Endpoints win over everything: what runs is served even where nobody would start it.
    fn refusing(&self, route: &Route) -> Option<Arc<str>> {
        let reason = self.unavailable.as_ref()?;
        (!self.endpoints.are_on(route)).then(|| Arc::clone(reason))
    }

    fn close_breakers(&mut self, now: Instant) {
        let endpoints = &self.endpoints;
        self.breakers
            .close_where(|route| endpoints.best(route, now).is_some());
    }

    fn over_bounds(&self, held_bytes: usize, factor: usize) -> Option<Refusal> {
        if self.held() >= self.settings.max_held.saturating_mul(factor) {
            return Some(Refusal::Requests);
        }
        let limit = self.settings.max_held_bytes.saturating_mul(factor);
        (held_bytes > limit).then_some(Refusal::Bytes)
    }

    /// Returns until when pacing may keep a request, or nothing if no endpoint is usable.
    fn paced_until(&self, route: &Route, place: Place, now: Instant) -> Option<Instant> {
        let usable = self.endpoints.usable_since(route, now)?;
        let limit = usable.max(place.arrived) + self.settings.pacing_limit;
        Some(limit.min(place.deadline))
    }

    fn release(&mut self, ticket: Ticket, endpoint: EndpointId, now: Instant) {
        self.integrate(now);
        let Some((route, place)) = self.lines.take(ticket) else {
            return;
        };
        self.endpoints.begin(endpoint);
        if let Some(line) = self.lines.line_mut(&route) {
            line.hurried = line.hurried.saturating_sub(1);
        }
        let leaving = Leaving {
            route,
            place,
            endpoint,
            released: now,
            wake: self.wake.take(),
        };
        self.passing += usize::from(leaving.is_passing());
        self.leaving.insert(ticket, leaving);
    }

    fn take_leaving(&mut self, ticket: Ticket) -> Option<Leaving> {
        let leaving = self.leaving.remove(&ticket)?;
        self.passing -= usize::from(leaving.is_passing());
        Some(leaving)
    }

    fn remove(&mut self, ticket: Ticket, now: Instant) {
        self.integrate(now);
        if let Some((_, place)) = self.lines.take(ticket) {
            self.held_bytes -= place.bytes;
        } else if let Some(leaving) = self.take_leaving(ticket) {
            self.held_bytes -= leaving.place.bytes;
            self.endpoints.end(leaving.endpoint);
            self.wake = self.wake.or(leaving.wake);
        }
        if self.lines.is_empty() {
            self.wake = None;
        }
    }

    fn integrate(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.integrated);
        self.held_time += elapsed.as_nanos() * self.counted() as u128;
        self.integrated = self.integrated.max(now);
    }
}
