//! What the activator holds, as reports say it: everything at first, then what has changed.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use stillwake_proto::report::{Count, Held, HeldReport, Workload, reporter_frame::Kind};
use stillwake_reporting::{Report, Session, Source, microseconds};
use tokio::{sync::watch, time::Instant};

use crate::{activator::Shared, queue::HeldCount};

/// Time between two reports of an activator that are sent at once: less than a sidecar's, because there are few
/// activators, each speaks for many workloads, and one of them that wakes must not wait for another's report.
pub const REPORT_GAP: Duration = Duration::from_millis(5);

/// Reads one activator.
#[derive(Debug)]
pub(crate) struct HeldSource(pub(crate) Arc<Shared>);

impl Source for HeldSource {
    fn session(&self) -> Box<dyn Session> {
        Box::new(HeldSession {
            shared: Arc::downgrade(&self.0),
            last: HashMap::new(),
        })
    }

    fn edges(&self) -> watch::Receiver<u64> {
        self.0.signals.edges.subscribe()
    }
}

#[derive(Debug)]
struct HeldSession {
    shared: Weak<Shared>,
    /// What this connection was told last.
    last: HashMap<Workload, HeldCount>,
}

impl Session for HeldSession {
    fn report(&mut self) -> Report {
        let mut report = HeldReport::default();
        let mut requests = 0;
        if let Some(shared) = self.shared.upgrade() {
            report.elapsed = microseconds(Instant::now().saturating_duration_since(shared.started));
            for (workload, holder) in shared.holders.lock().iter() {
                let count = holder.report();
                requests += count.held as u64;
                // Most have not changed, and there may be thousands.
                if self.last.get(workload) != Some(&count) {
                    report.held.push(held(workload, count));
                    self.last.insert(workload.clone(), count);
                }
            }
        }
        Report {
            kind: Kind::Held(report),
            requests,
        }
    }
}

fn held(workload: &Workload, count: HeldCount) -> Held {
    Held {
        workload: Some(workload.clone()),
        count: Some(Count {
            in_flight: count.held as u64,
            in_flight_time: microseconds(count.held_time),
            requests: count.requests,
        }),
    }
}
