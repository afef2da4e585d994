//! The page for people.

use std::fmt::Write as _;

use super::{Report, table};

const METHOD: &str = "\
Each part runs in a network namespace of its own. Subjects are measured in blocks, one after the other and then the same \
way back, so that no place in the order is better than another; a figure is the median over the blocks, and a ratio is the \
median of the blocks' ratios, with the interval it lies in with a confidence of 95 % (bootstrap). Ratios on a machine that \
has other things to do are better than absolute figures, and counts of instructions and system calls are better than both.
";

/// Returns the page.
pub(super) fn page(report: &Report, has_plot: bool) -> String {
    let mut page = String::from("# Benchmarks\n\n");
    let command = if report.quick {
        "make bench-quick"
    } else {
        "make bench"
    };
    let _ = writeln!(
        page,
        "Written by `{command}`, which measures it all again ([guide](../guide/benchmarks.md)); programs read \
         `benchmarks.json` beside it.\n"
    );
    if report.quick {
        page.push_str("A quick run: for a first look, not for quoting.\n\n");
    }
    let _ = write!(
        page,
        "{}\n{METHOD}\n## Budgets\n\n{}",
        report.environment,
        report.budgets()
    );
    if has_plot {
        page.push_str("\n![The sidecar beside its peers](benchmarks.svg)\n");
    }
    for section in &report.sections {
        let _ = write!(
            page,
            "\n## {}\n\n{} ({:.0} s)\n\n{}",
            section.part,
            section.measures,
            section.took.as_secs_f64(),
            table::figures(&section.rows),
        );
    }
    page
}
