//! Finds the binaries under test beside the running test.
//!
//! Never builds them: a build inside a test would hide which profile is measured.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// Path of the `stillwake` binary.
///
/// # Errors
///
/// Says how to build it when it isn't there.
pub fn stillwake() -> anyhow::Result<PathBuf> {
    find("stillwake", "stillwake")
}

/// Path of the `stillwake-sidecar` binary.
///
/// # Errors
///
/// Says how to build it when it isn't there.
pub fn sidecar() -> anyhow::Result<PathBuf> {
    find("stillwake-sidecar", "stillwake-sidecar")
}

/// Path of the test app (see [`crate::app`]).
///
/// # Errors
///
/// Says how to build it when it isn't there.
pub fn app() -> anyhow::Result<PathBuf> {
    find("stillwake-e2e-app", "stillwake-e2e")
}

/// The folder of everything that is built.
///
/// # Errors
///
/// When the running test is nowhere in such a folder.
pub fn target() -> anyhow::Result<PathBuf> {
    let running = std::env::current_exe().context("cannot tell where the running test is")?;
    // Tests run from target/<profile>/deps.
    let target = running.ancestors().nth(3);
    Ok(target
        .context("the test's path has no target folder")?
        .to_owned())
}

fn find(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let running = std::env::current_exe().context("cannot tell where the running test is")?;
    // Tests run from target/<profile>/deps, programs from target/<profile>.
    let mut folder = running.parent().context("the test's path has no folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps has no parent folder")?;
    }
    let path = folder.join(name);
    if !path.is_file() {
        let profile = if folder.ends_with("release") {
            " --release"
        } else {
            ""
        };
        bail!(
            "{} is missing; build it with `cargo build{profile} -p {package}`",
            path.display()
        );
    }
    Ok(path)
}
