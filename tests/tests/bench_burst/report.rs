//! What people and programs get to read of it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stillwake_e2e::benchmark::{
    self,
    environment::Environment,
    summary::{Spread, failures, times},
};

use super::{BEFORE, IN_IT, TARGET, TIME, WANTED, WINDOW, subject::Steps};

/// All that is to be told.
pub(super) struct Report {
    pub(super) environment: Environment,
    pub(super) with: Steps,
    pub(super) without: Steps,
    pub(super) add_on: Steps,
}

impl Report {
    fn rows(&self) -> [(&'static str, &Steps); 3] {
        [
            ("Stillwake", &self.with),
            ("Stillwake with `aggregator.bursts: false`", &self.without),
            ("HTTP Add-on", &self.add_on),
        ]
    }

    /// Returns what Stillwake lost.
    pub(super) fn lost(&self) -> Vec<String> {
        let ours = self.rows().into_iter().take(2);
        let lost = ours.filter(|(_, steps)| steps.lost > 0);
        lost.map(|(name, steps)| format!("{name}, {} of {}", steps.lost, steps.sent))
            .collect()
    }

    /// Returns the table.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| | reached | median | p95 | ÷ without bursts | ÷ HTTP Add-on | most replicas | requests lost |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        let median = |steps: &Steps| times(&steps.times).map(|spread| spread.median);
        for (name, steps) in self.rows() {
            let reached = steps.times.len() - failures(&steps.times).len();
            let time = |pick: fn(Spread) -> f64| {
                times(&steps.times).map_or_else(none, |spread| format!("{:.3} s", pick(spread)))
            };
            // Of medians: a step waits for a moment of the HPA's period, which has nothing to do with another's.
            let over = |other: &Steps| match (median(steps), median(other)) {
                (Some(one), Some(other)) => format!("{:.3}", one / other),
                _ => none(),
            };
            let _ = writeln!(
                text,
                "| {name} | {reached} of {} | {} | {} | {} | {} | {} | {} of {} |",
                steps.times.len(),
                time(|spread| spread.median),
                time(|spread| spread.p95),
                over(&self.without),
                over(&self.add_on),
                steps.most.iter().max().map_or_else(none, i32::to_string),
                steps.lost,
                steps.sent,
            );
        }
        if let Some(Spread { median, p95, .. }) = times(&self.with.times) {
            let _ = writeln!(
                text,
                "\nStillwake's median is {median:.3} s (to be at most 0.300 s), its p95 {p95:.3} s (to be at most 0.600 s)."
            );
        }
        text
    }

    /// Writes the page, and the file with every single figure.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        benchmark::write("burst", &self.page(), &self.json())
    }

    fn page(&self) -> String {
        format!(
            "# Load steps, measured

Written by `make bench-burst STILLWAKE_BURST_STEPS={count}`, which runs all of it again on your machine.

{environment}.

{table}
{count} steps each, from {BEFORE} to {IN_IT} requests in flight with a target of {TARGET} for each replica: from the first
request of the step, on the client's clock, to the moment in which a watch tells that `spec.replicas` is {WANTED}.

## How

- One app in three Deployments, each under a ScaledObject with the same `behavior`: up by 900 % within 1 s, which lets one
  step reach the number, and down without stabilization, so that a step begins at one replica again. The one of the Add-on
  is of our making for that reason, with its own trigger.
- Requests take {time} s each, on connections of their own; {BEFORE} of them are in flight all the time. Averages are over
  {window} s. Stillwake is asked through the app's own Service, the Add-on through its interceptor's.
- In each round all three step, in an order that changes from round to round. A round begins when each has one replica and
  the pods of the last are gone, and then at a random moment of the HPA's 15 s. The next one steps when the pods of the one
  before take requests; its load goes on until all have stepped, so that nobody's pods come or go while another is measured.
- Without bursts is a second release in the same cluster, with its own webhook, aggregators and activators.
- A step of more than {WANTED} replicas has gone too far; the most of all steps is told.
",
            count = self.with.times.len(),
            environment = self.environment,
            table = self.table(),
            time = TIME.as_secs(),
            window = WINDOW.as_secs(),
        )
    }

    fn json(&self) -> Value {
        let rows = self.rows();
        let summaries = rows.iter().map(|(name, steps)| {
            json!({
                "name": name,
                "seconds": times(&steps.times),
                "failures": failures(&steps.times),
                "steps": steps,
            })
        });
        json!({
            "environment": self.environment,
            "summary": summaries.collect::<Vec<_>>(),
        })
    }
}

fn none() -> String {
    "–".to_owned()
}
