//! The test app as a program; all of it is in `stillwake_e2e::app`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::Parser;
use stillwake_e2e::app::{self, Settings};

/// Answers what the end-to-end suites ask.
#[derive(Parser)]
struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Port to listen on
    #[arg(long)]
    port: u16,
    /// How long to wait before listening
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    startup_delay: Duration,
    /// Listen only once this file exists
    #[arg(long)]
    wait_for: Option<PathBuf>,
    /// How long to go on after SIGTERM as if nothing had happened
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    linger: Duration,
    /// File to append to at each start, request and answer
    #[arg(long)]
    journal: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    app::run(Settings {
        address: (args.address, args.port).into(),
        startup_delay: args.startup_delay,
        wait_for: args.wait_for,
        linger: args.linger,
        journal: args.journal,
    })
    .await
}
