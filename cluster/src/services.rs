//! Which Services lead to what a `ScaledObject` of ours scales, for the activator: what to listen for, and who serves it.
//!
//! # Which Services
//!
//! A trigger may name them (`service: web,admin` in its metadata); then these and no others. Otherwise they are those
//! whose selector matches the pods of the scale target: by the labels of the pod template of a Deployment, `StatefulSet`
//! or `ReplicaSet`. Of other kinds the template is not known; there it is what a `ReplicaSet` that the target controls
//! says (as with an Argo Rollout), or else the labels of a pod that it controls. These are remembered when the last one
//! is gone, because that is when they are needed; a process that starts while there is none cannot know them.
//!
//! A Service that leads to several workloads is refused, since nobody could say which of them a request is for; unless
//! a trigger names it, which is to say so.
//!
//! # Who serves
//!
//! A backend is an endpoint in an `EndpointSlice` that is not ours, serving and not terminating; `ready` does not count,
//! because `publishNotReadyAddresses` makes it true for pods that are not. Told for each port of a Service.
//!
//! # Not known
//!
//! Nothing is told before everything has been listed once. A Service whose slices have not been seen yet would seem to
//! have no backend, and be taken for one at zero.

use std::{convert::Infallible, fmt, net::SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service as ServiceObject};
use kube::{
    Client,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher,
};
use stillwake_proto::report::Workload;

mod index;
mod objects;
mod service;

use self::{
    index::{Index, Observation},
    objects::{DeploymentObject, ReplicaSetObject, SliceObject, StatefulSetObject},
};
pub use crate::membership::Paused;
use crate::{
    Metrics,
    membership::{ScalerService, scaled_object::ScaledObjectObject},
    scope::Scope,
    watch::{Told, Watches},
};

/// Label that says which Service an `EndpointSlice` is of.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Label that says who keeps an `EndpointSlice`.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Its value on ours.
pub const MANAGER: &str = "stillwake.dev";

/// A change of what exists. Each says the whole of its subject, and comes only if something is different.
///
/// A Service comes after the `ScaledObject` that makes it one of ours and goes before it; its backends come after it.
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
    /// A Service that leads to what such a `ScaledObject` scales was created or changed.
    Service(Service),
    /// A Service is gone, or does not lead there any more. Its backends are forgotten with it.
    ServiceGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The backends of one port of a Service that is not refused. Comes once for every port, also if there are none.
    Backends(Backends),
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
    /// Its UID.
    pub uid: String,
    /// What it scales.
    pub workload: Workload,
    /// Whether its annotations keep KEDA from scaling.
    pub paused: Paused,
    /// The Services that lead to its target, in the order of their names; refused ones as well.
    pub services: Vec<String>,
    /// Why none does, or not all that should.
    pub trouble: Option<Trouble>,
}

/// Why a `ScaledObject` has not the Services it should have. Ends a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The target is of a kind that has pods and cannot be scaled.
    #[error("its scale target {kind} {name} has no number of replicas, so KEDA cannot scale it")]
    NoReplicas {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The target is of a kind that is watched, and not there.
    #[error("its scale target {kind} {name} does not exist")]
    NoTarget {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The target is of another kind, and has no pods now.
    #[error(
        "nothing tells the labels of the pods of {kind} {name} while it has none; name its Services in the trigger's \
         metadata, as in `service: {name}`"
    )]
    UnknownPods {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// No selector matches.
    #[error("no Service selects the pods of its scale target")]
    NoService,
    /// The trigger names some that are not there.
    #[error("its trigger names Services that do not exist: {}", .0.join(", "))]
    MissingServices(
        /// Their names.
        Vec<String>,
    ),
}

/// A Service that leads to a workload of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Where it leads.
    pub workload: Workload,
    /// The address families it has.
    pub families: Vec<Family>,
    /// Its TCP ports, in its order.
    pub ports: Vec<Port>,
    /// Clients in the cluster reach only endpoints on their own node.
    pub internal_local: bool,
    /// Clients from outside reach only endpoints on the node that they come to.
    pub external_local: bool,
    /// Why it cannot be served while there is no backend.
    pub refused: Option<Refusal>,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, empty if it has none.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// What is spoken there, if the Service says so.
    pub app_protocol: Option<String>,
    /// The port of the pods that it leads to, or nothing if that has a name which no pod template known resolves.
    pub app_port: Option<u16>,
}

/// Why the requests for a Service at zero cannot be taken. Ends a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is a name for something else.
    #[error("it is of type ExternalName, which has no endpoints")]
    ExternalName,
    /// It has no address.
    #[error("it is headless: its clients dial the pods' addresses and their own port")]
    Headless,
    /// Somebody else says what its endpoints are.
    #[error("it has no selector")]
    NoSelector,
    /// No port can be held.
    #[error("it has no TCP port")]
    NoTcpPort,
    /// It is not clear which to wake.
    #[error(
        "it leads to several workloads: {}; name it in the trigger's metadata of one ScaledObject, as in `service: …`",
        Listed(.0)
    )]
    SeveralWorkloads(
        /// All of them, in their order.
        Vec<Workload>,
    ),
}

struct Listed<'a>(&'a [Workload]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&names.join(", "))
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// As `EndpointSlice`s call it.
    IPv4,
    /// As `EndpointSlice`s call it.
    IPv6,
}

impl Family {
    /// Returns the family of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() {
            Self::IPv4
        } else {
            Self::IPv6
        }
    }

    /// Returns its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::IPv4, Self::IPv6]
            .into_iter()
            .find(|family| family.name() == name)
    }
}

/// Who serves one port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The port's name, empty if it has none.
    pub port: String,
    /// Those that serve and are not terminating, in the order of their UIDs.
    pub backends: Vec<Backend>,
}

impl Backends {
    /// Whether there is one of this family.
    pub fn serve(&self, family: Family) -> bool {
        let mut addresses = self.backends.iter().flat_map(|backend| &backend.addresses);
        addresses.any(|address| Family::of(address.ip()) == family)
    }
}

/// Who serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The UID of the pod; for what is no pod, words that name its address.
    pub uid: String,
    /// Its addresses with the port that the Service's port leads to, in their order. Not empty.
    pub addresses: Vec<SocketAddr>,
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
    let living = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let of_others = watcher::Config::default().labels(&format!("{MANAGED_BY}!={MANAGER}"));
    let mut watches = Watches::new(client, scope, metrics)
        .namespaced::<DeserializeGuard<ScaledObjectObject>>(&everything, Observation::ScaledObject)
        .namespaced::<DeploymentObject>(&everything, |name, facts| {
            Observation::Target("Deployment", name, facts)
        })
        .namespaced::<StatefulSetObject>(&everything, |name, facts| {
            Observation::Target("StatefulSet", name, facts)
        })
        .namespaced::<ReplicaSetObject>(&everything, |name, facts| {
            Observation::Target("ReplicaSet", name, facts)
        })
        .namespaced::<PartialObjectMeta<Pod>>(&living, |name, facts| {
            Observation::Pod(name, facts.flatten())
        })
        .namespaced::<DeserializeGuard<ServiceObject>>(&everything, Observation::Service)
        .namespaced::<SliceObject>(&of_others, |name, facts| {
            Observation::Slice(name, facts.flatten())
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
