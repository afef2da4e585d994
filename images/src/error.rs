//! Why an image is not built. What can be wrong with a Containerfile or an executable stands with them.

use std::{
    io,
    path::{Path, PathBuf},
};

use oci_spec::OciSpecError;

use crate::{containerfile::Mistake, executable::Unfit};

/// An image was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name would be completed differently by each tool that reads it.
    #[error(
        "'{name}' is not a full image name ({reason}); write registry/path:tag, as in \
         docker.io/stillwake/stillwake-sidecar:0.1.0"
    )]
    Name {
        /// What was given.
        name: String,
        /// What it lacks.
        reason: String,
    },
    /// The Containerfile cannot be followed.
    #[error(transparent)]
    Containerfile(#[from] Mistake),
    /// What the image is to run cannot run in it.
    #[error(transparent)]
    Executable(#[from] Unfit),
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A document of the image lacks something: a mistake in this crate.
    #[error("cannot describe the image")]
    Document(#[from] OciSpecError),
    /// A document of the image has no form in JSON: a mistake in this crate.
    #[error("cannot write the image's description")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Says what was tried with which file.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
