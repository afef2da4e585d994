//! The demo's table, and whether it went as it should.

use std::{fmt, time::Duration};

use anyhow::ensure;
use tokio::time::Instant;

use crate::demo::{load::Tally, view::Replicas};

/// Time that one column of the replica line stands for.
const COLUMN: Duration = Duration::from_millis(500);

/// The moments of one wake, in the order in which they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wake {
    /// The client connects.
    pub(super) sent: Instant,
    /// The activator has the request.
    pub(super) arrived: Instant,
    /// The scaler was told and asks for a replica.
    pub(super) woken: Instant,
    /// Its processes are started.
    pub(super) started: Instant,
    /// The activator may hand the request on.
    pub(super) ready: Instant,
    /// The answer begins.
    pub(super) first_byte: Instant,
    /// The client has it whole.
    pub(super) answered: Instant,
}

/// Takes one part out of a wake.
type Part = fn(&Wake) -> Duration;

/// What happened.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) tally: &'a Tally,
    pub(super) replicas: &'a Replicas,
    pub(super) wakes: Vec<Wake>,
}

impl Report<'_> {
    /// Tells whether nothing failed and the replicas went from 0 to at least 2 and back to 0.
    ///
    /// # Errors
    ///
    /// Says what went wrong.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let failed = self.tally.failed();
        let example = self.tally.first_failure().unwrap_or_default();
        ensure!(
            failed == 0,
            "{failed} requests failed, the first one because: {example}"
        );
        let lost = self.tally.sent() - self.tally.answered();
        ensure!(lost == 0, "{lost} requests have no answer");
        let counts: Vec<_> = self.replicas.iter().map(|&(_, count)| count).collect();
        let course = "the replicas did not go from 0 to at least 2 and back to 0";
        ensure!(went_up_and_down(&counts), "{course}: {counts:?}");
        Ok(())
    }

    fn course(&self) -> String {
        let counts: Vec<_> = self
            .replicas
            .iter()
            .map(|(_, count)| count.to_string())
            .collect();
        counts.join(" → ")
    }

    fn line(&self) -> String {
        const LEVELS: [char; 5] = ['·', '▂', '▄', '▆', '█'];
        let Some(&(begin, _)) = self.replicas.first() else {
            return String::new();
        };
        let end = self.replicas.last().map_or(begin, |&(at, _)| at);
        let mut line = String::new();
        let mut column = begin;
        while column <= end {
            let until = column + COLUMN;
            let entered = self.replicas.iter().rev().find(|&&(at, _)| at < until);
            let count = entered.map_or(0, |&(_, count)| count);
            line.push(LEVELS[count.min(LEVELS.len() - 1)]);
            column = until;
        }
        line
    }
}

fn went_up_and_down(counts: &[usize]) -> bool {
    let peak = counts.iter().position(|&count| count >= 2);
    peak.is_some_and(|peak| counts[..peak].contains(&0) && counts[peak..].contains(&0))
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "requests          {}", self.tally.sent())?;
        writeln!(formatter, "failed            {}", self.tally.failed())?;
        writeln!(formatter, "replicas          {}", self.course())?;
        writeln!(formatter, "                  {}", self.line())?;
        writeln!(formatter, "                  (one mark per half second)")?;
        write!(formatter, "cold start       ")?;
        for (index, _) in self.wakes.iter().enumerate() {
            write!(formatter, "{:>10}", format!("#{}", index + 1))?;
        }
        writeln!(formatter)?;
        let parts: [(&str, Part); 6] = [
            ("request held", |wake| {
                wake.arrived.saturating_duration_since(wake.sent)
            }),
            ("scaler told", |wake| {
                wake.woken.saturating_duration_since(wake.arrived)
            }),
            ("process started", |wake| {
                wake.started.saturating_duration_since(wake.woken)
            }),
            ("app ready", |wake| {
                wake.ready.saturating_duration_since(wake.started)
            }),
            ("first byte", |wake| {
                wake.first_byte.saturating_duration_since(wake.ready)
            }),
            ("in all", |wake| {
                wake.answered.saturating_duration_since(wake.sent)
            }),
        ];
        for (name, part) in parts {
            write!(formatter, "  {name:<15}")?;
            for wake in &self.wakes {
                let time = format!("{:.1} ms", part(wake).as_secs_f64() * 1000.0);
                write!(formatter, "{time:>10}")?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_then_many_then_zero_is_the_right_course() {
        assert!(went_up_and_down(&[0, 1, 4, 1, 0, 1, 0]));
        for wrong in [&[0, 1, 0][..], &[1, 4, 0], &[0, 1, 4], &[]] {
            assert!(!went_up_and_down(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_line_has_a_column_for_each_half_second() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let replicas = vec![(begin, 0), (at(700), 1), (at(1100), 4), (at(2000), 0)];
        let tally = Tally::default();
        let report = Report {
            tally: &tally,
            replicas: &replicas,
            wakes: Vec::new(),
        };
        assert_eq!(report.line(), "·▂██·");
    }
}
