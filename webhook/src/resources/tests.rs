//! What namespaces demand, by an API server of this file: it knows the rules and nothing of how the sidecar is fitted to
//! them. That it judges as a real one was tried with the golden cases.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Container, LimitRange, LimitRangeItem, ResourceQuota},
    apimachinery::pkg::api::resource::Quantity,
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};
use serde_json::{Value, json};

use super::*;

type Quantities = BTreeMap<String, Quantity>;

fn value(quantity: &Quantity) -> f64 {
    let text = &quantity.0;
    let end = text.find(|character: char| character.is_alphabetic());
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let thousandths = match suffix {
        "m" => 1.0,
        "" => 1e3,
        "Ki" => 1e3 * 1024.0,
        "Mi" => 1e3 * 1024.0 * 1024.0,
        "Gi" => 1e3 * 1024.0 * 1024.0 * 1024.0,
        suffix => panic!("{suffix} in {text}"),
    };
    number.parse::<f64>().unwrap() * thousandths
}

fn said(quantities: Option<&Quantities>, name: &str) -> Option<f64> {
    Some(value(quantities?.get(name)?))
}

/// Fills in what a container does not say.
fn fill(container: &mut Container, ranges: &[&LimitRangeItem]) {
    let resources = container.resources.get_or_insert_default();
    for item in ranges {
        let of = |quantities: &Option<Quantities>| quantities.clone().unwrap_or_default();
        let mut limits = of(&item.default);
        for (name, most) in of(&item.max) {
            limits.entry(name).or_insert(most);
        }
        let mut requests = of(&item.default_request);
        for (name, quantity) in limits.clone().into_iter().chain(of(&item.min)) {
            requests.entry(name).or_insert(quantity);
        }
        for (all, defaults) in [
            (&mut resources.limits, limits),
            (&mut resources.requests, requests),
        ] {
            for (name, quantity) in defaults {
                all.get_or_insert_default().entry(name).or_insert(quantity);
            }
        }
    }
    for (name, limit) in resources.limits.clone().unwrap_or_default() {
        let requests = resources.requests.get_or_insert_default();
        requests.entry(name).or_insert(limit);
    }
}

fn bounded(item: &LimitRangeItem, name: &str, request: Option<f64>, limit: Option<f64>) -> bool {
    let (least, most) = (said(item.min.as_ref(), name), said(item.max.as_ref(), name));
    let ratio = said(item.max_limit_request_ratio.as_ref(), name);
    least.is_none_or(|least| {
        request.is_some_and(|request| request >= least) && limit.is_none_or(|limit| limit >= least)
    }) && most.is_none_or(|most| {
        limit.is_some_and(|limit| limit <= most) && request.is_none_or(|request| request <= most)
    }) && ratio.is_none_or(|ratio| {
        matches!((request, limit), (Some(request), Some(limit))
            if request > 0.0 && limit > 0.0 && limit / request * 1000.0 <= ratio)
    })
}

/// The containers that run at once.
fn running(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
}

/// Returns why a pod is refused.
fn refused(
    mut spec: PodSpec,
    ranges: &[Arc<LimitRange>],
    quotas: &[Arc<ResourceQuota>],
) -> Option<String> {
    let items: Vec<_> = ranges
        .iter()
        .flat_map(|range| &range.spec.as_ref().unwrap().limits)
        .collect();
    let of_containers: Vec<_> = items
        .iter()
        .copied()
        .filter(|item| item.type_ == "Container")
        .collect();
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        fill(container, &of_containers);
    }
    let limit = |container: &Container, name: &str| {
        said(container.resources.as_ref()?.limits.as_ref(), name)
    };
    let request = |container: &Container, name: &str| {
        said(container.resources.as_ref()?.requests.as_ref(), name)
    };
    let best_effort = ["cpu", "memory"].iter().all(|name| {
        running(&spec).all(|container| {
            let said = [request(container, name), limit(container, name)];
            said.into_iter().flatten().all(|amount| amount == 0.0)
        })
    });
    for name in ["cpu", "memory"] {
        for container in running(&spec) {
            let (request, limit) = (request(container, name), limit(container, name));
            if matches!((request, limit), (Some(request), Some(limit)) if request > limit) {
                return Some(format!("{}: {name} request over limit", container.name));
            }
            if !of_containers
                .iter()
                .all(|item| bounded(item, name, request, limit))
            {
                return Some(format!("{}: {name} out of bounds", container.name));
            }
        }
        let sum = |of: &dyn Fn(&Container, &str) -> Option<f64>| {
            running(&spec)
                .filter_map(|container| of(container, name))
                .reduce(|one, other| one + other)
        };
        let (requests, limits) = (sum(&request), sum(&limit));
        let mut of_pods = items.iter().filter(|item| item.type_ == "Pod");
        if !of_pods.all(|item| bounded(item, name, requests, limits)) {
            return Some(format!("{name} of the pod out of bounds"));
        }
        for quota in quotas.iter().map(|quota| quota.spec.as_ref().unwrap()) {
            let hard = quota.hard.as_ref().unwrap();
            let scopes = quota.scopes.iter().flatten();
            let mut own = scopes.map(|scope| (scope == "BestEffort") == best_effort);
            let missing = |key: &str, of: &dyn Fn(&Container, &str) -> Option<f64>| {
                hard.contains_key(key)
                    && running(&spec).any(|container| of(container, name).is_none())
            };
            if own.all(|own| own)
                && (missing(&format!("limits.{name}"), &limit)
                    || missing(&format!("requests.{name}"), &request))
            {
                return Some(format!("quota demands {name}"));
            }
        }
    }
    None
}

