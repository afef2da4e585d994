//! `caBundle` against a scripted API server.

use serde_json::Value;

use super::*;
use crate::{
    authority::Authority,
    kubernetes::scripted::Server,
    testing::{HOUR, at},
};

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hook";
const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/hook";

fn configuration(kind: &str) -> Value {
    let webhook = |name: &str| {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "hook", "namespace": "system", "path": "/mutate"}},
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "hook"},
        "webhooks": [webhook("one.example.com"), webhook("other.example.com")],
    })
}

fn bundle() -> Bundle {
    let authority = Authority::create(HOUR, at(HOUR)).unwrap();
    Bundle::from_pem(authority.certificate_pem(), "the test").unwrap()
}

async fn publishes<K: WebhookConfiguration>(path: &str, kind: &str) {
    let server = Server::default();
    let publisher = WebhookConfigurations::<K>::new(server.client(), "hook");
    let bundle = bundle();
    assert_eq!(publisher.published().await.unwrap(), None);
    server.put(path, configuration(kind));
    assert_eq!(
        publisher.published().await.unwrap(),
        Some(Trusted::default())
    );

    publisher.publish(&bundle).await.unwrap();
    assert_eq!(publisher.published().await.unwrap(), Some(bundle.trusted()));
    let writes = server.writes();
    assert_eq!(writes.len(), 1);
    assert!(
        writes[0].starts_with(&format!("PATCH {path} application/apply-patch")),
        "{writes:?}"
    );
    assert!(
        writes[0].contains("fieldManager=stillwake-certs"),
        "{writes:?}"
    );
    assert!(!writes[0].contains("force=true"), "{writes:?}");
    let object = server.object(path).unwrap();
    assert_eq!(
        object["webhooks"][1]["clientConfig"]["service"]["path"],
        "/mutate"
    );
}

#[tokio::test]
async fn a_bundle_is_applied_to_every_webhook_and_nothing_else_is() {
    publishes::<MutatingWebhookConfiguration>(MUTATING, "MutatingWebhookConfiguration").await;
    publishes::<ValidatingWebhookConfiguration>(VALIDATING, "ValidatingWebhookConfiguration").await;
}

#[tokio::test]
async fn what_is_published_is_what_all_webhooks_have() {
    let server = Server::default();
    let publisher =
        WebhookConfigurations::<MutatingWebhookConfiguration>::new(server.client(), "hook");
    let (bundle, other) = (bundle(), self::bundle());
    let encoded = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let both = format!("{}{}", bundle.pem(), other.pem());
    for (second, expected) in [
        (both.as_str(), bundle.trusted()),
        (other.pem(), Trusted::default()),
        ("no PEM", Trusted::default()),
    ] {
        let mut object = configuration("MutatingWebhookConfiguration");
        object["webhooks"][0]["clientConfig"]["caBundle"] = encoded(bundle.pem());
        object["webhooks"][1]["clientConfig"]["caBundle"] = encoded(second);
        server.put(MUTATING, object);
        assert_eq!(publisher.published().await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn a_configuration_that_does_not_exist_is_not_created() {
    let server = Server::default();
    let publisher =
        WebhookConfigurations::<MutatingWebhookConfiguration>::new(server.client(), "hook");
    let error = publisher.publish(&bundle()).await.unwrap_err();
    let source = StdError::source(&error).unwrap();
    let error = format!("{error}: {source}");
    assert!(
        error.contains("MutatingWebhookConfiguration hook"),
        "{error}"
    );
    assert!(error.contains("does not exist"), "{error}");
    assert!(server.writes().is_empty());
}
