//! One replica: a process of the command, and the sidecar before it.
//!
//! When to start and to stop it is the fleet's decision (`fleet`), carried out by the `supervisor`.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::local::{
    guardian::Guardian,
    output::Output,
    process::{Process, ending},
};

/// How much longer than its own grace the sidecar may take to exit before it is killed.
const SIDECAR_MARGIN: Duration = Duration::from_secs(2);

/// How long the sidecar of an app that fell over may take to pass on what the app had written.
const AFTER_FALL: Duration = Duration::from_secs(1);

/// What all replicas of a workload have in common.
#[derive(Clone, Debug)]
pub struct Template {
    /// Program and arguments, `{port}` not yet replaced. Not empty.
    pub command: Vec<String>,
    /// The sidecar's program.
    pub sidecar: PathBuf,
    /// Where sidecars report to.
    pub aggregator: SocketAddr,
    /// Namespace that the sidecars report.
    pub namespace: String,
    /// What the replicas' names begin with.
    pub name: String,
    /// Longest time to finish requests, and again to exit.
    pub grace: Duration,
}

/// What tells one replica from the others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Unique over all runs.
    pub uid: String,
    /// For people; unique within this run.
    pub name: Arc<str>,
    /// Where the app listens on 127.0.0.1.
    pub port: u16,
    /// Where its sidecar listens on 127.0.0.1.
    pub sidecar_port: u16,
}

impl Identity {
    /// Returns where clients of the replica connect: its sidecar.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.sidecar_port).into()
    }
}

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start '{program}': {source}")]
pub struct StartError {
    program: String,
    source: io::Error,
}

/// Both processes of a replica. They are killed on drop.
#[derive(Debug)]
pub struct Replica {
    app: Process,
    sidecar: Process,
    port: u16,
    grace: Duration,
}

impl Replica {
    /// Starts the app and its sidecar at the same time: the sidecar watches the app become ready.
    ///
    /// # Errors
    ///
    /// Fails if either program cannot be started; the other is killed.
    pub fn start(
        template: &Template,
        identity: &Identity,
        output: &Output,
        guardian: &Guardian,
    ) -> Result<Self, StartError> {
        let app = start_app(
            &template.command,
            identity.port,
            &identity.name,
            output,
            guardian,
        )?;
        let sidecar_name = format!("{} sidecar", identity.name).into();
        let sidecar = Process::start(sidecar(template, identity), &sidecar_name, output, guardian)
            .map_err(|source| StartError {
                program: template.sidecar.display().to_string(),
                source,
            })?;
        Ok(Self {
            app,
            sidecar,
            port: identity.port,
            grace: template.grace,
        })
    }

    /// Returns the process ids of app and sidecar.
    pub fn ids(&self) -> (u32, u32) {
        (self.app.id(), self.sidecar.id())
    }

    /// Waits until the replica falls over, or, once `drain` is cancelled, until it has finished its requests and
    /// stopped; `abort` stops it at once. Returns when both processes have ended. A fall is told to `fell`, in words,
    /// before what is left is cleared away.
    pub async fn run(
        mut self,
        drain: CancellationToken,
        abort: CancellationToken,
        fell: impl AsyncFnOnce(String),
    ) {
        let life = async {
            tokio::select! {
                () = drain.cancelled() => self.drain().await,
                status = self.app.exited() => {
                    fell(format!("the command {}", self.app_ending(&status))).await;
                    self.sidecar.stop(AFTER_FALL).await;
                    let _ = self.app.wait().await;
                }
                status = self.sidecar.exited() => {
                    fell(format!("its sidecar {}", ending(&status))).await;
                    self.app.stop(self.grace).await;
                }
            }
        };
        tokio::select! {
            () = life => {}
            () = abort.cancelled() => {
                tokio::join!(self.sidecar.stop(Duration::ZERO), self.app.stop(Duration::ZERO));
            }
        }
    }

    /// The sidecar goes first: while it finishes, the app must be there.
    async fn drain(&mut self) {
        if !self.sidecar.stop(self.grace + SIDECAR_MARGIN).await {
            tracing::warn!(
                sidecar = self.sidecar.id(),
                "Killed a sidecar that did not stop"
            );
        }
        if !self.app.stop(self.grace).await {
            tracing::warn!(
                pid = self.app.id(),
                grace = ?self.grace,
                "Killed a process of the command that did not stop"
            );
        }
    }

    fn app_ending(&self, status: &io::Result<ExitStatus>) -> String {
        format!("{} (it had port {})", ending(status), self.port)
    }
}

/// Starts `command` for `port` without a sidecar.
///
/// # Errors
///
/// Fails if the program cannot be started.
pub fn start_app(
    command: &[String],
    port: u16,
    name: &Arc<str>,
    output: &Output,
    guardian: &Guardian,
) -> Result<Process, StartError> {
    let decimal = port.to_string();
    let mut words = command.iter().map(|word| word.replace("{port}", &decimal));
    let program = words.next().unwrap_or_default();
    let mut app = Command::new(&program);
    app.args(words).env("PORT", &decimal);
    Process::start(app, name, output, guardian).map_err(|source| StartError { program, source })
}

fn sidecar(template: &Template, identity: &Identity) -> Command {
    let mut sidecar = Command::new(&template.sidecar);
    let ports = format!("{}:{}", identity.sidecar_port, identity.port);
    // Only what it is told here: the user's environment is the app's.
    sidecar
        .env_clear()
        .env("STILLWAKE_SIDECAR_PORTS", ports)
        .env("STILLWAKE_SIDECAR_ADDRESS", Ipv4Addr::LOCALHOST.to_string())
        .env(
            "STILLWAKE_SIDECAR_AGGREGATORS",
            template.aggregator.to_string(),
        )
        .env("STILLWAKE_SIDECAR_POD_NAMESPACE", &template.namespace)
        .env("STILLWAKE_SIDECAR_POD_NAME", &*identity.name)
        .env("STILLWAKE_SIDECAR_POD_UID", &identity.uid)
        .env(
            "STILLWAKE_SIDECAR_DRAIN_GRACE",
            format!("{}ms", template.grace.as_millis()),
        )
        .env("STILLWAKE_SIDECAR_LOG", "warn");
    sidecar
}
