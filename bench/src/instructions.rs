//! Counts the instructions that a proxy executes in user mode, with valgrind's callgrind.
//!
//! Two loads, of which one has three times the requests of the other: what happens once falls out of the difference.

use std::fmt;

use anyhow::Context as _;

use crate::{
    backend::Backend,
    context::Context,
    load::{self, Until},
    peers::{Around, Mode, Proxy, Running},
};

/// What is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    connections: u32,
    /// At once on each connection; none for HTTP/1.1.
    streams: u32,
}

impl Work {
    /// HTTP/2 on one connection.
    pub const H2: Self = Self {
        connections: 1,
        streams: 1,
    };

    /// HTTP/1.1 over so many connections.
    pub const fn h1(connections: u32) -> Self {
        Self {
            connections,
            streams: 0,
        }
    }

    /// The protocol.
    pub const fn mode(self) -> Mode {
        if self.streams == 0 {
            Mode::Http1
        } else {
            Mode::Http2
        }
    }

    /// Requests of the shorter load.
    fn requests(self) -> u64 {
        u64::from(self.connections).max(500) * 2
    }
}

impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.streams == 0 { "h1" } else { "h2" };
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(
            formatter,
            "{protocol}, {} connection{plural}",
            self.connections
        )
    }
}

/// Returns the instructions per request.
///
/// # Errors
///
/// When valgrind is missing, or the proxy does not run under it.
pub async fn per_request(
    proxy: Proxy,
    context: &Context,
    backend: &Backend,
    work: Work,
) -> anyhow::Result<f64> {
    let requests = work.requests();
    let few = collected(proxy, context, backend, work, requests).await?;
    let many = collected(proxy, context, backend, work, requests * 3).await?;
    Ok((many - few) / (requests * 2) as f64)
}

async fn collected(
    proxy: Proxy,
    context: &Context,
    backend: &Backend,
    work: Work,
    requests: u64,
) -> anyhow::Result<f64> {
    let valgrind = context.program("valgrind")?.display().to_string();
    let around = Around {
        wrapper: vec![
            valgrind,
            "--tool=callgrind".to_owned(),
            "--callgrind-out-file=/dev/null".to_owned(),
            "--vgdb=no".to_owned(),
        ],
        is_alone: true,
        ..Around::default()
    };
    let running = Running::start(proxy, context, backend, work.mode(), &around).await?;
    load::h2load(
        running.address,
        "/1024",
        work.connections,
        work.streams,
        Until::Requests(requests),
    )
    .await?;
    let printed = running.stop().await?;
    let count = printed
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = count.with_context(|| format!("valgrind printed:\n{printed}"))?;
    Ok(count.trim().parse()?)
}
