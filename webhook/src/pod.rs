//! Reading pods the way Kubernetes does.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodSpec};

/// Whether an init container goes on running beside the app.
pub(crate) fn is_native_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Returns the containers that run beside each other, in the order in which Kubernetes looks for a named port.
pub(crate) fn running(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let sidecars = spec.init_containers.iter().flatten();
    spec.containers
        .iter()
        .chain(sidecars.filter(|container| is_native_sidecar(container)))
}

/// As [`running`], to change them.
pub(crate) fn running_mut(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    let sidecars = spec.init_containers.iter_mut().flatten();
    spec.containers
        .iter_mut()
        .chain(sidecars.filter(|container| is_native_sidecar(container)))
}

/// Returns all containers, those that only run before the app too.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
}

/// Whether a protocol, of a container, a Service or a policy, is TCP: what is not said is.
pub(crate) fn is_tcp(protocol: Option<&String>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

/// Returns the TCP ports that a container declares, with their numbers.
pub(crate) fn tcp_ports(container: &Container) -> impl Iterator<Item = (u16, &ContainerPort)> {
    let ports = container.ports.iter().flatten();
    ports
        .filter(|port| is_tcp(port.protocol.as_ref()))
        .filter_map(|port| Some((number(port.container_port)?, port)))
}

/// Returns the port that a Service reaches by `name`: the first container that has it wins.
pub(crate) fn port_named(spec: &PodSpec, name: &str) -> Option<u16> {
    let mut ports = running(spec).flat_map(tcp_ports);
    ports
        .find(|(_, port)| port.name.as_deref() == Some(name))
        .map(|(number, _)| number)
}

/// Whether a pod as a whole requests or limits a resource, besides what its containers do.
pub(crate) fn has_whole(spec: &PodSpec, resource: &str) -> bool {
    spec.resources.as_ref().is_some_and(|resources| {
        let said = [&resources.requests, &resources.limits];
        said.into_iter()
            .flatten()
            .any(|quantities| quantities.contains_key(resource))
    })
}

/// Returns a port number, `None` for what is none.
pub(crate) fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|number| *number != 0)
}

/// How long a pod gets to end if it does not say, in seconds.
const GRACE: i64 = 30;

/// Returns how long a pod gets to end, in seconds.
pub(crate) fn grace(spec: &PodSpec) -> i64 {
    spec.termination_grace_period_seconds
        .unwrap_or(GRACE)
        .max(0)
}

/// Whether somebody replaces the pod or wakes it up, so that it pays to do something for what comes late. No workload
/// that is scaled has other pods; one of a Job would only take longer to complete.
pub(crate) fn outlives(spec: &PodSpec) -> bool {
    let policy = spec.restart_policy.as_deref();
    policy.is_none_or(|policy| policy == "Always")
}

static NONE: BTreeMap<String, String> = BTreeMap::new();

/// Returns the labels.
pub(crate) fn labels(pod: &Pod) -> &BTreeMap<String, String> {
    pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

/// Returns the annotations.
pub(crate) fn annotations(pod: &Pod) -> &BTreeMap<String, String> {
    pod.metadata.annotations.as_ref().unwrap_or(&NONE)
}
