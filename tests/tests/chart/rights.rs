//! What each component may do in the cluster: exactly this.

use std::collections::BTreeSet;

use serde_json::json;
use stillwake_e2e::chart::Release;

use crate::{
    grants,
    rendered::{self, CASES, NAMESPACE, render},
};

/// Asserts what a component of a case may do, whatever its account is called.
fn assert_grants(case: &str, component: &str, expected: &[&str]) {
    let rendered = rendered::case(case);
    let account = rendered.pod(component)["serviceAccountName"]
        .as_str()
        .unwrap();
    let granted = grants::of(&rendered.objects, NAMESPACE, account);
    let expected: BTreeSet<_> = expected.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(granted, expected, "{case}: {component}");
}

const WEBHOOK: [&str; 7] = [
    "get,list,watch namespaces",
    "get,list,watch services",
    "get,list,watch limitranges",
    "get,list,watch resourcequotas",
    "get,list,watch networkpolicies.networking.k8s.io",
    "create,patch events",
    "create,patch events.events.k8s.io",
];

/// For the webhook that keeps the authorities itself.
const PODS: &str = "list pods";

const AGGREGATOR: [&str; 8] = [
    "get /openid/v1/jwks",
    "get,list,watch scaledobjects.keda.sh",
    "get,list,watch pods",
    "get,list,watch deployments.apps",
    "get,list,watch replicasets.apps",
    "get,list,watch statefulsets.apps",
    "create,patch events",
    "create,patch events.events.k8s.io",
];

/// For the activator, which has to know the UID.
const OWNER_OF_SLICES: &str = "get clusterroles.rbac.authorization.k8s.io \"stillwake-activator\"";

const ACTIVATOR: [&str; 10] = [
    "get,list,watch scaledobjects.keda.sh",
    "get,list,watch services",
    "get,list,watch pods",
    "get,list,watch deployments.apps",
    "get,list,watch replicasets.apps",
    "get,list,watch statefulsets.apps",
    "get,list,watch,create,patch,delete endpointslices.discovery.k8s.io",
    "create endpointslices/restricted.discovery.k8s.io",
    "create,patch events",
    "create,patch events.events.k8s.io",
];

#[test]
fn each_component_has_the_rights_it_needs_and_no_other() {
    for case in ["defaults", "everything that can be switched off"] {
        let own = [
            PODS,
            "get,patch mutatingwebhookconfigurations.admissionregistration.k8s.io \"stillwake\"",
            "get,patch secrets \"stillwake-authorities\" in autoscaling",
            "get,patch leases.coordination.k8s.io \"stillwake-authorities\" in autoscaling",
        ];
        assert_grants(case, "webhook", &[&WEBHOOK[..], &own].concat());
        let own = ["get secrets \"stillwake-authorities\" in autoscaling"];
        assert_grants(case, "aggregator", &[&AGGREGATOR[..], &own].concat());
    }
    for case in [
        "defaults",
        "everything that can be switched off",
        "certificates from Secrets",
        "an activator on every node",
    ] {
        assert_grants(
            case,
            "activator",
            &[&ACTIVATOR[..], &[OWNER_OF_SLICES]].concat(),
        );
    }
}

#[test]
fn no_role_says_more_than_it_lists_and_each_is_for_a_component() {
    for (case, rendered) in CASES.iter() {
        let what = case.name;
        let accounts: BTreeSet<_> = rendered
            .components()
            .map(|component| &rendered.pod(component)["serviceAccountName"])
            .map(|account| account.as_str().unwrap())
            .collect();
        let mut bound = BTreeSet::new();
        for kind in ["RoleBinding", "ClusterRoleBinding"] {
            for binding in rendered.all(kind) {
                let account = binding["subjects"][0]["name"].as_str().unwrap();
                assert!(accounts.contains(account), "{what}: {account}");
                bound.insert(binding["roleRef"]["name"].as_str().unwrap());
            }
        }
        for kind in ["Role", "ClusterRole"] {
            for role in rendered.all(kind) {
                let name = role["metadata"]["name"].as_str().unwrap();
                assert!(bound.contains(name), "{what}: {kind} {name}");
                for rule in role["rules"].as_array().unwrap() {
                    assert!(!rule.to_string().contains('*'), "{what}: {rule}");
                    let mut verbs = rule["verbs"].as_array().unwrap().iter();
                    let allowed = ["get", "list", "watch", "create", "patch", "delete"];
                    assert!(
                        verbs.all(|verb| allowed.contains(&verb.as_str().unwrap())),
                        "{what}: {rule}"
                    );
                }
            }
        }
    }
}

