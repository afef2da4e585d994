//! One child process in a process group of its own.
//!
//! What it runs and when it is to stop is the caller's business.

use std::{
    ffi::OsStr,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};

use crate::local::{
    guardian::{self, Guardian, Watch},
    output::{Output, To},
};

/// How long output that was written before the process ended may take to be read. It is in a pipe; only a process that
/// left the group and holds the pipe open makes us wait that long.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// A running process, and whatever it starts in its group. All of it is killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Pid,
    output: JoinSet<()>,
    _watch: Watch,
}

impl Process {
    /// Starts `command`, with its output passed on under `name`.
    ///
    /// # Errors
    ///
    /// Fails if the program cannot be started.
    pub fn start(
        mut command: Command,
        name: &Arc<str>,
        output: &Output,
        guardian: &Guardian,
    ) -> io::Result<Self> {
        let pipe = || {
            if output.is_shown() {
                Stdio::piped()
            } else {
                Stdio::null()
            }
        };
        guardian::mark(&mut command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(pipe())
            .stderr(pipe())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the process has no id"))?;
        let watch = guardian.watch(group);
        let mut tasks = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            tasks.spawn(output.clone().pass(Arc::clone(name), stdout, To::Stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            tasks.spawn(output.clone().pass(Arc::clone(name), stderr, To::Stderr));
        }
        Ok(Self {
            child,
            group,
            output: tasks,
            _watch: watch,
        })
    }

    /// Returns the process id, which is the group's too.
    pub fn id(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until the process has ended; its last output may still be on its way.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not let us wait for it.
    ///
    /// # Cancel safety
    ///
    /// Safe: may be called again.
    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits until the process has ended and its output has been passed on. Its children may still run.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not let us wait for it.
    ///
    /// # Cancel safety
    ///
    /// Safe: may be called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.exited().await?;
        let read = async { while self.output.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_OUTPUT, read).await;
        Ok(status)
    }

    /// Asks with SIGTERM and, when `grace` is over, insists with SIGKILL. Returns true if asking was enough.
    pub async fn stop(&mut self, grace: Duration) -> bool {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_ok() {
            let _ = self.wait().await;
            return true;
        }
        self.signal(Signal::KILL);
        let _ = self.wait().await;
        false
    }

    fn signal(&self, signal: Signal) {
        // Whoever is gone already needs no signal.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also when the process itself has ended: its children may not have.
        self.signal(Signal::KILL);
    }
}

/// Says how a process ended, in words that follow its name.
pub fn ending(status: &io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("could not be waited for: {error}"),
    }
}

/// A program cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing has that name.
    #[error("was not found")]
    NotFound,
    /// It is a folder, a socket or the like.
    #[error("is not a file")]
    NotFile,
    /// The file may not be executed.
    #[error("is not executable (`chmod +x` makes it so)")]
    NotExecutable,
}

/// Returns the program that `name` means: a path if it has a slash, else the first match on `path`.
///
/// # Errors
///
/// Says what is wrong with it.
pub fn find_program(name: &str, path: Option<&OsStr>) -> Result<PathBuf, Unusable> {
    if name.contains('/') {
        return runnable(name.into());
    }
    let mut folders = path.map(std::env::split_paths).into_iter().flatten();
    folders
        .find_map(|folder| runnable(folder.join(name)).ok())
        .ok_or(Unusable::NotFound)
}

fn runnable(candidate: PathBuf) -> Result<PathBuf, Unusable> {
    use std::os::unix::fs::PermissionsExt as _;
    match candidate.metadata() {
        Err(_) => Err(Unusable::NotFound),
        Ok(found) if !found.is_file() => Err(Unusable::NotFile),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Err(Unusable::NotExecutable),
        Ok(_) => Ok(candidate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_path_or_by_name() {
        assert!(find_program("/bin/sh", None).is_ok());
        assert!(find_program("sh", Some(OsStr::new("/nonexistent:/bin"))).is_ok());
        for (name, wrong) in [
            ("sh", Unusable::NotFound),
            ("/nonexistent/sh", Unusable::NotFound),
            ("/etc/passwd", Unusable::NotExecutable),
            ("/etc", Unusable::NotFile),
        ] {
            assert_eq!(
                find_program(name, Some(OsStr::new("/nonexistent"))),
                Err(wrong)
            );
        }
    }

    #[tokio::test]
    async fn what_ignores_sigterm_is_killed_with_its_children() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM; sleep 1000 & wait; sleep 1000"]);
        let (output, _) = crate::local::output::output(false);
        let mut process =
            Process::start(command, &"stubborn".into(), &output, &Guardian::default()).unwrap();
        let group = process.group;
        // The trap must be set before the signal comes; the child process says that it is.
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        while std::fs::read_to_string(&children).is_ok_and(|children| children.is_empty()) {
            tokio::task::yield_now().await;
        }
        assert!(!process.stop(Duration::from_millis(50)).await);
        drop(process);
        while rustix::process::test_kill_process_group(group).is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_ending_is_put_in_words() {
        let status = |script: &'static str| async move {
            ending(&Command::new("/bin/sh").args(["-c", script]).status().await)
        };
        assert_eq!(status("exit 3").await, "exited with code 3");
        assert_eq!(status("kill -9 $$").await, "was killed by signal 9");
    }
}
