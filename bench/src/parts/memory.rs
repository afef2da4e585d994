//! Whether memory stays where it is under a mixed load that lasts: of sidecar, activator and aggregator together.
//!
//! What is held after a sixth of the time is what the load takes; the end may not be far above it.

mod load;

use std::time::Duration;

use anyhow::ensure;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until};

use self::load::Stage;
use crate::{
    context::Context,
    part::Part,
    process,
    row::{Row, Unit},
    statistics::{Summary, median},
};

/// How often memory is looked at.
const LOOKS: u32 = 60;

/// How many looks around a moment are taken together, so that none hangs on one request more or less.
const TOGETHER: usize = 5;

/// From here on a run is long enough for the design's bound.
const LONG: Duration = Duration::from_mins(10);

/// What the end may be over the sixth in a long run, and in one in which heaps have hardly settled at the sixth.
const MOST: (f64, f64) = (1.05, 1.25);

/// What the end is compared with.
const SIXTH: &str = "after a sixth";

/// Its parts.
pub(super) const PARTS: [Part; 1] = [Part {
    name: "memory",
    measures: "Resident memory of sidecar, activator and aggregator under a mixed load, at the end and after a sixth of the \
               time (`--memory-time`).",
    run: |context| run(context).boxed_local(),
}];

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let asked = context.memory_time;
    let time = asked.unwrap_or(context.pick(Duration::from_mins(1), Duration::from_secs(30)));
    let mut stage = Stage::start(context).await?;
    let subjects = stage.subjects()?;
    let begun = Instant::now();
    let mut series: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    for look in 1..=LOOKS {
        let due = begun + time * look / LOOKS;
        tokio::select! {
            () = sleep_until(due) => {}
            failed = stage.failed() => return Err(failed),
        }
        let mut line = format!("{:>6.0} s", begun.elapsed().as_secs_f64());
        for ((name, pid), seen) in subjects.iter().zip(&mut series) {
            let resident = process::memory(*pid)?.resident as f64;
            line = format!("{line}  {name} {}", Unit::Bytes.show(resident));
            seen.push(resident);
        }
        eprintln!("{line}");
    }
    let work = stage.end().await?;
    let case = format!("{} of mixed load", humantime::format_duration(time));
    let most = if time < LONG { MOST.1 } else { MOST.0 };
    let mut rows = Vec::new();
    let mut grown = Vec::new();
    for ((name, _), seen) in subjects.iter().zip(&series) {
        let sixth = seen.len() / 6;
        let at_sixth = median(&seen[sixth - TOGETHER / 2..=sixth + TOGETHER / 2])?;
        let at_end = median(&seen[seen.len() - TOGETHER..])?;
        let end = Row::new(
            &case,
            name,
            "resident memory at the end",
            Unit::Bytes,
            Summary::exact(at_end),
        )
        .over(SIXTH, Summary::exact(at_end / at_sixth))
        .at_most_times(most)
        .noting(work.clone());
        if end.budget.as_ref().is_some_and(|budget| !budget.is_met) {
            grown.push(format!("{name} from {at_sixth:.0} to {at_end:.0} bytes"));
        }
        rows.push(end);
        let measure = "resident memory after a sixth";
        rows.push(Row::new(
            &case,
            name,
            measure,
            Unit::Bytes,
            Summary::exact(at_sixth),
        ));
    }
    // Whoever names a time asks a question; in a whole run the row is the answer.
    ensure!(
        asked.is_none() || grown.is_empty(),
        "memory has grown: {}",
        grown.join(", ")
    );
    Ok(rows)
}
