//! One sidecar process before one port of an app, as a pod has it.
//!
//! It tells no aggregator anything; what it counts is read from its own pages.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use anyhow::{Context, ensure};
use tokio::process::{Child, Command};

use crate::{
    binaries, client,
    wait::{self, PATIENCE},
};

/// A running sidecar. Dropped, it ends.
#[derive(Debug)]
pub struct Sidecar {
    /// Where clients connect to.
    pub address: SocketAddr,
    admin: SocketAddr,
    process: Child,
}

impl Sidecar {
    /// Starts one before `app`, which listens already, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it isn't built, or doesn't serve in time.
    pub async fn start(app: SocketAddr) -> anyhow::Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let process = Command::new(binaries::sidecar()?)
            .env(
                "STILLWAKE_SIDECAR_PORTS",
                format!("{}:{}", address.port(), app.port()),
            )
            .env("STILLWAKE_SIDECAR_ADDRESS", "127.0.0.1")
            .env("STILLWAKE_SIDECAR_ADMIN", admin.to_string())
            .env("STILLWAKE_SIDECAR_READINESS", "none")
            .env("STILLWAKE_SIDECAR_LOG", "warn")
            .kill_on_drop(true)
            .spawn()?;
        let sidecar = Self {
            address,
            admin,
            process,
        };
        wait::until("the sidecar", PATIENCE, || sidecar.in_flight()).await?;
        Ok(sidecar)
    }

    /// A number of its `/metrics` that has no labels.
    ///
    /// # Errors
    ///
    /// When the page or the number isn't there.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let page = client::get(self.admin, "/metrics").await?.text();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("{name} is not in {page}"))?;
        Ok(value.parse()?)
    }

    /// Requests in flight.
    ///
    /// # Errors
    ///
    /// As [`Self::metric`].
    pub async fn in_flight(&self) -> anyhow::Result<u64> {
        self.metric("stillwake_sidecar_requests_in_flight").await
    }

    /// All requests that it has counted.
    ///
    /// # Errors
    ///
    /// As [`Self::metric`].
    pub async fn requests(&self) -> anyhow::Result<u64> {
        self.metric("stillwake_sidecar_requests_total").await
    }

    /// The most memory that it has had in use so far, in bytes (`VmHWM` of proc(5)).
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        let pid = self.process.id().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| {
            let kibibytes = line.strip_prefix("VmHWM:")?.strip_suffix("kB")?;
            kibibytes.trim().parse::<u64>().ok()
        });
        Ok(peak.context("no VmHWM")? * 1024)
    }

    /// Waits until `count` requests are in flight: the last bytes of one may be on their way still.
    ///
    /// # Errors
    ///
    /// When it is another number in the end.
    pub async fn wait_for_in_flight(&self, count: u64) -> anyhow::Result<()> {
        wait::until("the requests in flight", PATIENCE, || async {
            let seen = self.in_flight().await?;
            ensure!(seen == count, "{seen} instead of {count}");
            anyhow::Ok(())
        })
        .await
    }
}

/// An address at which nobody listens, so far.
///
/// # Errors
///
/// When the machine has no port left.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
