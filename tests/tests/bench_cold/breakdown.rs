//! What the activators themselves say of the wakes, by phase.

use std::collections::BTreeMap;

use anyhow::Context;
use stillwake_e2e::cluster::stillwake::{Component, Stillwake};

/// A histogram of theirs.
pub(super) const METRIC: &str = "stillwake_activator_cold_start_seconds";

/// In the order in which they follow each other; others come behind them.
const ORDER: [&str; 4] = ["signal", "ready", "first_byte", "total"];

/// The sum and the number of what was observed, by phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Breakdown(BTreeMap<String, (f64, f64)>);

impl Breakdown {
    /// Adds up what all activators say; nothing if they do not know the metric.
    pub(super) async fn read(stillwake: &Stillwake) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for page in stillwake.metrics(Component::Activator).await?.values() {
            all.add(&page.to_string())?;
        }
        Ok(all)
    }

    fn add(&mut self, page: &str) -> anyhow::Result<()> {
        for line in page.lines() {
            let Some((part, rest)) = line
                .strip_prefix(METRIC)
                .and_then(|rest| rest.split_once("{phase=\""))
            else {
                continue;
            };
            let Some((phase, value)) = rest.split_once("\"} ") else {
                continue;
            };
            let value: f64 = value
                .parse()
                .with_context(|| format!("no number in {line:?}"))?;
            let (sum, count) = self.0.entry(phase.to_owned()).or_default();
            match part {
                "_sum" => *sum += value,
                "_count" => *count += value,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns what came since an earlier reading.
    pub(super) fn since(mut self, earlier: &Self) -> Self {
        for (phase, (sum, count)) in &mut self.0 {
            let (sum_before, count_before) = earlier.0.get(phase).copied().unwrap_or_default();
            *sum -= sum_before;
            *count -= count_before;
        }
        self
    }

    /// Returns each phase with its mean in seconds and how often it was seen, in order.
    pub(super) fn means(&self) -> Vec<(&str, f64, f64)> {
        let mut means: Vec<_> = self
            .0
            .iter()
            .filter(|(_, (_, count))| *count > 0.0)
            .map(|(phase, (sum, count))| (phase.as_str(), sum / count, *count))
            .collect();
        let place = |phase: &str| ORDER.iter().position(|known| *known == phase);
        means.sort_by_key(|(phase, ..)| place(phase).unwrap_or(ORDER.len()));
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_added_up_and_what_was_there_before_taken_off() {
        let page = "\
# TYPE stillwake_activator_cold_start_seconds histogram
stillwake_activator_cold_start_seconds_sum{phase=\"ready\"} 1.5
stillwake_activator_cold_start_seconds_count{phase=\"ready\"} 2
stillwake_activator_cold_start_seconds_bucket{le=\"0.001\",phase=\"ready\"} 0
stillwake_activator_cold_start_seconds_sum{phase=\"signal\"} 0.5
stillwake_activator_cold_start_seconds_count{phase=\"signal\"} 1
stillwake_activator_wait_seconds_sum 7
";
        let mut before = Breakdown::default();
        before.add(page).unwrap();
        let mut after = before.clone();
        after.add(page).unwrap();
        assert_eq!(
            after.since(&before).means(),
            [("signal", 0.5, 1.0), ("ready", 0.75, 2.0)]
        );
    }
}
