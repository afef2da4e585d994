//! What a queue answers and hands out. Values only.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::line::{Place, Ticket};
use crate::{breaker::Broken, endpoints::EndpointId, route::Route};

/// Why a request gets no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many are held as may be.
    Requests,
    /// As many bytes are held as may be.
    Bytes,
    /// Nobody would wake the workload.
    Unavailable(Arc<str>),
    /// Those before it were held in vain.
    Broken(Broken),
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandedOver {
    pub(crate) endpoint: EndpointId,
    /// When its last release was decided.
    pub(crate) released: Instant,
    /// Set if it is the one whose times tell of this wake.
    pub(crate) wake: Option<Wake>,
    pub(super) ticket: Ticket,
    pub(super) route: Arc<Route>,
    pub(super) place: Place,
}

impl HandedOver {
    /// Returns when it came.
    pub(crate) fn arrived(&self) -> Instant {
        self.place.arrived
    }

    /// Returns until when it could be held.
    pub(crate) fn deadline(&self) -> Instant {
        self.place.deadline
    }

    /// Returns true if no endpoint could be dialled when it came.
    pub(crate) fn is_cold(&self) -> bool {
        self.place.cold
    }
}

/// A wake from zero that nobody has been told of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wake {
    /// When what is held was reported first.
    pub(crate) signalled: Option<Instant>,
}

/// Requests held, as a report counts them: without those that are passing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldCount {
    /// Held now.
    pub(crate) held: usize,
    /// Integral of the requests held over time.
    pub(crate) held_time: Duration,
    /// Requests that ever got a place.
    pub(crate) requests: u64,
}
