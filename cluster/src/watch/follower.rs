//! One watch: turns its events into facts, and its failures into words.

use std::collections::HashSet;

use kube::{
    Error,
    runtime::watcher::{self, Event},
};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use super::{Observe, Said, Watched, outage::Outage};
use crate::{object::ObjectName, scope::Place};

/// What one watch has told so far.
pub(super) struct Follower<K: Watched, O> {
    place: String,
    observe: Observe<K, O>,
    /// Every object that exists for all we know, read or not.
    known: HashSet<ObjectName>,
    /// What the list that is under way has shown.
    listing: HashSet<ObjectName>,
    /// Those of `known` that could not be read when they last changed.
    unreadable: HashSet<ObjectName>,
    has_listed: bool,
    outage: Outage,
    failures: Counter,
}

impl<K: Watched, O> Follower<K, O> {
    pub(super) fn new(place: &Place, observe: Observe<K, O>, failures: Counter) -> Self {
        Self {
            place: place.to_string(),
            observe,
            known: HashSet::new(),
            listing: HashSet::new(),
            unreadable: HashSet::new(),
            has_listed: false,
            outage: Outage::default(),
            failures,
        }
    }

    /// Takes in what the watch says.
    pub(super) fn take(&mut self, event: watcher::Result<Event<K>>) -> Vec<Said<O>> {
        match event {
            // Comes before the list is asked for, and so says nothing about whether it works.
            Ok(Event::Init) => {
                self.listing.clear();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                self.listing.insert(ObjectName::of(object.meta()));
                self.applied(object).into_iter().collect()
            }
            Ok(Event::InitDone) => self.listed(),
            Ok(Event::Apply(object)) => {
                self.works();
                self.applied(object).into_iter().collect()
            }
            Ok(Event::Delete(object)) => {
                self.works();
                vec![self.gone(ObjectName::of(object.meta()))]
            }
            Err(error) => self.failed(&error),
        }
    }

    /// One that cannot be read stays as it was last told: what it says now is not known.
    fn applied(&mut self, object: K) -> Option<Said<O>> {
        let name = ObjectName::of(object.meta());
        self.known.insert(name.clone());
        match object.keep() {
            Ok(kept) => {
                self.unreadable.remove(&name);
                Some(Said::Observed((self.observe)(name, Some(kept))))
            }
            Err(error) => {
                if self.unreadable.insert(name.clone()) {
                    let kind = K::kind(&());
                    tracing::warn!(%kind, object = %name, %error, "An object cannot be read and is left out");
                }
                None
            }
        }
    }

    fn gone(&mut self, name: ObjectName) -> Said<O> {
        self.known.remove(&name);
        self.unreadable.remove(&name);
        Said::Observed((self.observe)(name, None))
    }

    fn listed(&mut self) -> Vec<Said<O>> {
        self.works();
        let listed = std::mem::take(&mut self.listing);
        let vanished: Vec<_> = self.known.difference(&listed).cloned().collect();
        let mut said: Vec<_> = vanished.into_iter().map(|name| self.gone(name)).collect();
        said.extend(self.first_list());
        said
    }

    fn first_list(&mut self) -> Option<Said<O>> {
        let first = !std::mem::replace(&mut self.has_listed, true);
        first.then_some(Said::Listed)
    }

    fn works(&mut self) {
        if self.outage.works() {
            let (kind, place) = (K::kind(&()), &self.place);
            tracing::info!(%kind, place, "The watch works again");
        }
    }

    fn failed(&mut self, error: &watcher::Error) -> Vec<Said<O>> {
        self.failures.inc();
        let (kind, place) = (K::kind(&()), &self.place);
        let (watcher::Error::InitialListFailed(refusal)
        | watcher::Error::WatchStartFailed(refusal)) = error
        else {
            // Connections end and versions grow old; it is trouble if taking it up again fails.
            tracing::debug!(%kind, place, %error, "A watch broke off and is taken up again");
            return Vec::new();
        };
        let (code, error) = match refusal {
            Error::Api(status) => (status.code, status.message.clone()),
            other => (0, other.to_string()),
        };
        let begins = self.outage.failed(Instant::now());
        match (code, K::COMES_WITH) {
            (404, Some(missing)) => {
                if begins {
                    tracing::warn!(
                        %kind,
                        "The cluster does not know this kind; it is looked for again until {missing} is installed"
                    );
                }
                // There are none, which is knowledge. What was told once stays, in case this is a moment of confusion.
                return self.first_list().into_iter().collect();
            }
            (403, _) if begins => {
                let (plural, group) = (K::plural(&()), K::group(&()));
                tracing::warn!(
                    %kind, place, %error,
                    "A watch is forbidden; the service account needs the verbs list and watch on {plural} of the API \
                     group \"{group}\" {place}"
                );
            }
            _ if begins => {
                tracing::warn!(%kind, place, %error, "A watch fails and is tried again; what was known stays");
            }
            _ => tracing::debug!(%kind, place, %error, "A watch still fails"),
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
