//! How many instructions a proxy executes in user mode for a request: the same number each time, on any machine that is
//! alike, and so what the [gate](crate::gate) looks at.

use futures_util::FutureExt as _;

use super::present;
use crate::{
    backend::Backend,
    context::Context,
    instructions::{Work, per_request},
    part::Part,
    peers::{Around, CONTROL, Proxy},
    row::{Row, Unit},
    statistics::Summary,
};

pub(super) const PART: Part = Part {
    name: "sidecar-instructions",
    measures: "Instructions that the proxy executes in user mode for each request of 1 KB, counted by valgrind. The sidecar \
               reports to nobody meanwhile, as reports go by time and valgrind makes all slower.",
    run: |context| run(context).boxed_local(),
};

const MEASURE: &str = "user instructions per request";

/// The most that the sidecar may take over one connection.
const BUDGET: f64 = 8_000.0;

/// The first is the one with the budget, and all of a quick run.
const WORKS: [Work; 4] = [Work::h1(1), Work::h1(32), Work::h1(1000), Work::H2];

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let backend = Backend::start(&Around::default()).await?;
    let mut rows = Vec::new();
    let works: &[Work] = context.pick(&WORKS, &WORKS[..1]);
    for work in works {
        let case = work.to_string();
        let (subjects, left_out) = present(context, work.mode(), &case, MEASURE);
        let mut control = None;
        for subject in subjects {
            let name = subject.as_ref();
            if matches!(subject, Proxy::QueueProxy | Proxy::Go) {
                rows.push(Row::left_out(
                    &case,
                    name,
                    MEASURE,
                    "valgrind does not run Go's runtime",
                ));
                continue;
            }
            let counted = per_request(subject, context, &backend, *work).await;
            let count = match counted {
                Ok(count) => count,
                Err(why) => {
                    rows.push(Row::left_out(&case, name, MEASURE, why));
                    continue;
                }
            };
            let mut row = Row::new(&case, name, MEASURE, Unit::Count, Summary::exact(count));
            if name == CONTROL {
                control = Some(count);
            } else if let Some(control) = control {
                row = row.over(CONTROL, Summary::exact(count / control));
            }
            let is_budgeted = subject == Proxy::Sidecar && *work == WORKS[0];
            rows.push(if is_budgeted {
                row.at_most(BUDGET)
            } else {
                row
            });
        }
        rows.extend(left_out);
    }
    Ok(rows)
}
