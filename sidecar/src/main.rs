//! The sidecar's process: environment in, exit code out. Everything else is in the library.

use std::process::ExitCode;

use stillwake_runtime::{EXIT_FAILURE, EXIT_USAGE};
use stillwake_sidecar::{env::Config, run};

fn main() -> ExitCode {
    let config = match Config::from_environment() {
        Ok(config) => config,
        Err(error) => return failed(&error, EXIT_USAGE),
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, EXIT_FAILURE),
    }
}

fn failed(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("stillwake-sidecar: {error}");
    ExitCode::from(code)
}
