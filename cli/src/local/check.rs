//! The check start: runs the command once before anybody needs it, to see that it listens.
//!
//! Not a readiness probe; that is the sidecar's.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use stillwake_runtime::shutdown::Shutdown;
use tokio::{net::TcpStream, time::Instant};

use crate::local::{
    guardian::Guardian,
    listening,
    output::Output,
    ports,
    process::ending,
    replica::{StartError, start_app},
};

/// Time between two attempts to connect.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// What a command must do.
const DUTY: &str = "the command must listen on 127.0.0.1, on the port that {port} in its arguments is replaced \
                    with, or that the environment variable PORT holds";

/// What may be wrong with a command that was not told its port.
const UNTOLD: &str = "{port} is not among its arguments, so does it read PORT?";

/// The command is of no use as a replica.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended instead of listening.
    #[error(
        "'{program}' {ending} after {} without listening on 127.0.0.1:{port}; {hint}, and keep running in the foreground",
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
        /// What to do about it.
        hint: String,
    },
    /// It runs but does not listen.
    #[error(
        "'{program}' did not listen on 127.0.0.1:{port} within {}; {hint}; if it needs longer, give it a longer \
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
        /// What to do about it.
        hint: String,
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
    shutdown: &Shutdown,
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
            hint: hint(command, port, None),
        }),
        () = shutdown.drain.cancelled() => Err(CheckError::Interrupted),
        listens = tokio::time::timeout(startup_timeout, listens(port)) => listens.map_err(|_| {
            let hint = hint(command, port, Some(app.id()));
            CheckError::Silent { program, port, within: startup_timeout, hint }
        }),
    };
    tokio::select! {
        _ = app.stop(grace) => {}
        () = shutdown.abort.cancelled() => {
            app.stop(Duration::ZERO).await;
        }
    }
    outcome
}

/// Says what the command should do, and what it seems to do instead.
fn hint(command: &[String], port: u16, group: Option<u32>) -> String {
    let elsewhere = group.map(listening::addresses).unwrap_or_default();
    let told = command.iter().any(|word| word.contains("{port}"))
        || elsewhere.iter().any(|address| address.port() == port);
    let mut hint = String::new();
    if !elsewhere.is_empty() {
        let elsewhere: Vec<_> = elsewhere.iter().map(SocketAddr::to_string).collect();
        hint = format!("it listens on {} instead; ", elsewhere.join(" and "));
    }
    if !told {
        hint = format!("{hint}{UNTOLD} ");
    }
    hint + DUTY
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
