//! One `stillwake run` with everything it started, on ports of its own.
//!
//! Talks to it as a user does. Checks at the end that nothing is left running, and shows what is known when a suite
//! fails.

mod metrics;
mod options;
mod output;
mod state;
mod watch;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use http::StatusCode;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use self::output::Output;
pub use self::{
    metrics::Metrics,
    options::Options,
    state::{Phase, Replica, State},
    watch::{Change, Watch},
};
use crate::{
    binaries, client,
    processes::{self, Mark},
    wait::{self, PATIENCE},
};

/// Distinguishes the runs of one test process.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// How long a stop may take: what is in flight may finish first.
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// How long each page of a failed run may take, which may hang.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A running `stillwake run`.
#[derive(Debug)]
pub struct Stillwake {
    child: Child,
    /// Where clients connect to.
    pub address: SocketAddr,
    /// Where its pages are.
    pub admin: SocketAddr,
    mark: Mark,
    output: Output,
    finished: bool,
    _folder: TempDir,
}

impl Stillwake {
    /// Starts `stillwake run` for `command` and returns when it is ready.
    ///
    /// # Errors
    ///
    /// When it ends or isn't ready in time, with what it printed.
    pub async fn run(options: Options, command: &[&str]) -> anyhow::Result<Self> {
        let mark = Mark::new(RUNS.fetch_add(1, Ordering::Relaxed));
        // Sidecars get an environment made for them, so their mark is in their path.
        let folder = tempfile::Builder::new().prefix(mark.as_str()).tempdir()?;
        let sidecar = folder.path().join("stillwake-sidecar");
        symlink(binaries::sidecar()?, &sidecar)?;
        let mut child = Command::new(binaries::stillwake()?)
            .arg("run")
            .args(options.arguments())
            .arg("--sidecar")
            .arg(&sidecar)
            .arg("--")
            .args(command)
            .env(mark.variable(), "")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = Output::capture(child.stderr.take().context("stderr was asked for")?);
        let ready = wait::until("the ready line", PATIENCE, || {
            let ended = child.try_wait();
            let ready = output.ready_addresses();
            async move {
                match (ready, ended?) {
                    (Some(addresses), _) => Ok(Ok(addresses)),
                    (None, Some(status)) => Ok(Err(status)),
                    (None, None) => bail!("no such line"),
                }
            }
        })
        .await;
        let (address, admin) = match ready {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(status)) => bail!("it ended with {status} before it was ready:\n{output}"),
            Err(error) => bail!("{error:#}:\n{output}"),
        };
        let stillwake = Self {
            child,
            address,
            admin,
            mark,
            output,
            finished: false,
            _folder: folder,
        };
        wait::until("/ready", PATIENCE, || async {
            let answer = client::get(admin, "/ready").await?;
            ensure!(
                answer.status == StatusCode::OK,
                "{} {}",
                answer.status,
                answer.text()
            );
            Ok(())
        })
        .await?;
        Ok(stillwake)
    }

    /// Reads `/debug/state`.
    ///
    /// # Errors
    ///
    /// When the page cannot be had or isn't JSON.
    pub async fn state(&self) -> anyhow::Result<State> {
        State::read(self.admin).await
    }

    /// Reads `/metrics`.
    ///
    /// # Errors
    ///
    /// When the page cannot be had.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let answer = client::get(self.admin, "/metrics").await?;
        ensure!(
            answer.status == StatusCode::OK,
            "/metrics: {}",
            answer.status
        );
        Ok(Metrics::new(answer.text()))
    }

    /// Waits until the state is as `check` wants it; `check` says otherwise what it misses.
    ///
    /// # Errors
    ///
    /// After `patience`, with what was missing and the whole state.
    pub async fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        check: impl Fn(&State) -> anyhow::Result<()>,
    ) -> anyhow::Result<State> {
        wait::until(what, patience, || async {
            let state = self.state().await?;
            check(&state).with_context(|| format!("the state is {state}"))?;
            anyhow::Ok(state)
        })
        .await
    }

    /// Waits until no replica is left, neither in the state nor on the machine.
    ///
    /// # Errors
    ///
    /// After `patience`, with what is left.
    pub async fn wait_for_zero(&self, patience: Duration) -> anyhow::Result<State> {
        let state = self
            .wait_for("zero replicas", patience, |state| {
                ensure!(state.replicas().is_empty(), "there are replicas");
                Ok(())
            })
            .await?;
        wait::until("all replicas' processes to be gone", PATIENCE, || async {
            let left = self.processes();
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(())
        })
        .await?;
        Ok(state)
    }

    /// Starts noting how the replicas change, until the watch is stopped.
    pub fn watch(&self) -> Watch {
        Watch::start(self.admin)
    }

    /// The processes of the replicas, as this machine shows them: apps, sidecars and what they started.
    ///
    /// Not `stillwake run` itself, nor the guardian, its helper that outlives a SIGKILL of it.
    pub fn processes(&self) -> Vec<processes::Process> {
        let own = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let mut marked = processes::marked(&self.mark);
        marked.retain(|process| {
            Some(process.pid) != own && !process.command.ends_with("/stillwake guardian")
        });
        marked
    }

    /// Sends SIGINT as Ctrl-C does, waits for the end and checks that it was a clean one.
    ///
    /// # Errors
    ///
    /// When it doesn't end, not with 0, or leaves a process behind.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().context("it has ended before")?;
        processes::signal(i32::try_from(pid)?, Signal::INT);
        let status = tokio::time::timeout(STOP_PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("it didn't end within {STOP_PATIENCE:?} after SIGINT"))??;
        ensure!(status.success(), "it ended with {status} after SIGINT");
        let left = processes::marked(&self.mark);
        ensure!(left.is_empty(), "it left processes behind: {left:?}");
        self.finished = true;
        Ok(())
    }
}

impl Drop for Stillwake {
    fn drop(&mut self) {
        // A suite that ends without `stop` has failed.
        if !self.finished {
            for page in ["/debug/state", "/metrics"] {
                let shown = self.show_blocking(page);
                let shown = shown.unwrap_or_else(|error| format!("none: {error}"));
                eprintln!("--- {page} of the failed run ---\n{shown}");
            }
            eprintln!(
                "--- processes of the failed run ---\n{:#?}",
                processes::marked(&self.mark)
            );
            eprintln!("--- output of the failed run ---\n{}", self.output);
        }
        for process in processes::marked(&self.mark) {
            processes::signal(process.pid, Signal::KILL);
        }
    }
}

impl Stillwake {
    /// For `Drop`, where nothing can be awaited; the run may hang.
    fn show_blocking(&self, page: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, LAST_LOOK)?;
        stream.set_read_timeout(Some(LAST_LOOK))?;
        write!(stream, "GET {page} HTTP/1.0\r\n\r\n")?;
        let mut shown = String::new();
        stream.read_to_string(&mut shown)?;
        Ok(shown)
    }
}
