//! Admissions as an API server asks for them, and trouble of every kind.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    authorities::Bundle,
    names::{AUTHORITIES, INJECT},
    surroundings::Surroundings,
};

/// Returns a bundle that the sidecar would take.
fn bundle(name: &str) -> Bundle {
    Bundle {
        pem: format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n").into(),
        name: name.into(),
    }
}

/// A cluster with one namespace that asks for the sidecar. A namespace called "broken" makes it panic, and one called
/// "theirs" is not watched.
struct OneNamespace;

impl Cluster for OneNamespace {
    fn surroundings(&self, namespace: &str) -> View {
        match namespace {
            "shop" => View::Known(Surroundings {
                labels: BTreeMap::from([(INJECT.to_owned(), "enabled".to_owned())]),
                ..Surroundings::default()
            }),
            "theirs" => View::NotOurs,
            "broken" => panic!("as a mistake of ours would"),
            _ => View::NotYet,
        }
    }
}

/// Authorities that come and go.
#[derive(Default)]
struct Exchangeable(Mutex<Option<Bundle>>);

impl Authorities for Exchangeable {
    fn bundle(&self) -> Option<Bundle> {
        self.0.lock().clone()
    }
}

#[derive(Default)]
struct Collected(Mutex<Vec<Notice>>);

impl Notices for Collected {
    fn publish(&self, notice: Notice) {
        self.0.lock().push(notice);
    }
}

struct Rig {
    admission: Admission,
    authorities: Arc<Exchangeable>,
    notices: Arc<Collected>,
    registry: Registry,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut Settings)) -> Self {
        let authorities = Arc::<Exchangeable>::default();
        *authorities.0.lock() = Some(bundle("one"));
        let notices = Arc::<Collected>::default();
        let mut registry = Registry::default();
        let mut settings = Settings::new("sidecar:1", vec!["aggregator:9091".to_owned()]);
        settings.redirect = false;
        set(&mut settings);
        let admission = Admission::new(
            settings,
            Arc::new(OneNamespace),
            Arc::clone(&authorities) as _,
            Arc::clone(&notices) as _,
            &mut registry,
        );
        Self {
            admission,
            authorities,
            notices,
            registry,
        }
    }

    /// Returns the response after what every response must have was checked.
    fn ask(&self, review: &Value) -> Value {
        let answer = self
            .admission
            .answer(review.to_string().as_bytes())
            .unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = answer["response"].take();
        assert_eq!(response["uid"], "u-1");
        assert_eq!(response["allowed"], true);
        assert_eq!(
            response.get("patch").is_some(),
            response["patchType"] == "JSONPatch"
        );
        response
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    #[track_caller]
    fn counted(&self, result: &str, reason: &str) {
        let line = format!(
            "stillwake_webhook_admissions_total{{result=\"{result}\",reason=\"{reason}\"}} 1"
        );
        let metrics = self.metrics();
        assert!(metrics.contains(&line), "{line} is missing from\n{metrics}");
    }
}

fn review(namespace: &str, object: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": object,
        "oldObject": null,
        "dryRun": false,
    }})
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "name": "web", "uid": "r-1", "controller": true}]},
        "spec": {"containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

fn unnamed_port() -> Value {
    let mut pod = pod();
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}]);
    pod
}

/// Returns the pod as a response makes it.
fn patched(response: &Value) -> Value {
    let ByteString(patch) = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &patch).unwrap();
    patched
}

/// Returns whom the sidecar of a pod trusts, and what the pod calls them.
fn trusted(pod: &Value) -> Option<Bundle> {
    let env = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
    let mut variables = env.iter();
    let pem = variables.find(|variable| variable["name"] == "STILLWAKE_SIDECAR_AGGREGATOR_CA");
    let name = pod["metadata"]["annotations"].get(AUTHORITIES);
    let pem = pem.map(|variable| &variable["value"]);
    assert_eq!(pem.is_some(), name.is_some());
    let text = |value: &Value| value.as_str().unwrap().into();
    Some(Bundle {
        pem: text(pem?),
        name: text(name?),
    })
}

#[test]
fn a_pod_is_patched_and_counted() {
    let rig = Rig::new();
    let response = rig.ask(&review("shop", &pod()));
    assert_eq!(response.get("warnings"), None);
    let patched = patched(&response);
    assert_eq!(patched["spec"]["initContainers"][0]["image"], "sidecar:1");
    rig.counted("injected", "");
    assert!(
        rig.metrics()
            .contains("stillwake_webhook_admission_duration_seconds_count 1")
    );
    assert!(rig.notices.0.lock().is_empty());
    // As the API server asks again when another webhook changed the pod after us.
    let again = rig.ask(&review("shop", &patched));
    assert_eq!(again.get("patch"), None);
    rig.counted("left", "already_injected");
}

#[test]
fn a_sidecar_trusts_who_vouches_at_that_moment() {
    let rig = Rig::new();
    let first = patched(&rig.ask(&review("shop", &pod())));
    assert_eq!(trusted(&first), Some(bundle("one")));
    *rig.authorities.0.lock() = Some(bundle("two"));
    assert_eq!(
        rig.ask(&review("shop", &first)).get("patch"),
        None,
        "it has its sidecar already"
    );
    let second = patched(&rig.ask(&review("shop", &pod())));
    assert_eq!(trusted(&second), Some(bundle("two")));
}

