//! Who is held for one workload, and who goes when and where. Synchronous: fed with events and the time.
//!
//! Nothing here waits, dials or answers; [`crate::holder`] does so on this type's decisions.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Settings,
    endpoints::{EndpointId, Endpoints},
    event::Availability,
};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// How far pacing may carry a queue past its bounds, as a factor.
const PACED_ROOM: usize = 2;

/// A place in the queue. Earlier arrivals have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(u64);

/// Why a request gets no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many are held as may be.
    Requests,
    /// As many bytes are held as may be.
    Bytes,
    /// Nobody would wake the workload.
    Unavailable(Arc<str>),
}

/// What becomes of a waiting request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Dial one of these, then say how it went.
    Release(Release),
    /// The deadline passed, this long after the arrival; the place is free.
    Expire(Duration),
    /// Nobody would wake the workload any longer; the place is free.
    Refuse(Arc<str>),
}

/// A request's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) endpoint: EndpointId,
    pub(crate) addresses: Arc<[SocketAddr]>,
}

/// What is known of a request when its backend takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandedOver {
    pub(crate) endpoint: EndpointId,
    pub(crate) arrived: Instant,
    /// When its last release was decided.
    pub(crate) released: Instant,
    /// No endpoint could be dialled when it arrived.
    pub(crate) cold: bool,
    /// It is the one whose times tell of this wake.
    pub(crate) first: bool,
}

/// Requests held, as a report counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldCount {
    /// Held now.
    pub(crate) held: usize,
    /// Integral of the requests held over time.
    pub(crate) held_time: Duration,
    /// Requests that ever got a place.
    pub(crate) requests: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    arrived: Instant,
    deadline: Instant,
    bytes: usize,
    cold: bool,
    /// A dial failed after the deadline; there is no further one.
    spent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    place: Place,
    endpoint: EndpointId,
    released: Instant,
    first: bool,
}

/// The queue of one workload.
///
/// A request is *waiting* from [`admit`](Self::admit) until a decision, *leaving* from its release until its backend
/// takes over or refuses, and *held* while it is either. Waiting ones are released in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Queue {
    settings: Arc<Settings>,
    unavailable: Option<Arc<str>>,
    endpoints: Endpoints,
    waiting: BTreeMap<Ticket, Place>,
    leaving: HashMap<Ticket, Leaving>,
    held_bytes: usize,
    next_ticket: u64,
    /// Releases that must not heed pacing, because an admission past the bounds relies on them.
    hurried: usize,
    /// A request came for which there was no endpoint, and none has been released since.
    waking: bool,
    /// Integral of the requests held, in request-nanoseconds, up to `integrated`.
    held_time: u128,
    integrated: Instant,
}

impl Queue {
    /// Returns an empty queue of an available workload without endpoints.
    pub(crate) fn new(settings: Arc<Settings>, now: Instant) -> Self {
        Self {
            unavailable: None,
            endpoints: Endpoints::new(settings.set_aside, settings.set_aside_limit),
            waiting: BTreeMap::new(),
            leaving: HashMap::new(),
            held_bytes: 0,
            next_ticket: 0,
            hurried: 0,
            waking: false,
            held_time: 0,
            integrated: now,
            settings,
        }
    }

    /// Gives a request a place at the end of the queue.
    ///
    /// The bounds hold for what waits for an endpoint. Where only pacing keeps requests, a further one does not fail
    /// for it: it sends the longest waiting one off instead.
    pub(crate) fn admit(&mut self, bytes: usize, now: Instant) -> Result<Ticket, Refusal> {
        if let Some(reason) = self.refusing() {
            return Err(Refusal::Unavailable(reason));
        }
        let usable = self.endpoints.best(now).is_some();
        let held_bytes = self.held_bytes.saturating_add(bytes);
        if let Some(refusal) = self.over_bounds(held_bytes, 1) {
            let paced = usable && self.waiting.len() > self.hurried;
            if !paced || self.over_bounds(held_bytes, PACED_ROOM).is_some() {
                return Err(refusal);
            }
            self.hurried += 1;
        }
        self.integrate(now);
        self.held_bytes = held_bytes;
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.waking |= self.endpoints.is_empty();
        let place = Place {
            arrived: now,
            deadline: now + self.settings.hold_timeout,
            bytes,
            cold: !usable,
            spent: false,
        };
        self.waiting.insert(ticket, place);
        Ok(ticket)
    }

    /// A held request turned out to take more bytes; it keeps its place even if they do not fit, for the caller to end.
    pub(crate) fn charge(&mut self, ticket: Ticket, bytes: usize) -> Result<(), Refusal> {
        let leaving = self.leaving.get_mut(&ticket);
        let place = leaving.map(|leaving| &mut leaving.place);
        let Some(place) = place.or_else(|| self.waiting.get_mut(&ticket)) else {
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
        let (&ticket, &place) = self.waiting.first_key_value()?;
        if let Some(reason) = self.refusing() {
            self.remove(ticket, now);
            return Some((ticket, Decision::Refuse(reason)));
        }
        let expired = now >= place.deadline;
        match self.endpoints.best(now) {
            Some(endpoint) if !place.spent => {
                let crowded = endpoint.outstanding >= self.settings.endpoint_concurrency;
                if crowded && self.hurried == 0 && now < self.paced_until(place, now)? {
                    return None;
                }
                let release = Release {
                    endpoint: endpoint.id,
                    addresses: Arc::clone(&endpoint.addresses),
                };
                self.release(ticket, place, release.endpoint, now);
                Some((ticket, Decision::Release(release)))
            }
            _ if expired => {
                self.remove(ticket, now);
                let waited = now.saturating_duration_since(place.arrived);
                Some((ticket, Decision::Expire(waited)))
            }
            _ => None,
        }
    }

    /// Returns when a decision may be due without any event.
    pub(crate) fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        let (_, place) = self.waiting.first_key_value()?;
        let paced = self.paced_until(*place, now);
        let back = self.endpoints.next_return(now);
        [paced, back, Some(place.deadline)]
            .into_iter()
            .flatten()
            .min()
    }

