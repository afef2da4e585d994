//! The requests of a connection that wait for their responses, oldest first.
//!
//! One is the rule and needs no allocation; more are pipelined.

use std::collections::VecDeque;

use super::head::Method;
use crate::in_flight::InFlightGuard;

/// A request whose response has not ended.
#[derive(Debug)]
pub(super) struct Request {
    /// Known once the head is whole.
    pub(super) method: Method,
    /// Whether the head is whole.
    pub(super) is_whole: bool,
    /// `None` if the request is ignored.
    pub(super) guard: Option<InFlightGuard>,
}

impl Request {
    /// Returns a request of whose head only the start is known.
    pub(super) fn begun(guard: InFlightGuard) -> Self {
        Self {
            method: Method::default(),
            is_whole: false,
            guard: Some(guard),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Outstanding {
    front: Option<Request>,
    /// Those behind the front; empty if there is none.
    pipelined: VecDeque<Request>,
}

impl Outstanding {
    pub(super) fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.pipelined.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    pub(super) fn front(&self) -> Option<&Request> {
        self.front.as_ref()
    }

    /// Returns the newest request if its head is not whole.
    pub(super) fn back_begun(&mut self) -> Option<&mut Request> {
        let back = self.pipelined.back_mut().or(self.front.as_mut());
        back.filter(|request| !request.is_whole)
    }

    pub(super) fn push(&mut self, request: Request) {
        if self.front.is_none() {
            self.front = Some(request);
        } else {
            self.pipelined.push_back(request);
        }
    }

    /// Ends the oldest request.
    pub(super) fn pop_front(&mut self) {
        self.front = self.pipelined.pop_front();
    }

    /// Ends all but the oldest request.
    pub(super) fn keep_front(&mut self) {
        self.pipelined = VecDeque::new();
    }

    pub(super) fn clear(&mut self) {
        self.front = None;
        self.pipelined = VecDeque::new();
    }

    /// Whether there are requests and none of them is counted.
    pub(super) fn is_ignored(&self) -> bool {
        let mut requests = self.front.iter().chain(&self.pipelined);
        !self.is_empty() && requests.all(|request| request.guard.is_none())
    }

    /// Takes all requests out of the count.
    pub(super) fn forget(self) {
        let requests = self.front.into_iter().chain(self.pipelined);
        for guard in requests.filter_map(|request| request.guard) {
            guard.ignore();
        }
    }

    /// Returns the guard of the oldest request that is counted, and ends all others.
    pub(super) fn take_guard(&mut self) -> Option<InFlightGuard> {
        let mut requests = self.front.iter_mut().chain(&mut self.pipelined);
        let guard = requests.find_map(|request| request.guard.take());
        self.clear();
        guard
    }
}
