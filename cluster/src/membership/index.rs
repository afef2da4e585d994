//! The synchronous heart of membership: fed with facts in any order, it says what that changes.
//!
//! No sockets and no time. Owners never cross namespaces, so each namespace is a world of its own
//! (`index/namespace.rs`).

mod namespace;

use std::collections::HashMap;

use self::namespace::Namespace;
use super::{
    Change, ScalerService,
    link::{Link, OwnerFacts},
    pod::PodFacts,
    scaled_object::ScaledObjectFacts,
};
use crate::object::ObjectName;

/// A fact about one object; `None` in place of what is known of it when it is gone.
#[derive(Clone, Debug)]
pub(super) enum Observation {
    ScaledObject(ObjectName, Option<ScaledObjectFacts>),
    Pod(ObjectName, Option<PodFacts>),
    /// With its kind, one of the group `apps`.
    Owner(&'static str, ObjectName, Option<OwnerFacts>),
}

/// All that is known, and what of it has been told.
#[derive(Debug)]
pub(super) struct Index {
    service: ScalerService,
    namespaces: HashMap<String, Namespace>,
    changes: Vec<Change>,
}

impl Index {
    /// Creates an index that knows nothing. `service` tells which `ScaledObject`s are ours.
    pub(super) fn new(service: ScalerService) -> Self {
        Self {
            service,
            namespaces: HashMap::new(),
            changes: Vec::new(),
        }
    }

    /// Takes in a fact. Repeating one changes nothing.
    pub(super) fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::ScaledObject(ObjectName { namespace, name }, facts) => {
                let ours = facts.filter(|facts| facts.asks(&self.service, &namespace));
                self.within(namespace, |world, changes| {
                    world.scaled_object(name, ours, changes);
                });
            }
            Observation::Pod(ObjectName { namespace, name }, facts) => {
                self.within(namespace, |world, changes| world.pod(&name, facts, changes));
            }
            Observation::Owner(kind, ObjectName { namespace, name }, facts) => {
                let link = Link::new("apps/v1", kind, &name);
                self.within(namespace, |world, changes| match facts {
                    Some(facts) => world.owner(link, facts.controller, changes),
                    None => world.owner_gone(&link),
                });
            }
        }
    }

    /// Notes that everything has been observed once.
    pub(super) fn synced(&mut self) {
        self.changes.push(Change::Synced);
    }

    /// Takes what has changed since the last call, in the order in which it must be told.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn within(&mut self, name: String, change: impl FnOnce(&mut Namespace, &mut Vec<Change>)) {
        let world = self
            .namespaces
            .entry(name)
            .or_insert_with_key(|name| Namespace::new(name));
        change(world, &mut self.changes);
        if world.is_empty() {
            let name = world.name().to_owned();
            self.namespaces.remove(&name);
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
