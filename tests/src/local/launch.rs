//! What every start of the binary under test has in common: a mark that all its processes carry, and the sidecar it is
//! to use.
//!
//! What is started with it, and how that has to end, is the caller's.

use std::{
    os::unix::fs::symlink,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    binaries,
    processes::{self, Mark, Process},
};

/// Distinguishes the starts of one test process.
static STARTS: AtomicU32 = AtomicU32::new(0);

/// One start of `stillwake`. Dropped, it kills what is left of it.
#[derive(Debug)]
pub struct Launch {
    mark: Mark,
    folder: TempDir,
}

impl Launch {
    /// Prepares a start.
    ///
    /// # Errors
    ///
    /// When the sidecar isn't built.
    pub fn new() -> anyhow::Result<Self> {
        let mark = Mark::new(STARTS.fetch_add(1, Ordering::Relaxed));
        // Sidecars get an environment made for them, so their mark is in their path.
        let folder = tempfile::Builder::new().prefix(mark.as_str()).tempdir()?;
        symlink(
            binaries::sidecar()?,
            folder.path().join("stillwake-sidecar"),
        )?;
        Ok(Self { mark, folder })
    }

    /// Returns `stillwake SUBCOMMAND` with the mark and the sidecar; its output is still to be decided on.
    ///
    /// # Errors
    ///
    /// When `stillwake` isn't built.
    pub fn command(&self, subcommand: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(binaries::stillwake()?);
        command
            .arg(subcommand)
            .arg("--sidecar")
            .arg(self.folder.path().join("stillwake-sidecar"))
            .env(self.mark.variable(), "")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// All processes of this start that run: `stillwake` itself, its guardian, apps, sidecars, and what they started.
    pub fn processes(&self) -> Vec<Process> {
        processes::marked(&self.mark)
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        for process in self.processes() {
            processes::signal(process.pid, Signal::KILL);
        }
    }
}
