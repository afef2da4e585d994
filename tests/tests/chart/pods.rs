//! The pods: they may run where pods are restricted, and are what the values say.

use serde_json::{Value, json};
use stillwake_e2e::chart::Release;

use crate::{
    pod_security,
    rendered::{CASES, case, render},
};

#[test]
fn all_pods_may_run_where_pods_are_restricted() {
    for (case, rendered) in CASES.iter() {
        for component in rendered.components() {
            let violations = pod_security::violations(rendered.pod(component));
            assert_eq!(violations, [""; 0], "{}: {component}", case.name);
        }
    }
}

#[test]
fn pods_know_who_they_are() {
    for (case, rendered) in CASES.iter() {
        for component in rendered.components() {
            let environment = rendered.container(component)["env"].as_array().unwrap();
            let of_activator = [
                ("POD_UID", "metadata.uid"),
                ("POD_IPS", "status.podIPs"),
                ("NODE_NAME", "spec.nodeName"),
            ];
            let of_activator = of_activator
                .into_iter()
                .filter(|_| component == "activator");
            let of_all = [
                ("POD_NAME", "metadata.name"),
                ("POD_NAMESPACE", "metadata.namespace"),
            ];
            for (name, field) in of_all.into_iter().chain(of_activator) {
                let variable = environment
                    .iter()
                    .find(|variable| variable["name"] == name)
                    .unwrap();
                assert_eq!(
                    variable["valueFrom"]["fieldRef"]["fieldPath"], field,
                    "{}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn the_grace_period_outlasts_the_drain_delay() {
    let render = |values: Value| render(&Release::with(values));
    for (delay, grace, with_requests_held) in [("5s", 35, 105), ("120s", 150, 220)] {
        let rendered = render(json!({"drainDelay": delay}));
        for (component, grace) in [
            ("webhook", grace),
            ("aggregator", grace),
            ("activator", with_requests_held),
        ] {
            assert_eq!(rendered.arguments(component)["drain-delay"], [delay]);
            assert_eq!(
                rendered.pod(component)["terminationGracePeriodSeconds"],
                grace
            );
        }
    }
    let rendered = render(json!({"activator": {"hold": {"timeout": "300s"}}}));
    assert_eq!(
        rendered.pod("activator")["terminationGracePeriodSeconds"],
        345
    );
}

#[test]
fn everything_there_is_can_be_switched_off() {
    let rendered = case("switched off");
    for kind in [
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PriorityClass",
        "ServiceAccount",
    ] {
        assert_eq!(rendered.all(kind).len(), 0, "{kind}");
    }
    assert_eq!(rendered.pod("webhook")["serviceAccountName"], "injector");
    assert_eq!(rendered.pod("webhook")["priorityClassName"], Value::Null);
    let webhook = rendered.arguments("webhook");
    assert_eq!(webhook["sidecar-user"], [""]);
    assert_eq!(webhook["redirect"], ["false"]);
}

#[test]
fn large_numbers_are_written_out() {
    let rendered = case("can be set");
    let webhook = rendered.arguments("webhook");
    assert_eq!(webhook["sidecar-user"], ["1000650000"]);
    assert_eq!(webhook["sidecar-memory-request"], ["16777216"]);
    assert_eq!(webhook["sidecar-cpu-request"], ["0.5"]);
    let activator = rendered.arguments("activator");
    assert_eq!(activator["max-held"], ["2000000"]);
    assert_eq!(activator["max-held-bytes"], ["134217728"]);
    assert_eq!(
        rendered.pod("webhook")["securityContext"]["runAsUser"],
        1_000_650_000
    );
    assert_eq!(rendered.all("PriorityClass")[0]["value"], 1_000_000_000);
}

#[test]
fn images_are_named_by_tag_or_digest() {
    let image = |values: Value| {
        let rendered = render(&Release::with(
            json!({"image": values.clone(), "sidecar": {"image": values}}),
        ));
        let image = rendered.container("webhook")["image"]
            .as_str()
            .unwrap()
            .to_owned();
        let sidecar = rendered.arguments("webhook")["sidecar-image"][0].clone();
        (image, sidecar.replace("/stillwake-sidecar", "/stillwake"))
    };
    let version = env!("CARGO_PKG_VERSION");
    let digest = format!("sha256:{}", "a".repeat(64));
    for (values, expected) in [
        (
            json!({}),
            format!("docker.io/stillwake/stillwake:{version}"),
        ),
        (
            json!({"tag": "1"}),
            "docker.io/stillwake/stillwake:1".to_owned(),
        ),
        (
            json!({"tag": "1", "digest": digest}),
            format!("docker.io/stillwake/stillwake@{digest}"),
        ),
        (
            json!({"registry": "", "repository": "a/stillwake", "tag": "1"}),
            "a/stillwake:1".to_owned(),
        ),
    ] {
        let (control_plane, sidecar) = image(values);
        assert_eq!(control_plane, expected);
        assert_eq!(sidecar, expected);
    }
}
