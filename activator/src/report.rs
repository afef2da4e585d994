//! What the activator holds, as reports say it: everything at first, then what has changed.

use std::{
    collections::BTreeMap,
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
            last: BTreeMap::new(),
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
    last: BTreeMap<Workload, HeldCount>,
}

impl Session for HeldSession {
    fn report(&mut self) -> Report {
        let mut current = BTreeMap::new();
        let mut elapsed = 0;
        if let Some(shared) = self.shared.upgrade() {
            elapsed = microseconds(Instant::now().saturating_duration_since(shared.started));
            for (workload, holder) in shared.holders.lock().iter() {
                current.insert(workload.clone(), holder.report());
            }
        }
        let requests = current.values().map(|count| count.held as u64).sum();
        let changed = current
            .iter()
            .filter(|&(workload, count)| self.last.get(workload) != Some(count));
        let held = changed
            .map(|(workload, count)| held(workload, *count))
            .collect();
        self.last = current;
        Report {
            kind: Kind::Held(HeldReport { elapsed, held }),
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
