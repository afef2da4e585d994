//! Admissions as an API server asks for them: the webhook's golden cases, each in a namespace of its own.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use stillwake_webhook::{
    admission::{Admission, Notice, Notices},
    authorities::Bundle,
    settings::Settings,
    surroundings::{Cluster, Surroundings, View},
};

/// Admissions, and the cluster that they are of.
#[derive(Debug)]
pub struct Admissions {
    /// Bodies of requests, as JSON.
    pub reviews: Vec<Vec<u8>>,
    namespaces: BTreeMap<String, Surroundings>,
}

impl Admissions {
    /// Reads the golden cases of this source tree.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn read() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../webhook/tests/golden");
        let mut admissions = Self {
            reviews: Vec::new(),
            namespaces: BTreeMap::new(),
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str());
            let case = name.and_then(|name| name.strip_suffix(".yaml"));
            if let Some(case) = case.filter(|case| !case.ends_with(".injected")) {
                let text = fs::read_to_string(&path)?;
                let added = admissions.add(case, &text);
                added.with_context(|| path.display().to_string())?;
            }
        }
        Ok(admissions)
    }

    fn add(&mut self, case: &str, text: &str) -> anyhow::Result<()> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
        let mut around = Surroundings {
            sleeps: true,
            ..Surroundings::default()
        };
        for document in documents {
            match document["kind"].as_str() {
                Some("Pod") => self
                    .reviews
                    .push(serde_json::to_vec(&review(case, &document))?),
                Some("Namespace") => {
                    let metadata = serde_json::from_value::<Namespace>(document)?.metadata;
                    around.labels = metadata.labels.unwrap_or_default();
                    around.annotations = metadata.annotations.unwrap_or_default();
                }
                Some("Service") => {
                    let service = serde_json::from_value(document)?;
                    around.services.push(Arc::new(service));
                }
                Some("NetworkPolicy") => {
                    let policy = serde_json::from_value(document)?;
                    around.network_policies.push(Arc::new(policy));
                }
                Some("LimitRange") => {
                    let range = serde_json::from_value(document)?;
                    around.limit_ranges.push(Arc::new(range));
                }
                Some("ResourceQuota") => {
                    let quota = serde_json::from_value(document)?;
                    around.resource_quotas.push(Arc::new(quota));
                }
                // How an installation differs, which there is only one of here.
                _ => {}
            }
        }
        self.namespaces.insert(case.to_owned(), around);
        Ok(())
    }

    /// Returns the product's admission, with these namespaces.
    pub fn admission(&self) -> Admission {
        let aggregator = "stillwake-reports.stillwake-system.svc.cluster.local:9091";
        let settings = Settings::new(
            "docker.io/stillwake/stillwake-sidecar:bench",
            vec![aggregator.to_owned()],
        );
        Admission::new(
            settings,
            Arc::new(Known(self.namespaces.clone())),
            Arc::new(|| Some(bundle())),
            Arc::new(Silent),
            &mut Registry::default(),
        )
    }
}

fn review(namespace: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

#[derive(Debug)]
struct Known(BTreeMap<String, Surroundings>);

impl Cluster for Known {
    fn surroundings(&self, namespace: &str) -> View {
        self.0
            .get(namespace)
            .map_or(View::NotOurs, |around| View::Known(around.clone()))
    }
}

fn bundle() -> Bundle {
    Bundle {
        pem: "-----BEGIN CERTIFICATE-----\nYmVuY2g=\n-----END CERTIFICATE-----\n".into(),
        name: "0123456789abcdef".into(),
    }
}

#[derive(Debug)]
struct Silent;

impl Notices for Silent {
    fn publish(&self, _: Notice) {}
}
