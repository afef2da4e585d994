//! What the `ResourceQuota`s of a namespace demand of a pod besides keeping within them.

use k8s_openapi::api::core::v1::{PodSpec, ResourceQuotaSpec, ScopedResourceSelectorRequirement};

use super::bounds::amount;
use crate::{pod, quantity::Amount, surroundings::Surroundings};

/// Resources by which a pod may be better than best effort, and that it may have as a whole.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Whether a pod is of quality `BestEffort` and has to stay so. Where a quota tells such pods from others, anything that
/// the sidecar requests would put the pod under a quota whose demands its containers need not meet.
pub(super) fn keep_best_effort(surroundings: &Surroundings, spec: &PodSpec) -> bool {
    let tells_apart = quotas(surroundings)
        .flat_map(scopes)
        .any(|scope| matches!(scope.scope_name.as_str(), "BestEffort" | "NotBestEffort"));
    tells_apart && is_best_effort(spec)
}

fn is_best_effort(spec: &PodSpec) -> bool {
    let of_containers = pod::containers(spec).map(|container| container.resources.as_ref());
    let mut all = of_containers.chain([spec.resources.as_ref()]).flatten();
    !all.any(|resources| {
        let mut said = [&resources.requests, &resources.limits].into_iter();
        said.any(|said| {
            COMPUTE
                .iter()
                .any(|name| amount(said, name).is_some_and(|amount| amount > Amount::ZERO))
        })
    })
}

/// Whether each container of a pod has to have a limit of a resource. A pod that says anything as a whole is excused.
/// `best_effort` says whether the pod is of this quality with the sidecar.
pub(super) fn demand_limit(
    surroundings: &Surroundings,
    spec: &PodSpec,
    best_effort: bool,
    resource: &str,
) -> bool {
    let excused = COMPUTE.iter().any(|name| pod::has_whole(spec, name));
    let demanded = format!("limits.{resource}");
    let mut quotas = quotas(surroundings);
    COMPUTE.contains(&resource)
        && !excused
        && quotas.any(|quota| {
            let hard = quota.hard.as_ref();
            hard.is_some_and(|hard| hard.contains_key(&demanded))
                && covers(quota, spec, best_effort)
        })
}

fn quotas(surroundings: &Surroundings) -> impl Iterator<Item = &ResourceQuotaSpec> {
    let quotas = surroundings.resource_quotas.iter();
    quotas.filter_map(|quota| quota.spec.as_ref())
}

fn scopes(quota: &ResourceQuotaSpec) -> impl Iterator<Item = ScopedResourceSelectorRequirement> {
    let plain = quota
        .scopes
        .iter()
        .flatten()
        .map(|scope| ScopedResourceSelectorRequirement {
            operator: "Exists".to_owned(),
            scope_name: scope.clone(),
            values: None,
        });
    let selector = quota.scope_selector.iter();
    let selected = selector.filter_map(|selector| selector.match_expressions.clone());
    plain.chain(selected.flatten())
}

/// Whether a pod is under a quota. All its scopes have to be the pod's.
fn covers(quota: &ResourceQuotaSpec, spec: &PodSpec, best_effort: bool) -> bool {
    let terminating = spec
        .active_deadline_seconds
        .is_some_and(|seconds| seconds >= 0);
    let class = spec
        .priority_class_name
        .as_ref()
        .filter(|name| !name.is_empty());
    scopes(quota).all(|scope| match scope.scope_name.as_str() {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => {
            let mut values = scope.values.iter().flatten();
            let listed = class.is_some_and(|class| values.any(|value| value == class));
            match scope.operator.as_str() {
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                "In" => listed,
                "NotIn" => !listed,
                _ => true,
            }
        }
        // Better to give the sidecar limits that nobody demands than to have the pod refused.
        _ => true,
    })
}
