//! The sidecar beside nginx, haproxy, Knative's queue-proxy and a plain Go proxy.

mod calls;
mod cpu;
mod instructions;
mod latency;
mod memory;
mod size;
mod start;

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    backend::Backend,
    context::Context,
    instructions::Work,
    part::Part,
    peers::{Around, CONTROL, Mode, PROXIES, Proxy, Running},
    row::Row,
    statistics::Blocks,
};

/// A control that moves further makes its ratios doubtful.
const STEADY: f64 = 0.1;

/// Its parts.
pub(super) const PARTS: [Part; 7] = [
    latency::PART,
    cpu::PART,
    calls::PART,
    instructions::PART,
    memory::PART,
    start::PART,
    size::PART,
];

/// Returns the proxies that can be measured so, and a row for each that cannot.
fn present(context: &Context, mode: Mode, case: &str, measure: &str) -> (Vec<Proxy>, Vec<Row>) {
    let mut present = Vec::new();
    let mut left_out = Vec::new();
    for proxy in PROXIES {
        match proxy.is_missing(context, mode) {
            None => present.push(proxy),
            Some(why) => left_out.push(Row::left_out(case, proxy.as_ref(), measure, why)),
        }
    }
    (present, left_out)
}

/// A proxy that runs, by its name.
struct Started {
    subject: Proxy,
    proxy: Running,
}

impl AsRef<str> for Started {
    fn as_ref(&self) -> &str {
        self.subject.as_ref()
    }
}

impl Started {
    /// Returns its process.
    fn pid(&self) -> anyhow::Result<i32> {
        let pid = self.proxy.pid();
        pid.with_context(|| format!("it has ended: {}", self.proxy.log()))
    }
}

/// Starts those of the proxies that can be measured so before `backend`, and returns a row for each that does not start.
async fn start(
    context: &Context,
    backend: &Backend,
    mode: Mode,
    around: &Around,
    case: &str,
    measure: &str,
) -> (Vec<Started>, Vec<Row>) {
    let (subjects, mut rows) = present(context, mode, case, measure);
    let mut started = Vec::new();
    for subject in subjects {
        match Running::start(subject, context, backend, mode, around).await {
            Ok(proxy) => started.push(Started { subject, proxy }),
            Err(why) => rows.push(Row::left_out(case, subject.as_ref(), measure, why)),
        }
    }
    (started, rows)
}

/// Compares a figure with the control's; a control that moved is noted.
fn compared(row: Row, blocks: &Blocks, measure: &'static str) -> anyhow::Result<Row> {
    let subject = row.subject.clone();
    if subject != CONTROL {
        // Without the control there is no ratio.
        return Ok(match blocks.ratio(&subject, CONTROL, measure) {
            Ok(ratio) => row.over(CONTROL, ratio),
            Err(_) => row,
        });
    }
    let moved = blocks.movement(CONTROL, measure)?;
    Ok(if moved > STEADY {
        row.noting(format!(
            "the control moved by {:.0} % over the blocks",
            moved * 100.0
        ))
    } else {
        row
    })
}

/// Returns the time of one request, in seconds.
fn per(time: Duration, requests: u64) -> f64 {
    time.as_secs_f64() / requests as f64
}

/// Returns the name of the work over so many HTTP/1.1 connections.
fn connections(count: u32) -> String {
    Work::h1(count).to_string()
}
