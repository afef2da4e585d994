//! The synchronous heart: fed with facts in any order, it says what that changes.
//!
//! No sockets and no time. Services, targets and `ScaledObject`s only meet within a namespace, so each is a world of its
//! own (`index/namespace.rs`). Says nothing until told that everything was observed once.

mod namespace;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service as ServiceObject;

use self::namespace::Namespace;
use super::{
    Change,
    objects::{PodFacts, SliceFacts, TargetFacts},
};
use crate::{
    membership::{ScalerService, link::Link, scaled_object::ScaledObjectFacts},
    object::ObjectName,
};

/// A fact about one object; `None` in place of what is known of it when it is gone.
#[derive(Clone, Debug)]
pub(super) enum Observation {
    ScaledObject(ObjectName, Option<ScaledObjectFacts>),
    /// With its kind, one of the group `apps`.
    Target(&'static str, ObjectName, Option<TargetFacts>),
    Pod(ObjectName, Option<PodFacts>),
    Service(ObjectName, Option<Arc<ServiceObject>>),
    Slice(ObjectName, Option<SliceFacts>),
}

/// All that is known, and what of it has been told.
#[derive(Debug)]
pub(super) struct Index {
    service: ScalerService,
    synced: bool,
    namespaces: HashMap<String, Namespace>,
    /// Namespaces in which something may have changed.
    touched: BTreeSet<String>,
    changes: Vec<Change>,
}

impl Index {
    /// Creates an index that knows nothing. `service` tells which `ScaledObject`s are ours.
    pub(super) fn new(service: ScalerService) -> Self {
        Self {
            service,
            synced: false,
            namespaces: HashMap::new(),
            touched: BTreeSet::new(),
            changes: Vec::new(),
        }
    }

    /// Takes in a fact. Repeating one changes nothing.
    pub(super) fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::ScaledObject(ObjectName { namespace, name }, facts) => {
                let ours = facts.filter(|facts| facts.asks(&self.service, &namespace));
                let ours = ours.map(|facts| {
                    let named = facts.named(&self.service, &namespace);
                    (facts, named)
                });
                self.within(namespace).scaled_object(name, ours);
            }
            Observation::Target(kind, ObjectName { namespace, name }, facts) => {
                let link = Link::new("apps/v1", kind, &name);
                self.within(namespace).target(link, facts);
            }
            Observation::Pod(ObjectName { namespace, name }, facts) => {
                self.within(namespace).pod(name, facts);
            }
            Observation::Service(ObjectName { namespace, name }, object) => {
                self.within(namespace).service(name, object);
            }
            Observation::Slice(ObjectName { namespace, name }, facts) => {
                self.within(namespace).slice(name, facts);
            }
        }
    }

    /// Notes that everything has been observed once.
    pub(super) fn synced(&mut self) {
        self.work_out();
        self.synced = true;
        self.changes.push(Change::Synced);
    }

    /// Takes what has changed since the last call, in the order in which it must be told.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        if self.synced {
            self.work_out();
        }
        std::mem::take(&mut self.changes)
    }

    fn work_out(&mut self) {
        for name in std::mem::take(&mut self.touched) {
            if let Some(world) = self.namespaces.get_mut(&name) {
                world.work_out(&mut self.changes);
                if world.is_empty() {
                    self.namespaces.remove(&name);
                }
            }
        }
    }

    fn within(&mut self, name: String) -> &mut Namespace {
        self.touched.insert(name.clone());
        self.namespaces
            .entry(name)
            .or_insert_with_key(|name| Namespace::new(name))
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
