//! Who waits on which route, in the order of their arrival. Decides nothing.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::route::Route;

/// A place in the queue. Earlier arrivals have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(super) u64);

/// What a held request brings with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
    pub(super) bytes: usize,
    pub(super) cold: bool,
    /// A dial failed after the deadline; there is no further one.
    pub(super) spent: bool,
}

/// Those who wait on one route. Never empty.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<Ticket, Place>,
    /// Releases that must not heed pacing, because an admission past the bounds relies on them.
    pub(super) hurried: usize,
}

impl Line {
    /// Returns who came first.
    pub(super) fn first(&self) -> Option<(Ticket, Place)> {
        let (&ticket, &place) = self.waiting.first_key_value()?;
        Some((ticket, place))
    }
}

/// One line for each route on which somebody waits.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<Arc<Route>, Line>);

impl Lines {
    /// Puts a request in its route's line, and returns the line.
    pub(super) fn put(&mut self, route: Arc<Route>, ticket: Ticket, place: Place) -> &mut Line {
        let line = self.0.entry(route).or_default();
        line.waiting.insert(ticket, place);
        line
    }

    /// Takes a request out of its line, and the line away if it was the last in it.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<(Arc<Route>, Place)> {
        let mut lines = self.0.iter_mut();
        let (route, line, place) = lines.find_map(|(route, line)| {
            let place = line.waiting.remove(&ticket)?;
            Some((route, line, place))
        })?;
        let route = Arc::clone(route);
        line.hurried = line.hurried.min(line.waiting.len());
        if line.waiting.is_empty() {
            self.0.remove(&route);
        }
        Some((route, place))
    }

    /// Returns the line of a route.
    pub(super) fn line_mut(&mut self, route: &Route) -> Option<&mut Line> {
        self.0.get_mut(route)
    }

    /// Returns the place of a waiting request.
    pub(super) fn place_mut(&mut self, ticket: Ticket) -> Option<&mut Place> {
        let mut lines = self.0.values_mut();
        lines.find_map(|line| line.waiting.get_mut(&ticket))
    }

    /// Returns all lines with their routes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Route>, &Line)> {
        self.0.iter()
    }

    /// Returns how many wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.values().map(|line| line.waiting.len()).sum()
    }

    /// Returns true if nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
