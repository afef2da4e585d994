//! The flags of the subcommands that the chart starts, as the reference page of the command line has them.
//!
//! That page is what `--help` says, and a test of the command keeps it so.

use std::{collections::BTreeSet, fs, path::Path};

/// Returns the flags that a subcommand has, without dashes.
pub(crate) fn known(subcommand: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/stillwake.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with(&format!("`stillwake {subcommand}`")));
    let section = section.unwrap_or_else(|| panic!("the page says nothing of {subcommand}"));
    let lines = section
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let names = lines.filter_map(|line| line.split_once("--")?.1.split([' ', '=', '[']).next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Returns the port of an address.
pub(crate) fn port(address: &str) -> u64 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}
