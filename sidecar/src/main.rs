//! The sidecar's process: arguments and environment in, exit code out. Everything else is in the library.

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

use stillwake_runtime::{EXIT_FAILURE, EXIT_USAGE};
use stillwake_sidecar::{
    command::{Command, USAGE},
    drain,
    env::Config,
    redirect, run,
};

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => return failed(&error, EXIT_USAGE),
    };
    let environment = |name: &str| std::env::var_os(name);
    match command {
        Command::Run => match Config::read(environment) {
            Ok(config) => ended(run(config)),
            Err(error) => failed(&error, EXIT_USAGE),
        },
        Command::Drain => match Config::control(environment) {
            Ok(name) => ended(drain(&name)),
            Err(error) => failed(&error, EXIT_USAGE),
        },
        Command::Redirect(ports) => ended(redirect(&ports)),
        Command::Help => ended(print(USAGE)),
        Command::Version => ended(print(concat!(
            "stillwake-sidecar ",
            env!("CARGO_PKG_VERSION")
        ))),
    }
}

fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

fn ended<E: Error>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, EXIT_FAILURE),
    }
}

fn failed(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("stillwake-sidecar: {error}");
    ExitCode::from(code)
}