#[test]
fn with_certificates_of_others_only_these_are_read() {
    let from_secrets = "certificates from Secrets";
    let secret = "get secrets \"webhook\" in autoscaling";
    let publish =
        "get,patch mutatingwebhookconfigurations.admissionregistration.k8s.io \"stillwake\"";
    assert_grants(
        from_secrets,
        "webhook",
        &[&WEBHOOK[..], &[secret, publish]].concat(),
    );
    let secret_of_aggregator = "get secrets \"aggregator\" in autoscaling";
    assert_grants(
        from_secrets,
        "aggregator",
        &[&AGGREGATOR[..], &[secret_of_aggregator]].concat(),
    );

    let by_others = "certificates from Secrets, published by somebody else";
    assert_grants(by_others, "webhook", &[&WEBHOOK[..], &[secret]].concat());

    let secret = "get secrets \"stillwake-webhook-certificate\" in autoscaling";
    assert_grants(
        "certificates of cert-manager",
        "webhook",
        &[&WEBHOOK[..], &[secret]].concat(),
    );
    let secret = "get secrets \"stillwake-aggregator-certificate\" in autoscaling";
    assert_grants(
        "certificates of cert-manager",
        "aggregator",
        &[&AGGREGATOR[..], &[secret]].concat(),
    );
}

#[test]
fn with_watched_namespaces_nothing_in_others_can_be_read() {
    let scope = |line: &&str| match line.split_once(' ') {
        Some((_, path)) if path.starts_with('/') => (*line).to_owned(),
        // The namespace as an object belongs to none.
        Some((_, "namespaces")) => format!("{line} \"{NAMESPACE}\""),
        _ => format!("{line} in {NAMESPACE}"),
    };
    let case = "everything that can be set";
    let webhook = WEBHOOK.iter().chain([&PODS]).map(scope).collect::<Vec<_>>();
    let mut webhook: Vec<_> = webhook.iter().map(String::as_str).collect();
    webhook.extend([
        "get,patch mutatingwebhookconfigurations.admissionregistration.k8s.io \"sleepy\"",
        "get,patch secrets \"sleepy-authorities\" in autoscaling",
        "get,patch leases.coordination.k8s.io \"sleepy-authorities\" in autoscaling",
    ]);
    assert_grants(case, "webhook", &webhook);
    let aggregator = AGGREGATOR.iter().map(scope).collect::<Vec<_>>();
    let mut aggregator: Vec<_> = aggregator.iter().map(String::as_str).collect();
    aggregator.push("get secrets \"sleepy-authorities\" in autoscaling");
    assert_grants(case, "aggregator", &aggregator);
    let activator = ACTIVATOR.iter().map(scope).collect::<Vec<_>>();
    let mut activator: Vec<_> = activator.iter().map(String::as_str).collect();
    let owner = OWNER_OF_SLICES.replace("stillwake", "sleepy");
    activator.push(&owner);
    assert_grants(case, "activator", &activator);

    let several = render(&Release::with(json!({"watchNamespaces": ["shop", "mail"]})));
    for role in several.all("ClusterRole") {
        for rule in role["rules"].as_array().unwrap() {
            let resources = rule["resources"].as_array().into_iter().flatten();
            for resource in resources {
                assert!(
                    rule["resourceNames"].is_array(),
                    "all {resource} of the cluster"
                );
            }
        }
    }
    for component in several.components() {
        assert_eq!(
            several.arguments(component)["watch-namespace"],
            ["shop", "mail"]
        );
    }
    // Besides, the activator's pods know of each other.
    let granted = grants::of(&several.objects, "stillwake-system", "stillwake-activator");
    let own = granted
        .iter()
        .filter(|line| line.ends_with(" in stillwake-system"));
    assert_eq!(
        own.collect::<Vec<_>>(),
        ["get,list,watch pods in stillwake-system"]
    );
}
