//! Tables of the report.

use std::fmt::Write as _;

use super::Section;
use crate::{
    row::{Ratio, Row},
    statistics::Summary,
};

/// One line for each case and measure, one column for each subject. What could not be measured stands below, with why.
pub(super) fn figures(rows: &[Row]) -> String {
    let subjects = distinct(rows, |row| row.subject.as_str());
    let lines = distinct(rows, |row| (row.case.as_str(), row.measure.as_str()));
    let mut text = format!(
        "| | {} |\n|---|{}\n",
        subjects.join(" | "),
        "---|".repeat(subjects.len())
    );
    for (case, measure) in lines {
        let title = [case, measure].map(str::trim);
        let title: Vec<_> = title.into_iter().filter(|part| !part.is_empty()).collect();
        let _ = write!(text, "| {} |", title.join(": "));
        for subject in &subjects {
            let row = rows
                .iter()
                .find(|row| row.case == case && row.measure == measure && row.subject == *subject);
            let _ = write!(text, " {} |", row.map_or_else(String::new, cell));
        }
        text.push('\n');
    }
    let mut notes = Vec::new();
    for row in rows {
        let told = row
            .figure
            .as_ref()
            .err()
            .map(|reason| format!("left out: {reason}"));
        for told in told.into_iter().chain(row.note.clone()) {
            let note = format!("- {}, {}, {}: {told}", row.subject, row.case, row.measure);
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    if !notes.is_empty() {
        let _ = writeln!(text, "\n{}", notes.join("\n"));
    }
    text
}

/// What has a budget.
pub(super) fn budgets(sections: &[Section]) -> String {
    let mut text = String::from("| part | what | figure | budget | met |\n|---|---|---|---|---|\n");
    for section in sections {
        for row in &section.rows {
            let Some(budget) = &row.budget else {
                continue;
            };
            let _ = writeln!(
                text,
                "| {} | {}, {}: {} | {} | {} | {} |",
                section.part,
                row.subject,
                row.case,
                row.measure,
                cell(row),
                budget.text,
                if budget.is_met { "yes" } else { "**no**" },
            );
        }
    }
    text
}

fn cell(row: &Row) -> String {
    match (&row.figure, &row.ratio) {
        (Err(_), _) => "–".to_owned(),
        (Ok(figure), None) => figure.to_string(),
        (Ok(figure), Some(Ratio { control, value })) => {
            format!("{figure} ({} × {control})", spread(value))
        }
    }
}

fn spread(value: &Summary) -> String {
    if value.is_exact() {
        return format!("{:.2}", value.median);
    }
    format!("{:.2} [{:.2}–{:.2}]", value.median, value.low, value.high)
}

/// The values of a column, each once, in the order they come in.
fn distinct<'a, T: PartialEq>(rows: &'a [Row], column: impl Fn(&'a Row) -> T) -> Vec<T> {
    let mut all = Vec::new();
    for row in rows {
        let value = column(row);
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Unit;

    #[test]
    fn a_line_holds_all_subjects_and_what_is_left_out_is_named_with_its_reason() {
        let rows = [
            Row::new("h1", "sidecar", "CPU", Unit::Seconds, Summary::exact(12e-6)).over(
                "nginx",
                Summary {
                    median: 0.8,
                    low: 0.7,
                    high: 0.9,
                },
            ),
            Row::left_out("h1", "nginx", "CPU", "it isn't installed"),
        ];
        let table = figures(&rows);
        assert!(
            table.contains("| h1: CPU | 12.0 µs (0.80 [0.70–0.90] × nginx) | – |"),
            "{table}"
        );
        assert!(
            table.contains("- nginx, h1, CPU: left out: it isn't installed"),
            "{table}"
        );
    }

    #[test]
    fn only_what_has_a_budget_is_among_the_budgets() {
        let row = |subject| Row::new("idle", subject, "RSS", Unit::Bytes, Summary::exact(2048.0));
        let section = Section {
            part: "sidecar".to_owned(),
            measures: String::new(),
            took: std::time::Duration::ZERO,
            rows: vec![row("nginx"), row("sidecar").at_most(1024.0)],
        };
        let table = budgets(&[section]);
        assert!(
            table.contains("| sidecar, idle: RSS | 2.00 KiB | ≤ 1.00 KiB | **no** |"),
            "{table}"
        );
        assert!(!table.contains("nginx"), "{table}");
    }
}
