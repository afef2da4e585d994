//! Reads the golden cases as the webhook's own test does, whose header says what is in the files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use kube::api::DynamicObject;
use serde::Serialize;
use serde_json::Value;

/// Relative to the folder of this crate, where its tests run.
const FOLDER: &str = "../webhook/tests/golden";

/// A pod before and after.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) pod: Value,
    pub(super) expected: Value,
    pub(super) warnings: Vec<String>,
    /// Whether the installation has default values.
    pub(super) by_default: bool,
}

/// What is around it.
#[derive(Default, Serialize)]
pub(super) struct Surroundings {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) objects: Vec<DynamicObject>,
    /// What the API server itself goes by.
    pub(super) limits: Vec<DynamicObject>,
}

/// Returns all cases that are about pods of this version of Kubernetes, and says which are not.
pub(super) fn all(kubernetes: &str) -> anyhow::Result<Vec<(Surroundings, Case)>> {
    let mut cases = Vec::new();
    let entries = fs::read_dir(FOLDER).with_context(|| format!("reading {FOLDER}"))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".yaml") && !name.ends_with(".injected.yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let read = read(&path, kubernetes);
        cases.extend(read.with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(cases)
}

fn read(path: &Path, kubernetes: &str) -> anyhow::Result<Option<(Surroundings, Case)>> {
    let beside = |extension: &str| -> PathBuf { path.with_extension(extension) };
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let (mut surroundings, mut pod, mut by_default) = (Surroundings::default(), None, true);
    for document in serde_saphyr::from_multiple::<Value>(&fs::read_to_string(path)?)? {
        match document["kind"].as_str() {
            Some("Pod") => pod = Some(document),
            Some("Namespace") => {
                let metadata = &document["metadata"];
                surroundings.labels = pairs(&metadata["labels"])?;
                surroundings.annotations = pairs(&metadata["annotations"])?;
            }
            Some("Service" | "NetworkPolicy") => {
                surroundings.objects.push(serde_json::from_value(document)?);
            }
            Some("LimitRange" | "ResourceQuota") => {
                surroundings.limits.push(serde_json::from_value(document)?);
            }
            Some("Settings") => {
                if let Some(needed) = document["kubernetes"].as_str()
                    && minor(kubernetes)? < minor(needed)?
                {
                    eprintln!("LEFT OUT: {name} is about pods of Kubernetes {needed}");
                    return Ok(None);
                }
                by_default = document["redirect"].is_null() && document["activator"].is_null();
            }
            kind => bail!("a document of kind {kind:?}"),
        }
    }
    let expected: Vec<Value> =
        serde_saphyr::from_multiple(&fs::read_to_string(beside("injected.yaml"))?)?;
    ensure!(expected.len() == 1, "{} pods afterwards", expected.len());
    let warnings = match fs::read_to_string(beside("warnings")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        warnings => warnings?,
    };
    let case = Case {
        name,
        pod: pod.context("there is no Pod")?,
        expected: expected.into_iter().next().unwrap_or_default(),
        warnings: warnings.lines().map(str::to_owned).collect(),
        by_default,
    };
    Ok(Some((surroundings, case)))
}

fn pairs(value: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    if value.is_null() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_value(value.clone()).context("labels and annotations are text")
}

pub(super) fn minor(version: &str) -> anyhow::Result<u32> {
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok());
    minor.with_context(|| format!("{version} is no version of Kubernetes"))
}
