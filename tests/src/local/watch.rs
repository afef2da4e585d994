//! How the replicas of a run change over time, seen through `/debug/state`.
//!
//! What comes and goes between two looks is seen through process ids and the count of starts, never by luck alone.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::state::{Phase, State};

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(20);

/// What was seen when something had changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Replicas that the scaler wanted.
    pub desired: u64,
    /// Apps that took connections, by process id.
    pub ready: BTreeSet<i32>,
    /// Replicas started so far.
    pub started: u64,
}

/// A watch in the background; dropped, it stops.
#[derive(Debug)]
pub struct Watch {
    changes: Arc<Mutex<Vec<Change>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(admin: SocketAddr) -> Self {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(look(admin, Arc::clone(&changes), stop.clone()));
        Self {
            changes,
            stop,
            task,
        }
    }

    /// All changes so far, in order.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().clone()
    }

    /// How often the scaler wanted more, and how often fewer, than at the change before.
    pub fn scalings(&self) -> (usize, usize) {
        let changes = self.changes.lock();
        let steps = changes
            .windows(2)
            .map(|pair| pair[1].desired.cmp(&pair[0].desired));
        steps.fold((0, 0), |(ups, downs), step| match step {
            std::cmp::Ordering::Greater => (ups + 1, downs),
            std::cmp::Ordering::Less => (ups, downs + 1),
            std::cmp::Ordering::Equal => (ups, downs),
        })
    }

    /// Stops looking and returns all changes.
    pub async fn finish(mut self) -> Vec<Change> {
        self.stop.cancel();
        // A look that panicked has been printed; what was seen before it is still true.
        let _ = (&mut self.task).await;
        self.changes()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn look(admin: SocketAddr, changes: Arc<Mutex<Vec<Change>>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // A page that cannot be had fails the suite where it asks itself.
        if let Ok(state) = State::read(admin).await {
            let change = Change {
                desired: state.desired(),
                ready: state
                    .replicas()
                    .iter()
                    .filter(|replica| replica.phase == Phase::Ready)
                    .map(|replica| replica.pid)
                    .collect(),
                started: state.started(),
            };
            let mut changes = changes.lock();
            if changes.last() != Some(&change) {
                changes.push(change);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
