//! Loads a proxy: wrk for HTTP/1.1, h2load for HTTP/2, round trips of our own for bytes that are no HTTP, and connections
//! that do nothing.
//!
//! Closed loops all: each connection has one request under way, so that times are those of service, not of waiting.

mod idle;
mod opaque;

use std::{net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

pub use self::{idle::Idle, opaque::round_trips};
use crate::peers::Around;

/// Prints what it saw so that it can be read.
const WRK_REPORT: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d\n", summary.requests, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// What a load saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests that were answered.
    pub requests: u64,
    /// The middle of the times from request to answer; zero where the tool does not tell.
    pub median: Duration,
    /// What 99 % of them do not exceed; zero where the tool does not tell.
    pub high: Duration,
}

/// Requests `path` over so many HTTP/1.1 connections for so long, in whole seconds.
///
/// # Errors
///
/// When wrk is missing or saw an error.
pub async fn http1(
    address: SocketAddr,
    path: &str,
    connections: u32,
    time: Duration,
    around: &Around,
) -> anyhow::Result<Load> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("report.lua");
    std::fs::write(&script, WRK_REPORT)?;
    let mut command = crate::peers::wrapped(around, "wrk".as_ref());
    command.args(["-t1", "-c", &connections.to_string()]);
    command.args([
        "-d",
        &time.as_secs().max(1).to_string(),
        "--timeout",
        "30s",
        "-s",
    ]);
    command.arg(&script).arg(format!("http://{address}{path}"));
    let printed = output(command, "wrk").await?;
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "));
    let line = line.with_context(|| format!("wrk printed:\n{printed}"))?;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [requests, median, high, errors] = numbers[..] else {
        bail!("wrk printed {line:?}");
    };
    ensure!(
        errors == 0 && requests > 0,
        "{errors} errors in {requests} requests"
    );
    Ok(Load {
        requests,
        median: Duration::from_micros(median),
        high: Duration::from_micros(high),
    })
}

/// How h2load is to end.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so long.
    Time(Duration),
    /// After so many requests.
    Requests(u64),
}

/// Requests `path` with h2load over so many connections, with so many streams at once on each; with none it speaks HTTP/1.1.
///
/// # Errors
///
/// When h2load is missing or a request failed.
pub async fn h2load(
    address: SocketAddr,
    path: &str,
    connections: u32,
    streams: u32,
    until: Until,
) -> anyhow::Result<u64> {
    let mut command = Command::new("h2load");
    command.args(["-t1", "-c", &connections.to_string()]);
    if streams == 0 {
        command.arg("--h1");
    } else {
        command.args(["-m", &streams.to_string()]);
    }
    match until {
        Until::Time(time) => command.args(["-D", &time.as_secs_f64().to_string()]),
        Until::Requests(requests) => command.args(["-n", &requests.to_string()]),
    };
    command.arg(format!("http://{address}{path}"));
    let printed = output(command, "h2load").await?;
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("requests: "));
    let line = line.with_context(|| format!("h2load printed:\n{printed}"))?;
    let number = |name: &str| {
        let field = line.split(", ").find_map(|field| field.strip_suffix(name));
        let field = field.with_context(|| format!("h2load printed {line:?}"))?;
        anyhow::Ok(field.parse::<u64>()?)
    };
    let (succeeded, failed) = (number(" succeeded")?, number(" failed")?);
    // What is under way when the time is up counts as neither.
    ensure!(failed == 0 && succeeded > 0, "h2load saw {line:?}");
    Ok(succeeded)
}

async fn output(mut command: Command, name: &str) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{name} is missing: bench/setup.sh installs it"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{name} failed with {}: {printed}{complaint}",
        output.status
    );
    Ok(printed)
}
