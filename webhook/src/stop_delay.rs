//! Lets an app go on for a moment before it is told to stop, by a preStop hook that sleeps, and knows when that will be.
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
    let Some(seconds) = ours(spec, delay) else {
        return;
    };
    let serves = serves(spec, counted);
    let serving = spec
        .containers
        .iter_mut()
        .filter(|container| serves(container));
    for container in serving.filter(|container| !says_how_it_ends(container)) {
        let lifecycle = container.lifecycle.get_or_insert_default();
        lifecycle.pre_stop = Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        });
    }
}

/// Returns how long after its pod is deleted the first container that serves a counted port is told to stop, once
/// [`give`] has done its part; `None` unless all of them sleep until then.
pub(crate) fn of(spec: &PodSpec, counted: &[Counted], delay: Duration) -> Option<Duration> {
    let ours = ours(spec, delay);
    let serves = serves(spec, counted);
    let serving = spec.containers.iter().filter(|container| serves(container));
    let delays = serving.map(|container| {
        if says_how_it_ends(container) {
            own(container)
        } else {
            ours
        }
    });
    let delays: Option<Vec<_>> = delays.collect();
    let first = delays?.into_iter().min()?;
    u64::try_from(first).ok().map(Duration::from_secs)
}

/// Returns for how many seconds containers without a hook are to sleep.
fn ours(spec: &PodSpec, delay: Duration) -> Option<i64> {
    let seconds = i64::try_from(delay.as_secs()).ok()?;
    let room = pod::grace(spec) >= seconds.saturating_mul(LEAST_SHARE);
    (seconds > 0 && room && pod::outlives(spec)).then_some(seconds)
}

/// Returns for how many seconds a container's own hook sleeps.
fn own(container: &Container) -> Option<i64> {
    let hook = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
    hook.sleep.as_ref().map(|sleep| sleep.seconds)
}

/// Returns which containers serve a counted port: those that declare one, or the only one there is, if nobody does.
fn serves<'a>(spec: &PodSpec, counted: &'a [Counted]) -> impl Fn(&Container) -> bool + use<'a> {
    let alone = spec.containers.len() == 1 && undeclared(spec, counted);
    move |container| alone || declares_one(container, counted)
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
