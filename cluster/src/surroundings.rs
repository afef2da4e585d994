//! What is around a pod, for the webhook: its Namespace, and the Services, network policies, `LimitRange`s and
//! `ResourceQuota`s in it, from memory.
//!
//! An admission waits for the answer, so that none is ever asked of the API server: a lookup is one read lock and a few
//! reference counts. Objects are kept without status and with the little of their metadata that says which they are.
//!
//! A namespace is known once every watch has listed and its Namespace object was seen. Before, its Services might be
//! there and not seen yet, and a port would be taken for one that nobody targets.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{LimitRange, Namespace, ResourceQuota, Service},
    networking::v1::NetworkPolicy,
};
use kube::{Client, core::DeserializeGuard, runtime::watcher};
use parking_lot::RwLock;
use tokio::sync::watch;

use self::objects::NamespaceFacts;
use crate::{
    Metrics,
    object::ObjectName,
    scope::Scope,
    watch::{Told, Watches},
};

mod objects;

/// A namespace and what in it bears on its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Around {
    /// Labels of the namespace.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the namespace.
    pub annotations: BTreeMap<String, String>,
    /// All its Services, by name: their names and specs.
    pub services: Vec<Arc<Service>>,
    /// All its network policies, by name: their names and specs.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// All its `LimitRange`s, by name: their names and specs.
    pub limit_ranges: Vec<Arc<LimitRange>>,
    /// All its `ResourceQuota`s, by name: their names and specs.
    pub resource_quotas: Vec<Arc<ResourceQuota>>,
}

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// This.
    Known(Around),
    /// Nothing yet: there is no such namespace, or the watches have not come to it.
    NotYet,
    /// Nothing, and it will stay so: it is not one of those that are looked at.
    OutOfScope,
}

/// What is known of all namespaces. Clones share it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    scope: Scope,
    synced: watch::Sender<bool>,
    namespaces: RwLock<HashMap<String, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    namespace: Option<NamespaceFacts>,
    services: BTreeMap<String, Arc<Service>>,
    network_policies: BTreeMap<String, Arc<NetworkPolicy>>,
    limit_ranges: BTreeMap<String, Arc<LimitRange>>,
    resource_quotas: BTreeMap<String, Arc<ResourceQuota>>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.namespace.is_none()
            && self.services.is_empty()
            && self.network_policies.is_empty()
            && self.limit_ranges.is_empty()
            && self.resource_quotas.is_empty()
    }
}

/// A fact about one object; `None` in place of what is known of it when it is gone.
#[derive(Debug)]
enum Observation {
    Namespace(ObjectName, Option<NamespaceFacts>),
    Service(ObjectName, Option<Arc<Service>>),
    NetworkPolicy(ObjectName, Option<Arc<NetworkPolicy>>),
    LimitRange(ObjectName, Option<Arc<LimitRange>>),
    ResourceQuota(ObjectName, Option<Arc<ResourceQuota>>),
}

impl Surroundings {
    /// Creates surroundings of which nothing is known until [`follow`](Self::follow) runs.
    pub fn new(scope: Scope) -> Self {
        let shared = Shared {
            scope,
            synced: watch::Sender::new(false),
            namespaces: RwLock::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Watches for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watches; what was known stays as it was.
    pub async fn follow(&self, client: Client, metrics: Metrics) -> Infallible {
        let all = watcher::Config::default();
        let mut watches = Watches::new(client, self.shared.scope.clone(), metrics)
            .namespaces::<DeserializeGuard<Namespace>>(Observation::Namespace)
            .namespaced::<DeserializeGuard<Service>>(&all, Observation::Service)
            .namespaced::<DeserializeGuard<NetworkPolicy>>(&all, Observation::NetworkPolicy)
            .namespaced::<DeserializeGuard<LimitRange>>(&all, Observation::LimitRange)
            .namespaced::<DeserializeGuard<ResourceQuota>>(&all, Observation::ResourceQuota);
        loop {
            match watches.next().await {
                Told::Observed(observation) => self.observe(observation),
                Told::Synced => drop(self.shared.synced.send_replace(true)),
            }
        }
    }

    /// Returns what is known of a namespace. Never waits for the network.
    pub fn namespace(&self, name: &str) -> Answer {
        if !self.shared.scope.contains(name) {
            return Answer::OutOfScope;
        }
        if !self.is_synced() {
            return Answer::NotYet;
        }
        let namespaces = self.shared.namespaces.read();
        let Some(entry) = namespaces.get(name) else {
            return Answer::NotYet;
        };
        let Some(NamespaceFacts {
            labels,
            annotations,
        }) = entry.namespace.clone()
        else {
            return Answer::NotYet;
        };
        Answer::Known(Around {
            labels,
            annotations,
            services: entry.services.values().cloned().collect(),
            network_policies: entry.network_policies.values().cloned().collect(),
            limit_ranges: entry.limit_ranges.values().cloned().collect(),
            resource_quotas: entry.resource_quotas.values().cloned().collect(),
        })
    }

    /// Whether every watch has listed.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits until every watch has listed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again at any time.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives as long as `self`.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    fn observe(&self, observation: Observation) {
        match observation {
            Observation::Namespace(name, facts) => {
                self.within(&name.name, |entry| entry.namespace = facts);
            }
            Observation::Service(name, service) => {
                self.within(&name.namespace, |entry| {
                    put(&mut entry.services, name.name, service);
                });
            }
            Observation::NetworkPolicy(name, policy) => {
                self.within(&name.namespace, |entry| {
                    put(&mut entry.network_policies, name.name, policy);
                });
            }
            Observation::LimitRange(name, range) => {
                self.within(&name.namespace, |entry| {
                    put(&mut entry.limit_ranges, name.name, range);
                });
            }
            Observation::ResourceQuota(name, quota) => {
                self.within(&name.namespace, |entry| {
                    put(&mut entry.resource_quotas, name.name, quota);
                });
            }
        }
    }

    fn within(&self, namespace: &str, change: impl FnOnce(&mut Entry)) {
        let mut namespaces = self.shared.namespaces.write();
        let entry = namespaces.entry(namespace.to_owned()).or_default();
        change(entry);
        if entry.is_empty() {
            namespaces.remove(namespace);
        }
    }
}

fn put<T>(objects: &mut BTreeMap<String, T>, name: String, object: Option<T>) {
    match object {
        Some(object) => drop(objects.insert(name, object)),
        None => drop(objects.remove(&name)),
    }
}

#[cfg(test)]
mod tests;
