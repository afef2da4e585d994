//! Which of a pod's ports are counted, and how each is taken over, most harmless first.
//!
//! 1. *Name swap*: Services that target a port by name follow the name, which moves to the port that the sidecar listens on.
//! 2. *Redirect*: the kernel sends what arrives at the app's port to the sidecar.
//! 3. Neither: the port stays uncounted, with the reason.
//!
//! What worked goes on working: a way that would break something is not taken. Only decides; nothing is changed here.

use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::{
    annotations::PortReference,
    mesh, pod, probes,
    surroundings::{PodSecurity, Surroundings},
    warning::{Reason, Warning},
};

mod candidates;
mod listen;
mod network_policies;

use candidates::Candidate;
use listen::ListenPorts;

/// What is counted and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPlan {
    /// Ports that the sidecar stands in front of, by their number.
    pub counted: Vec<Counted>,
    /// Ports that it does not stand in front of, by their number.
    pub uncounted: Vec<Uncounted>,
}

/// A port that the sidecar stands in front of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Where the sidecar listens.
    pub listen: u16,
    /// Where the app listens.
    pub app: u16,
    /// How clients get to the sidecar.
    pub takeover: Takeover,
}

/// How clients get to the sidecar instead of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// The port's name moves to the port that the sidecar listens on.
    NameSwap(String),
    /// The kernel redirects.
    Redirect,
}

/// A port that should be counted and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncounted {
    /// Where the app listens.
    pub app: u16,
    /// Why its name does not move.
    pub swap: NoSwap,
    /// Why it is not redirected.
    pub redirect: NoRedirect,
}

impl fmt::Display for Uncounted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}, and {}",
            self.app, self.swap, self.redirect
        )
    }
}

/// Why a port's name does not move to the sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSwap {
    /// There is no name that a Service could follow.
    #[error("it has no name that a Service could target")]
    NoName,
    /// A Service goes by the number.
    #[error("Service {0} targets it by number")]
    ByNumber(String),
    /// Clients of a headless Service dial the pod itself.
    #[error("clients of the headless Service {0} dial the pod itself")]
    Direct(String),
    /// It is reached through the node.
    #[error("it has a host port")]
    HostPort,
    /// A policy lets traffic to the app's port in and would keep traffic to the sidecar's out.
    #[error("network policy {0} allows it by number and would block the sidecar's port")]
    NetworkPolicy(String),
    /// There is no port left for the sidecar.
    #[error("the sidecar has no port left for it")]
    NoListenPort,
}

/// Why a port is not redirected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRedirect {
    /// Whoever installed Stillwake did not switch it on.
    #[error("redirecting is switched off")]
    Off,
    /// The pod does not want it.
    #[error("the pod's annotation stillwake.dev/redirect forbids redirecting")]
    Refused,
    /// The namespace forbids what it takes.
    #[error("Pod Security {0} forbids redirecting")]
    PodSecurity(PodSecurity),
    /// A mesh redirects already.
    #[error("{0} redirects in this pod already")]
    Mesh(&'static str),
    /// The sidecar accepts connections whatever the app does, so such a probe would always succeed.
    #[error("a TCP probe of it would be answered by the sidecar if it were redirected")]
    TcpProbe,
    /// There is no port left for the sidecar.
    #[error("the sidecar has no port left for it")]
    NoListenPort,
}

/// What the decision depends on besides the pod.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// What is around the pod.
    pub surroundings: &'a Surroundings,
    /// The ports that the pod wants counted, where it says so.
    pub wanted: Option<&'a [PortReference]>,
    /// Whether redirecting is switched on.
    pub redirect: bool,
    /// Whether the pod lets its ports be redirected.
    pub redirect_wanted: bool,
    /// The Pod Security level of the namespace.
    pub pod_security: PodSecurity,
    /// A port that the sidecar itself needs.
    pub admin: Option<u16>,
}

/// Decides which ports are counted and how. Both lists are empty if there is nothing to count.
pub fn plan(
    pod: &Pod,
    spec: &PodSpec,
    conditions: Conditions<'_>,
    warnings: &mut Vec<Warning>,
) -> PortPlan {
    let candidates = candidates::find(pod, spec, &conditions, warnings);
    let mut listen = ListenPorts::new(spec, &candidates, conditions.admin);
    let mut plan = PortPlan::default();
    for candidate in candidates {
        let swap = match swap(pod, &candidate, &conditions, &mut listen) {
            Ok(swapped) => {
                plan.counted.extend(swapped);
                continue;
            }
            Err(obstacle) => obstacle,
        };
        match redirect(pod, spec, &candidate, &conditions, &mut listen) {
            Ok(redirected) => plan.counted.push(redirected),
            Err(redirect) => plan.uncounted.push(Uncounted {
                app: candidate.number,
                swap,
                redirect,
            }),
        }
    }
    for uncounted in &plan.uncounted {
        let message = format!("not counted is port {uncounted}");
        warnings.push(Warning::new(Reason::Uncounted, message));
    }
    plan
}

/// One entry per name: a port that has two in two containers is reached by both.
fn swap(
    pod: &Pod,
    candidate: &Candidate,
    conditions: &Conditions<'_>,
    listen: &mut ListenPorts,
) -> Result<Vec<Counted>, NoSwap> {
    if let Some(service) = &candidate.by_number {
        return Err(NoSwap::ByNumber(service.clone()));
    }
    if let Some(service) = &candidate.direct {
        return Err(NoSwap::Direct(service.clone()));
    }
    if candidate.names.is_empty() {
        return Err(NoSwap::NoName);
    }
    if candidate.host_port {
        return Err(NoSwap::HostPort);
    }
    let reserved = listen.reserve(candidate.names.len());
    let ports = reserved.ok_or(NoSwap::NoListenPort)?;
    let policies = &conditions.surroundings.network_policies;
    for port in &ports {
        let blocking =
            network_policies::blocking(policies, pod::labels(pod), candidate.number, *port);
        if let Some(policy) = blocking {
            return Err(NoSwap::NetworkPolicy(policy));
        }
    }
    listen.take(&ports);
    let swapped = ports.into_iter().zip(&candidate.names);
    Ok(swapped
        .map(|(listen, name)| Counted {
            listen,
            app: candidate.number,
            takeover: Takeover::NameSwap(name.clone()),
        })
        .collect())
}

fn redirect(
    pod: &Pod,
    spec: &PodSpec,
    candidate: &Candidate,
    conditions: &Conditions<'_>,
    listen: &mut ListenPorts,
) -> Result<Counted, NoRedirect> {
    if !conditions.redirect {
        return Err(NoRedirect::Off);
    }
    if !conditions.redirect_wanted {
        return Err(NoRedirect::Refused);
    }
    if conditions.pod_security != PodSecurity::Privileged {
        return Err(NoRedirect::PodSecurity(conditions.pod_security));
    }
    if let Some(mesh) = mesh::around(pod, spec, conditions.surroundings) {
        return Err(NoRedirect::Mesh(mesh));
    }
    if pod::running(spec).any(|container| probes::tcp_probed(container, candidate.number)) {
        return Err(NoRedirect::TcpProbe);
    }
    let ports = listen.reserve(1).ok_or(NoRedirect::NoListenPort)?;
    listen.take(&ports);
    Ok(Counted {
        listen: ports[0],
        app: candidate.number,
        takeover: Takeover::Redirect,
    })
}

#[cfg(test)]
mod tests;
