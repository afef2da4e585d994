//! A server process that is asked directly: the same command that `stillwake run` is given, on a port of its own.

use std::{fs::File, net::SocketAddr, path::PathBuf, process::Stdio};

use anyhow::Context;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    sidecar::free_address,
    wait::{self, PATIENCE},
};

/// A running server. Dropped, it ends.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
    _process: Child,
    _folder: TempDir,
}

impl Server {
    /// Starts `command`, in which `{port}` is replaced, and returns once it accepts connections.
    ///
    /// # Errors
    ///
    /// When it doesn't in time, with what it printed.
    pub async fn start(command: &[String]) -> anyhow::Result<Self> {
        let address = free_address()?;
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let output = File::create(&log)?;
        let port = address.port().to_string();
        let mut words = command.iter().map(|word| word.replace("{port}", &port));
        let process = Command::new(words.next().context("a command has a program")?)
            .args(words)
            .env("PORT", &port)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let server = Self {
            address,
            log,
            _process: process,
            _folder: folder,
        };
        wait::until("the server", PATIENCE, || TcpStream::connect(address))
            .await
            .with_context(|| format!("{command:?} printed:\n{}", server.log()))?;
        Ok(server)
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("nothing ({error})"))
    }
}
