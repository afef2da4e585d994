//! Keeps processes on one processor, where a figure would otherwise be the time that an idle processor takes to wake.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::process::Command;

/// Returns a command that runs `program` on the last processor this process may use, and there alone.
///
/// # Errors
///
/// When the kernel does not say which those are.
pub fn pinned(program: impl AsRef<std::ffi::OsStr>) -> anyhow::Result<Command> {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(processor()?.to_string());
    command.arg(program);
    Ok(command)
}

/// Pins the calling thread, and what it starts from now on, to the same processor as [`pinned`].
///
/// # Errors
///
/// When the kernel refuses.
pub fn pin_this_thread() -> anyhow::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor()?);
    Ok(sched_setaffinity(None, &only)?)
}

fn processor() -> anyhow::Result<usize> {
    let allowed = sched_getaffinity(None)?;
    let all = (0..CpuSet::MAX_CPU).rev();
    all.into_iter()
        .find(|cpu| allowed.is_set(*cpu))
        .ok_or_else(|| anyhow::anyhow!("no processor is allowed"))
}