    /// The client left, or its request came to nothing: frees its place, wherever it is.
    pub(crate) fn leave(&mut self, ticket: Ticket, now: Instant) {
        self.remove(ticket, now);
    }

    /// The endpoint of a released request did not accept a connection: the request waits again, at its old place.
    pub(crate) fn dial_failed(&mut self, ticket: Ticket, now: Instant) {
        if let Some(leaving) = self.leaving.remove(&ticket) {
            self.endpoints.end(leaving.endpoint);
            self.endpoints.failed(leaving.endpoint, now);
            self.waking |= leaving.first;
            let spent = now >= leaving.place.deadline;
            self.waiting.insert(
                ticket,
                Place {
                    spent,
                    ..leaving.place
                },
            );
        }
    }

    /// The endpoint accepted a connection and the request is about to be written to it: it is no longer held.
    ///
    /// Returns nothing if the ticket was not released. The endpoint stays charged until [`end`](Self::end).
    pub(crate) fn hand_over(&mut self, ticket: Ticket, now: Instant) -> Option<HandedOver> {
        if !self.leaving.contains_key(&ticket) {
            return None;
        }
        self.integrate(now);
        let leaving = self.leaving.remove(&ticket)?;
        self.held_bytes -= leaving.place.bytes;
        self.endpoints.accepted(leaving.endpoint);
        Some(HandedOver {
            endpoint: leaving.endpoint,
            arrived: leaving.place.arrived,
            released: leaving.released,
            cold: leaving.place.cold,
            first: leaving.first,
        })
    }

    /// A request that was handed over got its response head, or never will.
    pub(crate) fn end(&mut self, endpoint: EndpointId) {
        self.endpoints.end(endpoint);
    }

    /// An endpoint takes requests.
    pub(crate) fn endpoint_ready(&mut self, uid: String, addresses: Vec<SocketAddr>, now: Instant) {
        self.endpoints.ready(uid, addresses, now);
    }

    /// An endpoint takes none any longer.
    pub(crate) fn endpoint_gone(&mut self, uid: &str) {
        self.endpoints.gone(uid);
    }

    /// Whether the workload can be woken has changed.
    pub(crate) fn set_availability(&mut self, availability: Availability) {
        self.unavailable = match availability {
            Availability::Available => None,
            Availability::Unavailable { reason } => Some(reason.into()),
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

    /// Returns how many requests are held.
    pub(crate) fn held(&self) -> usize {
        self.waiting.len() + self.leaving.len()
    }

    /// Returns the bytes of the requests that are held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Returns the counts as they are at `now`.
    pub(crate) fn count(&mut self, now: Instant) -> HeldCount {
        self.integrate(now);
        let nanoseconds = u64::try_from(self.held_time).unwrap_or(u64::MAX);
        HeldCount {
            held: self.held(),
            held_time: Duration::from_nanos(nanoseconds),
            requests: self.next_ticket,
        }
    }

    /// Endpoints win over everything: what runs is served even where nobody would start it.
    fn refusing(&self) -> Option<Arc<str>> {
        let reason = self.unavailable.as_ref()?;
        self.endpoints.is_empty().then(|| Arc::clone(reason))
    }

    fn over_bounds(&self, held_bytes: usize, factor: usize) -> Option<Refusal> {
        if self.held() >= self.settings.max_held.saturating_mul(factor) {
            return Some(Refusal::Requests);
        }
        let limit = self.settings.max_held_bytes.saturating_mul(factor);
        (held_bytes > limit).then_some(Refusal::Bytes)
    }

    /// Returns until when pacing may keep a request, or nothing if no endpoint is usable.
    fn paced_until(&self, place: Place, now: Instant) -> Option<Instant> {
        let usable = self.endpoints.usable_since(now)?;
        let limit = usable.max(place.arrived) + self.settings.pacing_limit;
        Some(limit.min(place.deadline))
    }

    fn release(&mut self, ticket: Ticket, place: Place, endpoint: EndpointId, now: Instant) {
        self.waiting.remove(&ticket);
        self.endpoints.begin(endpoint);
        self.hurried = self.hurried.saturating_sub(1);
        let first = std::mem::take(&mut self.waking);
        let leaving = Leaving {
            place,
            endpoint,
            released: now,
            first,
        };
        self.leaving.insert(ticket, leaving);
    }

    fn remove(&mut self, ticket: Ticket, now: Instant) {
        self.integrate(now);
        if let Some(place) = self.waiting.remove(&ticket) {
            self.held_bytes -= place.bytes;
            self.hurried = self.hurried.min(self.waiting.len());
            self.waking &= !self.waiting.is_empty();
        } else if let Some(leaving) = self.leaving.remove(&ticket) {
            self.held_bytes -= leaving.place.bytes;
            self.endpoints.end(leaving.endpoint);
            self.waking |= leaving.first && !self.waiting.is_empty();
        }
    }

    fn integrate(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.integrated);
        self.held_time += elapsed.as_nanos() * self.held() as u128;
        self.integrated = self.integrated.max(now);
    }
}
