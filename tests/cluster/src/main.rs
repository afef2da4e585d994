//! Entry of the test cluster's tool; everything is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match stillwake_test_cluster::run(stillwake_test_cluster::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
