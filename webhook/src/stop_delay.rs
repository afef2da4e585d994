//! Lets an app go on for a moment before it is told to stop, by a preStop hook that sleeps.
//!
//! The kubelet runs the hooks of all containers at once, and ends a container after its own hook. Without one, the app gets
//! its signal at the moment in which the sidecar hears that the pod goes away: connections in the app's backlog are reset,
//! and kept ones end under a request that is on its way, before the sidecar could say `Connection: close`. The kubelet does
//! the sleeping, so that nothing has to be in the app's image.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, PodSpec, SleepAction};

use crate::{pod, ports::Counted};

/// How many times as long as the delay a pod's grace period has to be. The API server refuses a hook that sleeps for longer
/// than that period; and the sleep is taken from it, of which most is the app's to finish what it has.
const LEAST_SHARE: i64 = 5;

/// Gives each app container that serves a counted port a preStop hook that sleeps for `delay`, in whole seconds, where it is
/// of use and does no harm. A container that has a hook keeps it, also one of ours.
pub(crate) fn give(spec: &mut PodSpec, counted: &[Counted], delay: Duration) {
    let Ok(seconds) = i64::try_from(delay.as_secs()) else {
        return;
    };
    let room = pod::grace(spec) >= seconds.saturating_mul(LEAST_SHARE);
    if seconds == 0 || !room || !pod::outlives(spec) {
        return;
    }
    let alone = spec.containers.len() == 1 && undeclared(spec, counted);
    let serving = spec.containers.iter_mut();
    let serving = serving.filter(|container| alone || declares_one(container, counted));
    for container in serving.filter(|container| !says_how_it_ends(container)) {
        let lifecycle = container.lifecycle.get_or_insert_default();
        lifecycle.pre_stop = Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        });
    }
}

fn declares_one(container: &Container, counted: &[Counted]) -> bool {
    pod::tcp_ports(container).any(|(number, _)| counted.iter().any(|port| port.app == number))
}

/// Whether a port is counted that no container says is its own.
fn undeclared(spec: &PodSpec, counted: &[Counted]) -> bool {
    let declared = |app| {
        let mut ports = pod::running(spec).flat_map(pod::tcp_ports);
        ports.any(|(number, _)| number == app)
    };
    counted.iter().any(|port| !declared(port.app))
}

/// Whether somebody has thought about how a container ends.
fn says_how_it_ends(container: &Container) -> bool {
    let lifecycle = container.lifecycle.as_ref();
    lifecycle
        .is_some_and(|lifecycle| lifecycle.pre_stop.is_some() || lifecycle.stop_signal.is_some())
}

#[cfg(test)]
mod tests;
