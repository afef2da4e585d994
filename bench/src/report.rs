//! The report: a page for people, and the same for programs.

mod page;
mod plot;
mod table;

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use serde::Serialize;

use crate::{environment::Environment, row::Row};

/// All that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether it was a quick run, whose figures are for a first look only.
    pub quick: bool,
    /// Where it ran.
    pub environment: Environment,
    /// By part.
    pub sections: Vec<Section>,
}

/// What one part measured.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The part's name.
    pub part: String,
    /// What it measures.
    pub measures: String,
    /// How long it took.
    pub took: Duration,
    /// What it saw.
    pub rows: Vec<Row>,
}

impl Report {
    /// Writes `benchmarks.md`, its plot and `benchmarks.json` to the folder, which is made if it isn't there.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let write = |name: &str, content: String| {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| path.display().to_string())
        };
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        write("benchmarks.json", json)?;
        let plot = plot::plot(&self.sections);
        write("benchmarks.md", page::page(self, plot.is_some()))?;
        match plot {
            Some(plot) => write("benchmarks.svg", plot),
            None => Ok(()),
        }
    }

    /// Returns a table of what has a budget, and whether it is met.
    pub fn budgets(&self) -> String {
        table::budgets(&self.sections)
    }
}
