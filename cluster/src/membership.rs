//! Who exists, for the aggregator: `ScaledObject`s that ask our scaler, and the pods of what they scale.
//!
//! # Whose a pod is
//!
//! A pod is controlled by an object, which may be controlled by another: pod → `ReplicaSet` → Deployment. The pod belongs
//! to the first object of this chain that is the scale target of a `ScaledObject` of ours. `ReplicaSet`s, Deployments and
//! `StatefulSet`s are watched (their metadata only) to climb from one to the next. A kind that is not watched can still be
//! a target where the chain ends at it: the owner of pods or of `ReplicaSet`s, as an Argo Rollout is.
//!
//! A pod whose chain is not known yet is told when it is. When an owner is deleted, its chain is remembered for as long
//! as pods below it exist: pods that finish their last requests after a rollout still belong to what they belonged to.
//!
//! Pods that have ended (phase Succeeded or Failed) serve nothing and are not told. Those that are terminating are.
//!
//! # Order
//!
//! Pods of a workload are told before the `ScaledObject` that makes it one, and taken away after it: nobody finds a
//! workload without the pods it has.

use std::{convert::Infallible, time::Duration};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use kube::{
    Client,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher,
};
use stillwake_proto::report::Workload;

mod index;
pub(crate) mod link;
pub mod names;
mod pod;
pub(crate) mod scaled_object;
mod scaler_service;

pub use self::scaler_service::ScalerService;
use self::{
    index::{Index, Observation},
    pod::PodObject,
    scaled_object::ScaledObjectObject,
};
use crate::{
    Metrics,
    scope::Scope,
    watch::{Told, Watches},
};

/// A change of what exists. Each says the whole of its subject, and comes only if something is different.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A `ScaledObject` that asks our scaler was created or changed.
    ScaledObject(ScaledObject),
    /// A `ScaledObject` is gone, or does not ask our scaler any more.
    ScaledObjectGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A pod of a workload that such a `ScaledObject` scales was created or changed.
    Pod(Pod),
    /// A pod is gone, has ended, or belongs to no such workload any more.
    PodGone {
        /// Its UID.
        uid: String,
    },
    /// Everything that existed at the start has been told. Comes once.
    Synced,
}

/// A `ScaledObject` with a trigger of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaledObject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID. One that is made again under the same name is another.
    pub uid: String,
    /// What it scales.
    pub workload: Workload,
    /// How often KEDA asks whether it is active; at least 1 s.
    pub polling_interval: Duration,
    /// Most replicas that it gives the workload.
    pub max_replicas: u32,
    /// Whether its annotations keep KEDA from scaling.
    pub paused: Paused,
}

/// What KEDA has been told not to do, by annotations `autoscaling.keda.sh/paused*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paused {
    /// Nothing is scaled (`paused`, or `paused-replicas`).
    pub entirely: bool,
    /// The number of replicas it was paused at (`paused-replicas`).
    pub replicas: Option<u32>,
    /// Replicas are not taken away.
    pub scale_in: bool,
    /// Replicas are not added, the first one included.
    pub scale_out: bool,
}

/// A pod of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// What it belongs to.
    pub workload: Workload,
    /// Whether its Ready condition is true and it is not terminating, so that Services send it traffic.
    pub ready: bool,
    /// Whether it is being deleted. It may still serve.
    pub terminating: bool,
    /// Whether it has our sidecar, and what is known of why not.
    pub injection: Injection,
}

/// What a pod object says about its injection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injection {
    /// Whether it has the sidecar.
    pub sidecar: bool,
    /// Its own label `stillwake.dev/inject`.
    pub label: Option<String>,
    /// Its annotation `stillwake.dev/counted-ports`.
    pub counted_ports: Option<String>,
    /// Its annotation `stillwake.dev/uncounted-ports`: ports that nobody counts, with the reasons.
    pub uncounted_ports: Option<String>,
}

/// Watches for ever, and calls `tell` with every change, in order.
///
/// `tell` is called between two awaits and should not block.
///
/// # Cancel safety
///
/// Dropping the future ends the watches. Whoever starts again begins with nothing told.
pub async fn follow(
    client: Client,
    scope: Scope,
    service: ScalerService,
    metrics: Metrics,
    mut tell: impl FnMut(Change),
) -> Infallible {
    let everything = watcher::Config::default();
    // The API server keeps away those that have ended, and says that one is gone when it ends.
    let living = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let mut watches = Watches::new(client, scope, metrics)
        .namespaced::<DeserializeGuard<ScaledObjectObject>>(&everything, Observation::ScaledObject)
        .namespaced::<PodObject>(&living, Observation::Pod)
        .namespaced::<PartialObjectMeta<ReplicaSet>>(&everything, |name, facts| {
            Observation::Owner("ReplicaSet", name, facts)
        })
        .namespaced::<PartialObjectMeta<Deployment>>(&everything, |name, facts| {
            Observation::Owner("Deployment", name, facts)
        })
        .namespaced::<PartialObjectMeta<StatefulSet>>(&everything, |name, facts| {
            Observation::Owner("StatefulSet", name, facts)
        });
    let mut index = Index::new(service);
    loop {
        match watches.next().await {
            Told::Observed(observation) => index.observe(observation),
            Told::Synced => index.synced(),
        }
        index.changes().into_iter().for_each(&mut tell);
    }
}

#[cfg(test)]
mod tests;
