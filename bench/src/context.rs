//! What every part is told: how long it may take, and where the binaries and peers are.
//!
//! Made once outside of the parts' namespaces, which have no way to a registry.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What a part has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Context {
    /// Few and short blocks.
    pub quick: bool,
    /// The folder that cargo builds to.
    pub target: PathBuf,
    /// Programs that were looked for: where they are, or why there is none.
    pub programs: BTreeMap<String, Result<PathBuf, String>>,
}

impl Context {
    /// The number of ABBA blocks that ratios are taken from.
    pub fn blocks(&self) -> usize {
        self.pick(5, 2)
    }

    /// How long one measurement in a block lasts.
    pub fn slice(&self) -> Duration {
        self.pick(Duration::from_secs(1), Duration::from_millis(300))
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
