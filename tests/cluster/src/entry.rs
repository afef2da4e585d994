//! The way into a node's namespaces for a program that asks or sets up something there.

use std::{path::Path, process::Command};

/// The program that enters.
pub(crate) const NSENTER: &str = "nsenter";
/// Its option before the process whose namespaces are entered.
pub(crate) const TARGET: &str = "--target";

/// What of a node a program sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Namespace {
    /// Its addresses and links.
    Network,
    /// Its files, of which /run is another than the machine's.
    Files,
}

/// `program`, ready to get arguments, in a namespace of the node whose first process is given.
///
/// It belongs to the node's processes too, so that it ends with the node even when nobody waits for it any more.
pub(crate) fn inside(process: u32, namespace: Namespace, program: &Path) -> Command {
    let mut command = Command::new(NSENTER);
    command
        .args([TARGET, &process.to_string(), "--pid"])
        .arg(match namespace {
            Namespace::Network => "--net",
            Namespace::Files => "--mount",
        })
        .arg("--")
        .arg(program);
    command
}
