//! Puts the parts together: a pod and what is around it in, the patch and what to tell people out.
//!
//! Plain values, no I/O: the same pod in the same surroundings always gives the same patch.

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::{
    annotations::{self, Overrides},
    mesh,
    names::{COUNTED_PORTS, UNCOUNTED_PORTS},
    patch::{self, Insertion},
    pod, policy,
    policy::Left,
    ports::{self, Conditions, Counted, PortPlan, Takeover, Uncounted},
    probes,
    settings::Settings,
    sidecar,
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
    /// A patch could not be written.
    #[error("the patch cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Decides about a pod and says how to change it.
///
/// # Errors
///
/// Fails on a pod without a specification, and on mistakes of ours; the pod should then be admitted as it came.
pub fn inject(
    settings: &Settings,
    pod: &Pod,
    surroundings: &Surroundings,
) -> Result<Injection, InjectError> {
    let spec = pod.spec.as_ref().ok_or(InjectError::NoSpec)?;
    let mut warnings = Vec::new();
    if let Err(left) = policy::decide(pod, spec, &surroundings.labels, &mut warnings) {
        return Ok(leave(left, warnings));
    }
    let overrides = annotations::read(pod::annotations(pod), &settings.resources, &mut warnings);
    let conditions = Conditions {
        surroundings,
        wanted: overrides.ports.as_deref(),
        redirect: settings.redirect,
        pod_security: surroundings.pod_security(settings.default_pod_security),
        admin: settings.admin.map(|address| address.port()),
    };
    let plan = ports::plan(pod, spec, conditions, &mut warnings);
    if plan == PortPlan::default() {
        return Ok(leave(Left::NoPorts, warnings));
    }
    let mut edited = pod.clone();
    annotate(&mut edited, &plan);
    let (outcome, insertion) = if plan.counted.is_empty() {
        (Outcome::Uncounted, Insertion::default())
    } else {
        warn_of_changed_quality(spec, &overrides, &mut warnings);
        if let Some(spec) = &mut edited.spec {
            take_over(settings, spec, &plan.counted);
        }
        let insertion = Insertion {
            place: mesh::place(spec),
            containers: added(settings, &overrides, spec, &plan.counted),
        };
        (Outcome::Injected, insertion)
    };
    Ok(Injection {
        patch: patch::between(pod, &edited, &insertion)?,
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
        patch: Patch::default(),
        outcome: Outcome::Left(left),
        warnings,
    }
}

/// Writes down what is counted and what is not, over what a copied pod may have brought along.
fn annotate(pod: &mut Pod, plan: &PortPlan) {
    let uncounted: Vec<_> = plan.uncounted.iter().map(Uncounted::to_string).collect();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    for (name, value) in [
        (COUNTED_PORTS, sidecar::pairs(&plan.counted)),
        (UNCOUNTED_PORTS, uncounted.join("; ")),
    ] {
        if value.is_empty() {
            annotations.remove(name);
        } else {
            annotations.insert(name.to_owned(), value);
        }
    }
}

/// Changes what is there: names that move, and the volume.
fn take_over(settings: &Settings, spec: &mut PodSpec, counted: &[Counted]) {
    for port in counted {
        let Takeover::NameSwap(name) = &port.takeover else {
            continue;
        };
        // From all that run: otherwise a Service would find the name in another container before the sidecar.
        for container in pod::running_mut(spec) {
            probes::remove_name(container, name);
        }
    }
    let volumes = spec.volumes.get_or_insert_default();
    volumes.push(sidecar::token_volume(settings));
}

fn added(
    settings: &Settings,
    overrides: &Overrides,
    spec: &PodSpec,
    counted: &[Counted],
) -> Vec<k8s_openapi::api::core::v1::Container> {
    let sidecar = sidecar::container(settings, overrides, spec, counted);
    let redirect = sidecar::redirect(settings, counted);
    redirect.into_iter().chain([sidecar]).collect()
}

/// A pod whose containers all have limits equal to their requests is promised them; it is no more if the sidecar's are
/// not. Static CPU assignment and the order of eviction depend on it.
fn warn_of_changed_quality(spec: &PodSpec, overrides: &Overrides, warnings: &mut Vec<Warning>) {
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
    let keeps = own.cpu_limit.as_ref() == Some(&own.cpu_request)
        && own.memory_limit.as_ref() == Some(&own.memory_request);
    if guaranteed && !keeps {
        let message = "the pod's quality of service is no longer Guaranteed; it is with equal stillwake.dev/cpu-request \
                       and /cpu-limit, and equal /memory-request and /memory-limit";
        warnings.push(Warning::new(Reason::Changed, message));
    }
}
