//! Who exists: `ScaledObject`s and pods, as somebody else watches them.
//!
//! Not what pods count; that comes from the pods themselves.

use std::time::Duration;

use stillwake_proto::report::Workload;

/// A change of what exists. Each event says the whole of its subject, so repeating one changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum MembershipEvent {
    /// A `ScaledObject` with our trigger was created or changed.
    ScaledObject(ScaledObject),
    /// A `ScaledObject` is gone or has our trigger no more.
    ScaledObjectGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A pod of a workload was created or changed.
    Pod(Pod),
    /// A pod object is gone.
    PodGone {
        /// Its UID.
        uid: String,
    },
    /// Everything that existed at the start has been told.
    Synced,
}

/// A `ScaledObject` and what it scales.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaledObject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its scale target.
    pub workload: Workload,
    /// How often KEDA asks whether it is active (`pollingInterval`, KEDA's default is 30 s).
    pub polling_interval: Duration,
    /// Most replicas it may have (`maxReplicaCount`, KEDA's default is 100).
    pub max_replicas: u32,
    /// Whether KEDA is told to add none (annotations `paused`, `paused-replicas`, `paused-scale-out`).
    pub paused: bool,
}

/// A pod and the workload it counts for.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its UID, as its sidecar says in the hello.
    pub uid: String,
    /// Its name, for people.
    pub name: String,
    /// What it belongs to.
    pub workload: Workload,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Whether it is being deleted, so that the HPA does not count it.
    pub terminating: bool,
    /// Whether it has our sidecar. A ready pod without one is load that nobody counts: its workload stays active.
    pub reports: bool,
}
