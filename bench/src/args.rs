//! The command line. What an option means is said here and nowhere else.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::roles::Role;

/// Measures Stillwake beside its peers and writes a report.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What is to be measured, without a subcommand.
    #[command(flatten)]
    pub selection: Selection,
    /// Something else than a report.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is to be measured, how long, and where it is written.
#[derive(Clone, Debug, clap::Args)]
pub struct Selection {
    /// Few and short blocks, so that all of it takes less than five minutes
    #[arg(long)]
    pub quick: bool,
    /// Only this part; may be given several times
    #[arg(long = "part", value_name = "NAME")]
    pub parts: Vec<String>,
    /// Folder of the report; without it `benchmarks` in the target folder
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// How long the part `memory` loads all parts of the product; an hour says most
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub memory_time: Option<Duration>,
    /// List the parts and what they measure
    #[arg(long)]
    pub list: bool,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fail if the sidecar's instructions per request are not what is recorded
    Gate {
        /// Record what they are now instead
        #[arg(long)]
        record: bool,
    },
    /// What answers behind the proxies
    #[command(hide = true)]
    Backend {
        /// Port for HTTP.
        http: u16,
        /// Port that sends back what it is sent.
        echo: u16,
    },
    /// Part of the product, or who talks to it, in a process of its own
    #[command(hide = true)]
    Serve {
        /// What it is.
        role: Role,
        /// Its settings, as JSON.
        settings: String,
    },
    /// One part, in the namespace that was made for it
    #[command(hide = true)]
    Part {
        /// Its name.
        name: String,
        /// File with the [`crate::context::Context`].
        context: PathBuf,
        /// File to write the rows to.
        rows: PathBuf,
    },
}
