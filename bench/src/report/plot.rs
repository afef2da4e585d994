//! The plot: some lines of the tables as bars, one picture for all.

use std::fmt::Write as _;

use super::Section;
use crate::row::{Figure, Row};

/// What is shown: the part, the case and the measure.
const PANELS: [(&str, &str, &str); 6] = [
    ("sidecar-latency", "h1, 1 connection, pinned", "added p50"),
    ("sidecar-cpu", "h1, 32 connections, 1 KB", "CPU per request"),
    (
        "sidecar-cpu",
        "h2, 4 connections of 8 streams, 1 KB",
        "CPU per request",
    ),
    (
        "sidecar-instructions",
        "h1, 1 connection",
        "user instructions per request",
    ),
    ("sidecar-memory", "idle", "RSS"),
    ("sidecar-memory", "after load", "RSS"),
];

const WIDTH: f64 = 760.0;
const BAR_LEFT: f64 = 150.0;
/// Of the longest bar; its figure stands beside it.
const BAR_LENGTH: f64 = 500.0;
const LINE: f64 = 20.0;

/// Returns the plot as SVG, or nothing if none of its lines was measured.
pub(super) fn plot(sections: &[Section]) -> Option<String> {
    let mut drawn = String::new();
    let mut top = LINE;
    for (part, case, measure) in PANELS {
        let rows = sections.iter().filter(|section| section.part == part);
        let rows = rows.flat_map(|section| &section.rows);
        let rows = rows.filter(|row| row.case == case && row.measure == measure);
        let bars: Vec<(&Row, Figure)> = rows
            .filter_map(|row| Some((row, *row.figure.as_ref().ok()?)))
            .collect();
        let longest = bars
            .iter()
            .map(|(_, figure)| figure.value.median)
            .fold(0.0, f64::max);
        if longest <= 0.0 {
            continue;
        }
        text(&mut drawn, 0.0, top, "title", &format!("{case}: {measure}"));
        for (row, figure) in bars {
            top += LINE;
            let length = (figure.value.median / longest).max(0.0) * BAR_LENGTH;
            let class = if row.subject == "sidecar" {
                "ours"
            } else {
                "peer"
            };
            text(&mut drawn, 0.0, top, "name", &row.subject);
            let _ = writeln!(
                drawn,
                r#"<rect class="{class}" x="{BAR_LEFT}" y="{:.0}" width="{length:.1}" height="14"/>"#,
                top - 12.0
            );
            text(
                &mut drawn,
                BAR_LEFT + length + 6.0,
                top,
                "name",
                &figure.to_string(),
            );
        }
        top += 2.0 * LINE;
    }
    (!drawn.is_empty()).then(|| {
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH} {top:.0}" font-family="sans-serif" font-size="13">
<style>.title {{ font-weight: bold }} .ours {{ fill: #2563eb }} .peer {{ fill: #9ca3af }}</style>
<rect x="-10" width="{WIDTH}" height="{top:.0}" fill="#ffffff"/>
{drawn}</svg>
"##
        )
    })
}

fn text(drawn: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let _ = writeln!(
        drawn,
        r#"<text class="{class}" x="{x:.1}" y="{y:.0}">{content}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{row::Unit, statistics::Summary};

    fn section(rows: Vec<Row>) -> Section {
        Section {
            part: "sidecar-memory".to_owned(),
            measures: String::new(),
            took: std::time::Duration::ZERO,
            rows,
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_part_of_the_longest() {
        let row =
            |subject, bytes| Row::new("idle", subject, "RSS", Unit::Bytes, Summary::exact(bytes));
        let drawn = plot(&[section(vec![row("sidecar", 1024.0), row("nginx", 4096.0)])]).unwrap();
        assert!(
            drawn.contains(r#"class="ours" x="150" y="28" width="125.0""#),
            "{drawn}"
        );
        assert!(
            drawn.contains(r#"width="500.0""#) && drawn.contains(">4.00 KiB<"),
            "{drawn}"
        );
    }

    #[test]
    fn nothing_is_drawn_of_what_was_not_measured() {
        let row = Row::left_out("idle", "nginx", "RSS", "it is not installed");
        assert!(plot(&[section(vec![row])]).is_none());
    }
}
