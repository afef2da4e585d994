//! What no golden file can hold: pods that the API server of today would refuse, and settings that few have.

use serde_json::{Value, json};

use super::*;
use crate::names::{INJECT, SIDECAR};

fn pod(spec: Value) -> Value {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "web", "image": "web:1", "novel": [1],
        "ports": [{"name": "http", "containerPort": 8080, "novel": true}]}]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {INJECT: "enabled"}, "novel": {}},
        "spec": spec})
}

fn injected(settings: &Settings, pod: Value) -> (Value, Vec<Warning>) {
    injected_in(&Surroundings::default(), settings, pod)
}

fn injected_in(
    surroundings: &Surroundings,
    settings: &Settings,
    mut pod: Value,
) -> (Value, Vec<Warning>) {
    let bundle = Bundle {
        pem: "-----BEGIN CERTIFICATE-----".into(),
        name: "one".into(),
    };
    let typed = serde_json::from_value(pod.clone()).unwrap();
    let injection = inject(settings, Some(&bundle), typed, surroundings).unwrap();
    assert_eq!(injection.outcome, Outcome::Injected);
    json_patch::patch(&mut pod, &injection.patch).unwrap();
    (pod, injection.warnings)
}

fn settings(aggregators: &[&str]) -> Settings {
    let aggregators = aggregators.iter().map(|&aggregator| aggregator.to_owned());
    Settings::new("sidecar:1", aggregators.collect())
}

#[test]
fn fields_of_a_newer_kubernetes_stay_where_they_are() {
    let migrate = json!({"name": "migrate", "image": "web:1", "novel": {"level": 1}});
    let before = pod(json!({"initContainers": [migrate], "novel": "yes"}));
    let (after, _) = injected(&settings(&["aggregator:9091"]), before.clone());
    assert_eq!(after["spec"]["initContainers"][0]["name"], SIDECAR);
    assert_eq!(after["spec"]["initContainers"][1], migrate);
    for kept in [
        "/metadata/novel",
        "/spec/novel",
        "/spec/containers/0/novel",
        "/spec/containers/0/ports/0/novel",
    ] {
        assert!(before.pointer(kept).is_some(), "{kept}");
        assert_eq!(after.pointer(kept), before.pointer(kept), "{kept}");
    }
}

#[test]
fn where_an_api_server_may_refuse_it_no_hook_sleeps() {
    for (sleeps, expected) in [
        (true, json!({"sleep": {"seconds": 2}})),
        (false, json!(null)),
    ] {
        let surroundings = Surroundings {
            sleeps,
            ..Surroundings::default()
        };
        let (after, _) = injected_in(
            &surroundings,
            &settings(&["aggregator:9091"]),
            pod(json!({})),
        );
        assert_eq!(
            after["spec"]["containers"][0]["lifecycle"]["preStop"],
            expected
        );
    }
}

#[test]
fn who_looks_up_names_as_its_node_does_is_warned_unless_there_is_nothing_to_look_up() {
    let warned = |aggregators: &[&str], policy: Value| {
        let (_, warnings) = injected(&settings(aggregators), pod(json!({"dnsPolicy": policy})));
        let reasons: Vec<_> = warnings.iter().map(|warning| warning.reason).collect();
        assert!(reasons.is_empty() || reasons == [Reason::Unreported]);
        !reasons.is_empty()
    };
    let named = [
        "10.0.0.1:9091",
        "stillwake-reports.stillwake-system.svc.cluster.local:9091",
    ];
    assert!(warned(&named, json!("Default")));
    assert!(!warned(
        &["10.0.0.1:9091", "[fd00::1]:9091"],
        json!("Default")
    ));
    assert!(!warned(&[], json!("Default")));
    for policy in [
        json!("ClusterFirst"),
        json!("ClusterFirstWithHostNet"),
        json!("None"),
        json!(null),
    ] {
        assert!(!warned(&named, policy.clone()), "{policy}");
    }
}
