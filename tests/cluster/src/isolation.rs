//! What a node's first process does to its namespaces, so that nothing a node writes outside its folder lasts.
//!
//! The namespaces themselves are made by `unshare` in `start`. Mounts made here end with the mount namespace.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    system::sethostname,
};

use crate::files;

/// Folders of the machine that Kubernetes' parts write to without asking. Their writes go to the node's folder.
const COVERED: [&str; 2] = ["/var", "/opt"];
/// Folders that are empty at a node's start and gone at its end.
const FRESH: [&str; 2] = ["/run", "/tmp"];

/// Settings of the kernel that kubelet writes at its start although they are the whole machine's.
const KERNEL_SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Settings of the node's own network, where the kernel has them. They hold for links that are made later.
const NETWORK_SETTINGS: [(&str, &str); 3] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    // Nobody else has the addresses, and one that is still asked about is of no use, for seconds or, where no other link
    // joins the bridge, for ever.
    ("ipv6/conf/default/accept_dad", "0"),
];

/// Refuses a folder that the nodes would not see: what is covered hides it.
pub(crate) fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let hidden = COVERED.into_iter().chain(FRESH);
    for hidden in hidden {
        ensure!(
            !folder.starts_with(hidden),
            "{} is below {hidden}, which the nodes have for themselves: set STILLWAKE_CACHE to a folder elsewhere, on a disk",
            folder.display()
        );
    }
    Ok(())
}

/// Turns fresh namespaces into those of the node `name`, whose files are in `folder`.
pub(crate) fn enter(name: &str, folder: &Path) -> anyhow::Result<()> {
    sethostname(name.as_bytes()).context("setting the node's host name")?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None).context("mounting /proc")?;
    // Volumes with mount propagation need a shared root; nothing of it reaches the machine's own mounts.
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .context("sharing the node's mounts")?;
    for path in FRESH {
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), None)
            .with_context(|| format!("mounting {path}"))?;
    }
    for path in COVERED {
        cover(Path::new(path), folder)?;
    }
    for setting in KERNEL_SETTINGS {
        detach_kernel_setting(setting, folder)?;
    }
    for (setting, value) in NETWORK_SETTINGS {
        let path = Path::new("/proc/sys/net").join(setting);
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("setting {}", path.display()))?;
        }
    }
    Ok(())
}

fn cover(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let (upper, work) = (
        folder.join("written").join(name),
        folder.join("overlay").join(name),
    );
    files::make_folder(&upper)?;
    files::make_folder(&work)?;
    let options = std::ffi::CString::new(format!(
        "lowerdir={},upperdir={},workdir={}",
        path.display(),
        upper.display(),
        work.display()
    ))?;
    mount(
        "overlay",
        path,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .with_context(|| {
        format!(
            "covering {} by an overlay in {}: the cache must lie on a disk's file system",
            path.display(),
            folder.display()
        )
    })
}

fn detach_kernel_setting(setting: &str, folder: &Path) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys").join(setting);
    let Some(value) = files::read_if_there(&path)? else {
        return Ok(());
    };
    let stand_in = folder.join("kernel-settings").join(setting);
    files::write(&stand_in, value)?;
    mount_bind(&stand_in, &path).with_context(|| format!("covering {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_the_nodes_would_not_see_is_refused_by_name() {
        let error = check_folder(Path::new("/var/lib/ci/.cache"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/var/lib/ci/.cache") && error.contains("STILLWAKE_CACHE"),
            "{error}"
        );
        check_folder(Path::new("/home/someone/.cache/stillwake/cluster")).unwrap();
        check_folder(Path::new("/variable/cache")).unwrap();
    }
}
