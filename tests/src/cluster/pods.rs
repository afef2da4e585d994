//! What a pod says of itself, and what Kubernetes and the machine say of it: its sidecar, its annotations, its Events, its
//! processes.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Container, Event, Pod};
use kube::runtime::watcher;

use super::{Namespace, watching};
use crate::processes;

/// Name of the sidecar's container.
pub const SIDECAR: &str = "stillwake-sidecar";

/// Name of the init container that redirects.
pub const REDIRECT: &str = "stillwake-redirect";

/// Label that asks for the sidecar or refuses it.
pub const INJECT: &str = "stillwake.dev/inject";

/// Annotation with the pairs listen:app of the ports that are counted.
pub const COUNTED: &str = "stillwake.dev/counted-ports";

/// Annotation with the ports that are not counted, and why.
pub const UNCOUNTED: &str = "stillwake.dev/uncounted-ports";

/// Returns the containers that run before or beside the app's.
pub fn init_containers(pod: &Pod) -> &[Container] {
    let containers = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref());
    containers.unwrap_or_default()
}

/// Returns one of them.
pub fn init_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let mut containers = init_containers(pod).iter();
    containers.find(|container| container.name == name)
}

/// Returns the sidecar's container, which is a native one.
pub fn sidecar(pod: &Pod) -> Option<&Container> {
    init_container(pod, SIDECAR)
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
}

/// Returns an annotation.
pub fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// Returns a pod's address.
pub fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// Returns the processes of pods as the machine counts them: nodes are namespaces on it.
///
/// # Errors
///
/// When one of the pods has none on this machine.
pub fn processes(pods: &[Pod]) -> anyhow::Result<BTreeSet<i32>> {
    let mut all = BTreeSet::new();
    for pod in pods {
        let uid = pod.metadata.uid.as_ref().context("a pod without a UID")?;
        let found = processes::in_control_group(&format!("pod{uid}"));
        ensure!(
            !found.is_empty(),
            "no process on this machine is of the pod {:?}",
            pod.metadata.name
        );
        all.extend(found.into_iter().map(|process| process.pid));
    }
    Ok(all)
}

/// Waits for the pods that have a label `app`; returns them once there are so many, all take traffic, and no other is left.
///
/// # Errors
///
/// When that does not come about, with what there is.
pub async fn until_ready(
    namespace: &Namespace,
    app: &str,
    count: usize,
) -> anyhow::Result<Vec<Pod>> {
    let selected = watcher::Config::default().labels(&format!("app={app}"));
    let what = format!("{count} ready pods of {app}");
    watching::until_all(&namespace.api(), selected, &what, |pods| {
        if pods.len() == count && pods.values().all(watching::is_ready) {
            Ok(pods.values().cloned().collect())
        } else {
            Err(watching::phases(pods))
        }
    })
    .await
}

/// Waits for an Event with a reason of Stillwake's whose message is as `is_meant` says.
///
/// # Errors
///
/// When none comes, with those that did.
pub async fn event(
    namespace: &Namespace,
    reason: &str,
    is_meant: impl Fn(&str) -> bool,
) -> anyhow::Result<Event> {
    let selected = watcher::Config::default().fields(&format!("reason={reason}"));
    let what = format!("an Event {reason}");
    watching::until_all(&namespace.api::<Event>(), selected, &what, |events| {
        let message = |event: &Event| event.message.clone().unwrap_or_default();
        let found = events.values().find(|event| is_meant(&message(event)));
        found.cloned().ok_or_else(|| {
            let others: Vec<_> = events.values().map(message).collect();
            format!("{others:?}")
        })
    })
    .await
}
