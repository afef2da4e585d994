//! Puts the parts together: a pod and what is around it in, the patch and what to tell people out.
//!
//! Plain values, no I/O: the same pod in the same surroundings always gives the same patch.

use std::{net::SocketAddr, time::Duration};

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::{
    annotations::{self, Overrides, Share},
    authorities::{self, Bundle, Untold},
    mesh,
    names::{AUTHORITIES, COUNTED_PORTS, UNCOUNTED_PORTS},
    patch::{self, Insertion},
    pod, policy,
    policy::Left,
    ports::{self, Conditions, Counted, PortPlan, Takeover, Uncounted},
    probes, resources,
    settings::Settings,
    sidecar, stop_delay,
    surroundings::Surroundings,
    warning::{Reason, Warning},
};

/// What becomes of a pod.
#[derive(Clone, Debug)]
pub struct Injection {
    /// What to change; empty if nothing.
    pub patch: Patch,
    /// What happened.
    pub outcome: Outcome,
    /// What to tell people.
    pub warnings: Vec<Warning>,
}

impl Injection {
    /// Returns that of a pod which is left as it is, without a word.
    pub fn none(left: Left) -> Self {
        Self {
            patch: Patch::default(),
            outcome: Outcome::Left(left),
            warnings: Vec::new(),
        }
    }
}

/// What happened to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has the sidecar now.
    Injected,
    /// It should have the sidecar, but no port could be taken over; the pod says so in an annotation.
    Uncounted,
    /// It is left as it is.
    Left(Left),
}

