//! What people and programs get to read of it.

use std::{fmt::Write as _, ptr, time::Duration};

use serde_json::{Value, json};
use stillwake_e2e::benchmark::{
    self,
    environment::Environment,
    summary::{Spread, Timed, failures, ratios, times},
};

use super::{
    COOLDOWN, POLLING,
    breakdown::Breakdown,
    forwarding::{BLOCKS, CLIENTS, Forwarding, LENGTH, Way},
    series::Series,
    timeline::Step,
};

/// All that is to be told.
pub(super) struct Report {
    pub(super) environment: Environment,
    pub(super) series: Series,
    pub(super) breakdown: Breakdown,
    /// Or why there is none, which does not take the rest along.
    pub(super) forwarding: anyhow::Result<Forwarding>,
}

impl Report {
    /// Returns the rows of the table: what it is, and its times.
    fn rows(&self) -> [(&'static str, &[Timed]); 4] {
        [
            ("Stillwake, first request to answer", &self.series.stillwake),
            ("HTTP Add-on, first request to answer", &self.series.add_on),
            ("bare: scale to the app accepts", &self.series.app),
            ("bare: scale to the sidecar accepts", &self.series.sidecar),
        ]
    }

    /// Returns why requests were not answered, or not forwarded, as they should have been.
    pub(super) fn unanswered(&self) -> Vec<String> {
        let rows = self.rows();
        let told = rows.iter().flat_map(|(name, wakes)| {
            let failures = failures(wakes).into_iter();
            failures.map(move |failure| format!("{name}, {failure}"))
        });
        let forwarding = self.forwarding.as_ref().err();
        told.chain(forwarding.map(|why| format!("forwarding, {why:#}")))
            .collect()
    }

    /// Returns the tables.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| | answered | median | p95 | ÷ app accepts | ÷ sidecar accepts | ÷ HTTP Add-on |\n|---|---|---|---|---|---|---|\n",
        );
        for (name, wakes) in self.rows() {
            let answered = wakes.len() - failures(wakes).len();
            let time = |pick: fn(Spread) -> f64| {
                times(wakes).map_or_else(none, |spread| format!("{:.3} s", pick(spread)))
            };
            let over = |others: &[Timed]| over(wakes, others);
            let _ = writeln!(
                text,
                "| {name} | {answered} of {} | {} | {} | {} | {} | {} |",
                wakes.len(),
                time(|spread| spread.median),
                time(|spread| spread.p95),
                over(&self.series.app),
                over(&self.series.sidecar),
                over(&self.series.add_on),
            );
        }
        let median = |wakes| times(wakes).map(|spread| spread.median);
        if let (Some(ours), Some(add_on), Some(app)) = (
            median(&self.series.stillwake),
            median(&self.series.add_on),
            median(&self.series.app),
        ) {
            let _ = writeln!(
                text,
                "\nStillwake's median is {:+.3} s from the moment in which the bare pod's app accepts (to be at most +0.150 s), and \
                 {:.2} of the Add-on's (to be at most 0.45).",
                ours - app,
                ours / add_on,
            );
        }
        let means = self.breakdown.means();
        if !means.is_empty() {
            text.push_str("\n| phase of Stillwake's | mean | seen |\n|---|---|---|\n");
            for (phase, mean, count) in means {
                let _ = writeln!(text, "| {phase} | {mean:.3} s | {count} |");
            }
        }
        let steps = self.steps();
        if !steps.is_empty() {
            text.push_str(
                "\n| from the first request to Stillwake until | median | p95 |\n|---|---|---|\n",
            );
            for (name, Spread { median, p95, .. }) in steps {
                let _ = writeln!(text, "| {name} | {median:.3} s | {p95:.3} s |");
            }
        }
        text
    }

    /// Returns the table of what forwarding takes, with how that was measured.
    pub(super) fn forwarding(&self) -> String {
        let forwarding = match &self.forwarding {
            Ok(forwarding) => forwarding,
            Err(why) => return format!("Not measured: {why:#}\n"),
        };
        let mut text = String::from(
            "| forwarded by | CPU per request | ÷ interceptor | ÷ interceptor, kept | the client's own |\n|---|---|---|---|---|\n",
        );
        let [_, interceptor, kept, _] = &forwarding.ways;
        for (way, costs) in Way::ALL.into_iter().zip(&forwarding.ways) {
            let time = |timed: &[Timed]| {
                times(timed).map_or_else(none, |spread| format!("{:.1} µs", spread.median * 1e6))
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                way.name(),
                time(&costs.forwarding),
                over(&costs.forwarding, &interceptor.forwarding),
                over(&costs.forwarding, &kept.forwarding),
                time(&costs.client),
            );
        }
        let _ = writeln!(
            text,
            "
In each of {BLOCKS} blocks, {requests} requests for {LENGTH} bytes come each way, from {CLIENTS} clients, in this order and then in
the opposite one, to one replica of each workload, which is awake all the time: medians, and in brackets as above. CPU is what
all activators, or all interceptors, run for meanwhile on this machine, in user mode and in the kernel. What they tell aggregators
and scalers of requests is in it, and so is what they took with nothing to forward: {activators:.4} and {interceptors:.4} of a
processor. An activator dials the pod for each request, an interceptor keeps its connections to it.",
            requests = forwarding.requests,
            activators = forwarding.activators_idle,
            interceptors = forwarding.interceptors_idle,
        );
        text
    }

    /// Returns when each step of a wake was over, and the answer last.
    fn steps(&self) -> Vec<(&'static str, Spread)> {
        let answer = times(&self.series.stillwake).map(|spread| ("the answer is complete", spread));
        let steps = Step::ALL.iter().enumerate().filter_map(|(index, step)| {
            let rounds = self.series.steps.iter();
            let times = rounds.filter_map(|steps| steps.get(index).map(Duration::as_secs_f64));
            Some((step.name(), Spread::of(times)?))
        });
        let mut steps: Vec<_> = steps.chain(answer).collect();
        steps.sort_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
        steps
    }

    /// Writes the page, and the file with every single figure.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        benchmark::write("cold", &self.page(), &self.json())
    }

    fn page(&self) -> String {
        let rounds = self.series.stillwake.len();
        let (polling, cooldown) = (POLLING.as_secs(), COOLDOWN.as_secs());
        format!(
            "# Cold starts, measured

Written by `make bench-cold`, which runs all of it again on your machine; `STILLWAKE_COLD_STARTS=100` and
`STILLWAKE_FORWARDED=20000` make it longer.

{environment}.

{table}
Times are on the client's clock, {rounds} cold starts each. In brackets: the 5th and the 95th percentile of the ratios, each
of two figures of the same round.

## Forwarding

{forwarding}
## How

- One app, an image that listens at once, with a readiness probe over HTTP each second, in three Deployments: one with
  Stillwake's sidecar and a ScaledObject, one under an HTTPScaledObject of the Add-on, one that nobody scales. Both products as
  they install by default. Stillwake's ScaledObject polls each {polling} s and the Add-on's each 15 s, which it does not let one
  choose; both are woken by a push and not by that, and both cool down for {cooldown} s.
- A round is one cold start of each, in an order that changes from round to round; all three are at zero, without a pod, when
  it begins. The round before the first is not counted.
- *First request to answer*: from dialling to the last byte of the body. To Stillwake it goes through the app's own
  Service, to the Add-on through its interceptor's. An answer counts if it is 200, the app's own to this request, and says in
  its header that it had to wait.
- *Bare*: `/scale` is written from 0 to 1; its pod, which has Stillwake's sidecar as a native one, is dialled every few
  milliseconds from the moment in which a watch tells its address. No request can be answered before the app accepts: that is
  the floor. The sidecar starts before the app, and accepts by the time at which the address is told.
- The phases are those of `{metric}` at the activators, from the first held request on, of all wakes in the meantime. *Ready*
  is all from the first report to the first endpoint: KEDA's write and the pod's start, which the activators do not watch.
- The steps of that are what watches told the client, each a little after it happened. The answer does not wait for
  Kubernetes to take the pod for ready: the sidecar says when the app answers.
",
            environment = self.environment,
            table = self.table(),
            forwarding = self.forwarding(),
            metric = super::breakdown::METRIC,
        )
    }

    fn json(&self) -> Value {
        let rows = self.rows();
        let summaries = rows.iter().map(|(name, wakes)| {
            json!({
                "name": name,
                "count": wakes.len(),
                "failures": failures(wakes),
                "seconds": times(wakes),
                "over_app": ratios(wakes, &self.series.app),
                "over_sidecar": ratios(wakes, &self.series.sidecar),
                "over_add_on": ratios(wakes, &self.series.add_on),
            })
        });
        let phases = self.breakdown.means().into_iter();
        let phases = phases.map(
            |(phase, mean, count)| json!({"phase": phase, "mean_seconds": mean, "count": count}),
        );
        json!({
            "environment": self.environment,
            "summary": summaries.collect::<Vec<_>>(),
            "phases": phases.collect::<Vec<_>>(),
            "steps": self.steps().into_iter().map(|(name, seconds)| json!({"name": name, "seconds": seconds})).collect::<Vec<_>>(),
            "rounds": self.series,
            "forwarding": self.forwarding.as_ref().ok().map(forwarded),
        })
    }
}

fn forwarded(forwarding: &Forwarding) -> Value {
    let [_, interceptor, kept, _] = &forwarding.ways;
    let ways = Way::ALL.into_iter().zip(&forwarding.ways);
    let ways = ways.map(|(way, costs)| {
        json!({
            "name": way.name(),
            "cpu_seconds": times(&costs.forwarding),
            "client_cpu_seconds": times(&costs.client),
            "over_interceptor": ratios(&costs.forwarding, &interceptor.forwarding),
            "over_interceptor_kept": ratios(&costs.forwarding, &kept.forwarding),
            "blocks": costs,
        })
    });
    json!({
        "requests": forwarding.requests,
        "activators_idle": forwarding.activators_idle,
        "interceptors_idle": forwarding.interceptors_idle,
        "ways": ways.collect::<Vec<_>>(),
    })
}

/// Returns how many times the others' it is, for people.
fn over(timed: &[Timed], others: &[Timed]) -> String {
    if ptr::eq(timed, others) {
        return "1".to_owned();
    }
    ratios(timed, others).map_or_else(none, |Spread { p5, median, p95 }| {
        format!("{median:.2} ({p5:.2}–{p95:.2})")
    })
}

fn none() -> String {
    "–".to_owned()
}
