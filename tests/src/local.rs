//! One `stillwake run` with everything it started, on ports of its own.
//!
//! Talks to it as a user does. Checks at the end that nothing is left running, and shows what is known when a suite
//! fails.

mod launch;
mod metrics;
mod options;
mod output;
mod state;
mod watch;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use http::StatusCode;
use rustix::process::Signal;
use tokio::process::Child;

use self::output::Output;
pub use self::{
    launch::Launch,
    metrics::Metrics,
    options::Options,
    state::{Phase, Replica, State},
    watch::{Change, Watch},
};
use crate::{
    client, processes,
    wait::{self, PATIENCE},
};

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
    launch: Launch,
    output: Output,
    finished: bool,
}

impl Stillwake {
    /// Starts `stillwake run` for `command` and returns when it is ready.
    ///
    /// # Errors
    ///
    /// When it ends or isn't ready in time, with what it printed.
    pub async fn run(options: Options, command: &[&str]) -> anyhow::Result<Self> {
        let launch = Launch::new()?;
        let mut child = launch
            .command("run")?
            .args(options.arguments())
            .arg("--")
            .args(command)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
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
            launch,
            output,
            finished: false,
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
        let mut marked = self.launch.processes();
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
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop_within(STOP_PATIENCE).await
    }

    /// As [`Self::stop`], where something would hold it up for longer than `patience` if it could.
    ///
    /// # Errors
    ///
    /// As [`Self::stop`].
    pub async fn stop_within(mut self, patience: Duration) -> anyhow::Result<()> {
        let pid = self.child.id().context("it has ended before")?;
        processes::signal(i32::try_from(pid)?, Signal::INT);
        let status = tokio::time::timeout(patience, self.child.wait())
            .await
            .with_context(|| format!("it didn't end within {patience:?} after SIGINT"))??;
        ensure!(status.success(), "it ended with {status} after SIGINT");
        let left = self.launch.processes();
        ensure!(left.is_empty(), "it left processes behind: {left:?}");
        self.finished = true;
        Ok(())
    }

    /// Sends SIGKILL to `stillwake run` alone and waits until nothing that it started is left.
    ///
    /// # Errors
    ///
    /// When something is, in the end.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        wait::until("everything to be gone after SIGKILL", PATIENCE, || async {
            let left = self.launch.processes();
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(())
        })
        .await?;
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
                self.launch.processes()
            );
            eprintln!("--- output of the failed run ---\n{}", self.output);
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
