//! What injection has to know of the cluster around a pod; whoever calls has it from informers.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{LimitRange, ResourceQuota, Service},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

/// Label of a namespace with the Pod Security level that is enforced.
pub(crate) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Looks up what is around a pod.
pub trait Cluster: Send + Sync + 'static {
    /// Returns what is known of a namespace. Answers from memory: an admission waits for it.
    fn surroundings(&self, namespace: &str) -> View;
}

/// What is known of a namespace.
#[derive(Clone, Debug)]
pub enum View {
    /// All there is to know.
    Known(Surroundings),
    /// Nothing yet, or not everything: it is newer than what has been seen of the cluster. Its pods are admitted as they
    /// come, and people hear of it.
    NotYet,
    /// It is not among the namespaces that are watched. Its pods are left without a word.
    NotOurs,
}

/// A namespace and what in it bears on its pods.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Labels of the namespace.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the namespace.
    pub annotations: BTreeMap<String, String>,
    /// All Services of the namespace.
    pub services: Vec<Arc<Service>>,
    /// All network policies of the namespace.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// All `LimitRange`s of the namespace.
    pub limit_ranges: Vec<Arc<LimitRange>>,
    /// All `ResourceQuota`s of the namespace.
    pub resource_quotas: Vec<Arc<ResourceQuota>>,
    /// Whether each API server of the cluster takes a lifecycle hook that sleeps. One of Kubernetes 1.29 forgets the sleep
    /// and then refuses the pod, because its hook does nothing.
    pub sleeps: bool,
}

impl Surroundings {
    /// Returns the Pod Security level that is enforced here, `otherwise` where the namespace says none. A level that
    /// does not exist counts as restricted, as it does for the API server.
    pub fn pod_security(&self, otherwise: PodSecurity) -> PodSecurity {
        match self.labels.get(ENFORCE).map(String::as_str) {
            None => otherwise,
            Some("privileged") => PodSecurity::Privileged,
            Some("baseline") => PodSecurity::Baseline,
            Some(_) => PodSecurity::Restricted,
        }
    }
}

/// Levels of the Pod Security Standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodSecurity {
    /// Everything is allowed.
    #[default]
    Privileged,
    /// Known ways to more privilege are forbidden.
    Baseline,
    /// Hardened.
    Restricted,
}

impl fmt::Display for PodSecurity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// Whether a Service with this selector sends traffic to pods with these labels. One without a selector has endpoints
/// that somebody else writes.
pub(crate) fn service_selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let Some(spec) = &service.spec else {
        return false;
    };
    let external = spec.type_.as_deref() == Some("ExternalName");
    let selector = spec
        .selector
        .as_ref()
        .filter(|selector| !selector.is_empty());
    !external && selector.is_some_and(|selector| contains(labels, selector))
}

/// Whether pods with these labels are selected. A selector that demands nothing selects all.
pub(crate) fn label_selector_selects(
    selector: &LabelSelector,
    labels: &BTreeMap<String, String>,
) -> bool {
    let by_labels = selector
        .match_labels
        .as_ref()
        .is_none_or(|wanted| contains(labels, wanted));
    let expressions = selector.match_expressions.iter().flatten();
    by_labels
        && expressions.into_iter().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = || {
                let mut values = expression.values.iter().flatten();
                value.is_some_and(|value| values.any(|listed| listed == value))
            };
            match expression.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                // Not known yet: better to take a policy for ours than to overlook it.
                _ => true,
            }
        })
}

fn contains(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels() -> BTreeMap<String, String> {
        BTreeMap::from([("app".to_owned(), "web".to_owned())])
    }

    fn selects(selector: serde_json::Value) -> bool {
        label_selector_selects(&serde_json::from_value(selector).unwrap(), &labels())
    }

    #[test]
    fn label_selectors_select_as_in_kubernetes() {
        assert!(selects(json!({})));
        assert!(selects(json!({"matchLabels": {"app": "web"}})));
        assert!(!selects(
            json!({"matchLabels": {"app": "web", "tier": "front"}})
        ));
        for (operator, key, values, expected) in [
            ("In", "app", vec!["api", "web"], true),
            ("In", "app", vec!["api"], false),
            ("In", "tier", vec!["web"], false),
            ("NotIn", "app", vec!["web"], false),
            ("NotIn", "tier", vec!["web"], true),
            ("Exists", "app", vec![], true),
            ("Exists", "tier", vec![], false),
            ("DoesNotExist", "app", vec![], false),
            ("DoesNotExist", "tier", vec![], true),
        ] {
            let expression = json!({"key": key, "operator": operator, "values": values});
            assert_eq!(
                selects(json!({"matchExpressions": [expression]})),
                expected,
                "{operator} {key}"
            );
        }
    }

    #[test]
    fn a_service_selects_by_all_its_labels_and_never_without_any() {
        let service = |spec| -> Service { serde_json::from_value(json!({"spec": spec})).unwrap() };
        assert!(service_selects(
            &service(json!({"selector": {"app": "web"}})),
            &labels()
        ));
        let more = json!({"selector": {"app": "web", "tier": "front"}});
        assert!(!service_selects(&service(more), &labels()));
        assert!(!service_selects(
            &service(json!({"selector": {}})),
            &labels()
        ));
        assert!(!service_selects(&service(json!({})), &labels()));
        let external = json!({"type": "ExternalName", "selector": {"app": "web"}});
        assert!(!service_selects(&service(external), &labels()));
    }

    #[test]
    fn the_pod_security_level_is_the_namespaces_or_the_clusters() {
        let level = |label: Option<&str>| {
            let labels = label.map(|value| (ENFORCE.to_owned(), value.to_owned()));
            let surroundings = Surroundings {
                labels: labels.into_iter().collect(),
                ..Surroundings::default()
            };
            surroundings.pod_security(PodSecurity::Baseline)
        };
        assert_eq!(level(None), PodSecurity::Baseline);
        assert_eq!(level(Some("privileged")), PodSecurity::Privileged);
        assert_eq!(level(Some("baseline")), PodSecurity::Baseline);
        assert_eq!(level(Some("restricted")), PodSecurity::Restricted);
        assert_eq!(level(Some("resricted")), PodSecurity::Restricted);
    }
}
