//! One figure of the report: what was measured of whom, and how it compares.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::statistics::Summary;

/// One figure. Rows of the same case and measure stand in one line of the table, one column per subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The work: `h1, 32 connections, 1 KB`.
    pub case: String,
    /// Whose figure it is: `sidecar`, or a peer's name.
    pub subject: String,
    /// What was measured: `CPU per request`.
    pub measure: String,
    /// The figure, or why there is none.
    pub figure: Result<Figure, String>,
    /// What the figure is over the control's.
    pub ratio: Option<Ratio>,
    /// What it is not to exceed, where the design says so.
    pub budget: Option<Budget>,
    /// What a reader has to know to judge it.
    pub note: Option<String>,
}

impl Row {
    /// Returns a row with a figure and nothing else.
    pub fn new(case: &str, subject: &str, measure: &str, unit: Unit, value: Summary) -> Self {
        Self {
            case: case.to_owned(),
            subject: subject.to_owned(),
            measure: measure.to_owned(),
            figure: Ok(Figure { unit, value }),
            ratio: None,
            budget: None,
            note: None,
        }
    }

    /// Returns a row that says why something could not be measured.
    pub fn left_out(case: &str, subject: &str, measure: &str, reason: impl fmt::Display) -> Self {
        Self {
            case: case.to_owned(),
            subject: subject.to_owned(),
            measure: measure.to_owned(),
            figure: Err(format!("{reason:#}")),
            ratio: None,
            budget: None,
            note: None,
        }
    }

    /// Says what the figure is over that of `control`.
    #[must_use]
    pub fn over(mut self, control: &str, value: Summary) -> Self {
        self.ratio = Some(Ratio {
            control: control.to_owned(),
            value,
        });
        self
    }

    /// Says what the figure must not exceed, in its own unit.
    #[must_use]
    pub fn at_most(mut self, most: f64) -> Self {
        if let Ok(Figure { unit, value }) = &self.figure {
            self.budget = Some(Budget {
                text: format!("≤ {}", unit.show(most)),
                is_met: value.median <= most,
            });
        }
        self
    }

    /// Says what the ratio must not exceed.
    #[must_use]
    pub fn at_most_times(mut self, most: f64) -> Self {
        if let Some(ratio) = &self.ratio {
            self.budget = Some(Budget {
                text: format!("≤ {most} × {}", ratio.control),
                is_met: ratio.value.median <= most,
            });
        }
        self
    }

    /// Adds what a reader has to know.
    #[must_use]
    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// A value with its unit and spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What the numbers count.
    pub unit: Unit,
    /// The numbers.
    pub value: Summary,
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.unit.show(self.value.median))
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Time.
    Seconds,
    /// Memory, or size.
    Bytes,
    /// How many.
    Count,
    /// How many in a second.
    PerSecond,
    /// A part of one.
    Fraction,
}

impl Unit {
    /// Returns the number as people read it: three digits, and a prefix that suits it.
    pub fn show(self, value: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let fits = |step: &&(f64, &str)| value.abs() >= step.0;
            let step = steps.iter().find(fits).or(steps.last());
            let (scale, name) = step.copied().unwrap_or((1.0, ""));
            format!("{}{name}", digits(value / scale))
        };
        match self {
            Self::Seconds => scaled(&[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")]),
            Self::Bytes => scaled(&[
                (f64::from(1 << 20), " MiB"),
                (f64::from(1 << 10), " KiB"),
                (1.0, " B"),
            ]),
            Self::Count => grouped(value),
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Fraction => format!("{} %", digits(value * 100.0)),
        }
    }
}

/// Three digits, as far as they are behind the point.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 99.95 => format!("{value:.0}"),
        middle if middle >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// With commas between thousands.
fn grouped(value: f64) -> String {
    if value.abs() < 1000.0 {
        return digits(value);
    }
    let plain = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in plain.chars().enumerate() {
        if place > 0 && (plain.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How a figure compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// To whose figure of the same case and measure.
    pub control: String,
    /// The figure over that one's.
    pub value: Summary,
}

/// What the design allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// As people read it.
    pub text: String,
    /// Whether the figure of this run is within it.
    pub is_met: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shown_with_three_digits_and_a_prefix_that_suits_it() {
        assert_eq!(Unit::Seconds.show(0.000_034_2), "34.2 µs");
        assert_eq!(Unit::Seconds.show(1.5), "1.50 s");
        assert_eq!(Unit::Bytes.show(3.0 * 1024.0 * 1024.0), "3.00 MiB");
        assert_eq!(Unit::Bytes.show(640.0), "640 B");
        assert_eq!(Unit::Count.show(20_603.0), "20,603");
        assert_eq!(Unit::Count.show(6.0), "6.00");
        assert_eq!(Unit::PerSecond.show(1_234_567.0), "1,234,567/s");
        assert_eq!(Unit::Fraction.show(0.153), "15.3 %");
    }

    #[test]
    fn a_budget_is_met_up_to_its_own_value() {
        let row = |median| Row::new("", "", "", Unit::Bytes, Summary::exact(median)).at_most(10.0);
        assert!(row(10.0).budget.unwrap().is_met);
        assert!(!row(10.1).budget.unwrap().is_met);
    }
}
