//! Which Kubernetes and which KEDA: each version is a Go module of its own under `modules/`, pinned by its go.sum.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// Relative to the root of the checkout, where the tool is run.
pub(crate) const MODULES: &str = "tests/cluster/modules";

/// The folder of the Containerfiles, beside the modules.
pub(crate) const IMAGES: &str = "images";

/// Where the sources of the cluster's parts are.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    pub(crate) kubernetes: String,
    pub(crate) keda: String,
    modules: PathBuf,
}

impl Versions {
    /// Checks that both versions have a module here.
    pub(crate) fn find(kubernetes: &str, keda: &str) -> anyhow::Result<Self> {
        let modules = std::env::current_dir()?.join(MODULES);
        let known = fs::read_dir(&modules)
            .with_context(|| {
                format!(
                    "reading {}: run this from the checkout's root",
                    modules.display()
                )
            })?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for (what, version) in [("kubernetes", kubernetes), ("keda", keda)] {
            if !known.contains(&format!("{what}-{version}")) {
                let prefix = format!("{what}-");
                let mut versions = known
                    .iter()
                    .filter_map(|name| name.strip_prefix(&prefix))
                    .collect::<Vec<_>>();
                versions.sort_unstable();
                bail!(
                    "{what} {version} has no module in {MODULES}; there are: {}",
                    versions.join(", ")
                );
            }
        }
        Ok(Self {
            kubernetes: kubernetes.to_owned(),
            keda: keda.to_owned(),
            modules,
        })
    }

    /// The folder of all modules.
    pub(crate) fn modules(&self) -> &Path {
        &self.modules
    }

    /// The folder of a module.
    pub(crate) fn module(&self, name: &str) -> PathBuf {
        self.modules.join(name)
    }

    /// The folder beside the modules that has the Containerfiles, and that with the manifests.
    pub(crate) fn beside_modules(&self, name: &str) -> PathBuf {
        self.modules.with_file_name(name)
    }
}
