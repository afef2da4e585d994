//! What a process has used so far: CPU time, memory, and how often it was woken.

use anyhow::Context;
use procfs::process::Process;
pub use stillwake_e2e::processes::cpu_time;
use tokio::process::Child;

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Pages that are mapped and present.
    pub resident: u64,
    /// The same, with what others share divided among them.
    pub proportional: u64,
}

/// Returns the id of a child that has not been waited for.
///
/// # Errors
///
/// When it has ended.
pub fn id(child: &Child) -> anyhow::Result<i32> {
    let id = child.id().context("the process has ended")?;
    Ok(id.try_into()?)
}

/// Returns how often its threads were put to sleep and woken again.
///
/// # Errors
///
/// When the process has ended.
pub fn wake_ups(pid: i32) -> anyhow::Result<u64> {
    let mut all = 0;
    for task in process(pid)?.tasks()? {
        let Ok(status) = task.and_then(|task| task.status()) else {
            continue;
        };
        all += status.voluntary_ctxt_switches.unwrap_or_default();
    }
    Ok(all)
}

/// Returns the memory it takes now.
///
/// # Errors
///
/// When the process has ended or is another user's.
pub fn memory(pid: i32) -> anyhow::Result<Memory> {
    let rollup = process(pid)?.smaps_rollup()?;
    let map = rollup.memory_map_rollup.0.first();
    let sizes = &map.context("no mapping")?.extension.map;
    let size = |name: &str| {
        let size = sizes.get(name).copied();
        size.with_context(|| format!("no {name} in smaps_rollup"))
    };
    Ok(Memory {
        resident: size("Rss")?,
        proportional: size("Pss")?,
    })
}

/// Returns the most memory that it has had mapped and present so far, in bytes.
///
/// # Errors
///
/// When the process has ended.
pub fn peak_memory(pid: i32) -> anyhow::Result<u64> {
    let peak = process(pid)?.status()?.vmhwm;
    Ok(peak.context("no VmHWM")? * 1024)
}

fn process(pid: i32) -> anyhow::Result<Process> {
    Process::new(pid).with_context(|| format!("cannot look at process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let before = cpu_time(pid).unwrap();
        while cpu_time(pid).unwrap() == before {}
        let memory = memory(pid).unwrap();
        assert!(memory.resident > 100_000 && memory.proportional <= memory.resident);
        wake_ups(pid).unwrap();
    }
}
