//! Whether a network policy that lets traffic in to an app's port would keep it out at the sidecar's.
//!
//! A rule that names the port by name follows the name, and one without ports lets everything in. Knows only
//! `networking.k8s.io` policies, not those of single network plugins.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{pod, surroundings::label_selector_selects};

/// Returns the name of a policy for these labels that allows `app` by number and not `listen`.
pub(super) fn blocking(
    policies: &[Arc<NetworkPolicy>],
    labels: &BTreeMap<String, String>,
    app: u16,
    listen: u16,
) -> Option<String> {
    let blocks = |policy: &&Arc<NetworkPolicy>| {
        let rules = ingress(policy, labels);
        let mut rules = rules.into_iter().flatten();
        rules.any(|rule| allows(rule, app) && !allows(rule, listen))
    };
    policies
        .iter()
        .find(blocks)
        .map(|policy| policy.metadata.name.clone().unwrap_or_default())
}

/// Returns the rules for traffic into pods with these labels, if the policy has any say in that.
fn ingress<'a>(
    policy: &'a NetworkPolicy,
    labels: &BTreeMap<String, String>,
) -> Option<&'a Vec<NetworkPolicyIngressRule>> {
    let spec = policy.spec.as_ref()?;
    let selector = spec.pod_selector.as_ref();
    let selects = selector.is_none_or(|selector| label_selector_selects(selector, labels));
    let mut types = spec.policy_types.iter().flatten();
    let about_ingress =
        spec.policy_types.is_none() || types.any(|direction| direction == "Ingress");
    (selects && about_ingress)
        .then_some(spec.ingress.as_ref())
        .flatten()
}

fn allows(rule: &NetworkPolicyIngressRule, number: u16) -> bool {
    let ports = rule.ports.as_deref().unwrap_or_default();
    ports.is_empty() || ports.iter().any(|port| covers(port, number))
}

fn covers(port: &NetworkPolicyPort, number: u16) -> bool {
    if !pod::is_tcp(port.protocol.as_ref()) {
        return false;
    }
    let number = i32::from(number);
    match &port.port {
        None => true,
        Some(IntOrString::Int(first)) => {
            (*first..=port.end_port.unwrap_or(*first)).contains(&number)
        }
        Some(IntOrString::String(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn blocked(spec: &Value) -> bool {
        let policy = json!({"metadata": {"name": "fence"}, "spec": spec});
        let policies = [Arc::new(serde_json::from_value(policy).unwrap())];
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let blocking = blocking(&policies, &labels, 8080, 15080);
        assert!(blocking.is_none() || blocking.as_deref() == Some("fence"));
        blocking.is_some()
    }

    fn blocked_by(ports: &Value) -> bool {
        blocked(&json!({"podSelector": {}, "ingress": [{"ports": ports}]}))
    }

    #[test]
    fn a_rule_blocks_that_allows_the_apps_port_and_not_the_sidecars() {
        assert!(blocked_by(&json!([{"port": 8080}])));
        assert!(blocked_by(
            &json!([{"port": 8080, "protocol": "TCP"}, {"port": 9090}])
        ));
        assert!(blocked_by(&json!([{"port": 8000, "endPort": 9000}])));
        assert!(!blocked_by(&json!([{"port": 8080}, {"port": 15080}])));
        assert!(!blocked_by(&json!([{"port": 8000, "endPort": 16000}])));
        assert!(
            !blocked_by(&json!([{"port": 9090}])),
            "the app's port was closed before"
        );
        assert!(!blocked_by(&json!([{"port": 8080, "protocol": "UDP"}])));
        assert!(
            !blocked_by(&json!([{"port": "http"}])),
            "the name moves along"
        );
        assert!(!blocked_by(&json!([{"protocol": "TCP"}])));
        assert!(!blocked_by(&json!([])));
    }

    #[test]
    fn only_a_policy_about_traffic_into_this_pod_counts() {
        let rule = json!([{"ports": [{"port": 8080}]}]);
        let selecting =
            |selector: Value| blocked(&json!({"podSelector": selector, "ingress": rule}));
        assert!(selecting(json!({"matchLabels": {"app": "web"}})));
        assert!(!selecting(json!({"matchLabels": {"app": "api"}})));
        let typed = |types: Value| {
            blocked(&json!({"podSelector": {}, "policyTypes": types, "ingress": rule}))
        };
        assert!(typed(json!(["Ingress", "Egress"])));
        assert!(!typed(json!(["Egress"])));
        assert!(
            !blocked(&json!({"podSelector": {}})),
            "nothing came in before either"
        );
    }
}
