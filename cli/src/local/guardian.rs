//! A second process that kills the replicas should this one be killed with SIGKILL.
//!
//! It reads the process groups from its stdin, which ends when the parent does, however that ends. It is not how
//! replicas stop otherwise. A process that leaves its group (a daemon) escapes it.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};

/// Tells the guardian which process groups to kill. Clones share one guardian.
#[derive(Clone, Debug, Default)]
pub struct Guardian(Option<Arc<Mutex<Parent>>>);

#[derive(Debug)]
struct Parent {
    process: Child,
    groups: Option<ChildStdin>,
}

impl Guardian {
    /// Starts the guardian: `program` is this program.
    ///
    /// # Errors
    ///
    /// Fails if the process cannot be started.
    pub fn start(program: &Path) -> io::Result<Self> {
        let mut process = Command::new(program)
            .arg("guardian")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C of the terminal is for the foreground group only.
            .process_group(0)
            .spawn()?;
        let groups = process.stdin.take();
        Ok(Self(Some(Arc::new(Mutex::new(Parent { process, groups })))))
    }

    /// Has `group` killed when this process ends, until the returned watch drops.
    pub fn watch(&self, group: Pid) -> Watch {
        self.tell('+', group);
        Watch {
            guardian: self.clone(),
            group,
        }
    }

    /// A line is far smaller than the pipe, so this does not block; without a guardian there is nobody to tell.
    fn tell(&self, sign: char, group: Pid) {
        if let Some(parent) = &self.0
            && let Some(groups) = &mut parent.lock().groups
        {
            let line = format!("{sign}{}\n", group.as_raw_nonzero());
            if let Err(error) = groups.write_all(line.as_bytes()) {
                tracing::debug!(%error, "The guardian is gone");
            }
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        drop(self.groups.take());
        // It ends at once on the end of its stdin.
        if let Err(error) = self.process.wait() {
            tracing::debug!(%error, "Cannot wait for the guardian");
        }
    }
}

/// Keeps a process group under the guardian's watch.
#[derive(Debug)]
#[must_use = "the guardian forgets the group when the watch drops"]
pub struct Watch {
    guardian: Guardian,
    group: Pid,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.guardian.tell('-', self.group);
    }
}

/// Runs the guardian: reads `+group` and `-group` lines until their end, then kills the groups that are left.
pub fn watch(lines: impl BufRead) {
    for group in left(lines) {
        // Whoever is gone already needs no signal.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn left(lines: impl BufRead) -> Vec<Pid> {
    let mut groups = BTreeSet::new();
    for line in lines.lines().map_while(Result::ok) {
        if let Some(group) = line.strip_prefix('+').and_then(|group| group.parse().ok()) {
            groups.insert(group);
        } else if let Some(group) = line.strip_prefix('-').and_then(|group| group.parse().ok()) {
            groups.remove(&group);
        }
    }
    // Group 1 would be every process there is.
    groups
        .into_iter()
        .filter(|&group: &i32| group > 1)
        .filter_map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_were_not_taken_back_are_left() {
        let groups = left("+20\n+30\n-20\nnonsense\n+1\n+0\n+-5\n".as_bytes());
        assert_eq!(groups, [Pid::from_raw(30).unwrap()]);
    }
}