fn quantities() -> impl Strategy<Value = Value> {
    let cpu = select(vec!["0", "5m", "10m", "50m", "100m", "200m", "500m", "1"]);
    let memory = select(vec![
        "0", "4Mi", "8Mi", "16Mi", "64Mi", "100Mi", "256Mi", "1024Mi",
    ]);
    (option::of(cpu), option::of(memory)).prop_map(|(cpu, memory)| {
        let said = [("cpu", cpu), ("memory", memory)].into_iter();
        let said = said.filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        Value::Object(said.collect())
    })
}

fn item() -> impl Strategy<Value = Value> {
    let seldom = || option::weighted(0.3, quantities());
    let ratio = btree_map(
        select(vec!["cpu", "memory"]),
        select(vec!["1", "2", "4"]),
        0..2,
    );
    let kind = select(vec!["Container", "Pod"]);
    (
        kind,
        seldom(),
        seldom(),
        seldom(),
        seldom(),
        option::weighted(0.2, ratio),
    )
        .prop_map(|(kind, min, max, default, request, ratio)| {
            let mut item =
                json!({"type": kind, "min": min, "max": max, "maxLimitRequestRatio": ratio});
            if kind == "Container" {
                item["default"] = default.into();
                item["defaultRequest"] = request.into();
            }
            item
        })
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    let ranges = vec(vec(item(), 1..3), 0..3).prop_map(|ranges| {
        let ranges = ranges
            .into_iter()
            .map(|limits| json!({"spec": {"limits": limits}}));
        ranges
            .map(|range| Arc::new(serde_json::from_value(range).unwrap()))
            .collect()
    });
    let keys = select(vec![
        "limits.cpu",
        "limits.memory",
        "requests.cpu",
        "requests.memory",
        "pods",
    ]);
    let scope = option::weighted(0.3, select(vec!["BestEffort", "NotBestEffort"]));
    let quotas = vec((btree_map(keys, Just("9"), 1..3), scope), 0..3).prop_map(|quotas| {
        let quotas = quotas.into_iter().map(|(hard, scope)| {
            let scopes = scope.map(|scope| [scope]);
            // Nothing else can be counted of such pods.
            let hard = if scope == Some("BestEffort") {
                BTreeMap::from([("pods", "9")])
            } else {
                hard
            };
            let quota = json!({"spec": {"hard": hard, "scopes": scopes}});
            Arc::new(serde_json::from_value(quota).unwrap())
        });
        quotas.collect()
    });
    (ranges, quotas).prop_map(|(limit_ranges, resource_quotas)| Surroundings {
        limit_ranges,
        resource_quotas,
        ..Surroundings::default()
    })
}

fn app() -> impl Strategy<Value = PodSpec> {
    let container = (option::of(quantities()), option::of(quantities()));
    vec(container, 1..3).prop_map(|containers| {
        let containers = containers.into_iter().map(|(requests, limits)| {
            json!({"name": "app", "resources": {"requests": requests, "limits": limits}})
        });
        let containers: Vec<_> = containers.collect();
        serde_json::from_value(json!({"containers": containers})).unwrap()
    })
}

/// Returns the pod as the webhook is asked about it, filled in.
fn filled(mut spec: PodSpec, surroundings: &Surroundings) -> PodSpec {
    let ranges = surroundings.limit_ranges.iter();
    let items: Vec<_> = ranges
        .flat_map(|range| &range.spec.as_ref().unwrap().limits)
        .filter(|item| item.type_ == "Container")
        .collect();
    for container in &mut spec.containers {
        fill(container, &items);
    }
    spec
}

