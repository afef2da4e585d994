//! Which cluster the suites use, and the way into its network.
//!
//! They create and delete namespaces, so a cluster is used only if it was started for that or somebody said so.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::bail;
use stillwake_test_cluster::Running;

/// `1` lets the suites use whichever cluster `KUBECONFIG` names.
const ANY_CLUSTER: &str = "STILLWAKE_E2E_ANY_CLUSTER";

/// A cluster that may be used.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// The one that `make cluster` started.
    Ours(Arc<Running>),
    /// Another one that somebody allowed, by its kubeconfig.
    Other(PathBuf),
}

impl Access {
    /// Finds the cluster through `KUBECONFIG`, or in the place where `make cluster` leaves it.
    pub(super) fn of_environment() -> anyhow::Result<Self> {
        let asked = env::var_os("KUBECONFIG").filter(|path| !path.is_empty());
        let any = env::var_os(ANY_CLUSTER).is_some_and(|value| value == "1");
        let running = Running::find()?;
        let ours = running.as_ref().map(Running::kubeconfig);
        match (choose(asked.map(PathBuf::from), any, ours)?, running) {
            (Some(other), _) => Ok(Self::Other(other)),
            (None, Some(running)) => Ok(Self::Ours(Arc::new(running))),
            (None, None) => bail!("no cluster runs; start one with `make cluster`"),
        }
    }

    /// Brings the calling thread, and those it starts from now on, into the network of the first node.
    pub(super) fn enter_network(&self) -> anyhow::Result<()> {
        match self {
            Self::Ours(running) => running.enter_network(),
            // Whoever allowed it sees to it that its pods can be reached.
            Self::Other(_) => Ok(()),
        }
    }

    pub(super) fn kubeconfig(&self) -> &Path {
        match self {
            Self::Ours(running) => running.kubeconfig(),
            Self::Other(kubeconfig) => kubeconfig,
        }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match self {
            Self::Ours(running) => Some(running),
            Self::Other(_) => None,
        }
    }
}

/// Returns the kubeconfig of another cluster than ours if that one is to be used.
fn choose(
    asked: Option<PathBuf>,
    any: bool,
    ours: Option<&Path>,
) -> anyhow::Result<Option<PathBuf>> {
    let Some(asked) = asked else {
        return Ok(None);
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if ours.is_some_and(|ours| real(ours) == real(&asked)) {
        return Ok(None);
    }
    if any {
        return Ok(Some(asked));
    }
    let ours = match ours {
        Some(ours) => format!(
            "is not the cluster that `make cluster` started ({})",
            ours.display()
        ),
        None => "was not started by `make cluster`; no such cluster runs".to_owned(),
    };
    bail!(
        "KUBECONFIG is {}, which {ours}. The suites create and delete namespaces: unset KUBECONFIG, or set \
         {ANY_CLUSTER}=1 if they may do that there",
        asked.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cluster_is_used_whether_it_is_named_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("kubeconfig");
        std::fs::write(&ours, "").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        for asked in [None, Some(ours.clone()), Some(link)] {
            assert_eq!(choose(asked, false, Some(&ours)).unwrap(), None);
        }
    }

    #[test]
    fn another_cluster_is_refused_by_name_unless_it_is_allowed() {
        let production = PathBuf::from("/somewhere/production");
        let ours = Some(Path::new("/cache/kubeconfig"));
        for ours in [ours, None] {
            let refusal = choose(Some(production.clone()), false, ours)
                .unwrap_err()
                .to_string();
            for part in ["/somewhere/production", "make cluster", ANY_CLUSTER] {
                assert!(refusal.contains(part), "{part} is missing from: {refusal}");
            }
            let chosen = choose(Some(production.clone()), true, ours).unwrap();
            assert_eq!(chosen, Some(production.clone()));
        }
    }
}
