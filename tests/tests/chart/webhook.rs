//! What the API server is told of the webhook, and the certificates, which nothing here may take from those who fill them in.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use serde_json::json;
use stillwake_e2e::chart::Release;
use stillwake_webhook::{
    registration::{Installation, entries},
    settings::Settings,
};

use crate::rendered::{self, CASES, NAMESPACE, render};

#[test]
fn the_api_server_is_asked_to_send_what_the_webhook_expects() {
    for (case, rendered) in CASES.iter() {
        let service = &rendered.arguments("webhook")["service"][0];
        let watched = rendered
            .arguments("webhook")
            .remove("watch-namespace")
            .unwrap_or_default();
        let expected = entries(&Installation {
            namespace: NAMESPACE,
            service,
            watched: &watched,
        });
        let by_name = |entries: Vec<MutatingWebhook>| {
            let entries = entries.into_iter().map(|mut entry| {
                // Values may say otherwise about these two.
                entry.failure_policy = None;
                entry.timeout_seconds = None;
                (entry.name.clone(), entry)
            });
            entries.collect::<BTreeMap<_, _>>()
        };
        let configurations = rendered.all("MutatingWebhookConfiguration");
        let [configuration] = configurations[..] else {
            panic!("{}: {configurations:?}", case.name)
        };
        let configuration: MutatingWebhookConfiguration =
            serde_json::from_value(configuration.clone()).unwrap();
        let rendered = configuration.webhooks.unwrap();
        assert_eq!(
            by_name(rendered),
            by_name(expected.to_vec()),
            "{}",
            case.name
        );
    }
    let rendered = render(&Release::with(json!({})));
    for entry in rendered.all("MutatingWebhookConfiguration")[0]["webhooks"]
        .as_array()
        .unwrap()
    {
        assert_eq!(entry["failurePolicy"], "Ignore");
        assert_eq!(entry["timeoutSeconds"], 3);
    }
}

#[test]
fn apps_are_told_to_stop_when_the_values_say() {
    let delay = |values| {
        let rendered = render(&Release::with(values));
        rendered.arguments("webhook").remove("stop-delay").unwrap()
    };
    let default = Settings::new("", Vec::new()).stop_delay;
    let default = [format!("{}s", default.as_secs())];
    assert_eq!(delay(json!({})), default);
    assert_eq!(delay(json!({"activator": {"enabled": false}})), default);
    assert_eq!(delay(json!({"sidecar": {"stopDelay": "0s"}})), ["0s"]);
}

#[test]
fn what_the_webhook_fills_in_is_not_written_so_that_no_upgrade_takes_it_away() {
    for (case, rendered) in CASES.iter() {
        for configuration in rendered.all("MutatingWebhookConfiguration") {
            assert!(
                !configuration.to_string().contains("caBundle"),
                "{}",
                case.name
            );
        }
        for secret in rendered.all("Secret") {
            let keys: Vec<_> = secret.as_object().unwrap().keys().collect();
            assert_eq!(
                keys,
                ["apiVersion", "kind", "metadata", "type"],
                "{}",
                case.name
            );
        }
        for lease in rendered.all("Lease") {
            assert_eq!(lease.get("spec"), None, "{}", case.name);
        }
    }
}

#[test]
fn cert_manager_is_asked_for_certificates_of_the_names_that_are_dialled() {
    for case in [
        "certificates of cert-manager",
        "certificates of an issuer that exists",
    ] {
        let rendered = rendered::case(case);
        for (component, flags) in [
            ("webhook", &["service"][..]),
            ("aggregator", &["service", "reports-service"]),
        ] {
            let arguments = rendered.arguments(component);
            let secret = &arguments["certificate-secret"][0];
            assert!(
                rendered.find("Secret", secret).is_some(),
                "{case}: it would outlive the release"
            );
            let certificate = rendered.find("Certificate", secret).unwrap();
            assert_eq!(&certificate["spec"]["secretName"], secret, "{case}");
            let names = certificate["spec"]["dnsNames"].as_array().unwrap();
            for service in flags.iter().map(|flag| &arguments[*flag][0]) {
                for suffix in ["", ".svc", ".svc.cluster.local"] {
                    let name = format!("{service}.{NAMESPACE}{suffix}");
                    assert!(names.contains(&json!(name)), "{case}: {name}");
                }
            }
            let issuer = certificate["spec"]["issuerRef"]["name"].as_str().unwrap();
            let exists = rendered.find("Issuer", issuer).is_some();
            assert_eq!(exists, case == "certificates of cert-manager", "{issuer}");
        }
        let configuration = &rendered.all("MutatingWebhookConfiguration")[0]["metadata"];
        let from = format!(
            "{NAMESPACE}/{}",
            rendered.arguments("webhook")["certificate-secret"][0]
        );
        assert_eq!(
            configuration["annotations"]["cert-manager.io/inject-ca-from"], from,
            "{case}"
        );
    }
}
