//! What was in a namespace when its test failed, in a folder that somebody who does not know the test can read.
//!
//! `summary.txt` first; the rest is there to look things up. What cannot be had is said and stops nothing.

mod keda_errors;
mod logs;
mod objects;
mod stillwake;
mod summary;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};

use super::Namespace;
use crate::binaries;

/// The file to begin with.
pub(super) const SUMMARY: &str = "summary.txt";

/// The folder for dumps, instead of one beside the test's build.
const FOLDER: &str = "STILLWAKE_E2E_DUMPS";

/// Writes the dump of a namespace and returns its folder.
pub(super) async fn write(
    namespace: &Namespace,
    test: &str,
    failure: &anyhow::Error,
) -> anyhow::Result<PathBuf> {
    let folder = parent()?.join(namespace.name());
    make(&folder)?;
    let mut gaps = Gaps::default();
    let text = summary::gather(namespace, &mut gaps).await;
    let head = head(namespace, test, failure);
    // Now, in case the rest takes too long for somebody; once more at its end, with what is missing.
    let path = folder.join(SUMMARY);
    save(&path, &format!("{head}\n{text}"))?;
    objects::write(namespace, &folder, &mut gaps).await;
    stillwake::write(namespace.cluster(), &folder, &mut gaps).await;
    let keda = logs::write(namespace, &folder, &mut gaps).await;
    let errors = keda_errors::text(&keda, namespace.name());
    let rest = summary::sections(&[
        ("ERRORS IN KEDA'S LOGS, newest last", errors),
        ("MISSING HERE", gaps.text()),
    ]);
    save(&path, &format!("{head}\n{text}{rest}"))?;
    Ok(folder)
}

fn head(namespace: &Namespace, test: &str, failure: &anyhow::Error) -> String {
    let name = namespace.name();
    let versions = match namespace.cluster().running() {
        Ok(running) => format!(
            "Kubernetes {}, KEDA {}",
            running.kubernetes(),
            running.keda()
        ),
        Err(_) => "a cluster of somebody's own".to_owned(),
    };
    format!(
        "FAILED     {test}\nNAMESPACE  {name} on {versions}\n\n{failure:#}\n\n\
         Whole objects are in objects/, logs of this namespace, of KEDA and of Stillwake in logs/, of the nodes in\n\
         nodes/; what Stillwake's replicas say of themselves is in stillwake/. The namespace was left as it is: `kubectl delete namespace {name}` when done.\n"
    )
}

/// What could not be had, a line each.
#[derive(Debug, Default)]
struct Gaps(Vec<String>);

impl Gaps {
    /// Returns the value, or notes why there is none.
    fn note<T>(&mut self, what: &str, result: anyhow::Result<T>) -> Option<T> {
        result
            .map_err(|error| self.0.push(format!("  {what}: {error:#}\n")))
            .ok()
    }

    /// As [`Self::note`], with the API server's words alone of its whole answer.
    fn note_answer<T>(&mut self, what: &str, answer: kube::Result<T>) -> Option<T> {
        self.note(
            what,
            answer.map_err(|error| match error {
                kube::Error::Api(status) => anyhow!(status.message),
                other => anyhow!(other),
            }),
        )
    }

    fn text(&self) -> String {
        self.0.concat()
    }
}

fn parent() -> anyhow::Result<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER).filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    Ok(binaries::target()?.join("cluster-failures"))
}

fn make(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
