//! What was measured, and the figures that stand for it.

use std::{fmt, time::Duration};

use serde::Serialize;

/// One cold start.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Wake {
    /// In seconds.
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    took: Duration,
    /// Why it does not count.
    failure: Option<String>,
}

fn in_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn all_in_seconds<S: serde::Serializer>(
    times: &[Vec<Duration>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().map(|times| {
        let seconds = times.iter().map(Duration::as_secs_f64);
        seconds.collect::<Vec<_>>()
    }))
}

impl Wake {
    /// Returns one that counts if `check` is content.
    pub(super) fn of(took: Duration, check: impl FnOnce() -> anyhow::Result<()>) -> Self {
        let failure = check().err().map(|error| format!("{error:#}"));
        Self { took, failure }
    }

    /// Returns the time of one that counts.
    fn time(&self) -> Option<f64> {
        self.failure.is_none().then_some(self.took.as_secs_f64())
    }
}

impl fmt::Display for Wake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} s", self.took.as_secs_f64())?;
        match &self.failure {
            None => Ok(()),
            Some(failure) => write!(formatter, " and no answer ({failure})"),
        }
    }
}

/// All cold starts, round by round.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Series {
    /// From the first request to the end of the answer.
    pub(super) stillwake: Vec<Wake>,
    /// And from the first request to each step in between, in the order of [`Step::ALL`](super::timeline::Step::ALL).
    #[serde(serialize_with = "all_in_seconds")]
    pub(super) steps: Vec<Vec<Duration>>,
    /// As [`Self::stillwake`].
    pub(super) add_on: Vec<Wake>,
    /// From the write of the scale to the first connection to the sidecar.
    pub(super) sidecar: Vec<Wake>,
    /// And to the app beside it.
    pub(super) app: Vec<Wake>,
}

impl Series {
    pub(super) fn append(&mut self, mut other: Self) {
        self.stillwake.append(&mut other.stillwake);
        self.steps.append(&mut other.steps);
        self.add_on.append(&mut other.add_on);
        self.sidecar.append(&mut other.sidecar);
        self.app.append(&mut other.app);
    }
}

impl fmt::Display for Series {
    /// Writes the newest round on one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("stillwake", &self.stillwake),
            ("add-on", &self.add_on),
            ("bare pod", &self.app),
        ];
        let told = rows.map(|(name, wakes)| match wakes.last() {
            Some(wake) => format!("{name} {wake}"),
            None => format!("{name} none"),
        });
        formatter.write_str(&told.join(", "))
    }
}

/// What stands for many figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) p5: f64,
    pub(super) median: f64,
    pub(super) p95: f64,
}

impl Spread {
    pub(super) fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
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

/// Returns the times in seconds of what was answered.
pub(super) fn times(wakes: &[Wake]) -> Option<Spread> {
    Spread::of(wakes.iter().filter_map(Wake::time))
}

/// Returns how many times as long the one took in the same round as the other, where both were answered.
pub(super) fn ratios(wakes: &[Wake], others: &[Wake]) -> Option<Spread> {
    let pairs = wakes.iter().zip(others);
    Spread::of(pairs.filter_map(|(wake, other)| Some(wake.time()? / other.time()?)))
}

/// Returns why some were not answered as they should have been.
pub(super) fn failures(wakes: &[Wake]) -> Vec<String> {
    let failures = wakes.iter().enumerate().filter_map(|(index, wake)| {
        let failure = wake.failure.as_ref()?;
        Some(format!("round {}: {failure}", index + 1))
    });
    failures.collect()
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, bail};

    use super::*;

    fn wakes(milliseconds: &[u64]) -> Vec<Wake> {
        let wake = |time: &u64| Wake::of(Duration::from_millis(*time), || Ok(()));
        milliseconds.iter().map(wake).collect()
    }

    #[test]
    fn a_failed_one_is_in_no_figure_and_is_told() {
        let mut ours = wakes(&[500, 250, 1000]);
        ours.push(Wake::of(Duration::from_mins(1), || bail!("503 asleep")));
        let theirs = wakes(&[1000, 1000, 1000, 1000]);
        let spread = |p5, median, p95| Some(Spread { p5, median, p95 });
        assert_eq!(times(&ours), spread(0.25, 0.5, 1.0));
        assert_eq!(ratios(&ours, &theirs), spread(0.25, 0.5, 1.0));
        assert_eq!(failures(&ours), ["round 4: 503 asleep"]);
        let none = [Wake::of(Duration::ZERO, || Err(anyhow!("reset")))];
        assert_eq!(times(&none), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let spread = ratios(&wakes(&[1000, 250, 500]), &wakes(&[500, 500, 500])).unwrap();
        assert_eq!((spread.p5, spread.median, spread.p95), (0.5, 1.0, 2.0));
    }
}
