//! Golden cases: pods as they come and as they leave.
//!
//! Each `tests/golden/NAME.yaml` holds a pod and what is around it: at most one Namespace, and Services, network policies,
//! `LimitRange`s and `ResourceQuota`s. A document of kind `Settings` says what the installation has otherwise
//! (`redirect: false`, `activator: HOST:PORT`), and from which Kubernetes on the pod is one (`kubernetes: "1.34"`).
//! `NAME.injected.yaml` is the pod afterwards, and `NAME.warnings` what people are told, one warning a line, missing if there
//! is nothing to tell. Any file that is added is run;
//! `STILLWAKE_UPDATE_GOLDEN=1 cargo test -p stillwake-webhook --test golden` writes what is expected.
//!
//! Every pod, before and after, is one that a real API server takes in a namespace with the labels, `LimitRange`s and
//! `ResourceQuota`s of the case. Hooks may sleep there. The installation decides the sidecar's image, where it reports to and the authorities; here they are the constants below.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde::de::DeserializeOwned;
use serde_json::Value;
use stillwake_webhook::{
    authorities::Bundle, inject::inject, names, settings::Settings, surroundings::Surroundings,
};

const IMAGE: &str = "docker.io/stillwake/stillwake-sidecar:golden";
const AGGREGATOR: &str = "stillwake-reports.stillwake-system.svc.cluster.local:9091";
const AUTHORITIES: &str = "0123456789abcdef";
const CERTIFICATES: &str = "-----BEGIN CERTIFICATE-----\nZ29sZGVu\n-----END CERTIFICATE-----\n";

/// How many characters of a warning an API server passes on for certain.
const LONGEST_WARNING: usize = 256;

/// Set to rewrite what is expected.
const UPDATE: &str = "STILLWAKE_UPDATE_GOLDEN";

struct Case {
    pod: Value,
    surroundings: Surroundings,
    settings: Settings,
}

fn typed<T: DeserializeOwned>(document: Value, path: &Path) -> T {
    let kind = document["kind"].clone();
    serde_json::from_value(document)
        .unwrap_or_else(|error| panic!("{} holds no {kind}: {error}", path.display()))
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .unwrap_or_else(|error| panic!("{} is no YAML: {error}", path.display()));
        let mut case = Self {
            pod: Value::Null,
            surroundings: Surroundings {
                sleeps: true,
                ..Surroundings::default()
            },
            settings: Settings::new(IMAGE, vec![AGGREGATOR.to_owned()]),
        };
        for document in documents {
            match document["kind"].as_str() {
                Some("Pod") => case.pod = document,
                Some("Namespace") => {
                    let metadata = typed::<Namespace>(document, path).metadata;
                    case.surroundings.labels = metadata.labels.unwrap_or_default();
                    case.surroundings.annotations = metadata.annotations.unwrap_or_default();
                }
                Some("Service") => case
                    .surroundings
                    .services
                    .push(Arc::new(typed(document, path))),
                Some("NetworkPolicy") => {
                    let policy = Arc::new(typed(document, path));
                    case.surroundings.network_policies.push(policy);
                }
                Some("LimitRange") => {
                    let range = Arc::new(typed(document, path));
                    case.surroundings.limit_ranges.push(range);
                }
                Some("ResourceQuota") => {
                    let quota = Arc::new(typed(document, path));
                    case.surroundings.resource_quotas.push(quota);
                }
                Some("Settings") => {
                    case.settings.redirect = document["redirect"] != false;
                    case.settings.activator = document["activator"].as_str().map(str::to_owned);
                }
                kind => panic!("{} holds a document of kind {kind:?}", path.display()),
            }
        }
        assert!(case.pod.is_object(), "{} holds no Pod", path.display());
        case
    }

    /// Returns the pod afterwards and the warnings.
    fn run(&self, mut pod: Value) -> (Value, String) {
        let before: Pod = serde_json::from_value(pod.clone()).unwrap();
        let bundle = Bundle {
            pem: CERTIFICATES.into(),
            name: AUTHORITIES.into(),
        };
        let injection = inject(&self.settings, Some(&bundle), before, &self.surroundings).unwrap();
        json_patch::patch(&mut pod, &injection.patch).unwrap();
        let warnings = injection.warnings.iter().map(ToString::to_string);
        let warnings = warnings.inspect(|warning| {
            assert!(warning.chars().count() <= LONGEST_WARNING, "{warning}");
        });
        (pod, warnings.map(|warning| warning + "\n").collect())
    }
}

fn folder() -> PathBuf {
    std::env::current_dir().unwrap().join("tests/golden")
}

fn inputs() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = entries
        .filter(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            path.extension()
                .is_some_and(|extension| extension == "yaml")
                && stem.strip_suffix(".injected").is_none()
        })
        .collect();
    inputs.sort();
    inputs
}

/// Compares or rewrites; returns what differs.
fn compare(path: &Path, actual: &str) -> Option<String> {
    if std::env::var_os(UPDATE).is_some() {
        if actual.is_empty() {
            let _ = fs::remove_file(path);
        } else {
            fs::write(path, actual).unwrap();
        }
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    (expected != actual).then(|| format!("{} should be:\n{actual}", path.display()))
}

#[test]
fn every_pod_leaves_as_expected() {
    let inputs = inputs();
    assert!(
        inputs.len() >= 100,
        "only {} cases were found",
        inputs.len()
    );
    let mut differences = Vec::new();
    for input in inputs {
        let case = Case::read(&input);
        let (pod, warnings) = case.run(case.pod.clone());
        let text = serde_saphyr::to_string(&pod).unwrap();
        let read_again: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(
            read_again,
            pod,
            "{}: what is written is not what is meant",
            input.display()
        );
        differences.extend(compare(&input.with_extension("injected.yaml"), &text));
        differences.extend(compare(&input.with_extension("warnings"), &warnings));

        let (again, _) = case.run(pod.clone());
        assert_eq!(
            again,
            pod,
            "{}: twice is not the same as once",
            input.display()
        );
        let annotation = pod.pointer("/metadata/annotations/stillwake.dev~1counted-ports");
        let init_containers = pod
            .pointer("/spec/initContainers")
            .and_then(Value::as_array);
        let mut init_containers = init_containers.into_iter().flatten();
        assert_eq!(
            init_containers.any(|container| container["name"] == names::SIDECAR),
            annotation.is_some(),
            "{}: the annotation tells whether the sidecar is there",
            input.display()
        );
    }
    assert!(
        differences.is_empty(),
        "{}\n{UPDATE}=1 writes what is expected",
        differences.join("\n")
    );
}

#[test]
fn nothing_is_left_of_cases_that_are_gone() {
    let stems: BTreeSet<_> = inputs()
        .iter()
        .map(|path| path.with_extension(""))
        .collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let text = path.to_str().unwrap();
        let stem = [".injected.yaml", ".warnings", ".yaml"]
            .iter()
            .find_map(|suffix| text.strip_suffix(suffix));
        let belongs = stem.is_some_and(|stem| stems.contains(Path::new(stem)));
        assert!(belongs, "{} belongs to no case", path.display());
    }
}
