//! Entry of `stillwake-bench`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    stillwake_bench::main()
}