fn with_sidecar(mut spec: PodSpec, share: &Share) -> PodSpec {
    let said = |cpu: &Option<String>, memory: &Option<String>| {
        let said = [("cpu", cpu), ("memory", memory)].into_iter();
        let said = said.filter_map(|(name, text)| Some((name.to_owned(), Quantity(text.clone()?))));
        Some(said.collect())
    };
    spec.init_containers = Some(vec![Container {
        name: "sidecar".to_owned(),
        restart_policy: Some("Always".to_owned()),
        resources: Some(ResourceRequirements {
            requests: said(&share.cpu_request, &share.memory_request),
            limits: said(&share.cpu_limit, &share.memory_limit),
            ..ResourceRequirements::default()
        }),
        ..Container::default()
    }]);
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn a_pod_that_is_taken_is_taken_with_its_sidecar(
        spec in app(),
        surroundings in surroundings(),
        limits in option::of(Just(("50m", "32Mi"))),
    ) {
        let spec = filled(spec, &surroundings);
        let (ranges, quotas) = (&surroundings.limit_ranges, &surroundings.resource_quotas);
        prop_assume!(refused(spec.clone(), ranges, quotas).is_none());
        let wanted = Share {
            cpu_request: Some("5m".to_owned()),
            memory_request: Some("8Mi".to_owned()),
            cpu_limit: limits.map(|limits| limits.0.to_owned()),
            memory_limit: limits.map(|limits| limits.1.to_owned()),
        };
        let fitted = fit(&spec, 0, &BTreeMap::new(), &surroundings, &wanted, &mut Vec::new());
        if let Ok(share) = fitted {
            let injected = with_sidecar(spec.clone(), &share);
            prop_assert_eq!(refused(injected, ranges, quotas), None, "{:?}", share);
            let backwards: Vec<_> = ranges.iter().rev().cloned().collect();
            let injected = with_sidecar(spec, &share);
            prop_assert_eq!(refused(injected, &backwards, quotas), None, "{:?}", share);
        }
    }
}

fn demands(quota: &Value, spec: Value) -> bool {
    let quota = json!({"spec": quota});
    let surroundings = Surroundings {
        resource_quotas: vec![Arc::new(serde_json::from_value(quota).unwrap())],
        ..Surroundings::default()
    };
    let mut pod = spec;
    pod["containers"] = json!([{"name": "web", "resources": {"requests": {"cpu": "1"}}}]);
    let pod = serde_json::from_value(pod).unwrap();
    quotas::demand_limit(&surroundings, &pod, false, "cpu")
}

#[test]
fn a_quota_demands_limits_of_the_pods_in_its_scopes() {
    let hard = json!({"limits.cpu": "1"});
    let none = || json!({});
    assert!(demands(&json!({"hard": hard}), none()));
    assert!(!demands(
        &json!({"hard": {"requests.cpu": "1", "limits.memory": "1"}}),
        none()
    ));
    let scoped = |scope: &str, spec| demands(&json!({"hard": hard, "scopes": [scope]}), spec);
    let ending = || json!({"activeDeadlineSeconds": 60});
    assert!(scoped("Terminating", ending()));
    assert!(!scoped("Terminating", none()));
    assert!(scoped("NotTerminating", none()));
    assert!(!scoped("NotTerminating", ending()));
    assert!(scoped("NotBestEffort", none()));
    assert!(!scoped("BestEffort", none()));
    assert!(scoped("ScopeOfTheFuture", none()));
    let urgent = || json!({"priorityClassName": "urgent"});
    assert!(scoped("PriorityClass", urgent()));
    assert!(!scoped("PriorityClass", none()));
    for (operator, values, of_urgent, of_none) in [
        ("In", json!(["urgent"]), true, false),
        ("In", json!(["idle"]), false, false),
        ("NotIn", json!(["urgent"]), false, true),
        ("NotIn", json!(["idle"]), true, true),
        ("Exists", json!(null), true, false),
        ("DoesNotExist", json!(null), false, true),
    ] {
        let scope = json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
        let quota = json!({"hard": hard, "scopeSelector": {"matchExpressions": [scope]}});
        assert_eq!(
            (demands(&quota, urgent()), demands(&quota, none())),
            (of_urgent, of_none),
            "{operator} {values}"
        );
    }
}
