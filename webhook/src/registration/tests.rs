//! Which pods reach the webhook, by the API server's own rules for selectors.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{policy, surroundings::label_selector_selects};

const INSTALLATION: Installation<'_> = Installation {
    namespace: "stillwake-system",
    service: "stillwake-webhook",
    watched: &[],
};

type Labels = BTreeMap<String, String>;

fn labels(inject: Option<&str>) -> Labels {
    let inject = inject.map(|value| (INJECT.to_owned(), value.to_owned()));
    inject.into_iter().collect()
}

/// Returns how often a pod would reach the webhook.
fn reached(
    installation: &Installation<'_>,
    namespace: &str,
    of_namespace: &Labels,
    of_pod: &Labels,
) -> usize {
    let mut of_namespace = of_namespace.clone();
    of_namespace.insert(NAMESPACE_NAME.to_owned(), namespace.to_owned());
    let entries = entries(installation).into_iter();
    let reached = entries.filter(|entry| {
        let selects = |selector: &Option<LabelSelector>, labels: &Labels| {
            label_selector_selects(selector.as_ref().unwrap(), labels)
        };
        selects(&entry.namespace_selector, &of_namespace) && selects(&entry.object_selector, of_pod)
    });
    reached.count()
}

#[test]
fn who_should_be_injected_is_sent_once_and_who_said_nothing_never() {
    let values = [None, Some("enabled"), Some("disabled"), Some("true")];
    for (own, of_namespace) in values
        .iter()
        .flat_map(|own| values.map(|namespace| (labels(*own), labels(namespace))))
    {
        let pod = json!({"metadata": {"labels": own}, "spec": {"containers": []}});
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        let spec = pod.spec.as_ref().unwrap();
        let decided = policy::decide(&pod, spec, &of_namespace, &mut Vec::new());
        let sent = reached(&INSTALLATION, "shop", &of_namespace, &own);
        assert_eq!(
            sent,
            usize::from(decided.is_ok()),
            "{own:?} {of_namespace:?}"
        );
        for without in ["kube-system", "stillwake-system"] {
            assert_eq!(reached(&INSTALLATION, without, &of_namespace, &own), 0);
        }
    }
}

#[test]
fn nothing_is_sent_from_namespaces_that_are_not_watched() {
    let watched = ["shop".to_owned(), "kube-system".to_owned()];
    let installation = Installation {
        watched: &watched,
        ..INSTALLATION
    };
    for (namespace, expected) in [("shop", 1), ("other", 0), ("kube-system", 0)] {
        let asking = labels(Some("enabled"));
        let by_pod = reached(&installation, namespace, &labels(None), &asking);
        let by_namespace = reached(&installation, namespace, &asking, &labels(None));
        assert_eq!((by_pod, by_namespace), (expected, expected), "{namespace}");
    }
}

#[test]
fn a_failure_of_ours_holds_up_no_pod() {
    for entry in entries(&INSTALLATION) {
        assert_eq!(entry.failure_policy.as_deref(), Some("Ignore"));
        assert!(entry.timeout_seconds.unwrap() <= PATIENCE);
        assert!(
            entry.name.split('.').count() >= 3,
            "the API server wants a full name"
        );
    }
}
