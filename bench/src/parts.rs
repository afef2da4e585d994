//! The list of all parts, in the order of the report.

pub mod activator;
pub mod aggregator;
pub mod memory;
pub mod sidecar;
pub mod webhook;

use crate::part::Part;

/// All parts.
pub fn all() -> impl Iterator<Item = &'static Part> {
    const PARTS: &[&[Part]] = &[
        &sidecar::PARTS,
        &activator::PARTS,
        &aggregator::PARTS,
        &webhook::PARTS,
        &memory::PARTS,
    ];
    PARTS.iter().copied().flatten()
}

/// Returns the part of this name.
///
/// # Errors
///
/// When there is none, with the names there are.
pub fn find(name: &str) -> anyhow::Result<&'static Part> {
    all().find(|part| part.name == name).ok_or_else(|| {
        let names: Vec<_> = all().map(|part| part.name).collect();
        anyhow::anyhow!(
            "there is no part {name:?}; the parts are {}",
            names.join(", ")
        )
    })
}
