//! All that was measured, round by round.

use std::{fmt, time::Duration};

use serde::Serialize;
use stillwake_e2e::benchmark::summary::Timed;

fn all_in_seconds<S: serde::Serializer>(
    times: &[Vec<Duration>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().map(|times| {
        let seconds = times.iter().map(Duration::as_secs_f64);
        seconds.collect::<Vec<_>>()
    }))
}

/// All cold starts, round by round.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Series {
    /// From the first request to the end of the answer.
    pub(super) stillwake: Vec<Timed>,
    /// And from the first request to each step in between, in the order of [`Step::ALL`](super::timeline::Step::ALL).
    #[serde(serialize_with = "all_in_seconds")]
    pub(super) steps: Vec<Vec<Duration>>,
    /// As [`Self::stillwake`].
    pub(super) add_on: Vec<Timed>,
    /// From the write of the scale to the first connection to the sidecar.
    pub(super) sidecar: Vec<Timed>,
    /// And to the app beside it.
    pub(super) app: Vec<Timed>,
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
