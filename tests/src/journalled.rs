//! The test app as the COMMAND of a run, with a journal in a folder of its own.
//!
//! What the app does with its arguments is in [`crate::app`], what it writes down in [`crate::journal`].

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{
    binaries,
    journal::{Journal, Record},
    local::{Options, Stillwake},
};

/// An app whose requests can be read back. Its folder goes when it is dropped.
#[derive(Debug)]
pub struct JournalledApp {
    program: PathBuf,
    journal: Journal,
    folder: TempDir,
}

impl JournalledApp {
    /// Makes a folder for an app that has not run.
    ///
    /// # Errors
    ///
    /// Fails if the app was not built or the folder cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            program: binaries::app()?,
            journal: Journal::new(folder.path().join("journal")),
            folder,
        })
    }

    /// Returns the app's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a run of the app with `arguments` besides those it always needs, and returns when it is ready.
    ///
    /// # Errors
    ///
    /// As [`Stillwake::run`].
    pub async fn run(&self, options: Options, arguments: &[&str]) -> anyhow::Result<Stillwake> {
        let (program, journal) = (self.program.to_string_lossy(), self.journal.path());
        let journal = format!("--journal={}", journal.display());
        let always = [program.as_ref(), "--port={port}", &journal];
        Stillwake::run(options, &[&always, arguments].concat()).await
    }

    /// Returns what the app's processes have written down so far.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`].
    pub fn record(&self) -> anyhow::Result<Record> {
        self.journal.read()
    }
}
