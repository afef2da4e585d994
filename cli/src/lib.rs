//! The `stillwake` command: what people run.
//!
//! `stillwake webhook`, `stillwake aggregator` and `stillwake activator` are the control plane in a cluster ([`control`]).
//! In local mode ([`local`]), `stillwake run` scales a program of yours from 0 to many processes and back by the real
//! sidecar, aggregator and activator, and `stillwake demo` shows it with a sample app; that needs no Kubernetes.

use std::{ffi::OsString, fmt::Display, io::Write as _, process::ExitCode};

use stillwake_runtime::{EXIT_FAILURE, EXIT_USAGE, logging, shutdown::Shutdown};

use crate::{
    args::{Args, Command, DemoArgs, RunArgs, SampleAppArgs},
    control::{args::ProcessArgs, process::RoleError},
    local::run::{Local, RunError},
};

pub mod args;
pub mod control;
pub mod demo;
pub mod local;
pub mod sample_app;

/// Threads that serve traffic. Local mode is a stand-in for a cluster on a machine that also runs the replicas.
const WORKERS: usize = 2;

/// Runs the command line `arguments`, the program's name first, and returns the exit code: 0 after a clean drain,
/// 64 for a command line that cannot be used, 1 for a failed start or run.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::read(arguments) {
        Ok(args) => args,
        Err(answer) => {
            // Help and version come this way too; they go to stdout and are no failure.
            let failed = answer.use_stderr();
            let _ = answer.print();
            return if failed {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if matches!(args.command, Command::Guardian) {
        local::guardian::watch(std::io::stdin().lock());
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(dispatch(args.command)),
        Err(error) => failure(EXIT_FAILURE, format_args!("cannot start threads: {error}")),
    }
}

async fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Run(args) => run(*args).await,
        Command::Demo(args) => demo(args).await,
        Command::Webhook(args) => {
            let process = args.process.clone();
            role("webhook", &process, control::webhook::run(*args)).await
        }
        Command::Aggregator(args) => {
            let process = args.process.clone();
            role("aggregator", &process, control::aggregator::run(*args)).await
        }
        Command::Activator(args) => {
            let process = args.process.clone();
            role("activator", &process, control::activator::run(*args)).await
        }
        Command::SampleApp(args) => serve_sample(args).await,
        Command::Guardian => ExitCode::SUCCESS,
    }
}

async fn run(args: RunArgs) -> ExitCode {
    if let Err(error) = logging::init(&args.log, logging::Format::Brief) {
        return failure(EXIT_USAGE, error);
    }
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => return failure(EXIT_FAILURE, format_args!("cannot take signals: {error}")),
    };
    let local = match Local::start(args.options(), &shutdown).await {
        Ok(local) => local,
        Err(RunError::Interrupted) => return ExitCode::SUCCESS,
        Err(error) => return failure(error.exit_code(), error),
    };
    let _ = writeln!(std::io::stderr(), "{}", local.ready_line());
    match local.serve(shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(error.exit_code(), error),
    }
}

/// Runs a role of the control plane to its end.
async fn role(
    name: &str,
    process: &ProcessArgs,
    running: impl Future<Output = Result<(), RoleError>>,
) -> ExitCode {
    if let Err(error) = logging::init(&process.log, process.log_format.into()) {
        return failure(EXIT_USAGE, error);
    }
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(role = name, version, pod = process.name, "Starting");
    match running.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_usage() => failure(EXIT_USAGE, error),
        Err(error) => failure(EXIT_FAILURE, error),
    }
}

async fn demo(args: DemoArgs) -> ExitCode {
    if let Err(error) = logging::init(&args.log, logging::Format::Brief) {
        return failure(EXIT_USAGE, error);
    }
    match demo::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(EXIT_FAILURE, format_args!("{error:#}")),
    }
}

async fn serve_sample(args: SampleAppArgs) -> ExitCode {
    match sample_app::serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(EXIT_FAILURE, format_args!("sample app: {error}")),
    }
}

fn failure(code: u8, error: impl Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(code)
}
