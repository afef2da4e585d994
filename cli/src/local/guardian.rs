//! A second process that kills the replicas should this one be killed with SIGKILL.
//!
//! It reads the process groups from its stdin, which ends when the parent does, however that ends, and on Linux also
//! finds what is marked as this run's. It is not how replicas stop otherwise. Elsewhere than on Linux, a process that
//! leaves its group (a daemon) escapes it, and so does one whose start was not yet told of.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

/// Names the run, by its process id, in the environment of the guardian and of all that the run starts.
const MARK: &str = "STILLWAKE_RUN";

/// How often, and at what distance, the guardian looks again while something may be about to carry the mark. More than
/// a busy machine needs between two steps of `execve`, and an end to it if a process runs without an environment.
const LOOKS: u32 = 200;
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

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
            .env(MARK, std::process::id().to_string())
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

/// Marks what `command` will start, which the guardian may have to find before it was told of its group.
pub fn mark(command: &mut tokio::process::Command) {
    command.env(MARK, std::process::id().to_string());
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
    // A process is there before its group can be told of. Then it has a mark, or is on its way to one: the lines end
    // only once all forks of the parent, each of which holds its end of the pipe, are executing their programs.
    for _ in 0..LOOKS {
        let found = processes();
        for (process, _) in found.iter().filter(|(_, state)| *state == State::Marked) {
            let _ = kill_process(*process, Signal::KILL);
        }
        if !found.iter().any(|(_, state)| *state == State::Executing) {
            return;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// What a process is to the guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It carries the same mark as the guardian.
    Marked,
    /// It is younger than the guardian and has no environment. In the middle of `execve` that is so for a moment: the
    /// pipe is closed by then, and the new environment is not there yet.
    Executing,
}

/// Returns the processes that are or may become the run's, without the guardian.
fn processes() -> Vec<(Pid, State)> {
    let (Some(mark), Ok(processes)) = (std::env::var_os(MARK), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let variable = [MARK.as_bytes(), b"=", mark.as_encoded_bytes()].concat();
    let began = started(Path::new("/proc/self"));
    let look = |process: fs::DirEntry| {
        let id = Pid::from_raw(process.file_name().to_str()?.parse().ok()?)?;
        let environment = fs::read(process.path().join("environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        if variables.any(|each| each == variable) {
            return Some((id, State::Marked));
        }
        // What has ended and what belongs to the kernel has no program.
        let runs = process.path().join("exe").read_link().is_ok();
        let young = started(&process.path()) >= began;
        (environment.is_empty() && runs && young).then_some((id, State::Executing))
    };
    let found = processes.filter_map(|process| look(process.ok()?));
    found.filter(|(process, _)| *process != getpid()).collect()
}

/// Returns when a process was started, in ticks since the machine was (field 22 of `proc_pid_stat(5)`).
fn started(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The program's name comes second, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
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

    #[test]
    fn a_process_tells_when_it_was_started() {
        let own = started(Path::new("/proc/self"));
        assert!(own.is_some());
        assert!(started(Path::new("/proc/1")) <= own);
    }
}
