//! Looks at the machine's processes: which of them belong to a run or a control group, which of those are left, and what they
//! have used.
//!
//! Signals are sent only to processes that carry the run's mark.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use rustix::process::{Pid, Signal};

/// Text that only the processes of one run have: as a variable in the environment that they inherit, or, where they are
/// given another environment, in the path of their program.
#[derive(Clone, Debug)]
pub struct Mark(String);

impl Mark {
    /// The mark of this test process's run `number`.
    pub fn new(number: u32) -> Self {
        Self(format!("stillwake-e2e-{}-{number}-", std::process::id()))
    }

    /// For a program's path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the variable.
    pub fn variable(&self) -> String {
        self.0.replace('-', "_")
    }
}

/// A process of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its arguments, joined.
    pub command: String,
}

/// Whether a process with this id runs; a zombie doesn't.
pub fn is_running(pid: i32) -> bool {
    state(Path::new(&format!("/proc/{pid}"))).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Running processes that carry the mark.
pub fn marked(mark: &Mark) -> Vec<Process> {
    let variable = format!("{}=", mark.variable());
    running(|pid, command| {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|each| each.starts_with(variable.as_bytes()))
            || command.contains(mark.as_str())
    })
}

/// Running processes in a control group with `part` in its path, such as those of a pod by its UID.
pub fn in_control_group(part: &str) -> Vec<Process> {
    running(|pid, _| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
        groups.is_ok_and(|groups| groups.contains(part))
    })
}

/// Running processes that are meant, by their ids and arguments.
fn running(is_meant: impl Fn(i32, &str) -> bool) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let command = command(pid);
        (is_meant(pid, &command) && is_running(pid)).then_some(Process { pid, command })
    })
    .collect()
}

/// Returns the time that all threads of a process which still live have run for, in user mode and in the kernel together.
///
/// # Errors
///
/// When the process has ended.
pub fn cpu_time(pid: i32) -> anyhow::Result<Duration> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.with_context(|| format!("cannot look at process {pid}"))?;
    let mut nanoseconds = 0;
    for task in tasks {
        // A thread may end between the listing and the look.
        let Ok(schedule) = task.and_then(|task| fs::read_to_string(task.path().join("schedstat")))
        else {
            continue;
        };
        let ran = schedule.split(' ').next().unwrap_or_default();
        let ran: u64 = ran.parse().context("schedstat tells no time")?;
        nanoseconds += ran;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Sends `signal` to one process; one that is gone already is as well.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Fails only if the process is gone, which is what the callers want anyway.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn command(pid: i32) -> String {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

/// The state letter of proc(5).
fn state(folder: &Path) -> Option<char> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name before it is in parentheses and may hold anything, also parentheses.
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_process_is_found_until_it_has_ended() {
        let mark = Mark::new(u32::MAX);
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .env(mark.variable(), "")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Until it has executed, it shows the environment of its parent.
        while marked(&mark).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(marked(&mark)[0].pid, pid);
        signal(pid, Signal::KILL);
        while is_running(pid) {
            std::thread::yield_now();
        }
        // A zombie until here, which no longer counts.
        assert!(marked(&mark).is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_found_by_its_control_group_and_uses_time_while_it_works() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
        let (_, own) = groups.lines().next().unwrap().split_once(':').unwrap();
        let found = |part: &str| in_control_group(part).iter().any(|one| one.pid == pid);
        assert!(found(own) && !found("no such group"));
        let before = cpu_time(pid).unwrap();
        while cpu_time(pid).unwrap() == before {}
        // None has the largest id.
        assert!(cpu_time(i32::MAX).is_err());
    }
}
