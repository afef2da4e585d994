//! Makes OCI image archives from static binaries, described by the Containerfiles that any other builder takes too.
//!
//! Not a container engine: nothing runs, nothing is pulled, and images begin from scratch.

mod archive;
mod containerfile;
mod error;
mod executable;
mod layer;
mod name;

use std::path::Path;

use crate::{containerfile::Containerfile, name::Name};
pub use crate::{containerfile::Mistake, error::Error, executable::Unfit};

/// What an image is made from.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The description.
    pub containerfile: &'a Path,
    /// The folder that COPY takes files from.
    pub context: &'a Path,
    /// The full name, as in `docker.io/stillwake/stillwake-sidecar:0.1.0`.
    pub name: &'a str,
}

/// An image archive that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The image's full name.
    pub name: String,
    /// The digest of the image's manifest, as a registry shows it: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Bytes of the archive.
    pub size: u64,
}

/// Writes `image` to `output` as a tar of an OCI image layout. The same files give the same bytes.
///
/// # Errors
/// [`Error`] says what is wrong with the name, the Containerfile or the files it copies, or which file cannot be read or
/// written. An `output` that existed is as it was then.
pub fn build(image: &Image<'_>, output: &Path) -> Result<Built, Error> {
    let name = Name::parse(image.name)?;
    let text = std::fs::read_to_string(image.containerfile)
        .map_err(Error::file("read", image.containerfile))?;
    let containerfile = Containerfile::parse(image.containerfile, &text)?;
    let layer = layer::plan(&containerfile, image.context)?;
    let architecture = executable::architecture(&layer.program)?;
    archive::write(&name, &containerfile, &layer, architecture, output)
}
