//! What the machine must have: checked in plain words, installed where that can be done.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

/// Programs from Debian and the packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("runc", "runc"),
    ("ip", "iproute2"),
    // kube-proxy writes its rules with it.
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// The Go toolchain that the modules ask for; an older one fetches it by itself, unless forbidden.
const GO: &str = "1.26";

/// What building needs.
pub(crate) fn check_build() -> anyhow::Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "the test cluster runs on Linux only: it is made of namespaces"
    );
    ensure!(
        find("go").is_some(),
        "go is missing: install Go {GO} or newer; Kubernetes and KEDA are built with it"
    );
    Ok(())
}

/// Namespaces, mounts and containers are root's.
pub(crate) fn check_root(command: &str) -> anyhow::Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the test cluster needs root, for namespaces and containers: run `{command}` as root"
    );
    Ok(())
}

/// What starting needs; installs what is missing where apt-get is.
pub(crate) fn install_missing() -> anyhow::Result<()> {
    let mut packages = PROGRAMS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect::<Vec<_>>();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let packages_text = packages.join(" ");
    if find("apt-get").is_none() {
        bail!(
            "missing on this machine: {packages_text}. Install them; only Debian and Ubuntu are known here"
        );
    }
    eprintln!("Installing {packages_text}");
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(packages);
    apt(&install)?;
    for (program, package) in PROGRAMS {
        ensure!(
            find(program).is_some(),
            "{program} is still missing after the installation of {package}"
        );
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        // Standard output is the caller's: the names that scripts read.
        .stdout(Stdio::null())
        .status()
        .context("running apt-get")?;
    ensure!(
        status.success(),
        "apt-get {} failed: {status}",
        arguments.join(" ")
    );
    Ok(())
}

/// Where a program is. Administrators' folders are looked at too: they are often missing in PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path.as_os_str(), rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

/// PATH with our folders in front and the administrators' at the end.
pub(crate) fn path_with(folders: &[&Path]) -> anyhow::Result<impl AsRef<OsStr> + use<>> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(
        folders
            .iter()
            .map(|folder| (*folder).to_owned())
            .chain(env::split_paths(&path))
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from)),
    )
    .context("a folder with a colon in its name cannot be in PATH")
}
