//! Parts of the product, and who talks to them, as processes of their own: so that CPU time and memory are theirs alone.
//!
//! Each is this program again, told what to be on its command line, and asked questions on its standard input: one line of
//! JSON each, answered by one on its standard output. It ends with its input.

pub mod activator;
pub mod aggregator;
pub mod child;
pub mod conversation;
pub mod reader;
pub mod reporters;
pub mod webhook;

use clap::ValueEnum;
use stillwake_runtime::limits::raise_open_files;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The product's aggregator.
    Aggregator,
    /// A server that reads what reporters say, and does nothing with it.
    Reader,
    /// Many simulated sidecars that report.
    Reporters,
    /// The product's activator.
    Activator,
    /// The product's webhook.
    Webhook,
}

/// Is what is asked for, until the input ends.
///
/// # Errors
///
/// When the settings are of another role, or what it takes cannot be had.
pub async fn run(role: Role, settings: &str) -> anyhow::Result<()> {
    raise_open_files();
    match role {
        Role::Aggregator => aggregator::run(serde_json::from_str(settings)?).await,
        Role::Reader => reader::run(serde_json::from_str(settings)?).await,
        Role::Reporters => reporters::run(serde_json::from_str(settings)?).await,
        Role::Activator => activator::run(serde_json::from_str(settings)?).await,
        Role::Webhook => webhook::run(serde_json::from_str(settings)?).await,
    }
}
