//! Names and numbers fit together: what the programs are told, what Services and rules select, and what users paste.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stillwake_e2e::chart::{Chart, Release};

use crate::{
    flags,
    rendered::{CASES, COMPONENTS, NAMESPACE, render},
};

#[test]
fn every_object_has_one_name_and_the_release_s_labels() {
    for (case, rendered) in CASES.iter() {
        let mut seen = BTreeSet::new();
        for object in &rendered.objects {
            let (kind, metadata) = (&object["kind"], &object["metadata"]);
            let name = metadata["name"].as_str().unwrap();
            assert!(
                seen.insert(format!("{kind} {} {name}", metadata["namespace"])),
                "{}: two of {kind} {name}",
                case.name
            );
            let instance = &metadata["labels"]["app.kubernetes.io/instance"];
            assert_eq!(instance, "stillwake", "{}: {kind} {name}", case.name);
        }
    }
}

#[test]
fn long_and_dotted_release_names_give_labels_that_no_other_release_has() {
    let names = |release: &str| {
        let rendered = render(&Release {
            name: release.to_owned(),
            ..Release::with(json!({}))
        });
        let names = rendered.objects.iter().map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            assert!(!name.contains('.') && !name.contains("--"), "{name}");
            // A Service's name is a part of a host name, and a Deployment's begins its pods' host names.
            let label = ["Service", "Deployment"]
                .iter()
                .any(|kind| object["kind"] == *kind);
            assert!(!label || name.len() <= 63, "{name}");
            name
        });
        names.collect::<BTreeSet<_>>()
    };
    // The longest that Helm takes.
    let long = "a".repeat(52);
    let dashed = format!("{}-{}", "a".repeat(42), "b".repeat(10));
    // The longest that stays as it is.
    let fitting = "c".repeat(42);
    let releases = [
        "stillwake",
        "web",
        "web.stillwake",
        &format!("{long}b"),
        &format!("{long}c"),
        &dashed,
        &fitting,
    ];
    let mut all = BTreeSet::new();
    for release in releases {
        for name in names(release) {
            assert!(
                all.insert(name.clone()),
                "{release} shares {name} with another release"
            );
        }
    }
    let fitting = format!("{fitting}-stillwake-aggregator");
    for name in ["stillwake-aggregator", "web-stillwake-aggregator", &fitting] {
        assert!(all.contains(name), "{name}");
    }
}

#[test]
fn what_the_programs_are_told_is_what_there_is() {
    for (case, rendered) in CASES.iter() {
        let what = case.name;
        let webhook = rendered.arguments("webhook");
        let aggregator = rendered.arguments("aggregator");
        let domain = webhook["cluster-domain"][0].as_str();

        let service = rendered.service(&webhook["service"][0]);
        assert_eq!(service.ports, [443], "{what}");
        rendered.assert_reaches(&service, "webhook", &[flags::port(&webhook["listen"][0])]);
        let scaler = rendered.service(&aggregator["service"][0]);
        rendered.assert_reaches(
            &scaler,
            "aggregator",
            &[flags::port(&aggregator["scaler"][0])],
        );
        assert_eq!(scaler.ports, [9090], "{what}: ScaledObjects name this one");
        assert!(scaler.headless && !scaler.with_unready, "{what}");
        let reports = rendered.service(&aggregator["reports-service"][0]);
        rendered.assert_reaches(
            &reports,
            "aggregator",
            &[flags::port(&aggregator["reports"][0])],
        );
        assert!(reports.headless && reports.with_unready, "{what}");
        let address = format!(
            "{}.{NAMESPACE}.svc.{domain}.:{}",
            reports.name, reports.ports[0]
        );
        assert_eq!(webhook["aggregator"], [address], "{what}");

        for component in rendered.components() {
            let arguments = rendered.arguments(component);
            let admin = flags::port(&arguments["admin"][0]);
            assert!(
                rendered.container_ports(component).contains(&admin),
                "{what}"
            );
            assert_eq!(arguments["cluster-domain"][0], domain, "{what}");
            for probe in ["livenessProbe", "readinessProbe"] {
                let port = rendered.container(component)[probe]["httpGet"]["port"].as_str();
                assert_eq!(port, Some("admin"), "{what}");
            }
        }
        for (flag, kind) in [
            ("authorities-secret", "Secret"),
            ("authorities-lease", "Lease"),
            ("webhook-configuration", "MutatingWebhookConfiguration"),
        ] {
            for name in webhook
                .get(flag)
                .into_iter()
                .chain(aggregator.get(flag))
                .flatten()
            {
                assert!(
                    rendered.find(kind, name).is_some(),
                    "{what}: --{flag}={name}"
                );
            }
        }
        assert_eq!(
            webhook.get("authorities-secret"),
            aggregator.get("authorities-secret"),
            "{what}"
        );
    }
}

