//! A folder with certificates in it, such as a mounted Secret.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{AUTHORITIES_KEY, CERTIFICATE_KEY, Material, PRIVATE_KEY_KEY, Source, SourceError};

/// The link by which the kubelet replaces all files of a mounted Secret at once.
const CURRENT_FILES: &str = "..data";

/// A folder that holds `tls.crt`, `tls.key` and perhaps `ca.crt`.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Reads from `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns where the files are at this moment, so that all of them come from the same version of the Secret.
    async fn current(&self) -> PathBuf {
        let link = self.folder.join(CURRENT_FILES);
        let followed = tokio::fs::canonicalize(link).await;
        followed.unwrap_or_else(|_| self.folder.clone())
    }
}

impl Source for Files {
    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    async fn read(&self) -> Result<Material, SourceError> {
        let folder = self.current().await;
        let missing = |key| SourceError::Missing {
            place: self.place(),
            key,
        };
        Ok(Material {
            certificate: text(&folder.join(CERTIFICATE_KEY))
                .await?
                .ok_or_else(|| missing(CERTIFICATE_KEY))?,
            key: text(&folder.join(PRIVATE_KEY_KEY))
                .await?
                .ok_or_else(|| missing(PRIVATE_KEY_KEY))?,
            authorities: text(&folder.join(AUTHORITIES_KEY)).await?,
        })
    }
}

/// Returns a file's text, or `None` if there is no such file.
async fn text(path: &Path) -> Result<Option<String>, SourceError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceError::Unreadable {
            item: path.display().to_string(),
            source: error.into(),
        }),
    }
}
