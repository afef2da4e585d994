//! The `stillwake` command. Everything it does is in the library; here is only the way in and out.

use std::process::ExitCode;

fn main() -> ExitCode {
    stillwake::main(std::env::args_os())
}
