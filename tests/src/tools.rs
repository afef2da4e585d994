//! Other people's libraries as clients and servers: finds the tools that make them run, and has `interop/` installed.
//!
//! What is installed lies in the cache and is pinned by the lock files in `interop/`. Where a tool is missing, a part of a
//! suite is left out and says so past the test runner.

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

/// Whether all of `tools` are installed; if one isn't, says that `what` is left out.
///
/// # Errors
///
/// When one is there and doesn't work, or nothing may be left out (`STILLWAKE_LEAVE_NOTHING_OUT=1`, as in CI).
pub async fn are_installed(tools: &[&str], what: &str) -> anyhow::Result<bool> {
    for tool in tools {
        let version = if *tool == "go" {
            "version"
        } else {
            "--version"
        };
        let output = Command::new(tool).arg(version).output().await;
        match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                left_out(what, &format!("{tool} isn't installed"))?;
                let may = env::var_os("STILLWAKE_LEAVE_NOTHING_OUT").is_none_or(|set| set != "1");
                ensure!(may, "{tool} is missing, and nothing may be left out");
                return Ok(false);
            }
            output => {
                let output = output?;
                ensure!(output.status.success(), "{tool} {version} fails");
            }
        }
    }
    Ok(true)
}

/// Says that `what` is left out, past the test runner, which shows what a test that passes prints to nobody.
///
/// # Errors
///
/// When nothing can be written.
pub fn left_out(what: &str, why: &str) -> anyhow::Result<()> {
    let line = format!("LEFT OUT: {what}, because {why}\n");
    Ok(io::stderr().write_all(line.as_bytes())?)
}

/// The path of a file in `interop/`.
pub fn interop(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(file)
}

/// Builds a Go program from a module in `interop/`, or elsewhere by its whole path, and returns its path in the cache.
///
/// # Errors
///
/// When it cannot be built; why is on standard error.
pub async fn go_program(module: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = Command::new(interop("go.sh"))
        .arg(interop(module))
        .arg(package)
        .stderr(Stdio::inherit())
        .output()
        .await?;
    let path = printed_path(path, "go.sh")?;
    ensure!(path.is_file(), "{} is not there", path.display());
    Ok(path)
}

/// The Python that has what `interop/requirements.txt` names.
///
/// # Errors
///
/// When it cannot be installed; why is on standard error.
pub async fn python() -> anyhow::Result<PathBuf> {
    let output = Command::new(interop("setup.sh"))
        .stderr(Stdio::inherit())
        .output()
        .await?;
    Ok(printed_path(output, "setup.sh")?.join("bin/python"))
}

/// The folder of the packages that a `package-lock.json` in `interop/` names, for `NODE_PATH`.
///
/// # Errors
///
/// When they cannot be installed; why is on standard error.
pub async fn node_packages(folder: &str) -> anyhow::Result<PathBuf> {
    let output = Command::new(interop("node.sh"))
        .arg(interop(folder))
        .stderr(Stdio::inherit())
        .output()
        .await?;
    printed_path(output, "node.sh")
}

fn printed_path(output: std::process::Output, script: &str) -> anyhow::Result<PathBuf> {
    if !output.status.success() {
        bail!("interop/{script} failed with {}", output.status);
    }
    let printed = String::from_utf8(output.stdout).context("a path that isn't UTF-8")?;
    Ok(PathBuf::from(printed.trim_end()))
}
