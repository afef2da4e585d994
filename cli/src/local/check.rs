//! The check start: runs the command once before anybody needs it, to see that it listens.
//!
//! Not a readiness probe; that is the sidecar's.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::local::{
    guardian::Guardian,
    output::Output,
    ports,
    process::ending,
    replica::{StartError, start_app},
};

/// Time between two attempts to connect.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// What a command can be told if it does not listen where it should.
const REMEDY: &str = "the command must listen on the port that {port} in its arguments is replaced with, or that \
                      the environment variable PORT holds";

/// The command is of no use as a replica.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended instead of listening.
    #[error(
        "'{program}' {ending} after {} without listening on 127.0.0.1:{port}; {REMEDY}, and keep running",
        humantime::format_duration(*after)
    )]
    Ended {
        /// What was started.
        program: String,
        /// How it ended.
        ending: String,
        /// How long it ran.
        after: Duration,
        /// Where it should have listened.
        port: u16,
    },
    /// It runs but does not listen.
    #[error(
        "'{program}' did not listen on 127.0.0.1:{port} within {}; {REMEDY}; if it needs longer, give it a longer \
         --startup-timeout",
        humantime::format_duration(*within)
    )]
    Silent {
        /// What was started.
        program: String,
        /// Where it should have listened.
        port: u16,
        /// How long it had.
        within: Duration,
    },
    /// No port to listen on.
    #[error("there is no free port between 15000 and 30000 to run the command on")]
    NoPort,
    /// A signal came meanwhile.
    #[error("interrupted")]
    Interrupted,
}

/// Starts `command`, waits until it listens, and stops it again.
///
/// # Errors
///
/// Says why the command is of no use. In any case nothing of it is left behind.
pub async fn check_start(
    command: &[String],
    (startup_timeout, grace): (Duration, Duration),
    output: &Output,
    guardian: &Guardian,
    interrupted: &CancellationToken,
) -> Result<(), CheckError> {
    let port = ports::free(|_| false).ok_or(CheckError::NoPort)?;
    let program = command.first().cloned().unwrap_or_default();
    let started = Instant::now();
    let name: Arc<str> = "check".into();
    let mut app = start_app(command, port, &name, output, guardian)?;
    let outcome = tokio::select! {
        biased;
        status = app.wait() => Err(CheckError::Ended {
            program,
            ending: ending(&status),
            after: Duration::from_millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            port,
        }),
        () = interrupted.cancelled() => Err(CheckError::Interrupted),
        listens = tokio::time::timeout(startup_timeout, listens(port)) => listens.map_err(|_| {
            CheckError::Silent { program, port, within: startup_timeout }
        }),
    };
    app.stop(grace).await;
    outcome
}

/// Waits until somebody takes connections on `port`.
async fn listens(port: u16) {
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::debug!(%error, port, "Cannot tell yet whether the command listens");
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}
