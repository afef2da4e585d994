//! One simulated sidecar: its count, kept in the microseconds that reports have, and what it reports.

use std::sync::Arc;

use parking_lot::Mutex;
use stillwake_proto::report::{Count, PodReport, reporter_frame::Kind};
use stillwake_reporting::{Report, Session, Source, microseconds};
use tokio::{sync::watch, time::Instant};

/// A sidecar without traffic. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct Pod(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    ledger: Mutex<Ledger>,
    edges: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    count: Count,
    since: u64,
}

impl Ledger {
    fn advance(&mut self, now: u64) {
        self.count.in_flight_time += self.count.in_flight * (now - self.since);
        self.since = now;
    }
}

impl Default for Pod {
    fn default() -> Self {
        Self(Arc::new(Shared {
            began: Instant::now(),
            ledger: Mutex::default(),
            edges: watch::Sender::default(),
        }))
    }
}

impl Pod {
    /// Lets what is in flight end, and so many requests begin at the same moment.
    pub(super) fn change(&self, in_flight: u64) {
        let edge = {
            let mut ledger = self.0.ledger.lock();
            let before = ledger.count.in_flight;
            ledger.advance(microseconds(self.0.began.elapsed()));
            ledger.count.in_flight = in_flight;
            ledger.count.requests += in_flight;
            (before == 0) != (in_flight == 0)
        };
        if edge {
            self.0.edges.send_modify(|edges| *edges += 1);
        }
    }

    /// What was counted up to now.
    pub(super) fn count(&self) -> Count {
        self.look().1
    }

    fn look(&self) -> (u64, Count) {
        let mut ledger = self.0.ledger.lock();
        let now = microseconds(self.0.began.elapsed());
        ledger.advance(now);
        (now, ledger.count)
    }
}

impl Source for Pod {
    fn session(&self) -> Box<dyn Session> {
        Box::new(self.clone())
    }

    fn edges(&self) -> watch::Receiver<u64> {
        self.0.edges.subscribe()
    }
}

impl Session for Pod {
    fn report(&mut self) -> Report {
        let (elapsed, count) = self.look();
        Report {
            requests: count.in_flight,
            kind: Kind::Pod(PodReport {
                elapsed,
                count: Some(count),
                app_ready: true,
                draining: false,
            }),
        }
    }
}
