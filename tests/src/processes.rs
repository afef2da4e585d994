//! Looks at the machine's processes: which of them belong to a run, and which of those are left.
//!
//! Signals are sent only to processes that carry the run's mark.

use std::{fs, path::Path};

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
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let command = command(pid);
        let is_ours = variables.any(|each| each.starts_with(variable.as_bytes()))
            || command.contains(mark.as_str());
        (is_ours && is_running(pid)).then_some(Process { pid, command })
    })
    .collect()
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
}
