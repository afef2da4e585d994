//! Fits what the sidecar takes to what its namespace demands of every pod, so that the API server takes the injected pod
//! where it took the pod: `LimitRange`s (`resources/bounds.rs`) and `ResourceQuota`s (`resources/quotas.rs`).
//!
//! The rules are the API server's, in Kubernetes' `plugin/pkg/admission/limitranger` and `pkg/quota/v1/evaluator/core`.
//! It fills in the defaults of `LimitRange`s before webhooks are asked and again after they answered, and judges at the
//! end. So what we leave out may be filled in, and what we say is left as it is.
//!
//! Not for what a quota has left: the sidecar's share counts against it as all of the pod does.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use self::{
    bounds::{Bounds, Defaults, amount},
    fitting::{Pair, Terms},
    sum::Sum,
};
use crate::{
    annotations::{
        CPU_LIMIT, CPU_REQUEST, LEAST_CPU_LIMIT, LEAST_MEMORY_LIMIT, MEMORY_LIMIT, MEMORY_REQUEST,
        Share,
    },
    policy::Left,
    quantity::Amount,
    surroundings::Surroundings,
    warning::{Reason, Warning, shown},
};

mod bounds;
mod fitting;
mod quotas;
mod sum;

/// The CPU limit where one is demanded and nobody says which. It is charged to the namespace's quota for each pod, and
/// still more than an app of one core can make use of: a request costs the sidecar about a hundredth of a millisecond.
pub(crate) const DEMANDED_CPU_LIMIT: &str = "200m";

/// The memory limit where one is demanded and nobody says which: several times what thousands of connections take.
pub(crate) const DEMANDED_MEMORY_LIMIT: &str = "64Mi";

/// Returns what the sidecar takes, as near to `wanted` as the namespace allows. `place` is that of the sidecar among the
/// init containers; `annotations` are the pod's.
///
/// # Errors
///
/// Fails if the API server would refuse the pod with a sidecar, whatever that took.
pub(crate) fn fit(
    spec: &PodSpec,
    place: usize,
    annotations: &BTreeMap<String, String>,
    surroundings: &Surroundings,
    wanted: &Share,
    warnings: &mut Vec<Warning>,
) -> Result<Share, Left> {
    let fitted = if quotas::keep_best_effort(surroundings, spec) {
        nothing(spec, surroundings)
    } else {
        fit_each(spec, place, surroundings, wanted)?
    };
    warn(annotations, wanted, &fitted, warnings);
    Ok(fitted)
}

/// Returns what leaves a pod of quality `BestEffort` what it is: zero, which does not count, and still is something where
/// a quota demands that every container says something.
fn nothing(spec: &PodSpec, surroundings: &Surroundings) -> Share {
    let zero = || Some("0".to_owned());
    let limit = |resource| {
        quotas::demand_limit(surroundings, spec, true, resource)
            .then(zero)
            .flatten()
    };
    Share {
        cpu_request: zero(),
        memory_request: zero(),
        cpu_limit: limit("cpu"),
        memory_limit: limit("memory"),
    }
}

fn fit_each(
    spec: &PodSpec,
    place: usize,
    surroundings: &Surroundings,
    wanted: &Share,
) -> Result<Share, Left> {
    let one = |resource, request: &Option<String>, limit: &Option<String>| {
        let terms = terms(spec, place, surroundings, resource);
        let amount = |text: &Option<String>| Amount::parse(text.as_ref()?);
        let pair = Pair {
            request: amount(request),
            limit: amount(limit),
        };
        let no_room = || Left::NoRoom(resource.to_owned());
        let fitted = terms.fit(pair).ok_or_else(no_room)?;
        // What stays is as it was written.
        let text = |before: &Option<String>, after: Option<Amount>| match before {
            Some(text) if Amount::parse(text) == after => before.clone(),
            _ => after.map(|amount| amount.to_string()),
        };
        Ok((text(request, fitted.request), text(limit, fitted.limit)))
    };
    let named = surroundings.limit_ranges.iter();
    for resource in named.flat_map(|range| bounds::resources(range)) {
        // What the sidecar has no wish for it takes as the API server fills it in, or not at all.
        if !["cpu", "memory"].contains(&resource) && one(resource, &None, &None)? != (None, None) {
            return Err(Left::NoRoom(resource.to_owned()));
        }
    }
    let (cpu_request, cpu_limit) = one("cpu", &wanted.cpu_request, &wanted.cpu_limit)?;
    let (memory_request, memory_limit) =
        one("memory", &wanted.memory_request, &wanted.memory_limit)?;
    Ok(Share {
        cpu_request,
        memory_request,
        cpu_limit,
        memory_limit,
    })
}

