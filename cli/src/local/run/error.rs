//! What can be wrong with local mode, with what to do about it.

use std::{io, path::PathBuf};

use stillwake_runtime::{EXIT_FAILURE, EXIT_USAGE, accept::BindError};

use crate::local::{check::CheckError, process::Unusable};

/// Local mode could not be started or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such program, or it is none.
    #[error(
        "the command '{program}' {reason}: give the path of an executable file, or a program that is on PATH \
         (everything after `--` is the command)"
    )]
    Command {
        /// What was given.
        program: String,
        /// What is wrong with it.
        reason: Unusable,
    },
    /// The sidecar is not installed.
    #[error(
        "the sidecar {} {reason}: build it with `cargo build -p stillwake-sidecar`, or say where it is with --sidecar",
        path.display()
    )]
    Sidecar {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong with it.
        reason: Unusable,
    },
    /// A listener is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener is not to be had for something that can be moved elsewhere.
    #[error("--{flag}: {source}")]
    BindFlag {
        /// Which flag moves it.
        flag: &'static str,
        /// What is wrong.
        source: BindError,
    },
    /// The command is of no use.
    #[error(transparent)]
    Check(CheckError),
    /// The first replica is of no use.
    #[error("the first replica failed: {0}")]
    FirstReplica(String),
    /// Something that works on every machine did not.
    #[error("cannot start {what}: {source}")]
    Part {
        /// Of what.
        what: &'static str,
        /// What is wrong.
        source: io::Error,
    },
    /// A signal came before everything was up; everything was taken down again.
    #[error("interrupted before everything was up")]
    Interrupted,
    /// A second signal came before everything was finished.
    #[error("stopped at once by a second signal; requests that were in flight were cut")]
    Forced,
}

impl RunError {
    /// Returns the exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command { .. } => EXIT_USAGE,
            _ => EXIT_FAILURE,
        }
    }
}
