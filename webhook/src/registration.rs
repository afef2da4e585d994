//! What the API server is to send us: the two entries that the chart registers, so that a test can compare the chart with
//! them. Nothing is registered here.
//!
//! Only pods that somebody asked about reach the webhook: the API server itself keeps all others back by their labels and
//! their namespace's. So none of our failures can touch, or even slow down, a pod that has nothing to do with us.
//!
//! 1. Pods that ask for themselves, in whatever namespace.
//! 2. Pods that say nothing (or nothing that makes sense), in a namespace that asks for all its pods.
//!
//! A pod matches one of them at most. `kube-system` and our own namespace are in neither: what runs there has to start
//! before us, or is us.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MutatingWebhook, RuleWithOperations, ServiceReference, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};

use crate::{
    names::{DISABLED, ENABLED, INJECT},
    server::PATH,
};

/// Label of every namespace with its own name, which the API server writes.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// How long an API server waits for us before it creates the pod as it came, in seconds.
const PATIENCE: i32 = 3;

/// Where the webhook runs and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// Our namespace.
    pub namespace: &'a str,
    /// Name of the webhook's Service in it.
    pub service: &'a str,
    /// The namespaces whose pods may be injected; none is all.
    pub watched: &'a [String],
}

/// Returns the entries of the `MutatingWebhookConfiguration`, without the `caBundle` that is written later.
pub fn entries(installation: &Installation<'_>) -> [MutatingWebhook; 2] {
    let pods = LabelSelector {
        match_labels: Some([(INJECT.to_owned(), ENABLED.to_owned())].into()),
        match_expressions: None,
    };
    let namespaces = LabelSelector {
        match_labels: None,
        match_expressions: Some(namespaces(installation)),
    };
    let undecided_pods = LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![requirement(INJECT, "NotIn", [ENABLED, DISABLED])]),
    };
    let asking_namespaces = LabelSelector {
        match_labels: pods.match_labels.clone(),
        ..namespaces.clone()
    };
    [
        entry("pods.inject.stillwake.dev", installation, namespaces, pods),
        entry(
            "namespaces.inject.stillwake.dev",
            installation,
            asking_namespaces,
            undecided_pods,
        ),
    ]
}

fn namespaces(installation: &Installation<'_>) -> Vec<LabelSelectorRequirement> {
    let without = requirement(
        NAMESPACE_NAME,
        "NotIn",
        ["kube-system", installation.namespace],
    );
    let watched = installation.watched;
    let watched = (!watched.is_empty()).then(|| requirement(NAMESPACE_NAME, "In", watched));
    [without].into_iter().chain(watched).collect()
}

fn requirement(
    key: &str,
    operator: &str,
    values: impl IntoIterator<Item = impl AsRef<str>>,
) -> LabelSelectorRequirement {
    let values = values.into_iter();
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.map(|value| value.as_ref().to_owned()).collect()),
    }
}

fn entry(
    name: &str,
    installation: &Installation<'_>,
    namespaces: LabelSelector,
    pods: LabelSelector,
) -> MutatingWebhook {
    let some = |text: &str| Some(text.to_owned());
    MutatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: WebhookClientConfig {
            service: Some(ServiceReference {
                namespace: installation.namespace.to_owned(),
                name: installation.service.to_owned(),
                path: some(PATH),
                port: Some(443),
            }),
            ..WebhookClientConfig::default()
        },
        rules: Some(vec![RuleWithOperations {
            operations: Some(vec!["CREATE".to_owned()]),
            api_groups: Some(vec![String::new()]),
            api_versions: Some(vec!["v1".to_owned()]),
            resources: Some(vec!["pods".to_owned()]),
            scope: some("Namespaced"),
        }]),
        namespace_selector: Some(namespaces),
        object_selector: Some(pods),
        // A pod without its sidecar is seen and counts as unknown; a pod that cannot start is an outage.
        failure_policy: some("Ignore"),
        // What another webhook adds after us, such as a mesh's containers, may have ports of the same name.
        reinvocation_policy: some("IfNeeded"),
        match_policy: some("Equivalent"),
        // Events, which a dry run does not leave.
        side_effects: "NoneOnDryRun".to_owned(),
        timeout_seconds: Some(PATIENCE),
        match_conditions: None,
    }
}

#[cfg(test)]
mod tests;
