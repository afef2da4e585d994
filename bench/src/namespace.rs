//! A part's own network namespace, so that no port is taken and nothing else is on the wire.
//!
//! Takes root. Its processes have a namespace as well, and end with it whatever happens.

use std::{env, path::Path};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// Whether parts get namespaces of their own: whether this runs as root.
pub fn is_available() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs this program as `part NAME CONTEXT ROWS` in new namespaces, or in the machine's own if there can be none.
///
/// # Errors
///
/// When it fails; why is on standard error.
pub async fn run_part(name: &str, context: &Path, rows: &Path) -> anyhow::Result<()> {
    let program = env::current_exe().context("cannot tell where this program is")?;
    let mut command = if is_available() {
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    command.arg("part").arg(name).arg(context).arg(rows);
    let status = command.kill_on_drop(true).status().await?;
    ensure!(status.success(), "the part {name} failed with {status}");
    Ok(())
}

/// Brings up the loopback interface of the namespace this runs in, which is down in a new one.
///
/// # Errors
///
/// When `ip` is missing or refuses.
pub async fn enter() -> anyhow::Result<()> {
    if !is_available() {
        return Ok(());
    }
    let mut ip = Command::new("ip");
    let status = ip.args(["link", "set", "lo", "up"]).status().await;
    let status = status.context("ip is missing: install iproute2")?;
    ensure!(status.success(), "ip link set lo up failed with {status}");
    Ok(())
}