#[test]
fn only_flags_that_the_programs_have_are_given_and_all_of_what_is_set_is() {
    let mut given = BTreeSet::new();
    for (case, rendered) in CASES.iter() {
        for component in rendered.components() {
            let known = flags::known(component);
            for flag in rendered.arguments(component).into_keys() {
                assert!(
                    known.contains(&flag),
                    "{}: {component} has no --{flag}",
                    case.name
                );
                given.insert(format!("{component} --{flag}"));
            }
        }
    }
    // What the pods are comes from the environment, and the audience is the same everywhere.
    let elsewhere = [
        "namespace",
        "name",
        "pod-uid",
        "pod-ip",
        "node",
        "token-audience",
    ];
    for component in COMPONENTS {
        for flag in flags::known(component) {
            let somewhere = elsewhere.contains(&flag.as_str())
                || given.contains(&format!("{component} --{flag}"));
            assert!(somewhere, "no values set --{flag} of {component}");
        }
    }
}

#[test]
fn selectors_select_one_component_and_rules_about_it_its_own_ports() {
    for (case, rendered) in CASES.iter() {
        let what = case.name;
        for component in rendered.components() {
            let selector = &rendered.workload(component)["spec"]["selector"]["matchLabels"];
            let pods = rendered.pods_of(selector);
            assert_eq!(pods, [component], "{what}");
        }
        for (kind, selector) in [
            ("PodDisruptionBudget", "/spec/selector/matchLabels"),
            ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ] {
            for object in rendered.all(kind) {
                let component =
                    object["metadata"]["labels"]["app.kubernetes.io/component"].as_str();
                let pods = rendered.pods_of(object.pointer(selector).unwrap());
                assert_eq!(pods, [component.unwrap()], "{what}: {kind}");
            }
        }
        for policy in rendered.all("NetworkPolicy") {
            let component = policy["metadata"]["labels"]["app.kubernetes.io/component"].as_str();
            let ingress = policy["spec"]["ingress"].as_array().unwrap();
            let rules = ingress.iter().map(|rule| &rule["ports"][0]);
            let ports: BTreeSet<_> = rules
                .filter(|rule| rule.get("endPort").is_none())
                .map(|rule| rule["port"].as_u64().unwrap())
                .collect();
            assert_eq!(
                ports,
                rendered.container_ports(component.unwrap()),
                "{what}"
            );
        }
        for (kind, endpoints) in [
            ("PodMonitor", "podMetricsEndpoints"),
            ("ServiceMonitor", "endpoints"),
        ] {
            for monitor in rendered.all(kind) {
                let endpoint = &monitor["spec"][endpoints][0];
                assert_eq!(endpoint["port"], "admin", "{what}: {kind}");
                assert_eq!(endpoint["interval"], "15s", "{what}: {kind}");
            }
        }
        for name in rendered
            .all("PriorityClass")
            .iter()
            .map(|class| &class["metadata"]["name"])
        {
            for component in rendered.components() {
                assert_eq!(
                    &rendered.pod(component)["priorityClassName"],
                    name,
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn the_notes_have_the_scaled_object_to_paste() {
    let spec = scaled_object(&json!({}));
    assert_eq!(spec["minReplicaCount"], 0);
    // Without these it takes KEDA long to wake what it was not told of, and a workload sleeps before it is known.
    assert_eq!(spec["pollingInterval"], 5);
    assert_eq!(spec["initialCooldownPeriod"], spec["cooldownPeriod"]);

    let without = scaled_object(&json!({"enabled": false}));
    assert_eq!(without["minReplicaCount"], 1);
    for spec in [spec, without] {
        // KEDA would start what sleeps whenever no aggregator answers.
        assert_eq!(spec.get("fallback"), None);
        let policies =
            &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"]["policies"];
        assert_eq!(
            *policies,
            json!([{"type": "Percent", "value": 900, "periodSeconds": 1}])
        );
    }
}

/// Returns the specification of the object in the notes, with these values of the activator.
fn scaled_object(activator: &Value) -> Value {
    let release = Release {
        name: "sleepy".to_owned(),
        namespace: NAMESPACE.to_owned(),
        ..Release::with(json!({"watchNamespaces": ["shop"], "activator": activator}))
    };
    let notes = Chart::find().unwrap().notes(&release).unwrap();
    assert!(
        notes.contains("kubectl label namespace shop stillwake.dev/inject=enabled"),
        "{notes}"
    );
    let (_, object) = notes.split_once("apiVersion:").unwrap();
    let (object, _) = object.split_once("\n\n").unwrap();
    let object: Value = serde_saphyr::from_str(&format!("apiVersion:{object}")).unwrap();
    let service = &render(&release).arguments("aggregator")["service"][0];
    let trigger = json!({
        "type": "external-push",
        "metadata": {"scalerAddress": format!("{service}.{NAMESPACE}:9090"), "targetConcurrency": "20"},
    });
    assert_eq!(object["spec"]["triggers"], json!([trigger]));
    assert_eq!(object["metadata"]["namespace"], "shop");
    object["spec"].clone()
}
