//! Where the cluster's files lie: what is built once, and what lives as long as the cluster.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// The folder of everything, outside any checkout.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// `$STILLWAKE_CACHE/cluster`, or where caches belong to.
    pub(crate) fn of_environment() -> anyhow::Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let cache = match (
            variable("STILLWAKE_CACHE"),
            variable("XDG_CACHE_HOME"),
            variable("HOME"),
        ) {
            (Some(cache), _, _) => PathBuf::from(cache),
            (None, Some(caches), _) => Path::new(&caches).join("stillwake"),
            (None, None, Some(home)) => Path::new(&home).join(".cache/stillwake"),
            (None, None, None) => {
                bail!("none of STILLWAKE_CACHE, XDG_CACHE_HOME and HOME says where to keep files")
            }
        };
        Self::at(&cache.join("cluster"))
    }

    /// A layout below `root`, which need not exist yet.
    pub(crate) fn at(root: &Path) -> anyhow::Result<Self> {
        let root =
            std::path::absolute(root).with_context(|| format!("where {} is", root.display()))?;
        Ok(Self { root })
    }

    /// Of everything.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What was built, by module and content.
    pub(crate) fn built(&self) -> PathBuf {
        self.root.join("built")
    }

    /// Everything of the one cluster that runs; gone when it has ended.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What `Running` reads.
    pub(crate) fn state(&self) -> PathBuf {
        self.run().join("state.json")
    }

    /// For people and tests: the cluster's administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.run().join("kubeconfig")
    }

    /// Keys and certificates.
    pub(crate) fn pki(&self) -> PathBuf {
        self.run().join("pki")
    }

    /// All of one node.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.run().join(name)
    }

    /// The control group of all nodes: another cache's cluster has another.
    pub(crate) fn group(&self) -> String {
        let hash = format!(
            "{:x}",
            Sha256::digest(self.run().as_os_str().as_encoded_bytes())
        );
        format!("stillwake-test-cluster-{}", &hash[..8])
    }

    /// Keeps a second start or stop out until the file is dropped.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        fs::create_dir_all(&self.root)
            .with_context(|| format!("making {}", self.root.display()))?;
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
            format!(
                "{} is locked: another start or stop of the cluster is under way; wait for it to end",
                path.display()
            )
        })?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_caches_share_no_control_group() {
        let group = |path| Layout::at(Path::new(path)).unwrap().group();
        assert_ne!(group("/home/one/cluster"), group("/home/other/cluster"));
        assert_eq!(group("/home/one/cluster"), group("/home/one/cluster"));
    }

    #[test]
    fn a_second_start_is_kept_out_while_the_first_is_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path()).unwrap();
        let lock = layout.lock().unwrap();
        let error = layout.lock().unwrap_err().to_string();
        assert!(error.contains("under way"), "{error}");
        drop(lock);
        layout.lock().unwrap();
    }
}