/// Reasons why a pod could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// There is no specification.
    #[error("the pod has no spec; the API server sends none without one")]
    NoSpec,
    /// The sidecar could not be told whom to trust.
    #[error(transparent)]
    Authorities(#[from] Untold),
    /// A patch could not be written.
    #[error("the patch cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Decides about a pod and says how to change it. `bundle` is what [`Authorities`](authorities::Authorities) know.
///
/// # Errors
///
/// Fails on a pod without a specification, on one that should be injected while its sidecar could not be told whom to
/// trust, and on mistakes of ours; the pod should then be admitted as it came.
pub fn inject(
    settings: &Settings,
    bundle: Option<&Bundle>,
    mut pod: Pod,
    surroundings: &Surroundings,
) -> Result<Injection, InjectError> {
    let spec = pod.spec.as_ref().ok_or(InjectError::NoSpec)?;
    let mut warnings = Vec::new();
    if let Err(left) = policy::decide(&pod, spec, &surroundings.labels, &mut warnings) {
        return Ok(leave(left, warnings));
    }
    let share = Share::of(spec, &settings.resources);
    let mut overrides = annotations::read(pod::annotations(&pod), &share, &mut warnings);
    let conditions = Conditions {
        surroundings,
        wanted: overrides.ports.as_deref(),
        redirect: settings.redirect,
        redirect_wanted: overrides.redirect,
        pod_security: surroundings.pod_security(settings.default_pod_security),
        admin: settings.admin.map(|address| address.port()),
    };
    let plan = ports::plan(&pod, spec, conditions, &mut warnings);
    if plan == PortPlan::default() {
        return Ok(leave(nothing_to_count(spec), warnings));
    }
    let before = serde_json::to_value(&pod)?;
    let delay = if surroundings.sleeps {
        overrides.stop_delay.unwrap_or(settings.stop_delay)
    } else {
        Duration::ZERO
    };
    let mut trusted = None;
    let (outcome, insertion) = if plan.counted.is_empty() {
        (Outcome::Uncounted, Insertion::default())
    } else {
        let tls = settings.aggregator_tls;
        trusted = tls.then(|| authorities::told(bundle)).transpose()?;
        let place = mesh::place(spec);
        match resources::fit(
            spec,
            place,
            pod::annotations(&pod),
            surroundings,
            &overrides.resources,
            &mut warnings,
        ) {
            Ok(share) => overrides.resources = share,
            Err(left) => return Ok(leave(left, warnings)),
        }
        warn_of_changed_quality(spec, &overrides, &mut warnings);
        warn_of_names_unknown(settings, spec, &mut warnings);
        let insertion = Insertion {
            place,
            containers: added(settings, &overrides, trusted, spec, &plan.counted, delay),
        };
        (Outcome::Injected, insertion)
    };
    annotate(&mut pod, &plan, trusted);
    if let Some(spec) = pod.spec.as_mut().filter(|_| outcome == Outcome::Injected) {
        take_over(settings, spec, &plan.counted);
        stop_delay::give(spec, &plan.counted, delay);
    }
    Ok(Injection {
        patch: patch::between(&before, &serde_json::to_value(&pod)?, &insertion)?,
        outcome,
        warnings,
    })
}

fn leave(left: Left, mut warnings: Vec<Warning>) -> Injection {
    if left.surprises() {
        let message = format!("no sidecar: {left}");
        warnings.push(Warning::new(Reason::NotInjected, message));
    }
    Injection {
        warnings,
        ..Injection::none(left)
    }
}

/// A namespace that asks for all its pods has Jobs too, and an Event for each run of each would drown the others.
fn nothing_to_count(spec: &PodSpec) -> Left {
    match spec.restart_policy.as_deref() {
        Some("Never" | "OnFailure") => Left::RunsOnce,
        _ => Left::NoPorts,
    }
}

/// Writes down what is counted, what is not and whom the sidecar trusts, over what a copied pod may have brought along.
fn annotate(pod: &mut Pod, plan: &PortPlan, trusted: Option<&Bundle>) {
    let uncounted: Vec<_> = plan.uncounted.iter().map(Uncounted::to_string).collect();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    for (name, value) in [
        (COUNTED_PORTS, sidecar::pairs(&plan.counted)),
        (UNCOUNTED_PORTS, uncounted.join("; ")),
        (
            AUTHORITIES,
            trusted.map_or_else(String::new, |bundle| bundle.name.to_string()),
        ),
    ] {
        if value.is_empty() {
            annotations.remove(name);
        } else {
            annotations.insert(name.to_owned(), value);
        }
    }
}

/// Changes what is there: names that move, and the volume.
///
/// A name moves to the sidecar's port, but stays in its container: what a container declares need not be its own. There
/// everybody goes on finding it. Ports of native sidecars are overlooked by Services before Kubernetes 1.33, and by
/// `kubectl port-forward` and network plugins for longer.
fn take_over(settings: &Settings, spec: &mut PodSpec, counted: &[Counted]) {
    for port in counted {
        if let Takeover::NameSwap(name) = &port.takeover {
            // In the first that has it: that is where it leads to the port that is counted.
            let mut containers = pod::running_mut(spec);
            let moved = containers.any(|container| probes::move_name(container, name, port.listen));
            debug_assert!(moved, "{name} is a name of the pod");
        }
    }
    let volumes = spec.volumes.get_or_insert_default();
    volumes.push(sidecar::token_volume(settings));
}

fn added(
    settings: &Settings,
    overrides: &Overrides,
    bundle: Option<&Bundle>,
    spec: &PodSpec,
    counted: &[Counted],
    delay: Duration,
) -> Vec<Container> {
    let stop_delay = stop_delay::of(spec, counted, delay);
    let sidecar = sidecar::container(settings, overrides, bundle, spec, counted, stop_delay);
    let redirect = sidecar::redirect(settings, overrides, counted);
    redirect.into_iter().chain([sidecar]).collect()
}

/// A pod whose containers all have limits equal to their requests is promised them; it is no more if the sidecar's are
/// not. Static CPU assignment and the order of eviction depend on it. In a pod with resources as a whole only those count.
fn warn_of_changed_quality(spec: &PodSpec, overrides: &Overrides, warnings: &mut Vec<Warning>) {
    if ["cpu", "memory"]
        .into_iter()
        .any(|name| pod::has_whole(spec, name))
    {
        return;
    }
    let guaranteed = pod::containers(spec).all(|container| {
        let resources = container.resources.as_ref();
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = limits.and_then(|limits| limits.get(name));
            // What is not requested is requested by the limit.
            let request = requests.and_then(|requests| requests.get(name)).or(limit);
            limit.is_some() && request == limit
        })
    });
    let own = &overrides.resources;
    let equal = |limit: &Option<String>, request| limit.is_some() && limit == request;
    let keeps =
        equal(&own.cpu_limit, &own.cpu_request) && equal(&own.memory_limit, &own.memory_request);
    if guaranteed && !keeps {
        let message = "the pod's quality of service is no longer Guaranteed; it is with equal stillwake.dev/cpu-request \
                       and /cpu-limit, and equal /memory-request and /memory-limit";
        warnings.push(Warning::new(Reason::Changed, message));
    }
}

/// A pod may resolve names as its node does, and nodes do not know the cluster's. Nothing is said of a pod that names its
/// nameservers itself (`None`): they may be the cluster's, as where a cache on each node is one.
fn warn_of_names_unknown(settings: &Settings, spec: &PodSpec, warnings: &mut Vec<Warning>) {
    let by_address = |aggregator: &String| aggregator.parse::<SocketAddr>().is_ok();
    if spec.dns_policy.as_deref() != Some("Default") || settings.aggregators.iter().all(by_address)
    {
        return;
    }
    let message = "with dnsPolicy Default the sidecar may not find the aggregators by their name; while they hear nothing \
                   of the pod it counts as unknown, and its workload does not scale to zero; ClusterFirst finds them";
    warnings.push(Warning::new(Reason::Unreported, message));
}

#[cfg(test)]
mod tests;
