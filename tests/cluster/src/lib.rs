//! A real Kubernetes with KEDA for the tests: built from Go modules, started in namespaces of its own, ended without a
//! trace.
//!
//! Knows nothing of Stillwake: what is installed into the cluster, and what is asked of it, is the suites' affair.

mod addons;
mod arguments;
mod cgroups;
mod components;
mod configuration;
mod entry;
mod files;
mod http_add_on;
mod isolation;
mod kubectl;
mod layout;
mod leftovers;
mod modules;
mod network;
mod node;
mod parts;
mod pki;
mod prerequisites;
mod running;
mod start;
mod versions;
mod waiting;

use std::path::{Path, PathBuf};

pub use arguments::Arguments;
pub use running::{NodeState, Running, Tool};

use crate::{arguments::Command, layout::Layout};

/// The folder of everything that is built and run, as the environment says; it need not exist.
///
/// # Errors
///
/// When the environment says nothing of where files are kept.
pub fn folder() -> anyhow::Result<PathBuf> {
    Ok(Layout::of_environment()?.root().to_owned())
}

/// Builds helm from the modules of a checkout unless that has been done, and returns where the program is.
///
/// Waits while another process builds it. Needs Go only to build.
///
/// # Errors
///
/// When it is missing and cannot be built.
pub fn helm(checkout: &Path) -> anyhow::Result<PathBuf> {
    parts::build_helm(&Layout::of_environment()?, checkout)
}

#[expect(clippy::print_stdout, reason = "the answer is this command's result")]
fn print_helm() -> anyhow::Result<()> {
    println!("{}", helm(&std::env::current_dir()?)?.display());
    Ok(())
}

/// Does what the command line says.
///
/// # Errors
///
/// Whatever stops it, with what was wrong, where, and what would be right.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Build(versions) => {
            let layout = Layout::of_environment()?;
            prerequisites::check_build()?;
            prerequisites::check_root("make cluster")?;
            prerequisites::install_missing()?;
            parts::build(&layout, &versions.resolve()?)?;
            Ok(())
        }
        Command::Up { versions, shape } => start::up(&Layout::of_environment()?, &versions, &shape),
        Command::Down => {
            let layout = Layout::of_environment()?;
            prerequisites::check_root("make cluster-down")?;
            let _lock = layout.lock()?;
            leftovers::remove(&layout)
        }
        Command::Status => running::print_status(),
        Command::Load { archives } => {
            let running = Running::expect()?;
            archives
                .iter()
                .try_for_each(|archive| running.load_image(archive))
        }
        Command::Kubectl { arguments } => running::pass_to(Tool::Kubectl, &arguments),
        Command::Helm { arguments } => running::pass_to(Tool::Helm, &arguments),
        Command::HttpAddOn { remove } => {
            let (layout, checkout) = (Layout::of_environment()?, std::env::current_dir()?);
            if remove {
                http_add_on::remove(&layout, &checkout)
            } else {
                prerequisites::check_build()?;
                http_add_on::install(&layout, &checkout)
            }
        }
        Command::BuildHelm => print_helm(),
        Command::Node { folder } => node::be(&folder),
    }
}
