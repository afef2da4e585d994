//! What benchmarks on a real cluster have in common: where it was measured, whose turn it is, the figures that stand for
//! many, and where they are written to.
//!
//! What is measured is the benchmarks' own.

pub mod environment;
pub mod summary;

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::Value;

use crate::binaries;

/// Relative to the folder of this crate, where its tests run.
const PAGES: &str = "../docs/reference";

/// In the target folder.
const FIGURES: &str = "benchmarks";

/// Orders of three contenders, one for each round and then anew: each in each place as often as the others, before and
/// behind each of them.
pub const TURNS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
    [0, 2, 1],
    [2, 0, 1],
    [1, 0, 2],
];

/// Writes the page `benchmarks-NAME.md` for people, and a file with every single figure.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write(name: &str, page: &str, figures: &Value) -> anyhow::Result<()> {
    let file = binaries::target()?
        .join(FIGURES)
        .join(format!("{name}.json"));
    let path = Path::new(PAGES).join(format!("benchmarks-{name}.md"));
    for (path, text) in [(&path, page.to_owned()), (&file, format!("{figures:#}\n"))] {
        let folder = path.parent().context("a path without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    eprintln!(
        "Written to docs/reference/benchmarks-{name}.md; every single figure is in {}",
        file.display()
    );
    Ok(())
}
