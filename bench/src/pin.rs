//! Keeps processes on one processor, where a figure would otherwise be the time that an idle processor takes to wake.

use rustix::thread::{CpuSet, sched_getaffinity};

/// Returns the words before a program that keep it on the last processor which this process may use.
///
/// # Errors
///
/// When the kernel does not say which that is.
pub fn wrapper() -> anyhow::Result<Vec<String>> {
    Ok(vec![
        "taskset".to_owned(),
        "--cpu-list".to_owned(),
        processor()?.to_string(),
    ])
}

fn processor() -> anyhow::Result<usize> {
    let allowed = sched_getaffinity(None)?;
    let all = (0..CpuSet::MAX_CPU).rev();
    all.into_iter()
        .find(|cpu| allowed.is_set(*cpu))
        .ok_or_else(|| anyhow::anyhow!("no processor is allowed"))
}
