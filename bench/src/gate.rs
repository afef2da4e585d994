//! The gate: the sidecar's instructions per request are what is recorded, within two in a hundred.
//!
//! More is a cost that every request of every app would bear. Less fails as well, so that the record follows, and what was
//! won cannot be lost again unseen.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, bail};

use crate::{
    backend::Backend,
    context::Context,
    instructions::{Work, per_request},
    peers::{Around, Proxy},
    statistics::median,
};

/// How far from the record is the same.
const TOLERANCE: f64 = 0.02;

/// How often a record counts.
const LOOKS: usize = 9;

/// What is looked at.
const WORKS: [Work; 3] = [Work::h1(1), Work::h1(32), Work::H2];

/// Instructions per request, by the work's name.
type Counts = BTreeMap<String, u64>;

/// Counts, and compares with the record or makes it anew.
///
/// # Errors
///
/// When a count is not as recorded, or cannot be had.
pub async fn gate(record: bool) -> anyhow::Result<()> {
    let context = Context::find(true)?;
    let backend = Backend::start(&Around::default()).await?;
    // One look is near enough to the record; the record is to be in the middle of what looks see.
    let looks = if record { LOOKS } else { 1 };
    let mut counts = Counts::new();
    for work in WORKS {
        let mut seen = Vec::new();
        for _ in 0..looks {
            seen.push(per_request(Proxy::Sidecar, &context, &backend, work).await?);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        counts.insert(work.to_string(), median(&seen)?.round() as u64);
    }
    let file = file();
    if record {
        let text = serde_json::to_string_pretty(&counts)? + "\n";
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        eprint!(
            "{}",
            compare(&counts, &counts).unwrap_or_else(|table| table)
        );
        return Ok(());
    }
    let text = fs::read(&file).with_context(|| file.display().to_string())?;
    match compare(&serde_json::from_slice(&text)?, &counts) {
        Ok(table) => {
            eprint!("{table}");
            Ok(())
        }
        Err(table) => bail!(
            "the sidecar's user instructions per request are not as recorded:\n{table}\
             If that is meant, record it anew: `make bench-gate RECORD=1`, and commit {}.",
            file.file_name().unwrap_or_default().display()
        ),
    }
}

/// A table of both, as an error if they differ.
fn compare(recorded: &Counts, found: &Counts) -> Result<String, String> {
    let mut table = String::new();
    let mut is_same = true;
    for (work, found) in found {
        let line = match recorded.get(work) {
            None => {
                is_same = false;
                format!("{work}: found {found}, nothing recorded")
            }
            Some(recorded) => {
                let change = (*found as f64 - *recorded as f64) / *recorded as f64;
                let verdict = if change.abs() <= TOLERANCE {
                    "the same"
                } else {
                    is_same = false;
                    if change > 0.0 {
                        "MORE"
                    } else {
                        "LESS: record it"
                    }
                };
                format!(
                    "{work}: found {found}, recorded {recorded}, {:+.2} %: {verdict}",
                    change * 100.0
                )
            }
        };
        table.push_str(&line);
        table.push('\n');
    }
    if is_same { Ok(table) } else { Err(table) }
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: u64) -> Counts {
        [("h1".to_owned(), count)].into()
    }

    #[test]
    fn two_in_a_hundred_are_the_same_and_three_are_not_in_either_direction() {
        assert!(compare(&counts(10_000), &counts(10_200)).is_ok());
        assert!(compare(&counts(10_000), &counts(9_800)).is_ok());
        assert!(
            compare(&counts(10_000), &counts(10_300))
                .unwrap_err()
                .contains("MORE")
        );
        assert!(
            compare(&counts(10_000), &counts(9_700))
                .unwrap_err()
                .contains("LESS")
        );
    }

    #[test]
    fn work_that_is_not_recorded_fails() {
        assert!(compare(&Counts::new(), &counts(1)).is_err());
    }
}
