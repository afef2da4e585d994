//! The aggregator with many reporters: what it takes, whether it is exact, and how it comes back.

pub(super) mod rig;
mod scale;

use futures_util::FutureExt as _;

use self::scale::{Scale, measure};
use crate::{
    context::Context,
    part::Part,
    row::{Row, Unit},
    statistics::Summary,
};

/// Its parts.
pub(super) const PARTS: [Part; 1] = [Part {
    name: "aggregator",
    measures: "An aggregator with 100 to 100,000 sidecars that report over TLS, 30 % of them busy: CPU, memory, answers to \
               KEDA, exactness, and the return of all after it was killed.",
    run: |context| run(context).boxed_local(),
}];

/// What others' CPU is divided by.
const READER: &str = "bare reader";

/// Ours.
const AGGREGATOR: &str = "aggregator";

async fn run(context: &Context) -> anyhow::Result<Vec<Row>> {
    let wanted: &[usize] = context.pick(&[100, 1_000, 10_000, 100_000], &[100, 1_000]);
    let (largest, limit) = rig::most_reporters();
    let mut rows = Vec::new();
    let mut smallest: Option<f64> = None;
    for &pods in wanted {
        let possible = pods.min(largest);
        let case = format!("{possible} pods");
        let scale = Scale {
            pods: possible,
            is_compared: pods == context.pick(10_000, 1_000),
            is_exact: pods >= context.pick(10_000, 1_000),
        };
        let mut measured = measure(context, scale, &case).await?;
        if let Some(first) = smallest {
            let each = per_pod(&measured.cpu, possible)?;
            let value = Summary::exact(each / first);
            let row = Row::new(
                &case,
                AGGREGATOR,
                "CPU time of a second per pod, 30 % busy",
                Unit::Seconds,
                Summary::exact(each),
            );
            measured.rows.push(row.over("100 pods", value));
        } else {
            smallest = Some(per_pod(&measured.cpu, possible)?);
        }
        if possible < pods {
            let measure = "most reporters";
            let row = Row::new(
                &case,
                AGGREGATOR,
                measure,
                Unit::Count,
                Summary::exact(possible as f64),
            );
            measured.rows.push(row.noting(format!(
                "instead of {pods}: a process may have {limit} open files on this machine, and each reporter takes one"
            )));
        }
        rows.extend(measured.rows);
    }
    Ok(rows)
}

fn per_pod(cpu: &[f64], pods: usize) -> anyhow::Result<f64> {
    Ok(Summary::of(cpu)?.median / pods as f64)
}
