//! What was measured, and the figures that stand for it.

use std::{fmt, time::Duration};

use serde::Serialize;

/// How long something took that was measured, and whether it counts.
#[derive(Clone, Debug, Serialize)]
pub struct Timed {
    /// In seconds.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    took: Duration,
    /// Why it does not count.
    failure: Option<String>,
}

fn in_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl Timed {
    /// Returns one that counts if `check` is content.
    pub fn of(took: Duration, check: impl FnOnce() -> anyhow::Result<()>) -> Self {
        let failure = check().err().map(|error| format!("{error:#}"));
        Self { took, failure }
    }

    /// Returns the time of one that counts.
    fn time(&self) -> Option<f64> {
        self.failure.is_none().then_some(self.took.as_secs_f64())
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} s", self.took.as_secs_f64())?;
        match &self.failure {
            None => Ok(()),
            Some(failure) => write!(formatter, " and does not count ({failure})"),
        }
    }
}

/// What stands for many figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The 5th percentile.
    pub p5: f64,
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
}

impl Spread {
    /// Returns what stands for `figures`; none for none.
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(f64::total_cmp);
        // The smallest that has so large a share at or below it.
        let at = |share: usize| {
            let rank = (figures.len() * share).div_ceil(100);
            figures.get(rank.checked_sub(1)?).copied()
        };
        Some(Self {
            p5: at(5)?,
            median: at(50)?,
            p95: at(95)?,
        })
    }
}

/// Returns the times in seconds of those that count.
pub fn times(timed: &[Timed]) -> Option<Spread> {
    Spread::of(timed.iter().filter_map(Timed::time))
}

/// Returns how many times as long the one took in the same round as the other, where both count.
pub fn ratios(timed: &[Timed], others: &[Timed]) -> Option<Spread> {
    let pairs = timed.iter().zip(others);
    Spread::of(pairs.filter_map(|(one, other)| Some(one.time()? / other.time()?)))
}

/// Returns why some do not count.
pub fn failures(timed: &[Timed]) -> Vec<String> {
    let failures = timed.iter().enumerate().filter_map(|(index, one)| {
        let failure = one.failure.as_ref()?;
        Some(format!("round {}: {failure}", index + 1))
    });
    failures.collect()
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, bail};

    use super::*;

    fn measured(milliseconds: &[u64]) -> Vec<Timed> {
        let one = |time: &u64| Timed::of(Duration::from_millis(*time), || Ok(()));
        milliseconds.iter().map(one).collect()
    }

    #[test]
    fn a_failed_one_is_in_no_figure_and_is_told() {
        let mut ours = measured(&[500, 250, 1000]);
        ours.push(Timed::of(Duration::from_mins(1), || bail!("503 asleep")));
        let theirs = measured(&[1000, 1000, 1000, 1000]);
        let spread = |p5, median, p95| Some(Spread { p5, median, p95 });
        assert_eq!(times(&ours), spread(0.25, 0.5, 1.0));
        assert_eq!(ratios(&ours, &theirs), spread(0.25, 0.5, 1.0));
        assert_eq!(failures(&ours), ["round 4: 503 asleep"]);
        let none = [Timed::of(Duration::ZERO, || Err(anyhow!("reset")))];
        assert_eq!(times(&none), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let spread = ratios(&measured(&[1000, 250, 500]), &measured(&[500, 500, 500])).unwrap();
        assert_eq!((spread.p5, spread.median, spread.p95), (0.5, 1.0, 2.0));
    }
}
