//! How a slice is written, and whether one that is there says the same. No I/O.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    net::IpAddr,
};

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use sha2::{Digest as _, Sha256};
use stillwake_cluster::{
    published::INSTALLATION,
    services::{Family, MANAGED_BY, MANAGER, SERVICE_NAME},
};

use crate::board::Desired;

/// Label with the UID of the replica's pod.
pub const REPLICA: &str = "stillwake.dev/activator";

/// Annotation with the name of the replica's pod.
pub const REPLICA_POD: &str = "stillwake.dev/activator-pod";

/// Most bytes of an object's name.
const LONGEST_NAME: usize = 253;

/// Bytes of the hash that makes a name unlike the others of its Service; each is two characters.
const HASH: usize = 6;

/// This replica of the activator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Its namespace, which names the installation.
    pub namespace: String,
    /// Its pod's name.
    pub pod: String,
    /// Its pod's UID.
    pub uid: String,
    /// Its pod's addresses, one of each family it has.
    pub addresses: Vec<IpAddr>,
    /// Its node's name, without which a Service with the traffic policy `Local` cannot lead to it.
    pub node: Option<String>,
    /// Its node's zone.
    pub zone: Option<String>,
    /// What owns its slices; nothing is published before it is known.
    pub owner: Option<Owner>,
}

/// The `ClusterRole` of the installation's activators. It goes with the installation, when the replicas may write nothing any
/// more; garbage collection then ends the slices, which would lead clients of workloads at zero to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Names a slice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SliceName {
    /// Its namespace, which is its Service's.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl SliceName {
    /// Returns the name of a slice.
    pub(crate) fn of(slice: &EndpointSlice) -> Self {
        Self {
            namespace: slice.metadata.namespace.clone().unwrap_or_default(),
            name: slice.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for SliceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Returns the slice that publishes this, or nothing if the replica has no address of that family or no owner yet.
pub(crate) fn render(replica: &Replica, desired: &Desired, ready: bool) -> Option<EndpointSlice> {
    let mut addresses = replica.addresses.iter();
    let address = addresses.find(|address| Family::of(**address) == desired.family)?;
    let owner = replica.owner.as_ref()?;
    let (port, listening) = (&desired.port, &desired.listening);
    let name = name(replica, desired);
    let labels = [
        (SERVICE_NAME, &port.service),
        (MANAGED_BY, &MANAGER.to_owned()),
        (INSTALLATION, &replica.namespace),
        (REPLICA, &replica.uid),
    ];
    let owned = |(key, value): (&str, &String)| (key.to_owned(), value.clone());
    Some(EndpointSlice {
        metadata: ObjectMeta {
            namespace: Some(name.namespace),
            name: Some(name.name),
            labels: Some(labels.map(owned).into()),
            annotations: Some([owned((REPLICA_POD, &replica.pod))].into()),
            // Not the Service: of two owners, garbage collection waits for both. Without `blockOwnerDeletion`, which some
            // clusters allow only to who may write the owner's finalizers.
            owner_references: Some(vec![OwnerReference {
                api_version: "rbac.authorization.k8s.io/v1".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
                controller: None,
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        address_type: desired.family.name().to_owned(),
        // No targetRef: the pod is in another namespace than the Service, where some data planes look for it.
        endpoints: vec![Endpoint {
            addresses: vec![address.to_string()],
            // Not serving either while it is not ready: that is what some gateways go by.
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                serving: Some(ready),
                terminating: Some(false),
            }),
            node_name: replica.node.clone(),
            zone: replica.zone.clone(),
            ..Endpoint::default()
        }],
        ports: Some(vec![EndpointPort {
            name: Some(port.port.clone()),
            port: Some(listening.port.into()),
            protocol: Some("TCP".to_owned()),
            app_protocol: listening.app_protocol.clone(),
        }]),
    })
}

/// Returns a name that begins with the Service's, by which alone ingress-nginx takes the slices of a Service.
pub(crate) fn name(replica: &Replica, desired: &Desired) -> SliceName {
    let mut hash = Sha256::new();
    for part in [&replica.uid, desired.family.name(), &desired.port.port] {
        hash.update(part);
        hash.update([0]);
    }
    let longest = LONGEST_NAME - 1 - 2 * HASH;
    let service = &desired.port.service;
    let mut name = service[..service.floor_char_boundary(longest)].to_owned();
    name.push('-');
    for byte in &hash.finalize()[..HASH] {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    SliceName {
        namespace: desired.port.namespace.clone(),
        name,
    }
}

/// Returns whether a slice that is there says all that this one should.
pub(crate) fn says(published: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let has = |has: &Option<BTreeMap<String, String>>, wants: &Option<BTreeMap<String, String>>| {
        let mut wants = wants.iter().flatten();
        wants.all(|(key, value)| has.as_ref().and_then(|has| has.get(key)) == Some(value))
    };
    let (is, should) = (&published.metadata, &wanted.metadata);
    // What others have added is theirs.
    let owners = is.owner_references.as_deref().unwrap_or_default();
    let mut own = should.owner_references.iter().flatten();
    published.address_type == wanted.address_type
        && published.endpoints == wanted.endpoints
        && published.ports == wanted.ports
        && has(&is.labels, &should.labels)
        && has(&is.annotations, &should.annotations)
        && own.all(|owner| owners.contains(owner))
}

/// Returns whether it draws connections.
pub(crate) fn is_ready(slice: &EndpointSlice) -> bool {
    let mut conditions = slice.endpoints.iter();
    conditions.any(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) == Some(true)
    })
}

/// Returns the UID and the name of the pod that published it, each empty if the slice does not say.
pub(crate) fn publisher(slice: &EndpointSlice) -> (&str, &str) {
    fn value<'a>(map: Option<&'a BTreeMap<String, String>>, key: &str) -> &'a str {
        map.and_then(|map| map.get(key)).map_or("", String::as_str)
    }
    (
        value(slice.metadata.labels.as_ref(), REPLICA),
        value(slice.metadata.annotations.as_ref(), REPLICA_POD),
    )
}

#[cfg(test)]
mod tests;
