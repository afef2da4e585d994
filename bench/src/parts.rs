//! The list of all parts, in the order of the report.

use crate::part::Part;

/// All parts.
pub const PARTS: &[Part] = &[];

/// Returns the part of this name.
///
/// # Errors
///
/// When there is none, with the names there are.
pub fn find(name: &str) -> anyhow::Result<&'static Part> {
    PARTS.iter().find(|part| part.name == name).ok_or_else(|| {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        anyhow::anyhow!(
            "there is no part {name:?}; the parts are {}",
            names.join(", ")
        )
    })
}
