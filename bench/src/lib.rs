//! Measures Stillwake beside its peers, on the same work in the same run, and writes what it saw as a report.
//!
//! Holds no product code, and no opinion: what is fast enough stands in the budgets, and only the gate fails for a number.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

pub mod admissions;
pub mod aggregators;
pub mod args;
pub mod backend;
pub mod certificates;
pub mod context;
pub mod environment;
pub mod fleet;
pub mod gate;
pub mod instructions;
pub mod keda;
pub mod load;
pub mod namespace;
pub mod part;
pub mod parts;
pub mod peers;
pub mod pin;
pub mod process;
pub mod report;
pub mod roles;
pub mod row;
pub mod run;
pub mod statistics;

use self::args::{Args, Command};

/// Does what the command line says.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stillwake-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    // One thread alone is fast enough for all proxies.
    if let Some(Command::Backend { http, echo }) = args.command {
        return backend::serve(http, echo);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        match args.command {
            None => run::all(&args.selection).await,
            Some(Command::Gate { record }) => gate::gate(record).await,
            Some(Command::Backend { .. }) => Ok(()),
            Some(Command::Serve { role, settings }) => roles::run(role, &settings).await,
            Some(Command::Part {
                name,
                context,
                rows,
            }) => run::one(&name, &context, &rows).await,
        }
    })
}
