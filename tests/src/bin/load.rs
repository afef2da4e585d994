//! A bounded load for measurements: keep-alive connections, each with one request in flight.
//!
//! Checks nothing but the status; the suites' load is `stillwake_e2e::load`.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use clap::Parser;
use http::{Method, StatusCode};
use stillwake_e2e::client::{Connection, request, whole};
use tokio::{task::JoinSet, time::Instant};

/// Sends GETs over keep-alive connections for a while and prints how many were answered.
#[derive(Parser)]
struct Args {
    /// Address to send to
    #[arg(long)]
    target: SocketAddr,
    /// Path of every request
    #[arg(long, default_value = "/bytes?length=110")]
    path: String,
    /// Connections
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How long
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    duration: Duration,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the numbers are this program's result")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let start = Instant::now();
    let end = start + args.duration;
    let mut clients = JoinSet::new();
    for _ in 0..args.connections {
        clients.spawn(client(args.target, args.path.clone(), end));
    }
    let (mut answered, mut reopened) = (0, 0);
    while let Some(client) = clients.join_next().await {
        let (requests, connections) = client??;
        answered += requests;
        reopened += connections - 1;
    }
    ensure!(answered > 0, "nothing was answered");
    let rate = answered as f64 / start.elapsed().as_secs_f64();
    println!("{answered} answered, {rate:.0} per second, {reopened} connections reopened");
    Ok(())
}

/// Returns how many requests were answered over how many connections.
async fn client(target: SocketAddr, path: String, end: Instant) -> anyhow::Result<(u64, u64)> {
    let (mut requests, mut connections) = (0, 1);
    let mut connection = Connection::open(target).await?;
    while Instant::now() < end {
        if !connection.is_reusable().await {
            connection = Connection::open(target).await?;
            connections += 1;
        }
        let answer = connection
            .send(request(Method::GET, &path, 0, whole("")))
            .await?;
        ensure!(answer.status == StatusCode::OK, "status {}", answer.status);
        requests += 1;
    }
    Ok((requests, connections))
}