#[test]
fn without_authorities_only_what_would_be_injected_is_in_trouble() {
    let rig = Rig::new();
    *rig.authorities.0.lock() = None;
    let response = rig.ask(&review("shop", &pod()));
    assert_eq!(response.get("patch"), None);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("authorities vouch for the aggregators"),
        "{warning}"
    );
    assert_eq!(rig.notices.0.lock()[0].warning.reason, Reason::Trouble);
    rig.counted("trouble", "authorities_unknown");
    let mut refusing = pod();
    refusing["metadata"]["labels"][INJECT] = "disabled".into();
    assert_eq!(rig.ask(&review("shop", &refusing)).get("warnings"), None);
    rig.counted("left", "refused");
}

#[test]
fn reports_are_in_plain_text_only_if_the_settings_say_so() {
    let rig = Rig::with(|settings| settings.aggregator_tls = false);
    for known in [None, Some(bundle("one"))] {
        *rig.authorities.0.lock() = known;
        let response = rig.ask(&review("shop", &pod()));
        assert_eq!(trusted(&patched(&response)), None);
        assert_eq!(response.get("warnings"), None);
    }
}

#[test]
fn a_namespace_that_is_not_watched_is_left_without_a_word() {
    let rig = Rig::new();
    let mut asking = pod();
    asking["metadata"]["labels"][INJECT] = "enabled".into();
    let response = rig.ask(&review("theirs", &asking));
    assert_eq!(
        (response.get("patch"), response.get("warnings")),
        (None, None)
    );
    assert!(rig.notices.0.lock().is_empty());
    rig.counted("left", "not_ours");
}

#[test]
fn what_people_should_know_is_a_warning_an_event_and_a_metric() {
    let rig = Rig::new();
    let response = rig.ask(&review("shop", &unnamed_port()));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("stillwake: not counted is port 8080"),
        "{warning}"
    );
    let notices = rig.notices.0.lock();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].namespace, "shop");
    assert_eq!(notices[0].warning.reason, Reason::Uncounted);
    assert!(matches!(&notices[0].about, About::Owner(owner) if owner.name == "web"));
    rig.counted("left", "uncounted");
    assert!(
        rig.metrics()
            .contains("stillwake_webhook_warnings_total{reason=\"StillwakeUncounted\"} 1")
    );
}

#[test]
fn a_dry_run_answers_the_same_and_leaves_no_event() {
    let rig = Rig::new();
    for (namespace, object) in [("shop", unnamed_port()), ("elsewhere", pod())] {
        rig.notices.0.lock().clear();
        let wet = rig.ask(&review(namespace, &object));
        assert_eq!(rig.notices.0.lock().len(), 1);
        let mut dry = review(namespace, &object);
        dry["request"]["dryRun"] = true.into();
        assert_eq!(rig.ask(&dry), wet);
        assert_eq!(rig.notices.0.lock().len(), 1);
    }
}

#[test]
fn an_event_is_about_the_pod_or_its_namespace_if_nobody_owns_the_pod() {
    let about =
        |metadata: Value, name: &str| About::of(&serde_json::from_value(metadata).unwrap(), name);
    assert_eq!(
        about(json!({"name": "web"}), ""),
        About::Pod("web".to_owned())
    );
    assert_eq!(about(json!({}), "web"), About::Pod("web".to_owned()));
    assert_eq!(about(json!({"generateName": "web-"}), ""), About::Namespace);
}

#[test]
fn trouble_of_ours_admits_the_pod_as_it_came_and_is_told() {
    let mut no_spec = pod();
    no_spec.as_object_mut().unwrap().remove("spec");
    for (namespace, object, class) in [
        ("shop", json!({"metadata": {"name": 5}}), "pod_unreadable"),
        ("shop", json!(null), "pod_unreadable"),
        ("shop", no_spec, "patch"),
        ("elsewhere", pod(), "namespace_unknown"),
        ("broken", pod(), "panic"),
    ] {
        let rig = Rig::new();
        let response = rig.ask(&review(namespace, &object));
        assert_eq!(response.get("patch"), None, "{class}");
        let warning = response["warnings"][0].as_str().unwrap();
        assert!(
            warning.contains("admitted as it came"),
            "{class}: {warning}"
        );
        assert_eq!(
            rig.notices.0.lock()[0].warning.reason,
            Reason::Trouble,
            "{class}"
        );
        rig.counted("trouble", class);
    }
}

#[test]
fn only_the_creation_of_pods_is_ours() {
    for (pointer, value) in [
        ("/request/operation", json!("UPDATE")),
        ("/request/resource/resource", json!("services")),
        ("/request/resource/group", json!("apps")),
        ("/request/subResource", json!("ephemeralcontainers")),
    ] {
        let rig = Rig::new();
        let mut review = review("shop", &pod());
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(rig.ask(&review).get("patch"), None, "{pointer}");
        rig.counted("left", "no_pod_creation");
    }
}

#[test]
fn a_request_without_a_uid_cannot_be_answered() {
    let rig = Rig::new();
    for body in ["", "{}", "[1]", "{\"request\": {}}", "{\"request\": null}"] {
        let error = rig
            .admission
            .answer(body.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no AdmissionReview"), "{body}: {error}");
    }
}
