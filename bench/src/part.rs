//! A part of the benchmark: something that is measured by itself, in a network namespace of its own.

use futures_util::future::LocalBoxFuture;

use crate::{context::Context, row::Row};

/// One part.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What it is called on the command line, and in the report.
    pub name: &'static str,
    /// What it measures, in one sentence, which the report shows above its table.
    pub measures: &'static str,
    /// Measures. What cannot be measured on this machine is a row that says why.
    pub run: for<'a> fn(&'a Context) -> LocalBoxFuture<'a, anyhow::Result<Vec<Row>>>,
}
