//! What every part is told: how long it may take, and where the binaries and peers are.
//!
//! Made once outside of the parts' namespaces, which have no way to a registry.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::peers;

/// What a part has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Context {
    /// Few and short blocks.
    pub quick: bool,
    /// How long memory is watched, if that was said.
    pub memory_time: Option<Duration>,
    /// The folder that cargo builds to.
    pub target: PathBuf,
    /// Programs that were looked for: where they are, or why there is none.
    pub programs: BTreeMap<String, Result<PathBuf, String>>,
}

/// Programs that are installed, and what says their version.
pub const INSTALLED: [(&str, &str); 7] = [
    ("nginx", "-v"),
    ("haproxy", "-v"),
    ("wrk", "-v"),
    ("h2load", "--version"),
    ("valgrind", "--version"),
    ("strace", "--version"),
    ("taskset", "--version"),
];

impl Context {
    /// Finds all that parts may need, and builds the peers that are not there yet.
    ///
    /// # Errors
    ///
    /// When this program lies in no target folder.
    pub async fn prepare(quick: bool) -> anyhow::Result<Self> {
        let mut context = Self::find(quick)?;
        for package in [peers::QUEUE_PROXY, peers::PROXY] {
            eprintln!("Building {package}, which takes minutes unless it is there");
            let built = peers::build_go(package).await;
            let built = built.map_err(|error| format!("{error:#}"));
            context.programs.insert(package.to_owned(), built);
        }
        Ok(context)
    }

    /// Finds what is installed and what cargo has built.
    ///
    /// # Errors
    ///
    /// As [`Self::prepare`].
    pub fn find(quick: bool) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot tell where this program is")?;
        // It lies in target/PROFILE.
        let target = program.ancestors().nth(2);
        let target = target
            .context("this program is in no target folder")?
            .to_owned();
        let mut programs = BTreeMap::new();
        for (name, _) in INSTALLED {
            let found = installed(name).ok_or_else(|| format!("{name} isn't installed"));
            programs.insert(name.to_owned(), found);
        }
        programs.insert("stillwake-sidecar".to_owned(), shipped_sidecar(&target));
        Ok(Self {
            quick,
            memory_time: None,
            target,
            programs,
        })
    }

    /// The number of ABBA blocks that ratios are taken from.
    pub fn blocks(&self) -> usize {
        self.pick(5, 2)
    }

    /// How long one measurement in a block lasts.
    pub fn slice(&self) -> Duration {
        // wrk takes whole seconds.
        Duration::from_secs(1)
    }

    /// Returns the one of two values that goes with how thorough it is to be.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Returns where a program is that was looked for before.
    ///
    /// # Errors
    ///
    /// When there is none, with the reason.
    pub fn program(&self, name: &str) -> anyhow::Result<&PathBuf> {
        let found = self.programs.get(name);
        let found = found.with_context(|| format!("nobody has looked for {name}"))?;
        found
            .as_ref()
            .map_err(|missing| anyhow::anyhow!("{missing}"))
    }
}

/// Where a program is on the path, or where Debian has those of administrators.
fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}

/// The sidecar that `make sidecar` builds, in the folder of this machine's own architecture.
fn shipped_sidecar(target: &Path) -> Result<PathBuf, String> {
    let folders = fs::read_dir(target).into_iter().flatten().flatten();
    let mut here = folders.filter(|folder| {
        folder
            .file_name()
            .to_string_lossy()
            .starts_with(env::consts::ARCH)
    });
    here.find_map(|folder| {
        let path = folder.path().join("sidecar/stillwake-sidecar");
        path.is_file().then_some(path)
    })
    .ok_or_else(|| "`make sidecar` has not built it".to_owned())
}