fn terms(spec: &PodSpec, place: usize, surroundings: &Surroundings, resource: &str) -> Terms {
    let ranges = &surroundings.limit_ranges;
    let request = |resources: &ResourceRequirements| amount(&resources.requests, resource);
    let limit = |resources: &ResourceRequirements| amount(&resources.limits, resource);
    // What is not requested is requested by the limit.
    let effective = |resources: &ResourceRequirements| request(resources).or(limit(resources));
    let whole = spec.resources.as_ref();
    let sum = |whole, of: &dyn Fn(&ResourceRequirements) -> Option<Amount>| {
        Sum::of(spec, place, whole, |container| {
            of(container.resources.as_ref()?)
        })
    };
    let (least_limit, usual_limit) = match resource {
        "cpu" => (LEAST_CPU_LIMIT, Some(DEMANDED_CPU_LIMIT)),
        "memory" => (LEAST_MEMORY_LIMIT, Some(DEMANDED_MEMORY_LIMIT)),
        _ => ("0", None),
    };
    Terms {
        container: Bounds::of(ranges, "Container", resource),
        pod: Bounds::of(ranges, "Pod", resource),
        defaults: Defaults::of(ranges, resource),
        requests: sum(whole.and_then(request), &effective),
        limits: sum(whole.and_then(limit), &limit),
        requests_at_most: whole.and_then(effective),
        limit_demanded: quotas::demand_limit(surroundings, spec, false, resource),
        least_limit: Amount::parse(least_limit).unwrap_or_default(),
        usual_limit: usual_limit.and_then(Amount::parse),
    }
}

/// Tells of limits that nobody wanted, and of annotations that cannot have their way. A request is raised without a word.
fn warn(
    annotations: &BTreeMap<String, String>,
    wanted: &Share,
    fitted: &Share,
    warnings: &mut Vec<Warning>,
) {
    for (annotation, wanted, fitted) in [
        (&CPU_REQUEST, &wanted.cpu_request, &fitted.cpu_request),
        (&CPU_LIMIT, &wanted.cpu_limit, &fitted.cpu_limit),
        (
            &MEMORY_REQUEST,
            &wanted.memory_request,
            &fitted.memory_request,
        ),
        (&MEMORY_LIMIT, &wanted.memory_limit, &fitted.memory_limit),
    ] {
        let written = annotations.get(annotation.name).map(|value| value.trim());
        if written.is_some() && written == wanted.as_deref() && wanted != fitted {
            let message = format!(
                "annotation {} is {}; with the LimitRanges and ResourceQuotas of the namespace it has to be {}",
                annotation.name,
                shown(written.unwrap_or_default()),
                fitted.as_deref().unwrap_or_default()
            );
            warnings.push(Warning::new(Reason::BadValue, message));
        }
    }
    let added = [
        ("cpu", &wanted.cpu_limit, &fitted.cpu_limit),
        ("memory", &wanted.memory_limit, &fitted.memory_limit),
    ];
    let added = added.into_iter().filter_map(|(name, wanted, fitted)| {
        // Zero is no limit.
        let fitted = fitted.as_ref().filter(|limit| *limit != "0")?;
        wanted.is_none().then(|| format!("{name} {fitted}"))
    });
    let added: Vec<_> = added.collect();
    if !added.is_empty() {
        let message = format!(
            "LimitRanges or ResourceQuotas of the namespace demand a limit of the sidecar, which is now {}; \
             stillwake.dev/cpu-limit and /memory-limit set others",
            added.join(" and ")
        );
        warnings.push(Warning::new(Reason::Changed, message));
    }
}

#[cfg(test)]
mod tests;
